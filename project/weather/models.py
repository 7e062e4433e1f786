"""Tables of the forecast SMS: forecasts, subscribers, imports, messages."""

from datetime import date, datetime
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Double,
    ForeignKey,
    Index,
    LargeBinary,
    Text,
    UniqueConstraint,
    false,
    literal_column,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from project.core.db.models import Claimable, Timestamp, due_index
from project.core.db.types import StringEnum, one_of
from project.extensions import Model
from project.weather.states import (
    EndReason,
    Language,
    MessageEventKind,
    MessageState,
    Plan,
    SubscriberState,
    TaskKind,
    TaskState,
)


class Forecast(Model):
    """A point of the sphere, in degrees, and its forecast for the next 24 and 48 hours."""

    __tablename__ = "forecasts"

    gid: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    lat: Mapped[float] = mapped_column(Double)
    lon: Mapped[float] = mapped_column(Double)
    fcat24: Mapped[str] = mapped_column(Text)
    fcat48: Mapped[str] = mapped_column(Text)
    is_active: Mapped[bool] = mapped_column(Boolean)
    created_at: Mapped[datetime] = mapped_column(Timestamp)
    updated_at: Mapped[datetime] = mapped_column(Timestamp)

    __table_args__ = (
        CheckConstraint("lat BETWEEN -90 AND 90", name="lat"),
        CheckConstraint("lon BETWEEN -180 AND 180", name="lon"),
        Index(
            "ix_forecasts_place",
            text("floor(lat)"),
            "lon",
            postgresql_where=text("is_active"),
        ),
    )


class Subscriber(Model):
    """A phone number that gets a forecast a day; what it owes and pays is its customer's.

    `distance_m` is the way to its forecast on the sphere, `zone` the time zone where it is.
    `billing_due_at` is set where billing has yet to follow what was changed here; `next_message_at`
    where the next message is to be made, if it is before `paid_until`, which is a copy of what
    billing knows. `refused_messages` counts those in a row that a gateway refused for good.
    `subscription_event_at` is when, by its sender, the newest thing happened that decides on plan
    and state, `place_event_at` the same for its place: what is older changes nothing.
    """

    __tablename__ = "subscribers"

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    customer_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("customers.id"), unique=True)
    msisdn: Mapped[str] = mapped_column(Text, unique=True)
    lat: Mapped[float] = mapped_column(Double)
    lon: Mapped[float] = mapped_column(Double)
    zone: Mapped[str] = mapped_column(Text)
    language: Mapped[Language] = mapped_column(StringEnum(Language))
    plan: Mapped[Plan] = mapped_column(StringEnum(Plan))
    state: Mapped[SubscriberState] = mapped_column(StringEnum(SubscriberState))
    # Not constrained: a file of a million rows would be checked a million times. Whoever deletes
    # a forecast takes it from its subscribers.
    forecast_gid: Mapped[int | None] = mapped_column(BigInteger)
    distance_m: Mapped[float | None] = mapped_column(Double)
    created_at: Mapped[datetime] = mapped_column(Timestamp)
    updated_at: Mapped[datetime] = mapped_column(Timestamp)
    canceled_at: Mapped[datetime | None] = mapped_column(Timestamp)
    end_reason: Mapped[EndReason | None] = mapped_column(StringEnum(EndReason))
    refused_messages: Mapped[int] = mapped_column(server_default=text("0"), default=0)
    billing_due_at: Mapped[datetime | None] = mapped_column(Timestamp)
    next_message_at: Mapped[datetime | None] = mapped_column(Timestamp)
    paid_until: Mapped[datetime | None] = mapped_column(Timestamp)
    subscription_event_at: Mapped[datetime | None] = mapped_column(Timestamp)
    place_event_at: Mapped[datetime | None] = mapped_column(Timestamp)

    __table_args__ = (
        CheckConstraint("lat BETWEEN -90 AND 90", name="lat"),
        CheckConstraint("lon BETWEEN -180 AND 180", name="lon"),
        CheckConstraint(one_of("language", Language), name="language"),
        CheckConstraint(one_of("plan", Plan), name="plan"),
        CheckConstraint(one_of("state", SubscriberState), name="state"),
        CheckConstraint(one_of("end_reason", EndReason), name="end_reason"),
        Index("ix_subscribers_forecast", "forecast_gid"),
        Index(
            "ix_subscribers_billing_due",
            "billing_due_at",
            postgresql_where=text("billing_due_at IS NOT NULL"),
        ),
        Index(
            "ix_subscribers_next_message",
            "next_message_at",
            "id",
            # All that a run asks of whoever is due: they lie side by side here, and all over the
            # table. In a million subscribers, ten thousand pages are not read.
            postgresql_include=[
                "msisdn",
                "zone",
                "language",
                "state",
                "paid_until",
                "forecast_gid",
            ],
            postgresql_where=text("next_message_at IS NOT NULL"),
        ),
    )


