"""What there is to know about subscribers; nothing here writes."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Select, select
from sqlalchemy.dialects.postgresql import distinct_on

from project.billing import queries as billing
from project.extensions import db
from project.weather import serviceability
from project.weather.models import Message, Subscriber
from project.weather.states import SubscriberState

ACTIVE = SubscriberState.ACTIVE


def listed_subscribers(filters: Mapping[str, Any]) -> Select[Any]:
    """Select subscribers, newest first; filters: plan, state, forecast (a gid), msisdn."""
    statement = select(Subscriber).order_by(Subscriber.id.desc())
    columns = {
        "plan": Subscriber.plan,
        "state": Subscriber.state,
        "forecast": Subscriber.forecast_gid,
        "msisdn": Subscriber.msisdn,
    }
    for name, value in filters.items():
        statement = statement.where(columns[name] == value)
    return statement


def existing_numbers(numbers: Sequence[str]) -> Sequence[str]:
    """Return those of the numbers that are subscribers, whatever their state."""
    return db.session.scalars(select(Subscriber.msisdn).where(Subscriber.msisdn.in_(numbers))).all()


def shown(found: Sequence[Subscriber]) -> list[dict[str, Any]]:
    """Return subscribers as they are shown: with their next charge and their last message."""
    obstacles = serviceability.obstacles([one.customer_id for one in found])
    charges = billing.next_charges([one.customer_id for one in found])
    messages = _last_messages([one.id for one in found])
    return [
        {
            "msisdn": one.msisdn,
            "lat": one.lat,
            "lon": one.lon,
            "plan": one.plan,
            "state": one.state,
            "language": one.language,
            "zone": one.zone,
            "forecast": _forecast(one),
            "next_billing_date": charges.get(one.customer_id),
            "last_message": messages.get(one.id),
            "created_at": one.created_at,
            "canceled_at": one.canceled_at,
            "end_reason": one.end_reason,
            "refused_messages": one.refused_messages,
            "obstacle": obstacles.get(one.customer_id) if one.state is ACTIVE else None,
        }
        for one in found
    ]


def _forecast(one: Subscriber) -> dict[str, Any] | None:
    if one.forecast_gid is None or one.distance_m is None:
        return None
    return {"gid": one.forecast_gid, "distance_km": round(one.distance_m / 1000, 3)}


def _last_messages(subscriber_ids: Sequence[int]) -> dict[int, dict[str, Any]]:
    rows = db.session.execute(
        select(Message.subscriber_id, Message.id, Message.local_date, Message.state)
        .where(Message.subscriber_id.in_(subscriber_ids))
        .order_by(
            Message.subscriber_id, Message.local_date.desc(), Message.never_sent, Message.id.desc()
        )
        .ext(distinct_on(Message.subscriber_id))
    )
    return {
        row.subscriber_id: {"id": row.id, "date": row.local_date, "state": row.state}
        for row in rows
        if row.subscriber_id is not None
    }
