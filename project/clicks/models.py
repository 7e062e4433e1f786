"""Tables of the clicks: what came in, what counts, the daily sums, the exports."""

from datetime import date, datetime

from sqlalchemy import (
    ARRAY,
    BigInteger,
    CheckConstraint,
    Column,
    Date,
    Identity,
    Index,
    Integer,
    LargeBinary,
    Table,
    Text,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from project.clicks.states import ExportState
from project.core.db.models import DATABASE_NOW, Claimable, Timestamp, due_index
from project.core.db.types import StringEnum, one_of
from project.extensions import Base, Model

MAX_SOURCE_LENGTH = 255
"""Characters; two indexes of the daily sums hold the source."""
BYTEWISE = Text(collation="C")

click_inbox = Table(
    "click_inbox",
    Base.metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("click_ids", ARRAY(Text), nullable=False),
    Column("offer_ids", ARRAY(BigInteger), nullable=False),
    Column("sources", ARRAY(Text), nullable=False),
    Column("clicked_at", ARRAY(Timestamp), nullable=False),
    Column("signatures", ARRAY(Text), nullable=False),
    Column("size", Integer, nullable=False),
    Column("received_at", Timestamp, nullable=False, server_default=DATABASE_NOW),
)
"""Clicks that were accepted and are not counted yet, many to a row; one array per field."""

clicks = Table(
    "clicks",
    Base.metadata,
    Column("clicked_at", Timestamp, nullable=False),
    Column("click_id", Text, nullable=False),
    Column("offer_id", BigInteger, nullable=False),
    Column("source", Text, nullable=False),
    Column("signature", Text),
    Column("received_at", Timestamp, nullable=False),
    Index("ix_clicks_clicked_at", "clicked_at"),
    postgresql_partition_by="RANGE (clicked_at)",
)
"""Every click that counts, once; a partition per month (UTC), see `partitions.py`."""

click_ids = Table(
    "click_ids",
    Base.metadata,
    Column("click_id", BYTEWISE, primary_key=True),
    Column("counted_on", Date, nullable=False),
    Index("ix_click_ids_counted_on", "counted_on", postgresql_using="brin"),
)
"""The click_ids that have been counted, a long one by its SHA-256: a unique key over partitions
must hold their key too, so this stands apart."""


class ClicksDaily(Model):
    """How many clicks an offer got from a source on a day (UTC)."""

    __tablename__ = "clicks_daily"

    day: Mapped[date] = mapped_column(Date, primary_key=True)
    offer_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    source: Mapped[str] = mapped_column(BYTEWISE, primary_key=True)
    clicks: Mapped[int] = mapped_column(BigInteger)

    # None of them holds `clicks`: an update that touches no index is several times cheaper.
    __table_args__ = (
        Index("ix_clicks_daily_offer_id", "offer_id", "day", "source"),
        Index("ix_clicks_daily_source", "source", "day", "offer_id"),
        Index(
            "ix_clicks_daily_day",
            "day",
            postgresql_using="brin",
            postgresql_with={"pages_per_range": 16},
        ),
    )


class ClickDay(Model):
    """A day's clicks in all; `version` counts the times that something was added to it."""

    __tablename__ = "click_days"

    day: Mapped[date] = mapped_column(Date, primary_key=True)
    clicks: Mapped[int] = mapped_column(BigInteger)
    version: Mapped[int] = mapped_column(BigInteger)


class DeadClick(Model):
    """A click that could not be stored, with the reason, until somebody tries it again."""

    __tablename__ = "click_dead"

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    click_id: Mapped[str] = mapped_column(Text)
    offer_id: Mapped[int] = mapped_column(BigInteger)
    source: Mapped[str] = mapped_column(Text)
    clicked_at: Mapped[datetime] = mapped_column(Timestamp)
    signature: Mapped[str | None] = mapped_column(Text)
    received_at: Mapped[datetime] = mapped_column(Timestamp)
    reason: Mapped[str] = mapped_column(Text)
    put_aside_at: Mapped[datetime] = mapped_column(Timestamp, server_default=DATABASE_NOW)


class ClickSource(Model):
    """A source that signs with a secret of its own, kept encrypted."""

    __tablename__ = "click_sources"

    name: Mapped[str] = mapped_column(Text, primary_key=True)
    sealed_secret: Mapped[bytes] = mapped_column(LargeBinary)
    created_at: Mapped[datetime] = mapped_column(Timestamp, server_default=DATABASE_NOW)


class ClickExport(Claimable, Model):
    """A day's clicks on their way to the finance service; due until they have arrived."""

    __tablename__ = "click_exports"

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    day: Mapped[date] = mapped_column(Date)
    state: Mapped[ExportState] = mapped_column(StringEnum(ExportState))
    clicks_sent: Mapped[int | None] = mapped_column(BigInteger)
    checksum: Mapped[str | None] = mapped_column(Text)
    day_version: Mapped[int | None] = mapped_column(BigInteger)
    last_error: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(Timestamp)
    finished_at: Mapped[datetime | None] = mapped_column(Timestamp)

    __table_args__ = (
        CheckConstraint(one_of("state", ExportState), name="state"),
        CheckConstraint("(state = 'pending') = (due_at IS NOT NULL)", name="pending_is_due"),
        Index(
            "uq_click_exports_one_pending",
            "day",
            unique=True,
            postgresql_where=text("state = 'pending'"),
        ),
        Index("ix_click_exports_day", "day", "id"),
        due_index("click_exports"),
    )
