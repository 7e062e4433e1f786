"""What there is to know about billing; nothing here writes."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
    Row,
    Select,
    Table,
    and_,
    exists,
    func,
    literal,
    not_,
    or_,
    select,
)

from project.billing.models import Customer, Package, Payment, Subscription
from project.billing.periods import EXPIRED_AFTER
from project.billing.states import (
    COUNTED_TRIGGERS,
    ChargeTime,
    PaymentState,
    SubscriptionState,
    Trigger,
)
from project.billing.subscription_state import Standing, has_ended
from project.core import clock
from project.core.work.claims import is_due, is_free
from project.extensions import db

subscriptions: Table = Subscription.__table__  # type: ignore[assignment]
payments: Table = Payment.__table__  # type: ignore[assignment]
packages: Table = Package.__table__  # type: ignore[assignment]


def is_charge_due() -> bool:
    """Tell whether a subscription is due that nobody works on."""
    return _any_due(subscriptions)


def is_inquiry_due() -> bool:
    """Tell whether a pending payment is to be asked after that nobody works on."""
    return _any_due(payments)


def _any_due(table: Table) -> bool:
    return bool(db.session.scalar(select(exists().where(is_due(table, clock.now())))))


def has_pending_payment(subscription_id: Any) -> ColumnElement[bool]:
    """Hold for subscriptions with a payment whose end is not known yet."""
    return exists().where(
        payments.c.subscription_id == subscription_id,
        payments.c.state == str(PaymentState.PENDING),
    )


def has_payment_for(subscription_id: int, period_start: datetime) -> bool:
    """Tell whether a payment for this period is under way or made."""
    found = exists().where(
        payments.c.subscription_id == subscription_id,
        payments.c.period_start == period_start,
        payments.c.state.in_([str(PaymentState.PENDING), str(PaymentState.SUCCEEDED)]),
    )
    return bool(db.session.scalar(select(found)))


def providers_in_use() -> set[str]:
    """Return the names of the providers by which somebody pays."""
    return set(db.session.scalars(select(Customer.provider).distinct()))


def is_left_over(last_run_at: datetime) -> ColumnElement[bool]:
    """Hold for charges that no daily run need be waited for, if they are due.

    They were begun and not ended, or were due at the last run and not begun: workers die, answers
    are lost, and so is a wake-up when Redis is emptied. Or they are tries that come between runs.
    """
    return or_(
        subscriptions.c.due_at <= last_run_at,
        has_pending_payment(subscriptions.c.id),
        _is_between_runs(),
    )


def _is_between_runs() -> ColumnElement[bool]:
    """Hold for further tries at a time of the day; those of whole days wait for the day's run."""
    written = func.timezone("UTC", subscriptions.c.due_at)
    return and_(
        or_(subscriptions.c.refusals > 0, subscriptions.c.not_taken > 0),
        subscriptions.c.due_at.is_not(None),
        written != func.date_trunc("day", written),
    )


def is_charge_left_over(last_run_at: datetime) -> bool:
    """Tell whether a charge is due that no daily run need be waited for."""
    left_over = and_(is_due(subscriptions, clock.now()), is_left_over(last_run_at))
    return bool(db.session.scalar(select(exists().where(left_over))))


def oldest_late_charge_due_at() -> datetime | None:
    """Return when the longest-waiting try between two daily runs was or will be due."""
    return _oldest_due_at(subscriptions, _is_between_runs())


def count_due(table: Table, *, at_most: int) -> int:
    """Count the rows that are due, up to a bound that keeps the count cheap."""
    some = select(table.c.id).where(is_due(table, clock.now())).limit(at_most).subquery()
    return int(db.session.scalar(select(func.count()).select_from(some)) or 0)


def is_charged_at_the_end() -> ColumnElement[bool]:
    """Hold for subscriptions whose package is charged at the moment at which a period ends."""
    prompt = select(Package.id).where(Package.charged == str(ChargeTime.AT_THE_END))
    return subscriptions.c.package_id.in_(prompt)


def oldest_prompt_charge_due_at() -> datetime | None:
    """Return when the longest-waiting subscription that is charged so was or will be due."""
    return _oldest_due_at(subscriptions, is_charged_at_the_end())


