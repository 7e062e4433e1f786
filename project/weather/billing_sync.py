"""What the forecast SMS has billed: each active subscriber takes the package of its plan.

Whatever adds a subscriber, or changes its plan or state, sets `billing_due_at` in the same
statement. A worker then brings billing into agreement, many subscribers at a time; the carrier is
asked after that commit, as for any other charge.
"""

from collections.abc import Mapping, Sequence, Set
from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Row, or_, select, update

from project.billing import queries as billing
from project.billing.customers import service as customers
from project.billing.packages import service as packages
from project.billing.payments.service import wake_prompt_charges
from project.billing.providers.settings import CarrierSettings
from project.billing.signals import SubscriptionChange, subscription_changed
from project.billing.states import AtRetryEnd, ChargeTime, PeriodUnit, SubscriptionState
from project.billing.subscriptions import service as subscriptions
from project.billing.subscriptions.service import Prepaid
from project.config.environment import get_settings
from project.core import clock
from project.core.db import bulk
from project.core.db.locks import Lock, try_to_hold
from project.core.db.models import Timestamp
from project.core.db.rows import table_of
from project.core.work.queues import QueueName, Wakeup, wake
from project.extensions import db
from project.weather import local_time
from project.weather.endings import ended
from project.weather.models import Subscriber
from project.weather.settings import ForecastSettings
from project.weather.states import EndReason, Plan, SubscriberState

BILLING_DUE = Wakeup(
    "forecast_billing", QueueName.DEFAULT, "project.weather.messages.jobs.follow_plans"
)
AT_ONCE = 2000
PERIODS = {Plan.DAILY: PeriodUnit.DAY, Plan.WEEKLY: PeriodUnit.WEEK}
CARRIER = "carrier"
CUSTOMER_KIND = "msisdn"
ENDED = ("exhausted", "expired")

subscribers = table_of(Subscriber)


def end_billing_now(customer_ids: Sequence[int]) -> None:
    """Bill these customers no more, though their subscribers are about to be deleted."""
    subscriptions.cancel_all(customer_ids)


def wake_billing() -> None:
    """Have a worker look at the subscribers whose `billing_due_at` was set."""
    wake(BILLING_DUE)


def follow_some() -> int:
    """Bring billing into agreement with a number of subscribers; return how many.

    One worker does it at a time. What is changed here meanwhile stays due. Subscriptions are
    locked before subscribers, as charges do it.
    """
    if not try_to_hold(Lock.FORECAST_BILLING):
        return 0
    now = clock.now()
    rows = _due_subscribers(now)
    active = [row for row in rows if row.state is SubscriberState.ACTIVE]
    ended = [row.customer_id for row in rows if row.state is not SubscriberState.ACTIVE]
    if ended:
        subscriptions.cancel_all(ended)
    if active:
        _subscribe(active, now)
    if rows:
        _followed(rows)
    return len(rows)


def _due_subscribers(now: datetime) -> Sequence[Row[*tuple[Any, ...]]]:
    columns = subscribers.c
    return db.session.execute(
        select(
            columns.id,
            columns.customer_id,
            columns.plan,
            columns.state,
            columns.zone,
            columns.billing_due_at,
        )
        .where(columns.billing_due_at <= now)
        .order_by(columns.billing_due_at)
        .limit(AT_ONCE)
    ).all()


def _followed(rows: Sequence[Row[*tuple[Any, ...]]]) -> None:
    seen = bulk.rows_of(
        {
            "id": (BigInteger(), [row.id for row in rows]),
            "due_at": (Timestamp, [row.billing_due_at for row in rows]),
        }
    )
    db.session.execute(
        update(subscribers)
        .where(subscribers.c.id == seen.c.id, subscribers.c.billing_due_at == seen.c.due_at)
        .values(billing_due_at=None)
    )


def _subscribe(active: Sequence[Row[*tuple[Any, ...]]], now: datetime) -> None:
    package_ids = plan_packages()
    customer_ids = [row.customer_id for row in active]
    begins = {zone: local_time.paid_from(zone, now) for zone in {row.zone for row in active}}
    ends = billing.paid_ends(customer_ids)
    subscriptions.subscribe(
        [
            # Not before the end of what was paid: when a clock changes, that lies after three.
            Prepaid(
                row.customer_id,
                package_ids[row.plan],
                max(begins[row.zone], ends.get(row.customer_id, begins[row.zone])),
            )
            for row in active
        ]
    )
    subscriptions.charge_now(customer_ids)
    # Whoever came back within a period that is paid hears of no renewal before its end. Billing
    # knows of it, though the row may be a new one; it is asked again now that it is locked.
    ends = billing.paid_ends(customer_ids)
    paid = [row for row in active if ends[row.customer_id] > now]
    _plan_messages([(row.id, row.zone, ends[row.customer_id]) for row in paid], now)
    wake_prompt_charges()


def plan_packages() -> Mapping[Plan, int]:
    """Return the id of each plan's package, which is made and kept as the settings say."""
    settings = get_settings(ForecastSettings)
    prices = {
        Plan.DAILY: settings.forecast_daily_price,
        Plan.WEEKLY: settings.forecast_weekly_price,
    }
    return {plan: _ensure_package(plan, prices[plan]) for plan in Plan}


