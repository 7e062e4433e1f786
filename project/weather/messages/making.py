"""Making messages: whoever's time has come and whose period is paid gets one for today.

The selection goes by `subscribers.next_message_at`, so its cost follows what is due. A message of
a number and a date is made once, whoever tries, by a unique constraint.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any

import uuid_utils.compat
from sqlalchemy import BigInteger, Row, select, update

from project.core import bulk, clock
from project.core.locks import Lock, try_to_hold
from project.core.models import Timestamp
from project.core.queues import QueueName, Wakeup, wake
from project.extensions import db
from project.weather import local_time
from project.weather.messages import queries
from project.weather.messages.texts import message_text
from project.weather.models import MessageRun
from project.weather.states import MessageState, SubscriberState

MESSAGES_PLANNED = Wakeup(
    "message_run", QueueName.DEFAULT, "project.weather.messages.jobs.make_messages"
)
MESSAGES_DUE = Wakeup("messages", QueueName.DEFAULT, "project.weather.messages.jobs.send_messages")
AT_ONCE = 1000


@dataclass
class _Plan:
    """What is written for a number of subscribers at once."""

    now: datetime
    messages: list[dict[str, Any]] = field(default_factory=list)
    next_at: dict[int, tuple[datetime, datetime | None]] = field(default_factory=dict)
    """When it is next, and when it was planned till now: {subscriber id: (till now, next)}."""

    def set_next(self, row: Row[Any], moment: datetime | None) -> None:
        """Plan a subscriber's next message."""
        self.next_at[row.id] = (row.next_message_at, moment)


def make_some() -> tuple[int, int]:
    """Make the messages of subscribers whose time has come; (looked at, made).

    One worker does it at a time. Who is canceled or stopped meanwhile keeps a plan of None, and
    the message that was made is not sent: that is asked again before each is.
    """
    if not try_to_hold(Lock.MESSAGE_MAKING):
        return 0, 0
    now = clock.now()
    rows = queries.due_recipients(now, AT_ONCE)
    return len(rows), _write(_planned(rows, now))


def begin_run() -> tuple[MessageRun, int]:
    """Write down a run that somebody asks for now, and count who is due for it."""
    now = clock.now()
    run = MessageRun(id=uuid_utils.compat.uuid7(), created_at=now, due_at=now)
    db.session.add(run)
    ends = {
        zone: local_time.day_ends(zone, now)
        for zone in queries.zones_with_recipients()
        if not local_time.is_quiet(zone, now)
    }
    wake(MESSAGES_PLANNED)
    return run, queries.count_planned(ends) if ends else 0


def make_some_of_run() -> tuple[int, int]:
    """Make messages of the oldest run that was asked for by hand; (looked at, made).

    The hour that is planned does not count then; quiet hours do. None looked at ends the run.
    """
    now = clock.now()
    run = db.session.scalars(
        select(MessageRun)
        .where(MessageRun.due_at <= now)
        .order_by(MessageRun.due_at)
        .limit(1)
        .with_for_update(skip_locked=True)
        .execution_options(populate_existing=True)
    ).one_or_none()
    if run is None:
        return 0, 0
    rows = queries.recipients_after(run.reached, now, AT_ONCE)
    if not rows:
        run.due_at, run.finished_at = None, now
        return 0, 0
    made = _write(_planned(rows, now, by_hand=True))
    run.reached = rows[-1].id
    run.made += made
    return len(rows), made


def _planned(rows: Sequence[Row[Any]], now: datetime, *, by_hand: bool = False) -> _Plan:
    plan = _Plan(now)
    zones = {zone: _Zone.at(zone, now) for zone in {row.zone for row in rows}}
    for row in rows:
        _plan_one(plan, row, zones[row.zone], by_hand=by_hand)
    return plan


@dataclass(frozen=True)
class _Zone:
    """What is so at this moment in a time zone; the same for all who live there."""

    today: date
    is_quiet: bool
    next_at: datetime
    tomorrow_at: datetime
    ends_at: datetime

    @classmethod
    def at(cls, zone: str, now: datetime) -> "_Zone":
        today = local_time.local_date(zone, now)
        return cls(
            today,
            local_time.is_quiet(zone, now),
            local_time.next_message_time(zone, now),
            local_time.next_message_time(zone, now, after=today),
            local_time.day_ends(zone, now),
        )


def _plan_one(plan: _Plan, row: Row[Any], zone: _Zone, *, by_hand: bool) -> None:
    if row.next_message_at >= zone.ends_at:
        # Today is done with.
        return
    if row.state != SubscriberState.ACTIVE or row.is_stopped:
        plan.set_next(row, None)
    elif zone.is_quiet or (zone.next_at > plan.now and not by_hand):
        plan.set_next(row, zone.next_at)
    elif not row.is_paid:
        # The payment that comes plans it again.
        plan.set_next(row, None)
    else:
        plan.messages.append(_message(row, zone.today, plan.now))
        plan.set_next(row, zone.tomorrow_at)


def _message(row: Row[Any], today: date, now: datetime) -> dict[str, Any]:
    has_forecast = bool((row.fcat24 or "").strip() or (row.fcat48 or "").strip())
    state = MessageState.PENDING if has_forecast else MessageState.FAILED
    return {
        "id": uuid_utils.compat.uuid7(),
        "subscriber_id": row.id,
        "msisdn": row.msisdn,
        "local_date": today,
        "text": message_text(row.language, row.fcat24, row.fcat48) if has_forecast else "",
        "state": str(state),
        "last_error": None if has_forecast else queries.NO_FORECAST,
        "created_at": now,
        "due_at": now if has_forecast else None,
        "failed_at": None if has_forecast else now,
        "attempts": 0,
    }


def _write(plan: _Plan) -> int:
    bulk.insert_rows(queries.messages, plan.messages, skip_conflicts=True)
    _set_next(plan.next_at)
    if plan.messages:
        wake(MESSAGES_DUE)
    return len(plan.messages)


def _set_next(next_at: Mapping[int, tuple[datetime, datetime | None]]) -> None:
    if not next_at:
        return
    planned = bulk.rows_of(
        {
            "id": (BigInteger(), list(next_at)),
            "was": (Timestamp, [was for was, _ in next_at.values()]),
            "at": (Timestamp, [moment for _, moment in next_at.values()]),
        }
    )
    columns = queries.subscribers.c
    db.session.execute(
        update(queries.subscribers)
        .where(columns.id == planned.c.id, columns.next_message_at == planned.c.was)
        .values(next_message_at=planned.c.at)
    )