def is_paid(customer_id: Any, now: datetime) -> ColumnElement[bool]:
    """Hold for customers with a period, paid or given, in which the moment lies.

    What is paid ahead follows upon what runs, so that no gap is before `ended_at`.
    """
    running = [SubscriptionState.ACTIVE, SubscriptionState.PAST_DUE, SubscriptionState.CANCELED]
    return exists().where(
        subscriptions.c.customer_id == customer_id,
        subscriptions.c.state.in_([str(state) for state in running]),
        subscriptions.c.ended_at > now,
    )


def paid_ends(customer_ids: Collection[int]) -> dict[int, datetime]:
    """Return by customer when what it has paid for ends, or ended; also of what has expired since.

    A period that was never paid for ends where the first one would have begun.
    """
    rows = db.session.execute(
        select(subscriptions.c.customer_id, func.max(subscriptions.c.ended_at).label("ended_at"))
        .where(subscriptions.c.customer_id.in_(customer_ids))
        .group_by(subscriptions.c.customer_id)
    )
    return {row.customer_id: row.ended_at for row in rows}


def oldest_inquiry_due_at() -> datetime | None:
    """Return when the longest-waiting pending payment was or will be asked after."""
    return _oldest_due_at(payments)


def _oldest_due_at(table: Table, *among: ColumnElement[bool]) -> datetime | None:
    statement = (
        select(table.c.due_at)
        .where(table.c.due_at.is_not(None), is_free(table), *among)
        .order_by(table.c.due_at)
        .limit(1)
    )
    return db.session.scalar(statement)


def overdue_subscriptions(now: datetime) -> Any:
    """Hold for subscriptions whose access is to end, some with their period, others after 3 days.

    Those days count for who was asked to pay and did not. While a payment is under way, or a try
    is due that nobody has made, it is not the customer who is late; and where a try came later
    than those days, because we were away, the package's tries decide and not the days.
    """
    running = [str(SubscriptionState.ACTIVE), str(SubscriptionState.PAST_DUE)]
    deadline = Subscription.ended_at + EXPIRED_AFTER
    was_asked = and_(
        Subscription.refused_at.is_not(None),
        Subscription.refused_at <= deadline,
        Subscription.due_at > now,
    )
    cannot_be_asked = exists().where(
        Customer.id == Subscription.customer_id, Customer.payment_method_id.is_(None)
    )
    is_unpaid = and_(
        Subscription.state.in_(running),
        Subscription.ended_at <= now - EXPIRED_AFTER,
        or_(was_asked, cannot_be_asked),
        is_free(subscriptions),
        not_(has_pending_payment(Subscription.id)),
    )
    return or_(is_unpaid, has_ended(subscriptions, now))


def current_subscription(customer_id: int) -> Subscription | None:
    """Return the customer's newest subscription: the running one if there is one."""
    return db.session.scalars(
        select(Subscription)
        .where(Subscription.customer_id == customer_id)
        .order_by(Subscription.state == str(SubscriptionState.EXPIRED), Subscription.id.desc())
        .limit(1)
        .execution_options(populate_existing=True)
    ).one_or_none()


def current_subscription_of(customer_id: ColumnElement[Any]) -> Select[Any]:
    """Select the newest subscription of a customer named by a column: the running one, if any."""
    return (
        select(subscriptions)
        .where(subscriptions.c.customer_id == customer_id)
        .order_by(
            subscriptions.c.state == str(SubscriptionState.EXPIRED), subscriptions.c.id.desc()
        )
        .limit(1)
    )


def subscription_by_id(subscription_id: int) -> Row[Any] | None:
    """Return a subscription and where it stands, with the columns of `listed_subscriptions`."""
    statement = listed_subscriptions({}).where(subscriptions.c.id == subscription_id)
    return db.session.execute(statement).one_or_none()


def listed_subscriptions(filters: Mapping[str, Any]) -> Select[Any]:
    """Select subscriptions as they now stand, newest first.

    Filters: customer_id, package_id, state, ended_before.
    """
    standing = Standing(subscriptions, literal(clock.now(), subscriptions.c.ended_at.type))
    others = [column for column in subscriptions.c if column.name not in standing.columns]
    columns = {**subscriptions.c, **standing.columns}
    statement = (
        select(*others, *standing.labeled())
        .select_from(standing.joined(subscriptions))
        .order_by(subscriptions.c.id.desc())
    )
    for name in ("customer_id", "package_id", "state"):
        if name in filters:
            statement = statement.where(columns[name] == filters[name])
    if "ended_before" in filters:
        statement = statement.where(subscriptions.c.ended_at < filters["ended_before"])
    return statement


