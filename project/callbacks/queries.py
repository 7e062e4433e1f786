"""What there is to know about callbacks; nothing here writes."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Select,
    and_,
    exists,
    func,
    literal_column,
    or_,
    select,
    true,
)
from sqlalchemy.orm import InstrumentedAttribute

from project.callbacks.models import Callback, CallbackAttempt, DeliveryLane, Endpoint, Event
from project.callbacks.settings import CallbackSettings
from project.callbacks.states import CallbackState
from project.config.environment import get_settings
from project.core import clock
from project.core.db import bulk
from project.core.db.rows import current, table_of
from project.core.work.claims import is_due, is_free
from project.extensions import db

callbacks = table_of(Callback)
lanes = table_of(DeliveryLane)
attempts = table_of(CallbackAttempt)
endpoints = table_of(Endpoint)
events = table_of(Event)

LISTED: tuple[InstrumentedAttribute[Any], ...] = (
    Callback.id,
    Callback.event_id,
    Callback.type,
    Callback.state,
    Callback.attempts,
    Callback.due_at,
    Callback.last_status,
    Callback.last_error,
    Callback.created_at,
    Callback.delivered_at,
    Endpoint.url,
    Endpoint.owner_type,
    Endpoint.owner_id,
)


def listed_callbacks(
    *,
    state: CallbackState | None = None,
    app_id: int | None = None,
    company_id: int | None = None,
    since: datetime | None = None,
) -> Select[Any]:
    """Select callbacks, newest first."""
    statement = select(*LISTED).join(Endpoint, Endpoint.id == Callback.endpoint_id)
    if state is not None:
        statement = statement.where(Callback.state == state)
    if app_id is not None:
        statement = statement.where(Callback.endpoint_id.in_(endpoint_ids_of_app(app_id)))
    if company_id is not None:
        statement = statement.where(Callback.endpoint_id.in_(endpoint_ids_of_company(company_id)))
    if since is not None:
        statement = statement.where(Callback.created_at >= since)
    return statement.order_by(Callback.created_at.desc(), Callback.id.desc())


def callback_by_id(callback_id: int) -> Any | None:
    """Return the listed columns and the body of one callback."""
    statement = (
        select(*LISTED, Callback.body)
        .join(Endpoint, Endpoint.id == Callback.endpoint_id)
        .where(Callback.id == callback_id)
    )
    return db.session.execute(statement).one_or_none()


def callback_exists(callback_id: int) -> bool:
    """Tell whether there is a callback of this id."""
    return bool(db.session.scalar(select(exists().where(Callback.id == callback_id))))


def attempts_of(callback_id: int) -> Sequence[CallbackAttempt]:
    """Return the attempts of a callback, oldest first."""
    return db.session.scalars(
        select(CallbackAttempt)
        .where(CallbackAttempt.callback_id == callback_id)
        .order_by(CallbackAttempt.id)
    ).all()


def events_of(subject_type: str, subject_id: int) -> Sequence[Event]:
    """Return what happened to a subject, oldest first."""
    return db.session.scalars(
        select(Event)
        .where(Event.subject_type == subject_type, Event.subject_id == subject_id)
        .order_by(Event.occurred_at, Event.id)
    ).all()


def endpoint_ids_of_app(app_id: int) -> Select[Any]:
    """Select the endpoints of an app."""
    return select(Endpoint.id).where(Endpoint.owner_type == "app", Endpoint.owner_id == app_id)


def endpoint_ids_of_company(company_id: int) -> Select[Any]:
    """Select the endpoints of a company."""
    return select(Endpoint.id).where(
        Endpoint.owner_type == "company", Endpoint.owner_id == company_id
    )


def count_due(*, at_most: int) -> int:
    """Count the callbacks that are due, up to a bound that keeps the count cheap."""
    found = select(callbacks.c.id).where(is_due(callbacks, clock.now())).limit(at_most).subquery()
    return int(db.session.scalar(select(func.count()).select_from(found)) or 0)


def oldest_due_at() -> datetime | None:
    """Return when the longest-waiting callback that nobody works on was or will be due."""
    statement = (
        select(callbacks.c.due_at)
        .where(callbacks.c.due_at.is_not(None), is_free(callbacks))
        .order_by(callbacks.c.due_at)
        .limit(1)
    )
    return db.session.scalar(statement)


def is_delivery_possible() -> bool:
    """Tell whether a free lane has a due callback."""
    return any(
        db.session.execute(usable_lanes(limit=1, suspected=suspected)).all()
        for suspected in (False, True)
    )


def usable_lanes(*, limit: int, suspected: bool) -> Select[Any]:
    """Select free lanes of endpoints that have something due, the longest unused first.

    `suspected` lanes are those of endpoints that let the last request time out. A second lane is
    usable while the first one has more than one request in flight at a time. The endpoints are
    found by hopping from one to the next in the index of unfinished callbacks (a "loose index
    scan"): the cost follows the endpoints that wait, and one with ten thousand rows hides nobody.
    """
    now = clock.now()
    waiting = _waiting_endpoints()
    due_there: Select[Any] = select(literal_column("1")).where(
        callbacks.c.endpoint_id == waiting.c.endpoint_id, is_due(callbacks, now)
    )
    return (
        select(lanes.c.id)
        .join(waiting, waiting.c.endpoint_id == lanes.c.endpoint_id)
        .where(is_due(lanes, now), due_there.exists(), _is_suspected(suspected), _is_open())
        .order_by(lanes.c.due_at, lanes.c.number)
        .limit(limit)
        .with_for_update(of=lanes, skip_locked=True)
    )


def _is_suspected(suspected: bool) -> ColumnElement[bool]:
    timeouts = lanes.c.timeouts_in_a_row
    return timeouts > 0 if suspected else timeouts == 0


def _is_open() -> ColumnElement[bool]:
    first = lanes.alias("first")
    is_first_wide: Select[Any] = select(literal_column("1")).where(
        first.c.endpoint_id == lanes.c.endpoint_id, first.c.number == 0, first.c.concurrency > 1
    )
    has_share = lanes.c.number < get_settings(CallbackSettings).callback_endpoint_concurrency
    return or_(lanes.c.number == 0, and_(has_share, is_first_wide.exists()))


def _waiting_endpoints() -> Any:
    unfinished = callbacks.c.due_at.is_not(None)
    lowest = select(func.min(callbacks.c.endpoint_id).label("endpoint_id")).where(unfinished)
    waiting = lowest.cte("waiting", recursive=True)
    following = (
        select(func.min(callbacks.c.endpoint_id))
        .where(unfinished, callbacks.c.endpoint_id > waiting.c.endpoint_id)
        .correlate(waiting)
        .scalar_subquery()
    )
    return waiting.union_all(select(following).where(waiting.c.endpoint_id.is_not(None)))


def due_callbacks(wanted_of: Mapping[int, int]) -> Select[Any]:
    """Select the ids of so many due callbacks of each endpoint, the longest due first."""
    wanted = bulk.rows_of(
        {
            "endpoint_id": (BigInteger(), list(wanted_of)),
            "at_most": (BigInteger(), list(wanted_of.values())),
        }
    )
    of_endpoint = (
        select(callbacks.c.id)
        .where(callbacks.c.endpoint_id == wanted.c.endpoint_id, is_due(callbacks, clock.now()))
        .order_by(callbacks.c.due_at)
        .limit(wanted.c.at_most)
        .with_for_update(skip_locked=True)
        .correlate(wanted)
        .lateral()
    )
    return select(of_endpoint.c.id).select_from(wanted.join(of_endpoint, true()))


def windows_of_first_lanes(endpoint_ids: Sequence[int]) -> dict[int, int]:
    """Return how many requests the first lane of each endpoint may have in flight."""
    rows = db.session.execute(
        select(lanes.c.endpoint_id, lanes.c.concurrency).where(
            lanes.c.endpoint_id.in_(endpoint_ids), lanes.c.number == 0
        )
    )
    return {row.endpoint_id: row.concurrency for row in rows}


def endpoints_by_id(endpoint_ids: Iterable[int]) -> dict[int, Endpoint]:
    """Return the endpoints of these ids."""
    wanted = select(Endpoint).where(Endpoint.id.in_(list(endpoint_ids)))
    found = db.session.scalars(current(wanted))
    return {endpoint.id: endpoint for endpoint in found}
