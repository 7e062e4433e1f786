"""What there is to know about messages; nothing here writes."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
    Row,
    Select,
    Table,
    Text,
    and_,
    exists,
    func,
    or_,
    select,
)

from project.billing.queries import is_paid
from project.core import bulk, clock
from project.core.claims import is_due, is_free
from project.core.models import Timestamp
from project.extensions import db
from project.weather.models import (
    Forecast,
    Message,
    MessageEvent,
    MessageRun,
    SmsStop,
    Subscriber,
)
from project.weather.states import MessageState

messages: Table = Message.__table__  # type: ignore[assignment]
events: Table = MessageEvent.__table__  # type: ignore[assignment]
runs: Table = MessageRun.__table__  # type: ignore[assignment]
subscribers: Table = Subscriber.__table__  # type: ignore[assignment]
forecasts: Table = Forecast.__table__  # type: ignore[assignment]
stops: Table = SmsStop.__table__  # type: ignore[assignment]

NO_FORECAST = "no forecast"


def recipients(now: datetime) -> Select[Any]:
    """Select subscribers with what decides whether they get a message now, and which.

    What billing has told of the period is enough here; it is asked itself before each is sent.
    """
    columns = subscribers.c
    has_forecast = and_(forecasts.c.gid == columns.forecast_gid, forecasts.c.is_active)
    return select(
        columns.id,
        columns.msisdn,
        columns.zone,
        columns.language,
        columns.next_message_at,
        columns.state,
        func.coalesce(columns.paid_until > now, False).label("is_paid"),
        exists().where(stops.c.msisdn == columns.msisdn).label("is_stopped"),
        forecasts.c.fcat24,
        forecasts.c.fcat48,
    ).join(forecasts, has_forecast, isouter=True)


def due_recipients(now: datetime, limit: int) -> Sequence[Row[Any]]:
    """Return the subscribers whose time for a message has come, the longest-waiting first.

    They are read from `ix_subscribers_next_message` alone and not locked, which would fetch each
    from its own page: whoever writes must see that `next_message_at` still stands.
    """
    columns = subscribers.c
    return db.session.execute(
        recipients(now)
        .where(columns.next_message_at <= now)
        .order_by(columns.next_message_at, columns.id)
        .limit(limit)
    ).all()


def recipients_after(reached: int, now: datetime, limit: int) -> Sequence[Row[Any]]:
    """Return the subscribers behind an id who wait for a message, whenever it is planned."""
    columns = subscribers.c
    return db.session.execute(
        recipients(now)
        .with_for_update(of=subscribers)
        .where(columns.id > reached, columns.next_message_at.is_not(None))
        .order_by(columns.id)
        .limit(limit)
    ).all()


def zones_with_recipients() -> list[str]:
    """Return the time zones in which somebody waits for a message."""
    waiting = select(subscribers.c.zone).where(subscribers.c.next_message_at.is_not(None))
    return list(db.session.scalars(waiting.distinct()))


def count_planned(before: Mapping[str, datetime]) -> int:
    """Count the subscribers whose message is planned before their zone's moment."""
    bounds = bulk.rows_of(
        {"zone": (Text(), list(before)), "moment": (Timestamp, list(before.values()))}
    )
    planned = (
        select(func.count())
        .select_from(subscribers)
        .join(bounds, bounds.c.zone == subscribers.c.zone)
        .where(subscribers.c.next_message_at < bounds.c.moment)
    )
    return int(db.session.scalar(planned) or 0)


def oldest_planned_at() -> datetime | None:
    """Return when the longest-waiting message was or will be due to be made."""
    planned = (
        select(subscribers.c.next_message_at)
        .where(subscribers.c.next_message_at.is_not(None))
        .order_by(subscribers.c.next_message_at)
        .limit(1)
    )
    return _earlier(db.session.scalar(planned), _oldest(runs))


def is_message_planned(now: datetime) -> bool:
    """Tell whether a message is to be made now."""
    return bool(db.session.scalar(select(exists().where(subscribers.c.next_message_at <= now))))


def in_state(state: MessageState) -> ColumnElement[bool]:
    """Hold for messages in this state."""
    return messages.c.state == str(state)