def listed_payments(filters: Mapping[str, Any]) -> Select[Any]:
    """Select payments, newest first; filters: customer_id, subscription_id, state, since."""
    statement = select(Payment).order_by(Payment.created_at.desc(), Payment.id.desc())
    for name in ("customer_id", "subscription_id", "state"):
        if name in filters:
            statement = statement.where(getattr(Payment, name) == filters[name])
    if "since" in filters:
        statement = statement.where(Payment.created_at >= filters["since"])
    return statement


def payments_of_subscription(subscription_id: int, *, at_most: int) -> Sequence[Payment]:
    """Return the newest payments of a subscription."""
    statement = listed_payments({"subscription_id": subscription_id})
    return db.session.scalars(statement.limit(at_most)).all()


def payment_by_id(payment_id: UUID) -> Payment | None:
    """Return a payment."""
    return db.session.get(Payment, payment_id, populate_existing=True)


def pending_payment_of(customer_id: int) -> Payment | None:
    """Return the customer's payment whose end is not known yet.

    One that waits for the customer to confirm it is in nobody's way.
    """
    return db.session.scalars(
        select(Payment)
        .where(
            Payment.customer_id == customer_id,
            Payment.state == str(PaymentState.PENDING),
            not_(_waits_for_its_customer()),
        )
        .limit(1)
    ).one_or_none()


def charged_ahead(subscription_id: int, now: datetime) -> Sequence[Payment]:
    """Return the payments that were drawn by themselves for periods that are yet to begin."""
    return db.session.scalars(
        select(Payment).where(
            Payment.subscription_id == subscription_id,
            Payment.state == str(PaymentState.SUCCEEDED),
            Payment.trigger.in_([str(trigger) for trigger in COUNTED_TRIGGERS]),
            Payment.period_start > now,
        )
    ).all()


def _waits_for_its_customer() -> ColumnElement[bool]:
    return and_(
        Payment.trigger == str(Trigger.PURCHASE),
        Payment.subscription_id.is_(None),
        Payment.return_url.is_not(None),
    )


def last_refused_at(subscription_id: int) -> datetime | None:
    """Return when a charge of the cycle, which uses up a try, was refused the last time."""
    return db.session.scalars(
        select(Payment.settled_at)
        .where(
            Payment.subscription_id == subscription_id,
            Payment.state == str(PaymentState.CANCELED),
            Payment.trigger.in_([str(trigger) for trigger in COUNTED_TRIGGERS]),
        )
        .order_by(Payment.settled_at.desc())
        .limit(1)
    ).one_or_none()


def open_purchase(customer_id: int, package_id: int, begun_after: datetime) -> Payment | None:
    """Return the customer's newest payment that waits for their confirmation."""
    return db.session.scalars(
        select(Payment)
        .where(
            Payment.customer_id == customer_id,
            Payment.package_id == package_id,
            Payment.trigger == str(Trigger.PURCHASE),
            Payment.state == str(PaymentState.PENDING),
            Payment.return_url.is_not(None),
            Payment.created_at > begun_after,
        )
        .order_by(Payment.created_at.desc())
        .limit(1)
        .execution_options(populate_existing=True)
    ).one_or_none()


def package_by_id(package_id: int) -> Package | None:
    """Return a package."""
    return db.session.get(Package, package_id, populate_existing=True)


def is_package_taken(package_id: int) -> bool:
    """Tell whether anybody has or had the package, is to have it, or was to pay for it."""
    return bool(
        db.session.scalar(
            select(
                or_(
                    exists().where(subscriptions.c.package_id == package_id),
                    exists().where(subscriptions.c.next_package_id == package_id),
                    exists().where(payments.c.package_id == package_id),
                )
            )
        )
    )


def next_charges(customer_ids: Sequence[int]) -> dict[int, datetime]:
    """Return by customer when the next charge is due; without those who are not charged again."""
    rows = db.session.execute(
        select(subscriptions.c.customer_id, subscriptions.c.due_at).where(
            subscriptions.c.customer_id.in_(customer_ids), subscriptions.c.due_at.is_not(None)
        )
    )
    return {row.customer_id: row.due_at for row in rows}
