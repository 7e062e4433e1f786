"""What changes subscribers, many at a time: added, canceled, moved, given another forecast.

One row through the API and a thousand of a file go the same way. What happened to a number has a
time of its own, its sender's, and the newest decides, whatever the order in which things arrive:
once for whether the number takes a plan, once for its place. What is said by the API happens now.

Rows are locked in the order of their numbers, so two that change the same ones wait for each
other and never deadlock.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypeAlias

import tzfpy
from psycopg.errors import UniqueViolation
from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Row,
    and_,
    case,
    delete,
    func,
    select,
    tuple_,
    update,
)
from sqlalchemy.dialects.postgresql import insert

from project.billing.customers.service import ensure_customers
from project.core import clock
from project.core.db import bulk
from project.core.db.locks import Lock, hold, hold_shared
from project.core.db.models import Timestamp
from project.core.db.rows import table_of
from project.extensions import db
from project.weather import billing_sync
from project.weather.forecasts.nearest import Nearest, nearest_to
from project.weather.models import AbsentSubscriber, SmsStop, Subscriber
from project.weather.numbers import language_of
from project.weather.states import SUBSCRIBER_MOVES, EndReason, Plan, RowOutcome, SubscriberState

INSERTED = (
    "customer_id",
    "msisdn",
    "language",
    "plan",
    "state",
    "created_at",
    "updated_at",
    "billing_due_at",
    "lat",
    "lon",
    "zone",
    "forecast_gid",
    "distance_m",
    "subscription_event_at",
    "place_event_at",
)
ACTIVE, CANCELED = SubscriberState.ACTIVE, SubscriberState.CANCELED
TICK = timedelta(microseconds=1)
# What counts of two that happened to a number at the same time: the same in whatever order they
# come. Nobody is charged who may have left.
_RANKS: dict[Plan | None, int] = {Plan.DAILY: 0, Plan.WEEKLY: 1, None: 2}

subscribers = table_of(Subscriber)
absents = table_of(AbsentSubscriber)

Known: TypeAlias = Row[*tuple[Any, ...]]


@dataclass(frozen=True, slots=True)
class Result:
    """What became of an event; `known_since` is the time of a newer one that it gives way to."""

    outcome: RowOutcome
    known_since: datetime | None = None


class ChangedMeanwhileError(Exception):
    """Somebody else added or deleted one of the numbers at the same moment; do it again."""


@dataclass(frozen=True, slots=True)
class Addition:
    """A number that is to get the forecast of a place, or of its new place and plan.

    `at` is when its sender says that it happened; None is now, after all that is known. Where
    `says_place` is not so, a subscriber that is there stays where it is.
    """

    msisdn: str
    plan: Plan
    lat: float
    lon: float
    nearest: Nearest | None
    at: datetime | None = None
    says_place: bool = True


@dataclass(frozen=True, slots=True)
class Cancellation:
    """A number that is to get the forecast no more."""

    msisdn: str
    at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Relocation:
    """A number and where it is now."""

    msisdn: str
    lat: float
    lon: float
    nearest: Nearest | None
    at: datetime | None = None


Event: TypeAlias = Addition | Cancellation | Relocation


@dataclass(slots=True)
class _Change:
    """What a subscriber is to be from now on; `row` is what it was, None for a new one."""

    row: Known | None
    msisdn: str
    state: SubscriberState
    plan: Plan
    event_at: datetime | None
    place: Relocation
    end_reason: EndReason | None


def zone_at(lat: float, lon: float) -> str:
    """Return the time zone of a place (IANA); at sea it is one of whole hours."""
    return tzfpy.get_tz(lon, lat) or "UTC"


def apply_events(events: Sequence[Event]) -> list[Result]:
    """Add, cancel and move numbers, each at most once; return what became of each, in order.

    What is older than what is known changes nothing. What happened to a number that is no
    subscriber is kept, for what is older and comes later. STOP stays STOP.
    Raises ChangedMeanwhileError.
    """
    numbers = [one.msisdn for one in events]
    is_kept = _hold_numbers(events)
    known = _locked(numbers)
    missing = [number for number in numbers if number not in known]
    absent = _absent(missing)
    added = [one.msisdn for one in events if isinstance(one, Addition)]
    batch = _Batch(clock.now(), known, absent, _stopped(added))
    results = [batch.decide(one) for one in events]
    if batch.unknown and not is_kept:
        raise ChangedMeanwhileError
    batch.write()
    return results


def forget(msisdn: str) -> bool:
    """Delete a subscriber; only that it is there no more, and since when, is kept.

    Nothing that happened before brings it back. Tell whether there was one.
    """
    hold(Lock.ABSENT_SUBSCRIBERS)
    row = _locked([msisdn]).get(msisdn)
    if row is None:
        return False
    at = _time_of(None, clock.now(), row.subscription_event_at)
    db.session.execute(delete(subscribers).where(subscribers.c.id == row.id))
    _keep_absent([Cancellation(msisdn, at)], clock.now())
    return True


class _Batch:
    """Decides what events change, and writes it.

    Nothing is asked of the database in between, but the forecast of whoever moved before it came.
    """

    def __init__(
        self,
        now: datetime,
        known: Mapping[str, Known],
        absent: Mapping[str, Known],
        stopped: set[str],
    ) -> None:
        self.now = now
        self.known = known
        self.absent = absent
        self.stopped = stopped
        self.created: list[_Change] = []
        self.changed: list[_Change] = []
        self.unknown: list[Cancellation | Relocation] = []

    def decide(self, one: Event) -> Result:
        """Note down what the event changes and return what becomes of it."""
        row = self.known.get(one.msisdn)
        if isinstance(one, Addition) and self._is_stopped(one, row):
            return _STOPPED
        if row is not None:
            return self._change(row, one)
        if isinstance(one, Addition):
            return self._create(one)
        self.unknown.append(one)
        return _UNKNOWN

    def write(self) -> None:
        """Write what was decided. Raises ChangedMeanwhileError."""
        _insert(self.created, self.now)
        _drop_absent([one.msisdn for one in self.created if one.msisdn in self.absent])
        _update(self.changed, self.now)
        _keep_absent(self.unknown, self.now)

    def _is_stopped(self, one: Addition, row: Known | None) -> bool:
        if one.msisdn in self.stopped:
            return True
        return row is not None and not SUBSCRIBER_MOVES.allows(row.state, ACTIVE)

    def _create(self, one: Addition) -> Result:
        absent = self.absent.get(one.msisdn)
        left_at = absent.subscription_event_at if absent else None
        moved_at = absent.place_event_at if absent else None
        at = _time_of(one.at, self.now, left_at, moved_at)
        if left_at is not None and left_at >= at:
            return Result(RowOutcome.SKIPPED, left_at)
        place = Relocation(one.msisdn, one.lat, one.lon, one.nearest, at)
        if absent is not None and not _moves(absent, place):
            lat, lon = absent.lat, absent.lon
            place = Relocation(one.msisdn, lat, lon, nearest_to(lat, lon), moved_at)
        change = _Change(None, one.msisdn, ACTIVE, one.plan, at, place, None)
        self.created.append(change)
        return _CREATED

    def _change(self, row: Known, one: Event) -> Result:
        at = _time_of(one.at, self.now, row.subscription_event_at, row.place_event_at)
        change = _unchanged(row)
        older_than = None
        if not isinstance(one, Relocation):
            wanted = None if isinstance(one, Cancellation) else one.plan
            if _subscribes(row, wanted, at):
                _subscribe(change, wanted, at)
            else:
                older_than = row.subscription_event_at
        if isinstance(one, Relocation) or (isinstance(one, Addition) and one.says_place):
            place = Relocation(one.msisdn, one.lat, one.lon, one.nearest, at)
            if _moves(row, place):
                change.place = place
            else:
                older_than = older_than or row.place_event_at
        return self._noted(row, change, older_than)

    def _noted(self, row: Known, change: _Change, older_than: datetime | None) -> Result:
        is_same = _is_same(row, change)
        known = (row.subscription_event_at, row.place_event_at, row.end_reason)
        if not is_same or known != (change.event_at, change.place.at, change.end_reason):
            self.changed.append(change)
        if older_than is None:
            return _SKIPPED if is_same else _UPDATED
        return Result(RowOutcome.SKIPPED if is_same else RowOutcome.UPDATED, older_than)


_CREATED, _UPDATED, _SKIPPED, _UNKNOWN, _STOPPED = map(Result, RowOutcome)


def _time_of(at: datetime | None, now: datetime, *known: datetime | None) -> datetime:
    """Return when something happened: what happens now is newer than all that is known."""
    return at or max([now, *(one + TICK for one in known if one is not None)])


def _subscribes(row: Known, wanted: Plan | None, at: datetime) -> bool:
    """Tell whether a plan, or none in a cancellation, is no older than what is known."""
    if row.subscription_event_at is None:
        return True
    has = row.plan if row.state is ACTIVE else None
    return bool((at, _RANKS[wanted]) >= (row.subscription_event_at, _RANKS[has]))


def _moves(row: Known, place: Relocation) -> bool:
    """Tell whether a place is no older than the one that is known."""
    if row.place_event_at is None:
        return True
    wanted = (place.at, place.lat, place.lon)
    return bool(wanted >= (row.place_event_at, row.lat, row.lon))


def _subscribe(change: _Change, wanted: Plan | None, at: datetime) -> None:
    change.event_at = at
    if wanted is not None:
        change.state, change.plan, change.end_reason = ACTIVE, wanted, None
    elif change.state is ACTIVE or change.end_reason is EndReason.UNPAID:
        # Whom only the money was missing, money revives no more.
        change.state, change.end_reason = CANCELED, EndReason.REQUESTED


def _unchanged(row: Known) -> _Change:
    nearest = None if row.forecast_gid is None else Nearest(row.forecast_gid, row.distance_m)
    place = Relocation(row.msisdn, row.lat, row.lon, nearest, row.place_event_at)
    at = row.subscription_event_at
    return _Change(row, row.msisdn, row.state, row.plan, at, place, row.end_reason)


def _is_same(row: Known, change: _Change) -> bool:
    place = change.place
    gid = place.nearest.gid if place.nearest else None
    return bool(
        (row.state, row.plan) == (change.state, change.plan)
        and (row.lat, row.lon, row.forecast_gid) == (place.lat, place.lon, gid)
    )


def assign_forecasts(found: Sequence[tuple[int, Nearest | None]]) -> int:
    """Give subscribers, by id, another forecast; return how many did not have it already.

    Who gets its first one is for billing to look at.
    """
    new = bulk.rows_of(
        {
            "id": (BigInteger(), [subscriber_id for subscriber_id, _ in found]),
            "forecast_gid": (BigInteger(), [near.gid if near else None for _, near in found]),
            "distance_m": (
                subscribers.c.distance_m.type,
                [near.distance_m if near else None for _, near in found],
            ),
        }
    )
    columns = subscribers.c
    is_first = and_(
        columns.forecast_gid.is_(None),
        new.c.forecast_gid.is_not(None),
        columns.state == ACTIVE,
    )
    changed = db.session.scalars(
        update(subscribers)
        .where(columns.id == new.c.id)
        .where(
            columns.forecast_gid.is_distinct_from(new.c.forecast_gid)
            | columns.distance_m.is_distinct_from(new.c.distance_m)
        )
        .values(
            forecast_gid=new.c.forecast_gid,
            distance_m=new.c.distance_m,
            billing_due_at=case((is_first, clock.now()), else_=columns.billing_due_at),
        )
        .returning(columns.billing_due_at)
    ).all()
    if any(changed):
        billing_sync.wake_billing()
    return len(changed)


def _hold_numbers(events: Sequence[Event]) -> bool:
    """Keep others from adding numbers while what happened to unknown ones is kept; tell if so.

    Either the one is seen by the other, or it is still to come: an addition and a cancellation
    of the same new number, taken by two workers at once, find each other.
    """
    others = [one.msisdn for one in events if not isinstance(one, Addition)]
    if others:
        there = select(func.count()).where(
            subscribers.c.msisdn == func.any(bulk.text_array(others))
        )
        if db.session.scalar(there) != len(others):
            hold(Lock.ABSENT_SUBSCRIBERS)
            return True
    if len(others) < len(events):
        hold_shared(Lock.ABSENT_SUBSCRIBERS)
    return False


def _locked(numbers: Sequence[str]) -> dict[str, Known]:
    columns = subscribers.c
    rows = db.session.execute(
        select(
            columns.id,
            columns.msisdn,
            columns.state,
            columns.plan,
            columns.lat,
            columns.lon,
            columns.zone,
            columns.forecast_gid,
            columns.distance_m,
            columns.canceled_at,
            columns.end_reason,
            columns.refused_messages,
            columns.subscription_event_at,
            columns.place_event_at,
        )
        .where(columns.msisdn == func.any(bulk.text_array(numbers)))
        .order_by(columns.msisdn)
        .with_for_update()
    )
    return {row.msisdn: row for row in rows}


def _stopped(numbers: Sequence[str]) -> set[str]:
    if not numbers:
        return set()
    found = select(SmsStop.msisdn).where(SmsStop.msisdn == func.any(bulk.text_array(numbers)))
    return set(db.session.scalars(found))


def _absent(numbers: Sequence[str]) -> dict[str, Known]:
    if not numbers:
        return {}
    found = select(absents).where(absents.c.msisdn == func.any(bulk.text_array(numbers)))
    return {row.msisdn: row for row in db.session.execute(found)}


def _drop_absent(numbers: Sequence[str]) -> None:
    if numbers:
        db.session.execute(
            delete(absents).where(absents.c.msisdn == func.any(bulk.text_array(numbers)))
        )


def _keep_absent(events: Sequence[Cancellation | Relocation], now: datetime) -> None:
    """Keep when numbers that are no subscribers left or moved, unless something newer is known."""
    if not events:
        return
    left = [(one.at or now) if isinstance(one, Cancellation) else None for one in events]
    moved = [one if isinstance(one, Relocation) else None for one in events]
    given = bulk.rows_of(
        {
            "msisdn": (absents.c.msisdn.type, [one.msisdn for one in events]),
            "subscription_event_at": (Timestamp, left),
            "place_event_at": (Timestamp, [(one.at or now) if one else None for one in moved]),
            "lat": (absents.c.lat.type, [one.lat if one else None for one in moved]),
            "lon": (absents.c.lon.type, [one.lon if one else None for one in moved]),
            "recorded_at": (Timestamp, [now] * len(events)),
        }
    )
    statement = insert(absents).from_select(
        list(given.c.keys()), select(*given.c).order_by(given.c.msisdn)
    )
    new = statement.excluded
    is_newer = new.place_event_at.is_not(None) & (
        absents.c.place_event_at.is_(None)
        | (
            tuple_(new.place_event_at, new.lat, new.lon)
            > tuple_(absents.c.place_event_at, absents.c.lat, absents.c.lon)
        )
    )
    values: dict[str, ColumnElement[Any]] = {
        name: case((is_newer, new[name]), else_=absents.c[name])
        for name in ("place_event_at", "lat", "lon")
    }
    values["subscription_event_at"] = func.greatest(
        absents.c.subscription_event_at, new.subscription_event_at
    )
    db.session.execute(statement.on_conflict_do_update(index_elements=["msisdn"], set_=values))


def _insert(created: Sequence[_Change], now: datetime) -> None:
    """Insert subscribers. Raises ChangedMeanwhileError."""
    if not created:
        return
    customers = ensure_customers(
        billing_sync.CUSTOMER_KIND,
        [one.msisdn for one in created],
        provider=billing_sync.CARRIER,
        pay_by_reference=True,
    )
    moment = now.isoformat()
    try:
        rows = (_inserted(one, customers[one.msisdn], moment) for one in created)
        bulk.copy_rows(subscribers, INSERTED, rows)
    except UniqueViolation as error:
        raise ChangedMeanwhileError from error
    billing_sync.wake_billing()


def _inserted(one: _Change, customer_id: int, moment: str) -> tuple[Any, ...]:
    place = one.place
    return (
        customer_id,
        one.msisdn,
        language_of(one.msisdn),
        one.plan,
        one.state,
        moment,
        moment,
        moment,
        place.lat,
        place.lon,
        zone_at(place.lat, place.lon),
        place.nearest.gid if place.nearest else None,
        place.nearest.distance_m if place.nearest else None,
        one.event_at,
        place.at,
    )


def _update(changed: Sequence[_Change], now: datetime) -> None:
    pairs = [(one.row, one) for one in changed if one.row is not None]
    if not pairs:
        return
    zones = [_zone_of(row, one.place) for row, one in pairs]
    follows = [
        _is_for_billing(row, one, zone) for (row, one), zone in zip(pairs, zones, strict=True)
    ]
    nearest = [one.place.nearest for _, one in pairs]
    columns: dict[str, Sequence[Any]] = {
        "plan": [one.plan for _, one in pairs],
        "state": [one.state for _, one in pairs],
        "canceled_at": [_canceled_at(row, one, now) for row, one in pairs],
        "end_reason": [one.end_reason for _, one in pairs],
        "refused_messages": [
            0 if one.state is ACTIVE and row.state is not ACTIVE else row.refused_messages
            for row, one in pairs
        ],
        "updated_at": [now] * len(pairs),
        "lat": [one.place.lat for _, one in pairs],
        "lon": [one.place.lon for _, one in pairs],
        "zone": zones,
        "forecast_gid": [near.gid if near else None for near in nearest],
        "distance_m": [near.distance_m if near else None for near in nearest],
        "subscription_event_at": [one.event_at for _, one in pairs],
        "place_event_at": [one.place.at for _, one in pairs],
    }
    typed = {name: (subscribers.c[name].type, values) for name, values in columns.items()}
    given = bulk.rows_of(
        {
            "id": (BigInteger(), [row.id for row, _ in pairs]),
            "billing_follows_at": (Timestamp, [now if one else None for one in follows]),
            **typed,
        }
    )
    values: dict[str, ColumnElement[Any]] = {name: given.c[name] for name in columns}
    values["billing_due_at"] = func.coalesce(
        given.c.billing_follows_at, subscribers.c.billing_due_at
    )
    # Who is not active any more is sent nothing; who came back is planned by billing.
    values["next_message_at"] = case((given.c.state == ACTIVE, subscribers.c.next_message_at))
    db.session.execute(update(subscribers).where(subscribers.c.id == given.c.id).values(values))
    if any(follows):
        billing_sync.wake_billing()


def _is_for_billing(row: Known, change: _Change, zone: str) -> bool:
    if change.state != row.state:
        return True
    gets_first_forecast = row.forecast_gid is None and change.place.nearest is not None
    return row.plan != change.plan or row.zone != zone or gets_first_forecast


def _canceled_at(row: Known, change: _Change, now: datetime) -> datetime | None:
    if change.state is ACTIVE:
        return None
    return now if row.state is ACTIVE else row.canceled_at


def _zone_of(row: Known, place: Relocation) -> str:
    is_there = (row.lat, row.lon) == (place.lat, place.lon)
    return str(row.zone) if is_there else zone_at(place.lat, place.lon)
