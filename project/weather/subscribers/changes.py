"""What changes subscribers, many at a time: added, canceled, moved, given another forecast.

One row through the API and a thousand of a file go the same way. Rows are locked in the order of
their numbers, so two that change the same ones wait for each other and never deadlock. Each
function takes a number at most once and returns what became of each row, in the order given.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

import tzfpy
from psycopg.errors import UniqueViolation
from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Row,
    Table,
    func,
    select,
    update,
)

from project.billing.customers.service import ensure_customers
from project.core import bulk, clock
from project.core.models import Timestamp
from project.extensions import db
from project.weather import billing
from project.weather.forecasts.nearest import Nearest
from project.weather.models import SmsStop, Subscriber
from project.weather.numbers import language_of
from project.weather.states import EndReason, Plan, SubscriberState, may_subscriber_move

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
)

subscribers: Table = Subscriber.__table__  # type: ignore[assignment]


class Outcome(StrEnum):
    """What became of a row."""

    CREATED = "created"
    UPDATED = "updated"
    SKIPPED = "skipped"
    UNKNOWN = "unknown"
    STOPPED = "stopped"


class ChangedMeanwhileError(Exception):
    """Somebody else added one of the numbers at the same moment; do it again."""


@dataclass(frozen=True, slots=True)
class Addition:
    """A number that is to get the forecast of a place, or of its new place and plan."""

    msisdn: str
    plan: Plan
    lat: float
    lon: float
    nearest: Nearest | None


@dataclass(frozen=True, slots=True)
class Relocation:
    """A number and where it is now."""

    msisdn: str
    lat: float
    lon: float
    nearest: Nearest | None


def zone_at(lat: float, lon: float) -> str:
    """Return the time zone of a place (IANA); at sea it is one of whole hours."""
    return tzfpy.get_tz(lon, lat) or "UTC"


def add(additions: Sequence[Addition]) -> list[Outcome]:
    """Add numbers; one that left starts again, one that is active is updated, STOP stays STOP.

    Raises ChangedMeanwhileError.
    """
    numbers = [one.msisdn for one in additions]
    known = _locked(numbers)
    stopped = _stopped(numbers)
    outcomes = [_outcome_of(one, known.get(one.msisdn), stopped) for one in additions]
    pairs = list(zip(additions, outcomes, strict=True))
    now = clock.now()
    _insert([one for one, outcome in pairs if outcome is Outcome.CREATED], now)
    _update([(known[one.msisdn], one) for one, outcome in pairs if outcome is Outcome.UPDATED], now)
    return outcomes


def cancel(numbers: Sequence[str]) -> list[Outcome]:
    """Cancel subscribers; one that is not active stays as it is, but money revives it no more."""
    known = _locked(numbers)
    leaving = [row for row in known.values() if row.state == SubscriberState.ACTIVE]
    _leave_for_good(row for row in known.values() if row.end_reason == EndReason.UNPAID)
    if leaving:
        now = clock.now()
        db.session.execute(
            update(subscribers)
            .where(subscribers.c.id == func.any(bulk.integer_array(row.id for row in leaving)))
            .values(
                state=str(SubscriberState.CANCELED),
                canceled_at=now,
                end_reason=str(EndReason.REQUESTED),
                updated_at=now,
                next_message_at=None,
                billing_due_at=now,
            )
        )
        billing.wake_billing()
    ids = {row.id for row in leaving}
    return [_canceled(known.get(number), ids) for number in numbers]


def _leave_for_good(rows: Iterable[Row[*tuple[Any, ...]]]) -> None:
    ids = [row.id for row in rows]
    if ids:
        db.session.execute(
            update(subscribers)
            .where(subscribers.c.id == func.any(bulk.integer_array(ids)))
            .values(end_reason=str(EndReason.REQUESTED))
        )


def _canceled(row: Row[*tuple[Any, ...]] | None, leaving: set[int]) -> Outcome:
    if row is None:
        return Outcome.UNKNOWN
    return Outcome.UPDATED if row.id in leaving else Outcome.SKIPPED


def relocate(relocations: Sequence[Relocation]) -> list[Outcome]:
    """Move subscribers to another place, with the forecast that is nearest there."""
    known = _locked([one.msisdn for one in relocations])
    outcomes: list[Outcome] = []
    moved: list[tuple[Row[*tuple[Any, ...]], Addition]] = []
    for one in relocations:
        row = known.get(one.msisdn)
        if row is None:
            outcomes.append(Outcome.UNKNOWN)
        elif _is_at(row, one):
            outcomes.append(Outcome.SKIPPED)
        else:
            outcomes.append(Outcome.UPDATED)
            same_plan = Addition(one.msisdn, Plan(row.plan), one.lat, one.lon, one.nearest)
            moved.append((row, same_plan))
    _update(moved, clock.now(), restart=False)
    return outcomes


def assign_forecasts(found: Sequence[tuple[int, Nearest | None]]) -> int:
    """Give subscribers, by id, another forecast; return how many did not have it already."""
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
    changed = db.session.execute(
        update(subscribers)
        .where(subscribers.c.id == new.c.id)
        .where(
            subscribers.c.forecast_gid.is_distinct_from(new.c.forecast_gid)
            | subscribers.c.distance_m.is_distinct_from(new.c.distance_m)
        )
        .values(forecast_gid=new.c.forecast_gid, distance_m=new.c.distance_m)
        .returning(subscribers.c.id)
    )
    return len(changed.all())


def _outcome_of(one: Addition, row: Row[*tuple[Any, ...]] | None, stopped: set[str]) -> Outcome:
    if one.msisdn in stopped:
        return Outcome.STOPPED
    if row is None:
        return Outcome.CREATED
    if not may_subscriber_move(SubscriberState(row.state), SubscriberState.ACTIVE):
        return Outcome.STOPPED
    is_same = row.state == SubscriberState.ACTIVE and row.plan == one.plan and _is_at(row, one)
    return Outcome.SKIPPED if is_same else Outcome.UPDATED


def _is_at(row: Row[*tuple[Any, ...]], one: Addition | Relocation) -> bool:
    gid = one.nearest.gid if one.nearest else None
    return bool(row.lat == one.lat and row.lon == one.lon and row.forecast_gid == gid)


def _locked(numbers: Sequence[str]) -> dict[str, Row[*tuple[Any, ...]]]:
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
            columns.canceled_at,
            columns.end_reason,
            columns.refused_messages,
        )
        .where(columns.msisdn == func.any(bulk.text_array(numbers)))
        .order_by(columns.msisdn)
        .with_for_update()
    )
    return {row.msisdn: row for row in rows}


def _stopped(numbers: Sequence[str]) -> set[str]:
    found = select(SmsStop.msisdn).where(SmsStop.msisdn == func.any(bulk.text_array(numbers)))
    return set(db.session.scalars(found))


def _insert(additions: Sequence[Addition], now: datetime) -> None:
    """Insert subscribers. Raises ChangedMeanwhileError."""
    if not additions:
        return
    numbers = [one.msisdn for one in additions]
    customers = ensure_customers(
        billing.CUSTOMER_KIND, numbers, provider=billing.CARRIER, pay_by_reference=True
    )
    active, moment = str(SubscriberState.ACTIVE), now.isoformat()
    rows = (
        (
            customers[one.msisdn],
            one.msisdn,
            str(language_of(one.msisdn)),
            str(one.plan),
            active,
            moment,
            moment,
            moment,
            one.lat,
            one.lon,
            zone_at(one.lat, one.lon),
            one.nearest.gid if one.nearest else None,
            one.nearest.distance_m if one.nearest else None,
        )
        for one in additions
    )
    try:
        bulk.copy_rows(subscribers, INSERTED, rows)
    except UniqueViolation as error:
        raise ChangedMeanwhileError from error
    billing.wake_billing()


def _update(
    changed: Sequence[tuple[Row[*tuple[Any, ...]], Addition]],
    now: datetime,
    *,
    restart: bool = True,
) -> None:
    if not changed:
        return
    placed = [(one, _zone_of(row, one)) for row, one in changed]
    active = str(SubscriberState.ACTIVE)
    columns: dict[str, Sequence[Any]] = {
        "plan": [str(one.plan) for _, one in changed],
        "state": [active if restart else row.state for row, _ in changed],
        "canceled_at": [None if restart else row.canceled_at for row, _ in changed],
        "end_reason": [None if restart else row.end_reason for row, _ in changed],
        "refused_messages": [
            0 if restart and row.state != active else row.refused_messages for row, _ in changed
        ],
        "updated_at": [now] * len(changed),
        **_places(placed),
    }
    follows = [
        (restart and row.state != active) or row.plan != one.plan or row.zone != zone
        for (row, _), (one, zone) in zip(changed, placed, strict=True)
    ]
    typed = {name: (subscribers.c[name].type, values) for name, values in columns.items()}
    given = bulk.rows_of(
        {
            "id": (BigInteger(), [row.id for row, _ in changed]),
            "billing_follows_at": (Timestamp, [now if one else None for one in follows]),
            **typed,
        }
    )
    values: dict[str, ColumnElement[Any]] = {name: given.c[name] for name in columns}
    values["billing_due_at"] = func.coalesce(
        given.c.billing_follows_at, subscribers.c.billing_due_at
    )
    db.session.execute(update(subscribers).where(subscribers.c.id == given.c.id).values(values))
    if any(follows):
        billing.wake_billing()


def _zone_of(row: Row[*tuple[Any, ...]], one: Addition) -> str:
    is_there = (row.lat, row.lon) == (one.lat, one.lon)
    return str(row.zone) if is_there else zone_at(one.lat, one.lon)


def _places(placed: Sequence[tuple[Addition, str]]) -> dict[str, Sequence[Any]]:
    nearest = [one.nearest for one, _ in placed]
    return {
        "lat": [one.lat for one, _ in placed],
        "lon": [one.lon for one, _ in placed],
        "zone": [zone for _, zone in placed],
        "forecast_gid": [near.gid if near else None for near in nearest],
        "distance_m": [near.distance_m if near else None for near in nearest],
    }
