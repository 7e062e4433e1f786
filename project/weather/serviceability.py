"""Nobody is charged for what cannot be sent: what is asked of a number before each charge.

Billing tells of the charges that it plans, and puts those off that are named here.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from sqlalchemy import Row, select

from project.billing.signals import PlannedCharge
from project.config.environment import get_settings
from project.core import clock
from project.extensions import db
from project.weather import local_time
from project.weather.billing_sync import CUSTOMER_KIND
from project.weather.messages.queries import IS_ITS_FORECAST, forecasts, subscribers
from project.weather.messages.texts import has_forecast
from project.weather.numbers import can_get_messages
from project.weather.settings import SmsSettings
from project.weather.states import SubscriberState


class Obstacle(StrEnum):
    """Why an active subscriber is not charged now: nothing could be sent for it."""

    NO_FORECAST = "no_forecast"
    NO_MOBILE_NUMBER = "no_mobile_number"


ONE_DAY = timedelta(days=1)


def obstacles(customer_ids: Sequence[int]) -> dict[int, Obstacle]:
    """Return by customer why a subscriber is not charged, which would be for nothing."""
    found = {row.customer_id: _obstacle(row) for row in _rows(customer_ids)}
    return {customer_id: one for customer_id, one in found.items() if one is not None}


def hold_charges(_sender: Any, happened: Sequence[PlannedCharge]) -> Mapping[int, datetime]:
    """Return which subscriptions are not to be charged now, and when to look at each again."""
    planned = {one.customer_id: one for one in happened if one.customer_kind == CUSTOMER_KIND}
    if not planned:
        return {}
    now = clock.now()
    held: dict[int, datetime] = {}
    for row in _rows(list(planned)):
        one = planned[row.customer_id]
        until = _held_until(row, one, now)
        if until is not None:
            held[one.subscription_id] = until
    return held


def _rows(customer_ids: Sequence[int]) -> Sequence[Row[*tuple[Any, ...]]]:
    return db.session.execute(
        select(
            subscribers.c.customer_id,
            subscribers.c.msisdn,
            subscribers.c.state,
            subscribers.c.zone,
            forecasts.c.fcat24,
            forecasts.c.fcat48,
        )
        .join(forecasts, IS_ITS_FORECAST, isouter=True)
        .where(subscribers.c.customer_id.in_(customer_ids))
    ).all()


def _obstacle(row: Row[*tuple[Any, ...]]) -> Obstacle | None:
    if not can_get_messages(row.msisdn):
        return Obstacle.NO_MOBILE_NUMBER
    return None if has_forecast(row.fcat24, row.fcat48) else Obstacle.NO_FORECAST


def _held_until(
    row: Row[*tuple[Any, ...]], planned: PlannedCharge, now: datetime
) -> datetime | None:
    """Return when to look again at a charge that would be for nothing; None if it is not."""
    soon = now + timedelta(seconds=get_settings(SmsSettings).sms_retry_seconds)
    obstacle = _obstacle(row)
    if obstacle is Obstacle.NO_MOBILE_NUMBER:
        return now + ONE_DAY
    if obstacle is not None or row.state is not SubscriberState.ACTIVE:
        return soon
    is_running = planned.period_start <= now < planned.period_end
    too_late = is_running and local_time.next_message_time(row.zone, now) >= planned.period_end
    return planned.period_end if too_late else None
