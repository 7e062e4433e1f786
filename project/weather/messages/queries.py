"""What there is to know about messages; nothing here writes."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
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
from sqlalchemy.dialects.postgresql import distinct_on

from project.billing.queries import is_paid
from project.core import clock
from project.core.db import bulk
from project.core.db.models import Timestamp
from project.core.db.rows import get_current, table_of
from project.core.work.claims import is_due, is_free
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

messages = table_of(Message)
events = table_of(MessageEvent)
runs = table_of(MessageRun)
subscribers = table_of(Subscriber)
forecasts = table_of(Forecast)
stops = table_of(SmsStop)

NO_FORECAST = "no forecast"
IS_ITS_FORECAST = and_(forecasts.c.gid == subscribers.c.forecast_gid, forecasts.c.is_active)
"""Joins a subscriber with the forecast that it has; one at rest is none."""


def recipients(now: datetime) -> Select[Any]:
    """Select subscribers with what decides whether they get a message now, and which.

    What billing has told of the period is enough here; it is asked itself before each is sent.
    """
    columns = subscribers.c
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
    ).join(forecasts, IS_ITS_FORECAST, isouter=True)


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


@dataclass(frozen=True)
class Standing:
    """What there is of a number and a date: one that may have been sent, or has yet to be."""

    may_be_sent: bool
    pending_id: UUID | None


def messages_on(days: Mapping[str, date]) -> dict[str, Standing]:
    """Return what there is of each number on its date: {msisdn: date}; nothing of the others."""
    given = bulk.rows_of(
        {"msisdn": (Text(), list(days)), "day": (messages.c.local_date.type, list(days.values()))}
    )
    rows = db.session.execute(
        select(
            messages.c.msisdn,
            func.bool_or(~messages.c.never_sent).label("may_be_sent"),
            # At most one is pending.
            func.array_agg(messages.c.id)
            .filter(in_state(MessageState.PENDING))
            .label("pending_ids"),
        )
        .join(
            given, and_(given.c.msisdn == messages.c.msisdn, given.c.day == messages.c.local_date)
        )
        .group_by(messages.c.msisdn)
    )
    return {
        row.msisdn: Standing(row.may_be_sent, row.pending_ids[0] if row.pending_ids else None)
        for row in rows
    }


def count_to_be_made_up(days: Mapping[str, tuple[date, datetime]]) -> int:
    """Count who pays and had no message though one was tried: {zone: (date, when it ends)}."""
    given = bulk.rows_of(
        {
            "zone": (Text(), list(days)),
            "day": (messages.c.local_date.type, [day for day, _ in days.values()]),
            "ends_at": (Timestamp, [ends_at for _, ends_at in days.values()]),
        }
    )
    other = messages.alias("other")
    sent = exists().where(
        other.c.msisdn == messages.c.msisdn,
        other.c.local_date == messages.c.local_date,
        ~other.c.never_sent,
    )
    unsent = (
        select(func.count(messages.c.msisdn.distinct()))
        .join(subscribers, subscribers.c.msisdn == messages.c.msisdn)
        .join(given, and_(given.c.zone == subscribers.c.zone, given.c.day == messages.c.local_date))
        .where(
            in_state(MessageState.FAILED),
            messages.c.never_sent,
            subscribers.c.next_message_at >= given.c.ends_at,
            ~sent,
        )
    )
    return int(db.session.scalar(unsent) or 0)


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


def in_state(state: MessageState) -> ColumnElement[bool]:
    """Hold for messages in this state."""
    return messages.c.state == state


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
    """Return what decides whether messages may still be sent, and their text: {id: row}.

    By number: whoever was deleted and added again is still to have the message.
    """
    rows = db.session.execute(
        select(
            messages.c.id,
            subscribers.c.id.label("subscriber_id"),
            subscribers.c.zone,
            subscribers.c.state,
            subscribers.c.language,
            subscribers.c.refused_messages,
            exists().where(stops.c.msisdn == messages.c.msisdn).label("is_stopped"),
            is_paid(subscribers.c.customer_id, now).label("is_paid"),
            forecasts.c.fcat24,
            forecasts.c.fcat48,
        )
        .join(subscribers, subscribers.c.msisdn == messages.c.msisdn, isouter=True)
        .join(forecasts, IS_ITS_FORECAST, isouter=True)
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
    return get_current(Message, message_id)


def events_of(message_id: UUID) -> Sequence[MessageEvent]:
    """Return every answer and receipt of a message, oldest first."""
    return db.session.scalars(
        select(MessageEvent).where(MessageEvent.message_id == message_id).order_by(MessageEvent.id)
    ).all()


def run_of(day: date) -> dict[str, Any]:
    """Return what became of the messages of a date: counts by what was reached.

    A number counts once: by what was or may have been sent, else by what was tried last.
    """
    columns = messages.c
    of_number = (
        select(columns.attempts, columns.accepted_at, columns.state, columns.last_error)
        .where(columns.local_date == day)
        .order_by(columns.msisdn, columns.never_sent, columns.id.desc())
        .ext(distinct_on(columns.msisdn))
        .subquery()
    )
    found = of_number.c
    no_forecast = found.last_error == NO_FORECAST

    def counted(*states: MessageState) -> ColumnElement[int]:
        return func.count().filter(found.state.in_(states))

    row = db.session.execute(
        select(
            func.count().label("due"),
            func.count().filter(found.attempts > 0).label("sent"),
            func.count().filter(found.accepted_at.is_not(None)).label("accepted"),
            counted(MessageState.DELIVERED).label("delivered"),
            func.count()
            .filter(
                found.state == MessageState.FAILED,
                or_(found.last_error.is_(None), ~no_forecast),
            )
            .label("failed"),
            counted(MessageState.EXPIRED).label("expired"),
            counted(MessageState.PENDING).label("pending"),
            func.count().filter(no_forecast).label("no_forecast"),
        ).select_from(of_number)
    ).one()
    return {"date": day, **row._asdict()}
