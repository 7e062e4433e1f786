"""The rules of a single subscriber, as the API changes it."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import delete, select

from project.core.errors import Conflict, NotFound
from project.extensions import db
from project.weather import billing
from project.weather.forecasts.nearest import nearest_to
from project.weather.models import Subscriber
from project.weather.states import Plan, SubscriberState
from project.weather.subscribers import changes
from project.weather.subscribers.changes import Addition, ChangedMeanwhileError, Outcome


def create_subscriber(values: Mapping[str, Any]) -> Subscriber:
    """Add a number, or start one again that left. Raises Conflict for one that is there."""
    msisdn = values["msisdn"]
    known = _found(msisdn)
    if known is not None and known.state == SubscriberState.ACTIVE:
        raise Conflict(f"{msisdn} is a subscriber already.", {"msisdn": ["Already there."]})
    _add(msisdn, values)
    return existing_subscriber(msisdn)


def change_subscriber(msisdn: str, values: Mapping[str, Any]) -> Subscriber:
    """Change the place, the plan or the state. Raises NotFound and Conflict."""
    known = existing_subscriber(msisdn)
    wanted = {"lat": known.lat, "lon": known.lon, "plan": known.plan, "state": known.state}
    wanted |= values
    if known.state == SubscriberState.STOPPED != wanted["state"]:
        raise _said_stop(msisdn)
    if wanted["state"] == SubscriberState.ACTIVE:
        _add(msisdn, wanted)
    else:
        _change_inactive(known, wanted)
    return existing_subscriber(msisdn)


def _change_inactive(known: Subscriber, wanted: Mapping[str, Any]) -> None:
    if wanted["state"] == SubscriberState.CANCELED:
        changes.cancel([known.msisdn])
    nearest = nearest_to(wanted["lat"], wanted["lon"])
    changes.relocate([changes.Relocation(known.msisdn, wanted["lat"], wanted["lon"], nearest)])
    changed = existing_subscriber(known.msisdn)
    changed.plan = str(wanted["plan"])
    db.session.flush()


def delete_subscriber(msisdn: str) -> None:
    """Forget a subscriber; what it paid and a STOP it sent are kept. Raises NotFound."""
    known = existing_subscriber(msisdn)
    billing.end_billing_now([known.customer_id])
    db.session.execute(delete(Subscriber).where(Subscriber.id == known.id))


def existing_subscriber(msisdn: str) -> Subscriber:
    """Return the subscriber. Raises NotFound."""
    found = _found(msisdn)
    if found is None:
        raise NotFound(f"There is no subscriber {msisdn}.")
    return found


def _found(msisdn: str) -> Subscriber | None:
    return db.session.scalars(
        select(Subscriber)
        .where(Subscriber.msisdn == msisdn)
        .execution_options(populate_existing=True)
    ).one_or_none()


def _add(msisdn: str, values: Mapping[str, Any]) -> None:
    lat, lon = values["lat"], values["lon"]
    addition = Addition(msisdn, Plan(values["plan"]), lat, lon, nearest_to(lat, lon))
    try:
        outcome = changes.add([addition])[0]
    except ChangedMeanwhileError as error:
        raise Conflict(f"{msisdn} is being added already.") from error
    if outcome is Outcome.STOPPED:
        raise _said_stop(msisdn)


def _said_stop(msisdn: str) -> Conflict:
    return Conflict(
        f"{msisdn} said STOP and gets no messages any more.", {"msisdn": ["Said STOP."]}
    )