class AbsentSubscriber(Model):
    """When a number that is no subscriber left or moved: older additions give way to it."""

    __tablename__ = "absent_subscribers"

    msisdn: Mapped[str] = mapped_column(Text, primary_key=True)
    subscription_event_at: Mapped[datetime | None] = mapped_column(Timestamp)
    place_event_at: Mapped[datetime | None] = mapped_column(Timestamp)
    lat: Mapped[float | None] = mapped_column(Double)
    lon: Mapped[float | None] = mapped_column(Double)
    recorded_at: Mapped[datetime] = mapped_column(Timestamp)


class SmsStop(Model):
    """A number that said STOP; kept for ever, also when its subscriber is deleted."""

    __tablename__ = "sms_stops"

    msisdn: Mapped[str] = mapped_column(Text, primary_key=True)
    text: Mapped[str] = mapped_column(Text)
    received_at: Mapped[datetime] = mapped_column(Timestamp)


class Task(Claimable, Model):
    """Work on many rows in the background, and how far it is.

    `next_row` is where a worker goes on: of a file the number of its next row, of subscribers
    the id after which it goes on. It is committed together with what the rows before it changed.
    """

    __tablename__ = "tasks"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    kind: Mapped[TaskKind] = mapped_column(StringEnum(TaskKind))
    state: Mapped[TaskState] = mapped_column(StringEnum(TaskState))
    file_name: Mapped[str | None] = mapped_column(Text)
    file_bytes: Mapped[int | None] = mapped_column(BigInteger)
    stated_encoding: Mapped[str | None] = mapped_column(Text)
    ts_format: Mapped[str | None] = mapped_column(Text)
    ts_timezone: Mapped[str | None] = mapped_column(Text)
    encoding: Mapped[str | None] = mapped_column(Text)
    delimiter: Mapped[str | None] = mapped_column(Text)
    total: Mapped[int | None] = mapped_column(BigInteger)
    done: Mapped[int] = mapped_column(BigInteger, server_default=text("0"), default=0)
    created: Mapped[int] = mapped_column(BigInteger, server_default=text("0"), default=0)
    updated: Mapped[int] = mapped_column(BigInteger, server_default=text("0"), default=0)
    skipped: Mapped[int] = mapped_column(BigInteger, server_default=text("0"), default=0)
    failed: Mapped[int] = mapped_column(BigInteger, server_default=text("0"), default=0)
    blank: Mapped[int] = mapped_column(BigInteger, server_default=text("0"), default=0)
    next_row: Mapped[int] = mapped_column(BigInteger, server_default=text("0"), default=0)
    has_file: Mapped[bool] = mapped_column(Boolean)
    note: Mapped[str | None] = mapped_column(Text)
    error: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(Timestamp)
    started_at: Mapped[datetime | None] = mapped_column(Timestamp)
    finished_at: Mapped[datetime | None] = mapped_column(Timestamp)

    __table_args__ = (
        CheckConstraint(one_of("kind", TaskKind), name="kind"),
        CheckConstraint(one_of("state", TaskState), name="state"),
        CheckConstraint(
            f"({one_of('state', TaskState.unfinished())}) = (due_at IS NOT NULL)",
            name="unfinished_is_due",
        ),
        due_index("tasks"),
        Index("ix_tasks_created", "created_at"),
        Index("ix_tasks_finished", "finished_at", postgresql_where=text("has_file")),
    )


