"""Tables of the mobile domain: apps, devices, purchases and their daily counts."""

from datetime import date, datetime

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    ColumnElement,
    ForeignKey,
    Identity,
    Index,
    LargeBinary,
    Text,
    UniqueConstraint,
    or_,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from project.core.db.models import Claimable, Timestamp, due_index
from project.core.db.types import StringEnum, one_of
from project.extensions import Model
from project.mobile.states import DeviceOs, PurchaseState

MAX_TOKEN_LENGTH = 200


class App(Model):
    """An app of the publisher; its callbacks go to its endpoint.

    With `require_proof` a device that is known gets a new client-token for a proof only.
    """

    __tablename__ = "apps"

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    name: Mapped[str] = mapped_column(Text, unique=True)
    endpoint_id: Mapped[int | None] = mapped_column(BigInteger, ForeignKey("endpoints.id"))
    require_proof: Mapped[bool] = mapped_column(server_default=text("false"), default=False)
    created_at: Mapped[datetime] = mapped_column(Timestamp)


class Device(Model):
    """A device on which an app is installed; it proves itself with its client-token.

    `token_hash` is of the token in force: the first one, and then the last that came into use.
    """

    __tablename__ = "devices"

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    app_id: Mapped[int] = mapped_column(BigInteger, ForeignKey(App.id))
    uid: Mapped[str] = mapped_column(Text)
    language: Mapped[str] = mapped_column(Text)
    os: Mapped[DeviceOs] = mapped_column(StringEnum(DeviceOs))
    click_id: Mapped[str | None] = mapped_column(Text)
    token_hash: Mapped[bytes] = mapped_column(LargeBinary, unique=True)
    created_at: Mapped[datetime] = mapped_column(Timestamp)
    updated_at: Mapped[datetime] = mapped_column(Timestamp)

    __table_args__ = (
        CheckConstraint(one_of("os", DeviceOs), name="os"),
        UniqueConstraint("app_id", "uid"),
    )


class NewToken(Model):
    """A client-token that a known device was given and has not used yet.

    Its first use puts it in force, and ends those that were in force or given before it.
    """

    __tablename__ = "device_new_tokens"

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    device_id: Mapped[int] = mapped_column(BigInteger, ForeignKey(Device.id), index=True)
    token_hash: Mapped[bytes] = mapped_column(LargeBinary, unique=True)
    created_at: Mapped[datetime] = mapped_column(Timestamp)


class Purchase(Claimable, Model):
    """A receipt and what the store last said of it; due when the store is to be asked again."""

    __tablename__ = "purchases"

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    app_id: Mapped[int] = mapped_column(BigInteger, ForeignKey(App.id))
    device_id: Mapped[int] = mapped_column(BigInteger, ForeignKey(Device.id))
    os: Mapped[DeviceOs] = mapped_column(StringEnum(DeviceOs))
    receipt: Mapped[str] = mapped_column(Text)
    receipt_hash: Mapped[bytes] = mapped_column(LargeBinary, unique=True)
    state: Mapped[PurchaseState] = mapped_column(StringEnum(PurchaseState))
    expire_date: Mapped[datetime | None] = mapped_column(Timestamp)
    reason: Mapped[str | None] = mapped_column(Text)
    started_at: Mapped[datetime | None] = mapped_column(Timestamp)
    canceled_at: Mapped[datetime | None] = mapped_column(Timestamp)
    checked_at: Mapped[datetime | None] = mapped_column(Timestamp)
    created_at: Mapped[datetime] = mapped_column(Timestamp)

    __table_args__ = (
        CheckConstraint(one_of("state", PurchaseState.stored()), name="state"),
        CheckConstraint("state <> 'active' OR expire_date IS NOT NULL", name="active_expires"),
        CheckConstraint("state = 'canceled' OR due_at IS NOT NULL", name="unfinished_is_due"),
        CheckConstraint(one_of("os", DeviceOs), name="os"),
        due_index("purchases"),
        Index("ix_purchases_device", "device_id"),
        Index("ix_purchases_app_state", "app_id", "state"),
        Index("ix_purchases_expire_date", "expire_date"),
    )

    @classmethod
    def is_pausing(cls, now: datetime) -> ColumnElement[bool]:
        """Hold for those that the store is to be asked of again; the others wait for their end."""
        return or_(cls.expire_date.is_(None), cls.expire_date <= now)


class PurchaseDaily(Model):
    """How many purchases of an app were started, renewed and canceled on a day (UTC)."""

    __tablename__ = "purchase_daily"

    app_id: Mapped[int] = mapped_column(BigInteger, ForeignKey(App.id), primary_key=True)
    day: Mapped[date] = mapped_column(primary_key=True)
    os: Mapped[DeviceOs] = mapped_column(StringEnum(DeviceOs), primary_key=True)
    started: Mapped[int] = mapped_column(server_default=text("0"))
    renewed: Mapped[int] = mapped_column(server_default=text("0"))
    canceled: Mapped[int] = mapped_column(server_default=text("0"))

    __table_args__ = (
        CheckConstraint(one_of("os", DeviceOs), name="os"),
        Index("ix_purchase_daily_day", "day"),
    )