def is_any_due(*among: ColumnElement[bool]) -> bool:
    """Tell whether one of these messages is due that nobody works on."""
    return bool(db.session.scalar(select(exists().where(is_due(messages, clock.now()), *among))))


def oldest_due_at(*among: ColumnElement[bool]) -> datetime | None:
    """Return when the longest-waiting of these messages was or will be due."""
    return _oldest(messages, *among)


def oldest_unsent_due_at() -> datetime | None:
    """Return when the longest-waiting message was or will be due to be sent."""
    return oldest_due_at(in_state(MessageState.PENDING))


def oldest_unreceipted_due_at() -> datetime | None:
    """Return when the longest-waiting message without a receipt was or will be given up."""
    return oldest_due_at(in_state(MessageState.ACCEPTED))


def _oldest(table: Table, *among: ColumnElement[bool]) -> datetime | None:
    return db.session.scalar(
        select(table.c.due_at)
        .where(table.c.due_at.is_not(None), is_free(table), *among)
        .order_by(table.c.due_at)
        .limit(1)
    )


def _earlier(one: datetime | None, other: datetime | None) -> datetime | None:
    given = [moment for moment in (one, other) if moment is not None]
    return min(given, default=None)


def standing_of(message_ids: Iterable[UUID], now: datetime) -> dict[UUID, Row[Any]]:
    """Return what decides whether messages may still be sent: {id: (zone, state, ...)}."""
    rows = db.session.execute(
        select(
            messages.c.id,
            subscribers.c.zone,
            subscribers.c.state,
            exists().where(stops.c.msisdn == messages.c.msisdn).label("is_stopped"),
            is_paid(subscribers.c.customer_id, now).label("is_paid"),
        )
        .join(subscribers, subscribers.c.id == messages.c.subscriber_id, isouter=True)
        .where(messages.c.id.in_(list(message_ids)))
    )
    return {row.id: row for row in rows}


def listed_messages(filters: Mapping[str, Any]) -> Select[Any]:
    """Select messages, newest first; filters: msisdn, date, state."""
    statement = select(Message).order_by(Message.created_at.desc(), Message.id.desc())
    for name, column in (
        ("msisdn", Message.msisdn),
        ("date", Message.local_date),
        ("state", Message.state),
    ):
        if name in filters:
            statement = statement.where(column == filters[name])
    return statement


def message_by_id(message_id: UUID) -> Message | None:
    """Return a message."""
    return db.session.get(Message, message_id, populate_existing=True)


def events_of(message_id: UUID) -> Sequence[MessageEvent]:
    """Return every answer and receipt of a message, oldest first."""
    return db.session.scalars(
        select(MessageEvent).where(MessageEvent.message_id == message_id).order_by(MessageEvent.id)
    ).all()


def run_of(day: date) -> dict[str, Any]:
    """Return what became of the messages of a date: counts by what was reached."""
    columns = messages.c
    no_forecast = columns.last_error == NO_FORECAST
    failed = and_(in_state(MessageState.FAILED), or_(columns.last_error.is_(None), ~no_forecast))
    row = db.session.execute(
        select(
            func.count().label("due"),
            func.count().filter(columns.attempts > 0).label("sent"),
            func.count().filter(columns.accepted_at.is_not(None)).label("accepted"),
            func.count().filter(in_state(MessageState.DELIVERED)).label("delivered"),
            func.count().filter(failed).label("failed"),
            func.count().filter(in_state(MessageState.EXPIRED)).label("expired"),
            func.count().filter(in_state(MessageState.PENDING)).label("pending"),
            func.count().filter(no_forecast).label("no_forecast"),
        ).where(columns.local_date == day)
    ).one()
    return {"date": day, **row._asdict()}


def last_messages(subscriber_ids: Sequence[int]) -> dict[int, Message]:
    """Return the newest message of each subscriber that has one."""
    rows = db.session.scalars(
        select(Message)
        .where(Message.subscriber_id.in_(list(subscriber_ids)))
        .distinct(Message.subscriber_id)
        .order_by(Message.subscriber_id, Message.local_date.desc())
    )
    return {row.subscriber_id: row for row in rows if row.subscriber_id is not None}
