"""Endpoints, the events they hear of, and every callback with each of its attempts."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    ForeignKey,
    Index,
    LargeBinary,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from project.callbacks.states import AttemptTrigger, CallbackState
from project.core.db.models import Claimable, Timestamp, due_index
from project.core.db.types import StringEnum, one_of
from project.extensions import Model

LANES = 2
"""How many workers, at most, send to one endpoint at the same time."""
MAX_FORMER_SECRETS = 10


class Endpoint(Model):
    """A URL that callbacks go to; `owner_type` and `owner_id` say whose it is.

    `former_secrets` sign along until their time: [{sealed, until}], the newest first.
    """

    __tablename__ = "endpoints"

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    owner_type: Mapped[str] = mapped_column(Text)
    owner_id: Mapped[int] = mapped_column(BigInteger)
    url: Mapped[str] = mapped_column(Text)
    secret: Mapped[bytes] = mapped_column(LargeBinary)
    former_secrets: Mapped[list[dict[str, str]]] = mapped_column(
        JSONB, default=list, server_default=text("'[]'")
    )
    created_at: Mapped[datetime] = mapped_column(Timestamp)

    __table_args__ = (UniqueConstraint("owner_type", "owner_id"),)


class DeliveryLane(Claimable, Model):
    """The right to send to an endpoint, `concurrency` requests at once; who claims the lane has it.

    `due_at` is when the lane may be used next: later than now while a hanging endpoint rests. Up to
    `slow_start_threshold` the concurrency doubles (see `congestion`); NULL: as far as it goes.
    """

    __tablename__ = "delivery_lanes"

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    endpoint_id: Mapped[int] = mapped_column(
        BigInteger, ForeignKey(Endpoint.id, ondelete="CASCADE")
    )
    number: Mapped[int]
    timeouts_in_a_row: Mapped[int] = mapped_column(server_default=text("0"), default=0)
    concurrency: Mapped[int] = mapped_column(server_default=text("1"), default=1)
    slow_start_threshold: Mapped[int | None]

    __table_args__ = (UniqueConstraint("endpoint_id", "number"),)


class Event(Model):
    """Something that happened, written in the transaction in which it did."""

    __tablename__ = "events"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    type: Mapped[str] = mapped_column(Text)
    subject_type: Mapped[str] = mapped_column(Text)
    subject_id: Mapped[int] = mapped_column(BigInteger)
    data: Mapped[dict[str, Any]] = mapped_column(JSONB)
    occurred_at: Mapped[datetime] = mapped_column(Timestamp)

    __table_args__ = (Index("ix_events_subject", "subject_type", "subject_id", "occurred_at"),)


class Callback(Claimable, Model):
    """An event on its way to an endpoint; the body is frozen, its id is the event's.

    `unsent_since`: since when no request could be sent, for a reason that may be ours.
    """

    __tablename__ = "callbacks"

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    event_id: Mapped[UUID] = mapped_column(ForeignKey(Event.id))
    endpoint_id: Mapped[int] = mapped_column(BigInteger, ForeignKey(Endpoint.id))
    type: Mapped[str] = mapped_column(Text)
    body: Mapped[str] = mapped_column(Text)
    state: Mapped[CallbackState] = mapped_column(StringEnum(CallbackState))
    trigger: Mapped[AttemptTrigger] = mapped_column(
        StringEnum(AttemptTrigger), server_default=AttemptTrigger.SCHEDULE
    )
    attempts_allowed: Mapped[int]
    last_status: Mapped[int | None]
    last_error: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(Timestamp)
    delivered_at: Mapped[datetime | None] = mapped_column(Timestamp)
    unsent_since: Mapped[datetime | None] = mapped_column(Timestamp)

    __table_args__ = (
        CheckConstraint(one_of("state", CallbackState), name="state"),
        CheckConstraint(one_of("trigger", AttemptTrigger), name="trigger"),
        CheckConstraint("(state = 'pending') = (due_at IS NOT NULL)", name="pending_is_due"),
        UniqueConstraint("event_id", "endpoint_id"),
        due_index("callbacks", "endpoint_id"),
        due_index("callbacks"),
        Index("ix_callbacks_endpoint_created", "endpoint_id", "created_at"),
        Index("ix_callbacks_created", "created_at"),
    )


class CallbackAttempt(Model):
    """One request that was made, and what was answered."""

    __tablename__ = "callback_attempts"

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    callback_id: Mapped[int] = mapped_column(
        BigInteger, ForeignKey(Callback.id, ondelete="CASCADE"), index=True
    )
    number: Mapped[int]
    trigger: Mapped[AttemptTrigger] = mapped_column(StringEnum(AttemptTrigger))
    url: Mapped[str] = mapped_column(Text)
    status: Mapped[int | None]
    error: Mapped[str | None] = mapped_column(Text)
    answer: Mapped[str | None] = mapped_column(Text)
    duration_ms: Mapped[int]
    attempted_at: Mapped[datetime] = mapped_column(Timestamp)

    __table_args__ = (CheckConstraint(one_of("trigger", AttemptTrigger), name="trigger"),)
