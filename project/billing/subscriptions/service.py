"""Subscriptions: a package given, changed at the period's end, canceled, expired."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Any

from sqlalchemy import ColumnElement, select, update

from project.billing import cases, queries, signals
from project.billing.customers.service import lock_customers
from project.billing.models import Customer, Package, Subscription, SubscriptionPeriod
from project.billing.packages.service import package_for_sale, terms_of
from project.billing.periods import boundary
from project.billing.signals import SubscriptionChange
from project.billing.snapshots import SubscriptionSnapshot
from project.billing.states import SubscriptionState
from project.billing.subscription_state import has_ended, is_over
from project.billing.subscriptions import rules
from project.core import clock
from project.core.db import bulk
from project.core.errors import Conflict, NotFound
from project.core.work.claims import RELEASED
from project.extensions import db

EXPIRE_AT_ONCE = 500


@dataclass(frozen=True)
class Assigned:
    """A subscription, and whether its package counts now or from its period's end on."""

    subscription: Subscription
    package: Package
    is_later: bool


@dataclass(frozen=True)
class Prepaid:
    """A package that a customer is to have, and when the first period to be paid begins."""

    customer_id: int
    package_id: int
    begins_at: datetime


def assign(customer: Customer, package_id: int) -> Assigned:
    """Give the customer a package: now if there is none, else from the period's end on.

    The first period is given; it is charged when it ends. Raises NotFound and BadRequest for the
    package, and Conflict for the one that is taken already or whose last charge was refused.
    """
    package = package_for_sale(package_id)
    lock_customers([customer.id])
    running = _running(customer.id)
    if running is None:
        return Assigned(_start(customer, package), package, False)
    now = clock.now()
    _require_paid(running, now)
    if running.package_id == package.id and running.state != SubscriptionState.CANCELED:
        if running.next_package_id is None:
            raise Conflict(
                f"The package {package.name!r} is taken already.",
                {"package_id": ["Taken already."]},
            )
        running.next_package_id = None
        _tell([rules.change("changed", running, now)])
        return Assigned(running, package, False)
    return _change_at_end(running, package)


def require_paid(customer_id: int) -> None:
    """Raise Conflict for a customer who has to pay before another package can be taken."""
    last = queries.current_subscription(customer_id)
    if last is not None:
        _require_paid(last, clock.now())


def _require_paid(subscription: Subscription, now: datetime) -> None:
    if not rules.must_be_paid_first(subscription, now):
        return
    why = (
        "The last charge was refused."
        if subscription.exhausted_at is not None
        else "The package has expired, and a first period is given once."
    )
    raise Conflict(f"{why} Pay for the next period with POST /api/companies/packages/pay.")


def _start(customer: Customer, package: Package) -> Subscription:
    now = clock.now()
    begun = rules.begin(customer.id, terms_of(package), now)
    due_at = rules.charge_time(package, begun.ended_at)
    subscription = Subscription(created_at=now)
    rules.move(begun, SubscriptionState.ACTIVE, due_at).write_to(subscription)
    db.session.add(subscription)
    db.session.flush()
    db.session.add(
        SubscriptionPeriod(
            subscription_id=subscription.id,
            period_start=begun.current_period_start,
            period_end=begun.ended_at,
            package_id=package.id,
        )
    )
    _tell([rules.change("assigned", subscription, now)])
    return subscription


def _change_at_end(running: Subscription, package: Package) -> Assigned:
    now = clock.now()
    running.next_package_id = None if running.package_id == package.id else package.id
    if running.state == SubscriptionState.CANCELED:
        current = terms_of(db.session.get_one(Package, running.package_id))
        last_refused_at = queries.last_refused_at(running.id)
        rules.resume(snapshot_of(running), current, last_refused_at).write_to(running)
        cases.close_given_up(queries.charged_ahead(running.id, now))
    _tell([rules.change("changed", running, now)])
    return Assigned(running, package, running.next_package_id is not None)


def subscribe(wanted: Sequence[Prepaid]) -> int:
    """Have customers subscribed to packages that are paid in advance; return how many began.

    Nothing is given: a subscription begins with its first period behind it, and is charged at
    once for the one that begins at `begins_at`. One that is running goes on; one that was
    canceled renews again; another package counts from the period's end on.
    """
    by_customer = {one.customer_id: one for one in wanted}
    ids = sorted(by_customer)
    lock_customers(ids)
    packages = _packages({one.package_id for one in wanted})
    running = {one.customer_id: one for one in _all_running(ids)}
    for customer_id, subscription in running.items():
        _go_on(subscription, packages[by_customer[customer_id].package_id])
    now = clock.now()
    new = [one for one in by_customer.values() if one.customer_id not in running]
    rows = [_prepaid_row(one, packages[one.package_id], now) for one in new]
    bulk.insert_rows(queries.subscriptions, rows)
    return len(rows)


