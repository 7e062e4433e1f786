"""Making messages: whoever's time has come and whose period is paid gets one for today.

The selection goes by `subscribers.next_message_at`, so its cost follows what is due. A message of
a number and a date is made once, whoever tries, by a unique index; one that was surely not sent
does not count there. What is missing now, such as a forecast, is looked for again until the day is
over. The text is written when the message is sent.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any

import uuid_utils.compat
from sqlalchemy import BigInteger, Row, select, update

from project.config.environment import get_settings
from project.core import clock
from project.core.db import bulk
from project.core.db.locks import Lock, try_to_hold
from project.core.db.models import Timestamp
from project.core.db.rows import current
from project.core.work.queues import QueueName, Wakeup, wake
from project.extensions import db
from project.weather import local_time
from project.weather.messages import queries
from project.weather.messages.queries import Standing
from project.weather.messages.texts import has_forecast
from project.weather.models import MessageRun
from project.weather.settings import SmsSettings
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
    lacks: list[dict[str, Any]] = field(default_factory=list)
    zones: dict[str, "_Zone"] = field(default_factory=dict)
    """The zone of each number that a message is made for."""
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
    days = {
        zone: (local_time.local_date(zone, now), local_time.day_ends(zone, now))
        for zone in queries.zones_with_recipients()
        if not local_time.is_quiet(zone, now)
    }
    wake(MESSAGES_PLANNED)
    if not days:
        return run, 0
    planned = queries.count_planned({zone: ends_at for zone, (_, ends_at) in days.items()})
    return run, planned + queries.count_to_be_made_up(days)


def make_some_of_run() -> tuple[int, int]:
    """Make messages of the oldest run that was asked for by hand; (looked at, made).

    The hour that is planned does not count then; quiet hours do. None looked at ends the run.
    """
    now = clock.now()
    oldest = select(MessageRun).where(MessageRun.due_at <= now).order_by(MessageRun.due_at).limit(1)
    run = db.session.scalars(current(oldest.with_for_update(skip_locked=True))).one_or_none()
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
    lacking = {row.id for row in rows if not has_forecast(row.fcat24, row.fcat48)}
    done = {row.id for row in rows if row.next_message_at >= zones[row.zone].ends_at}
    asked = lacking | done if by_hand else lacking - done
    there = queries.messages_on(
        {row.msisdn: zones[row.zone].today for row in rows if row.id in asked}
    )
    for row in rows:
        if row.id not in done or by_hand:
            is_lacking = row.id in lacking
            _plan_one(
                plan, row, zones[row.zone], there.get(row.msisdn), is_lacking, by_hand=by_hand
            )
    return plan


@dataclass(frozen=True)
class _Zone:
    """What is so at this moment in a time zone; the same for all who live there."""

    today: date
    is_quiet: bool
    next_at: datetime
    tomorrow_at: datetime
    again_at: datetime
    """When what is missing now is looked for again: today if that can be, else tomorrow."""
    ends_at: datetime

    @classmethod
    def at(cls, zone: str, now: datetime) -> "_Zone":
        today = local_time.local_date(zone, now)
        tomorrow_at = local_time.next_message_time(zone, now, after=today)
        pause = timedelta(seconds=get_settings(SmsSettings).sms_retry_seconds)
        return cls(
            today,
            local_time.is_quiet(zone, now),
            local_time.next_message_time(zone, now),
            tomorrow_at,
            local_time.later_today(zone, now, today, pause) or tomorrow_at,
            local_time.day_ends(zone, now),
        )


def _plan_one(
    plan: _Plan,
    row: Row[Any],
    zone: _Zone,
    there: Standing | None,
    is_lacking: bool,
    *,
    by_hand: bool,
) -> None:
    if row.state is not SubscriberState.ACTIVE or row.is_stopped:
        plan.set_next(row, None)
    elif zone.is_quiet or (zone.next_at > plan.now and not by_hand):
        plan.set_next(row, zone.next_at)
    elif not row.is_paid:
        # The payment that comes plans it again.
        plan.set_next(row, None)
    elif there is not None and there.may_be_sent:
        plan.set_next(row, zone.tomorrow_at)
    elif is_lacking:
        if there is None:
            plan.lacks.append(_lack(row, zone.today, plan.now))
        plan.set_next(row, zone.again_at)
    else:
        plan.messages.append(_message(row, zone.today, plan.now))
        plan.set_next(row, zone.tomorrow_at)
        plan.zones[row.msisdn] = zone


def _message(row: Row[Any], today: date, now: datetime) -> dict[str, Any]:
    return {
        "id": uuid_utils.compat.uuid7(),
        "subscriber_id": row.id,
        "msisdn": row.msisdn,
        "local_date": today,
        "text": "",
        "state": MessageState.PENDING,
        "never_sent": False,
        "last_error": None,
        "created_at": now,
        "due_at": now,
        "failed_at": None,
        "attempts": 0,
    }


def _lack(row: Row[Any], today: date, now: datetime) -> dict[str, Any]:
    return _message(row, today, now) | {
        "state": MessageState.FAILED,
        "never_sent": True,
        "last_error": queries.NO_FORECAST,
        "due_at": None,
        "failed_at": now,
    }


def _write(plan: _Plan) -> int:
    bulk.insert_rows(queries.messages, plan.lacks)
    made = bulk.insert_rows(queries.messages, plan.messages, skip_conflicts=True)
    if made < len(plan.messages):
        _look_again(plan)
    _set_next(plan.next_at)
    if made:
        wake(MESSAGES_DUE)
    return made


def _look_again(plan: _Plan) -> None:
    """Look again later at numbers whose message was there already and is yet to be sent.

    It may be given up just now, because its number had left, and has come back since.
    """
    there = queries.messages_on({one["msisdn"]: one["local_date"] for one in plan.messages})
    for one in plan.messages:
        found = there.get(one["msisdn"])
        if found is not None and found.pending_id not in (None, one["id"]):
            was, _ = plan.next_at[one["subscriber_id"]]
            plan.next_at[one["subscriber_id"]] = (was, plan.zones[one["msisdn"]].again_at)


def look_again_soon(numbers: Sequence[str]) -> None:
    """Look at these numbers again after a pause: their message could not be sent for a lack."""
    if not numbers:
        return
    columns = queries.subscribers.c
    soon = clock.now() + timedelta(seconds=get_settings(SmsSettings).sms_retry_seconds)
    # Whoever changes one at this moment plans it anew; the caller has locked messages already.
    waiting = (
        select(columns.id)
        .where(columns.msisdn.in_(numbers), columns.next_message_at > soon)
        .with_for_update(skip_locked=True)
    )
    db.session.execute(
        update(queries.subscribers).where(columns.id.in_(waiting)).values(next_message_at=soon)
    )


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
