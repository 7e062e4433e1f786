"""The rules of a single subscriber, as the API changes it."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import select

from project.core.db.rows import current
from project.core.errors import Conflict, NotFound
from project.extensions import db
from project.weather import billing_sync
from project.weather.forecasts.nearest import nearest_to
from project.weather.models import Subscriber
from project.weather.states import RowOutcome, SubscriberState
from project.weather.subscribers import changes
from project.weather.subscribers.changes import (
    Addition,
    Cancellation,
    ChangedMeanwhileError,
    Event,
    Relocation,
)


def create_subscriber(values: Mapping[str, Any]) -> Subscriber:
    """Add a number, or start one again that left. Raises Conflict for one that is there."""
    msisdn = values["msisdn"]
    known = _found(msisdn)
    if known is not None and known.state is SubscriberState.ACTIVE:
        raise Conflict(f"{msisdn} is a subscriber already.", {"msisdn": ["Already there."]})
    _add(msisdn, values)
    return existing_subscriber(msisdn)


def change_subscriber(msisdn: str, values: Mapping[str, Any]) -> Subscriber:
    """Change the place, the plan or the state. Raises NotFound and Conflict."""
    known = existing_subscriber(msisdn)
    wanted: dict[str, Any] = {
        "lat": known.lat,
        "lon": known.lon,
        "plan": known.plan,
        "state": known.state,
    }
    wanted |= values
    if known.state is SubscriberState.STOPPED is not wanted["state"]:
        raise _said_stop(msisdn)
    says_place = "lat" in values or "lon" in values
    if wanted["state"] is SubscriberState.ACTIVE and ("plan" in values or "state" in values):
        _add(msisdn, wanted, says_place=says_place)
    else:
        if values.get("state") is SubscriberState.CANCELED:
            _apply(Cancellation(msisdn))
        if says_place:
            lat, lon = wanted["lat"], wanted["lon"]
            _apply(Relocation(msisdn, lat, lon, nearest_to(lat, lon)))
        if "plan" in values:
            # Whoever takes no plan any more keeps the one that it would take again.
            existing_subscriber(msisdn).plan = values["plan"]
            db.session.flush()
    return existing_subscriber(msisdn)


def delete_subscriber(msisdn: str) -> None:
    """Forget a subscriber; what it paid and a STOP it sent are kept. Raises NotFound."""
    known = existing_subscriber(msisdn)
    billing_sync.end_billing_now([known.customer_id])
    if not changes.forget(msisdn):
        raise _not_found(msisdn)


def existing_subscriber(msisdn: str) -> Subscriber:
    """Return the subscriber. Raises NotFound."""
    found = _found(msisdn)
    if found is None:
        raise _not_found(msisdn)
    return found


def _not_found(msisdn: str) -> NotFound:
    return NotFound(f"There is no subscriber {msisdn}.")


def _found(msisdn: str) -> Subscriber | None:
    wanted = select(Subscriber).where(Subscriber.msisdn == msisdn)
    return db.session.scalars(current(wanted)).one_or_none()


def _add(msisdn: str, values: Mapping[str, Any], *, says_place: bool = True) -> None:
    lat, lon = values["lat"], values["lon"]
    near = nearest_to(lat, lon)
    addition = Addition(msisdn, values["plan"], lat, lon, near, says_place=says_place)
    if _apply(addition) is RowOutcome.STOPPED:
        raise _said_stop(msisdn)


def _apply(event: Event) -> RowOutcome:
    try:
        return changes.apply_events([event])[0].outcome
    except ChangedMeanwhileError as error:
        raise Conflict(f"{event.msisdn} is being added or deleted already.") from error


def _said_stop(msisdn: str) -> Conflict:
    return Conflict(
        f"{msisdn} said STOP and gets no messages any more.", {"msisdn": ["Said STOP."]}
    )
