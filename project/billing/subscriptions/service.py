"""Subscriptions: a package given, changed at the period's end, canceled, expired."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import select, update

from project.billing import queries, signals
from project.billing.models import Customer, Package, Subscription
from project.billing.packages.service import package_for_sale
from project.billing.periods import PeriodUnit, period_from
from project.billing.signals import SubscriptionChange
from project.billing.states import SubscriptionState
from project.billing.subscriptions import rules
from project.core import clock
from project.core.claims import RELEASED
from project.core.errors import Conflict, NotFound
from project.extensions import db

EXPIRE_AT_ONCE = 500


@dataclass(frozen=True)
class Assigned:
    """A subscription, and whether its package counts now or from its period's end on."""

    subscription: Subscription
    package: Package
    is_later: bool


def assign(customer: Customer, package_id: int) -> Assigned:
    """Give the customer a package: now if there is none, else from the period's end on.

    The first period is given; it is charged when it ends. Raises NotFound and BadRequest for the
    package, and Conflict for the one that is running already.
    """
    package = package_for_sale(package_id)
    # A lock that lets others refer to the customer: a charge that begins now writes a payment.
    mine = select(Customer.id).where(Customer.id == customer.id).with_for_update(key_share=True)
    db.session.execute(mine)
    running = _running(customer.id)
    if running is None:
        return Assigned(_start(customer, package), package, False)
    if running.package_id == package.id and running.state != SubscriptionState.CANCELED:
        if running.next_package_id is None:
            raise Conflict(
                f"The package {package.name!r} is running already.",
                {"package_id": ["Running already."]},
            )
        running.next_package_id = None
        _tell([rules.change("changed", running, clock.now())])
        return Assigned(running, package, False)
    return _change_at_end(running, package)


def _start(customer: Customer, package: Package) -> Subscription:
    now = clock.now()
    period = period_from(now, PeriodUnit(package.period), package.period_count, now)
    subscription = Subscription(
        customer_id=customer.id,
        package_id=package.id,
        state=str(SubscriptionState.ACTIVE),
        anchor_at=period.start,
        current_period_start=period.start,
        ended_at=period.end,
        due_at=rules.charge_day(period.end),
        created_at=now,
    )
    db.session.add(subscription)
    db.session.flush()
    _tell([rules.change("assigned", subscription, now)])
    return subscription


def _change_at_end(running: Subscription, package: Package) -> Assigned:
    now = clock.now()
    running.next_package_id = None if running.package_id == package.id else package.id
    if running.state == SubscriptionState.CANCELED:
        running.canceled_at = None
        rules.move(running, SubscriptionState.ACTIVE)
        running.due_at = rules.charge_day(running.ended_at)
    _tell([rules.change("changed", running, now)])
    return Assigned(running, package, running.next_package_id is not None)


def cancel(customer_id: int) -> Subscription:
    """Do not renew: the period that is paid for still runs to its end. Raises NotFound."""
    running = _running(customer_id)
    if running is None:
        raise NotFound("There is no package to cancel.")
    if running.state != SubscriptionState.CANCELED:
        now = clock.now()
        rules.move(running, SubscriptionState.CANCELED)
        running.canceled_at = now
        running.next_package_id = None
        _tell([rules.change("canceled", running, now)])
    return running


def _running(customer_id: int) -> Subscription | None:
    return db.session.scalars(
        select(Subscription)
        .where(
            Subscription.customer_id == customer_id,
            Subscription.state != str(SubscriptionState.EXPIRED),
        )
        .with_for_update()
        .execution_options(populate_existing=True)
    ).one_or_none()


def expire_some() -> int:
    """Expire a number of subscriptions whose access is to end; return how many."""
    now = clock.now()
    chosen = (
        select(Subscription.id)
        .where(queries.overdue_subscriptions(now))
        .order_by(Subscription.ended_at)
        .limit(EXPIRE_AT_ONCE)
        .with_for_update(skip_locked=True)
    )
    expired: Sequence[Subscription] = db.session.scalars(
        update(Subscription)
        .where(Subscription.id.in_(chosen))
        .values(state=str(SubscriptionState.EXPIRED), due_at=None, **RELEASED)
        .returning(Subscription)
        .execution_options(populate_existing=True, synchronize_session=False)
    ).all()
    _tell([rules.change("expired", one, now) for one in expired])
    return len(expired)


def _tell(changes: list[SubscriptionChange]) -> None:
    db.session.flush()
    if changes:
        signals.subscription_changed.send(happened=changes)