class TaskChunk(Model):
    """A piece of an uploaded file, kept here because the worker may be on another machine."""

    __tablename__ = "task_chunks"

    task_id: Mapped[UUID] = mapped_column(ForeignKey(Task.id, ondelete="CASCADE"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    content: Mapped[bytes] = mapped_column(LargeBinary)


class TaskError(Model):
    """A row of a file that was not taken, or, as a note, one that was taken with a reservation."""

    __tablename__ = "task_errors"

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    task_id: Mapped[UUID] = mapped_column(ForeignKey(Task.id, ondelete="CASCADE"))
    row: Mapped[int] = mapped_column(BigInteger)
    column: Mapped[str] = mapped_column(Text)
    reason: Mapped[str] = mapped_column(Text)
    value: Mapped[str] = mapped_column(Text)
    is_note: Mapped[bool] = mapped_column(Boolean)

    __table_args__ = (UniqueConstraint("task_id", "row", "column"),)


class MessageRun(Claimable, Model):
    """A run that somebody asked for by hand; due until every subscriber was looked at.

    `reached` is the id after which a worker goes on.
    """

    __tablename__ = "message_runs"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    reached: Mapped[int] = mapped_column(BigInteger, server_default=text("0"), default=0)
    made: Mapped[int] = mapped_column(BigInteger, server_default=text("0"), default=0)
    created_at: Mapped[datetime] = mapped_column(Timestamp)
    finished_at: Mapped[datetime | None] = mapped_column(Timestamp)

    __table_args__ = (due_index("message_runs"),)


class Message(Claimable, Model):
    """The one message of a number and a day where it is; its id is the gateways' msgid.

    By number and not by subscriber: one who is deleted and added again gets no second one. One
    that was surely `never_sent` stands in the way of no other. `text` is what a gateway was given.
    """

    __tablename__ = "messages"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    subscriber_id: Mapped[int | None] = mapped_column(
        BigInteger, ForeignKey(Subscriber.id, ondelete="SET NULL")
    )
    msisdn: Mapped[str] = mapped_column(Text)
    local_date: Mapped[date]
    text: Mapped[str] = mapped_column(Text)
    state: Mapped[MessageState] = mapped_column(StringEnum(MessageState))
    never_sent: Mapped[bool] = mapped_column(Boolean, server_default=false(), default=False)
    gateway: Mapped[str | None] = mapped_column(Text)
    gateway_ref: Mapped[str | None] = mapped_column(Text)
    last_error: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(Timestamp)
    accepted_at: Mapped[datetime | None] = mapped_column(Timestamp)
    delivered_at: Mapped[datetime | None] = mapped_column(Timestamp)
    failed_at: Mapped[datetime | None] = mapped_column(Timestamp)

    __table_args__ = (
        CheckConstraint(one_of("state", MessageState), name="state"),
        Index(
            "uq_messages_msisdn_local_date",
            "msisdn",
            "local_date",
            # Of those that were surely not sent it is NULL, and NULLs differ from each other.
            literal_column("NULLIF(never_sent, true)"),
            unique=True,
        ),
        due_index("messages", "state"),
        Index("ix_messages_subscriber", "subscriber_id", "local_date"),
        Index("ix_messages_day", "local_date", "state"),
    )


class MessageEvent(Model):
    """What was heard of a message; nothing here is ever changed. Unknown msgids are kept too."""

    __tablename__ = "message_events"

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    message_id: Mapped[UUID | None] = mapped_column(ForeignKey(Message.id, ondelete="CASCADE"))
    msgid: Mapped[str] = mapped_column(Text)
    kind: Mapped[MessageEventKind] = mapped_column(StringEnum(MessageEventKind))
    gateway: Mapped[str | None] = mapped_column(Text)
    status: Mapped[str] = mapped_column(Text)
    body: Mapped[str] = mapped_column(Text)
    received_at: Mapped[datetime] = mapped_column(Timestamp)

    __table_args__ = (
        CheckConstraint(one_of("kind", MessageEventKind), name="kind"),
        Index("ix_message_events_message", "message_id"),
        # A receipt that comes twice is one; answers are one per try, so each of them is kept.
        Index(
            "uq_message_events_receipt",
            "msgid",
            "status",
            unique=True,
            postgresql_where=text(one_of("kind", [MessageEventKind.RECEIPT])),
        ),
    )
