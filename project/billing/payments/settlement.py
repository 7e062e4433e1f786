"""Applies what is decided about payments: the one place where money is found to be charged.

Charging, webhooks, inquiries and reconciliation all come here. A payment's row is locked, and the
subscription, the signals and the cases are part of the same transaction.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from types import MappingProxyType
from typing import Any
from uuid import UUID

import structlog
from sqlalchemy import ColumnElement, and_, select, update

from project.billing import cases, signals
from project.billing.models import Customer, Package, Payment, Subscription
from project.billing.packages.service import terms_of
from project.billing.payments.decisions import Decision, decide
from project.billing.periods import Period
from project.billing.providers.base import NeverMade, ProviderResult, Rejected
from project.billing.signals import SettledPayment, SubscriptionChange
from project.billing.snapshots import PackageSnapshot, PaymentSnapshot, SubscriptionSnapshot
from project.billing.states import CaseKind, PaymentState, SubscriptionState
from project.billing.subscription_state import periods
from project.billing.subscriptions import rules
from project.core import clock
from project.core.db import bulk
from project.extensions import db

log = structlog.get_logger()

NO_PAYMENT_METHOD = "no_payment_method"
NOTHING_HELD: Mapping[int, UUID] = MappingProxyType({})


@dataclass
class SettlementContext:
    """What was locked for some results, and what listeners are told and people shown at the end.

    `running` are the subscriptions that run, by customer, of those whose payments name none or
    one that has expired: read together, as reconciliation finds hundreds of such payments.
    """

    payments: Mapping[UUID, Payment]
    subscriptions: dict[int, Subscription]
    running: dict[int, Subscription]
    packages: Mapping[int, PackageSnapshot]
    now: datetime
    given: list[dict[str, Any]] = field(default_factory=list)
    cases: list[dict[str, Any]] = field(default_factory=list)
    changes: list[SubscriptionChange] = field(default_factory=list)
    settled: list[SettledPayment] = field(default_factory=list)

    @cached_property
    def with_planned_payments(self) -> set[int]:
        """Return which of the locked subscriptions have payments that wait for a period."""
        return set(
            db.session.scalars(
                select(Payment.subscription_id)
                .where(
                    Payment.subscription_id.in_(list(self.subscriptions)),
                    Payment.state == str(PaymentState.PENDING),
                    Payment.period_start.is_not(None),
                )
                .distinct()
            )
        )

    def decide(self, payment: Payment, result: ProviderResult) -> Decision:
        """Decide about a payment as its rows are now."""
        own = self.subscriptions.get(payment.subscription_id or 0)
        running = self.running.get(payment.customer_id)
        return decide(
            PaymentSnapshot.of(payment),
            self._snapshot(own),
            self.packages[payment.package_id],
            result,
            self.now,
            running=None if running is own else self._snapshot(running),
        )

    def _snapshot(self, row: Subscription | None) -> SubscriptionSnapshot | None:
        if row is None:
            return None
        return SubscriptionSnapshot.of(row, rhythm=self.packages[row.package_id].rhythm)

    def apply(self, payment: Payment, decision: Decision, result: ProviderResult) -> None:
        """Write a decision to the rows that it is about, and note what is to be told."""
        subscription = self._written(decision.subscription)
        if subscription is not None and decision.given is not None:
            self._give(payment, subscription, decision)
        decision.payment.write_to(payment)
        if subscription is not None:
            payment.subscription_id = subscription.id
            if decision.change is not None:
                self.changes.append(rules.change(decision.change, subscription, self.now))
        if decision.is_final is not None:
            self.settled.append(_told(payment, self.now, is_final=decision.is_final))
        self.cases += [
            cases.new_case(kind, payment.provider, payment, result) for kind in decision.cases
        ]

    def _written(self, values: SubscriptionSnapshot | None) -> Subscription | None:
        if values is None:
            return None
        if values.id is not None:
            row = self.subscriptions[values.id]
            values.write_to(row)
        else:
            row = Subscription(created_at=self.now)
            values.write_to(row)
            db.session.add(row)
            db.session.flush()
            self.subscriptions[row.id] = row
        if _is_running(row):
            self.running[row.customer_id] = row
        elif self.running.get(row.customer_id) is row:
            del self.running[row.customer_id]
        return row

    def _give(self, payment: Payment, subscription: Subscription, decision: Decision) -> None:
        given = decision.given
        assert given is not None
        if decision.given_next is not None and subscription.id in self.with_planned_payments:
            _postpone_period(payment, subscription, given, decision.given_next)
        if decision.saved_method_id is not None:
            customer = db.session.get_one(
                Customer, payment.customer_id, with_for_update={"key_share": True}
            )
            customer.payment_method_id = decision.saved_method_id
        self.given.append(
            {
                "subscription_id": subscription.id,
                "period_start": given.start,
                "period_end": given.end,
                "package_id": payment.package_id,
                "payment_id": payment.id,
            }
        )

    def finish(self) -> None:
        """Write what was given and the cases, and tell the listeners."""
        db.session.flush()
        bulk.insert_rows(periods, self.given)
        cases.open_cases(self.cases)
        if self.settled:
            signals.payment_settled.send(happened=self.settled)
        if self.changes:
            signals.subscription_changed.send(happened=self.changes)


@dataclass(frozen=True)
class Applied:
    """Which subscriptions were released, and of which kinds the cases are."""

    released: Collection[int] = ()
    cases: Sequence[CaseKind] = ()


def apply(
    results: Sequence[tuple[UUID, ProviderResult]],
    *,
    held: Mapping[int, UUID] = NOTHING_HELD,
    found: Collection[UUID] = (),
) -> Applied:
    """Record what the provider said of each payment; recording it again changes nothing.

    Subscriptions that the caller has claimed (`held`: id to claim_id) are released by the same
    write, where the claim still stands. A payment that is `found` paid, by asking or in the
    provider's listing, is a case too, which is resolved by recording it. Part of the caller's
    transaction. Rows are locked in the order of their ids, payments before subscriptions, so that
    two callers wait for each other and never deadlock.
    """
    if not results:
        return Applied()
    context = _lock(results)
    for payment_id, result in results:
        payment = context.payments[payment_id]
        decision = context.decide(payment, result)
        if payment_id in found and decision.given is not None:
            context.cases.append(cases.new_repair(payment, result))
        if decision.payment.state != payment.state:
            _log(payment_id, result)
        context.apply(payment, decision, result)
    released = _release(context.subscriptions.values(), held)
    context.finish()
    return Applied(released, [CaseKind(row["kind"]) for row in context.cases])


def _log(payment_id: UUID, result: ProviderResult) -> None:
    if isinstance(result, Rejected):
        log.error("payment.not_taken", payment=str(payment_id), reason=result.reason)
    if isinstance(result, NeverMade):
        log.warning("payment.never_made", payment=str(payment_id))


def _release(subscriptions: Iterable[Subscription], held: Mapping[int, UUID]) -> set[int]:
    released = set()
    for subscription in subscriptions:
        if subscription.claim_id is not None and held.get(subscription.id) == subscription.claim_id:
            subscription.claim_id = subscription.claimed_until = None
            released.add(subscription.id)
    return released


def _lock(results: Sequence[tuple[UUID, ProviderResult]]) -> SettlementContext:
    payments = _locked_payments(payment_id for payment_id, _ in results)
    ids = {one.subscription_id for one in payments.values() if one.subscription_id is not None}
    without = {one.customer_id for one in payments.values() if one.subscription_id is None}
    wanted: ColumnElement[bool] = Subscription.id.in_(ids)
    subscriptions = _locked_subscriptions(wanted | _running_of(without) if without else wanted)
    ended = {one.customer_id for one in subscriptions.values() if not _is_running(one)} - without
    if ended:
        subscriptions |= _locked_subscriptions(_running_of(ended))
    package_ids = {one.package_id for one in payments.values()}
    package_ids |= {one.package_id for one in subscriptions.values()}
    packages = db.session.scalars(select(Package).where(Package.id.in_(package_ids)))
    running = {one.customer_id: one for one in subscriptions.values() if _is_running(one)}
    terms = {package.id: terms_of(package) for package in packages}
    return SettlementContext(payments, subscriptions, running, terms, clock.now())


def _is_running(subscription: Subscription) -> bool:
    return subscription.state != SubscriptionState.EXPIRED


def _running_of(customer_ids: Collection[int]) -> ColumnElement[bool]:
    is_running = Subscription.state != str(SubscriptionState.EXPIRED)
    return and_(Subscription.customer_id.in_(customer_ids), is_running)


def _locked_payments(payment_ids: Iterable[UUID]) -> dict[UUID, Payment]:
    rows = db.session.scalars(
        select(Payment)
        .where(Payment.id.in_(list(payment_ids)))
        .order_by(Payment.id)
        .with_for_update()
        .execution_options(populate_existing=True)
    )
    return {payment.id: payment for payment in rows}


def _locked_subscriptions(wanted: ColumnElement[bool]) -> dict[int, Subscription]:
    rows = db.session.scalars(
        select(Subscription)
        .where(wanted)
        .order_by(Subscription.id)
        .with_for_update()
        .execution_options(populate_existing=True)
    )
    return {subscription.id: subscription for subscription in rows}


def _postpone_period(
    payment: Payment, subscription: Subscription, given: Period, given_next: Period
) -> None:
    """Have the payment that waits for a period which is given now pay for the one after it."""
    db.session.execute(
        update(Payment)
        .where(
            Payment.subscription_id == subscription.id,
            Payment.id != payment.id,
            Payment.state == str(PaymentState.PENDING),
            Payment.period_start == given.start,
        )
        .values(period_start=given_next.start, period_end=given_next.end)
        .execution_options(synchronize_session="fetch")
    )


def _told(payment: Payment, now: datetime, *, is_final: bool) -> SettledPayment:
    return SettledPayment(
        payment.id,
        payment.customer_id,
        payment.subscription_id,
        PaymentState(payment.state),
        payment.amount,
        payment.currency,
        payment.attempt,
        payment.trigger,
        payment.reason,
        payment.period_start,
        payment.period_end,
        is_final,
        now,
    )