def _ensure_package(plan: Plan, price: int) -> int:
    carrier = get_settings(CarrierSettings)
    return packages.ensure_package(
        {
            "name": f"forecast-{plan}",
            "price": price,
            "currency": get_settings(ForecastSettings).forecast_currency,
            "period": PERIODS[plan],
            "period_count": 1,
            "status": packages.ACTIVE,
            "retry_attempts": carrier.carrier_billing_max_attempts,
            "retry_interval_seconds": carrier.carrier_billing_retry_seconds,
            "at_retry_end": AtRetryEnd.EXPIRE,
            "charged": ChargeTime.AT_THE_END,
        }
    ).id


def _plan_messages(rows: Sequence[tuple[int, str, datetime]], now: datetime) -> None:
    """Set when the next messages are to be made; rows of (id, zone, paid until)."""
    if not rows:
        return
    times = {zone: local_time.next_message_time(zone, now) for zone in {row[1] for row in rows}}
    planned = bulk.rows_of(
        {
            "id": (BigInteger(), [row[0] for row in rows]),
            "at": (Timestamp, [times[row[1]] for row in rows]),
            "paid_until": (Timestamp, [row[2] for row in rows]),
        }
    )
    db.session.execute(
        update(subscribers)
        .where(subscribers.c.id == planned.c.id)
        .values(next_message_at=planned.c.at, paid_until=planned.c.paid_until)
    )


@clock.when_set_back
def plan_anew(now: datetime) -> None:
    """Have messages that were planned for later than the clock's present days planned anew."""
    db.session.execute(
        update(Subscriber)
        .where(or_(Subscriber.billing_due_at > now, Subscriber.next_message_at > now))
        .values(billing_due_at=now)
        .execution_options(synchronize_session=False)
    )


@subscription_changed.connect
def hear_of_subscriptions(_sender: Any, happened: Sequence[SubscriptionChange]) -> None:
    """Plan a message where a period was paid, and cancel whom the carrier refused for good."""
    renewed = {one.customer_id: one for one in happened if one.type == "renewed"}
    ended = {one.customer_id for one in happened if one.type in ENDED}
    now = clock.now()
    if renewed:
        _hear_of_renewals(renewed, now)
    if ended:
        _hear_of_ends(ended, now)


def _hear_of_renewals(renewed: Mapping[int, SubscriptionChange], now: datetime) -> None:
    columns = subscribers.c
    rows = db.session.execute(
        select(
            columns.id, columns.zone, columns.customer_id, columns.state, columns.end_reason
        ).where(columns.customer_id.in_(list(renewed)))
    ).all()
    _revive([row.id for row in rows if _is_to_be_revived(row)], now)
    served = [row for row in rows if _is_served(row)]
    _plan_messages([(row.id, row.zone, renewed[row.customer_id].ended_at) for row in served], now)
    _let_go(renewed, {row.customer_id for row in served})


def _is_served(row: Row[*tuple[Any, ...]]) -> bool:
    return row.state is SubscriberState.ACTIVE or _is_to_be_revived(row)


def _is_to_be_revived(row: Row[*tuple[Any, ...]]) -> bool:
    """Tell whether only the money was missing, which came after all."""
    return row.state is SubscriberState.CANCELED and row.end_reason is EndReason.UNPAID


def _revive(subscriber_ids: Sequence[int], now: datetime) -> None:
    if subscriber_ids:
        db.session.execute(
            update(subscribers)
            .where(subscribers.c.id.in_(subscriber_ids))
            .values(state=SubscriberState.ACTIVE, canceled_at=None, end_reason=None, updated_at=now)
        )


def _let_go(renewed: Mapping[int, SubscriptionChange], served: Set[int]) -> None:
    """Let the subscriptions of numbers that left not renew again, which a late yes has revived."""
    going_on = {
        customer_id
        for customer_id, change in renewed.items()
        if customer_id not in served and change.state == SubscriptionState.ACTIVE
    }
    numbers = customers.of_kind(CUSTOMER_KIND, going_on) if going_on else set()
    if numbers:
        subscriptions.cancel_all(sorted(numbers))


def _hear_of_ends(customer_ids: set[int], now: datetime) -> None:
    db.session.execute(
        update(subscribers)
        .where(
            subscribers.c.customer_id.in_(customer_ids),
            subscribers.c.state == SubscriberState.ACTIVE,
            # Somebody who has just come back, or changed, is yet to be subscribed anew.
            subscribers.c.billing_due_at.is_(None),
        )
        .values(ended(EndReason.UNPAID, now))
    )


def ensure_customer(msisdn: str) -> int:
    """Return the id of the customer that is billed for a number, made if need be."""
    made = customers.ensure_customer(
        CUSTOMER_KIND, msisdn, provider=CARRIER, payment_method_id=msisdn
    )
    return made.id


def oldest_due_at() -> datetime | None:
    """Return since when billing has yet to follow a subscriber."""
    return db.session.scalar(
        select(subscribers.c.billing_due_at)
        .where(subscribers.c.billing_due_at.is_not(None))
        .order_by(subscribers.c.billing_due_at)
        .limit(1)
    )