def _packages(ids: set[int]) -> dict[int, Package]:
    return {one.id: one for one in db.session.scalars(select(Package).where(Package.id.in_(ids)))}


def snapshot_of(
    subscription: Subscription, packages: Mapping[int, Package] = MappingProxyType({})
) -> SubscriptionSnapshot:
    """Return a subscription as it is now, as the rules take it."""
    package = packages.get(subscription.package_id)
    current = package or db.session.get_one(Package, subscription.package_id)
    return SubscriptionSnapshot.of(subscription, rhythm=terms_of(current).rhythm)


def _go_on(subscription: Subscription, package: Package) -> None:
    is_canceled = subscription.state == SubscriptionState.CANCELED
    changes = (subscription.next_package_id or subscription.package_id) != package.id
    if is_canceled or changes:
        _change_at_end(subscription, package)


def _prepaid_row(wanted: Prepaid, package: Package, now: datetime) -> dict[str, Any]:
    unit, count = terms_of(package).rhythm
    return {
        "customer_id": wanted.customer_id,
        "package_id": package.id,
        "state": str(SubscriptionState.ACTIVE),
        "anchor_at": wanted.begins_at,
        "current_period_start": boundary(wanted.begins_at, unit, count, -1),
        "ended_at": wanted.begins_at,
        "due_at": now,
        "refusals": 0,
        "attempts": 0,
        "created_at": now,
    }


def charge_now(customer_ids: Sequence[int]) -> None:
    """Charge at once what is owed and was put off, because it would have been for nothing.

    What was refused, or not taken, keeps its pause.
    """
    now = clock.now()
    table = queries.subscriptions
    db.session.execute(
        update(table)
        .where(
            table.c.customer_id.in_(customer_ids),
            table.c.state == str(SubscriptionState.ACTIVE),
            table.c.ended_at <= now,
            table.c.due_at > now,
            table.c.refusals == 0,
            table.c.not_taken == 0,
            ~queries.has_pending_payment(table.c.id),
        )
        .values(due_at=now)
    )


def cancel_all(customer_ids: Sequence[int]) -> int:
    """Let the customers' subscriptions not renew; return how many were still to."""
    now = clock.now()
    ending = [one for one in _all_running(customer_ids) if one.due_at is not None]
    packages = _packages({one.package_id for one in ending})
    for subscription in ending:
        rules.cancel(snapshot_of(subscription, packages), now).write_to(subscription)
    _tell([rules.change("canceled", one, now) for one in ending])
    return len(ending)


def _all_running(customer_ids: Sequence[int]) -> Sequence[Subscription]:
    return db.session.scalars(
        select(Subscription)
        .where(
            Subscription.customer_id.in_(customer_ids),
            Subscription.state != str(SubscriptionState.EXPIRED),
        )
        .order_by(Subscription.id)
        .with_for_update()
        .execution_options(populate_existing=True)
    ).all()


def cancel(customer_id: int) -> Subscription:
    """Do not renew: the period that is paid for still runs to its end. Raises NotFound.

    What was charged for a period that has not begun is a case for people, who may give it back.
    """
    running = _running(customer_id)
    if running is None:
        raise NotFound("There is no package to cancel.")
    if running.state != SubscriptionState.CANCELED:
        now = clock.now()
        rules.cancel(snapshot_of(running), now).write_to(running)
        cases.open_given_up(queries.charged_ahead(running.id, now))
        _tell([rules.change("canceled", running, now)])
    return running


def _running(customer_id: int) -> Subscription | None:
    """Lock and return the subscription that runs; one that is over expires before it is seen."""
    running = next(iter(_all_running([customer_id])), None)
    return None if running is None or expire_if_over(running) else running


def expire_if_over(subscription: Subscription) -> bool:
    """Expire a locked subscription whose access has ended, as the next run would; tell whether."""
    now = clock.now()
    if not is_over(subscription, now):
        return False
    rules.move(snapshot_of(subscription), SubscriptionState.EXPIRED).write_to(subscription)
    _tell([rules.change("expired", subscription, now)])
    return True


def expire_ended() -> int:
    """Expire a number of subscriptions that were to end with their period; return how many."""
    return _expire(has_ended(queries.subscriptions, clock.now()))


def expire_some() -> int:
    """Expire a number of subscriptions whose access is to end; return how many."""
    return _expire(queries.overdue_subscriptions(clock.now()))


def _expire(which: ColumnElement[bool]) -> int:
    now = clock.now()
    chosen = (
        select(Subscription.id)
        .where(which)
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
