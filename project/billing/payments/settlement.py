"""What a provider's word makes of a payment: the one place where money is found to be drawn.

Charging, webhooks, inquiries and reconciliation all come here. A payment's row is locked, what is
final stays final, and the subscription, the signals and the case are part of the same transaction.
"""

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property
from types import MappingProxyType
from typing import Any
from uuid import UUID

import structlog
from sqlalchemy import ColumnElement, and_, select, update

from project.billing import cases, signals
from project.billing.models import Customer, Package, Payment, Subscription
from project.billing.periods import Period, PeriodUnit, period_from
from project.billing.providers.base import (
    NeverMade,
    NotThere,
    ProviderPayment,
    ProviderStatus,
    Rejected,
    Unknown,
    Unreadable,
)
from project.billing.signals import SettledPayment, SubscriptionChange
from project.billing.states import (
    COUNTED_TRIGGERS,
    CaseKind,
    PaymentState,
    SubscriptionState,
    Trigger,
    may_payment_move,
)
from project.billing.subscription_state import periods
from project.billing.subscriptions import rules
from project.core import clock
from project.core.db import bulk
from project.extensions import db

log = structlog.get_logger()

FIRST_INQUIRY_SECONDS = 120
MAX_INQUIRY_SECONDS = 3600
REASON_LENGTH = 500
NO_PAYMENT_METHOD = "no_payment_method"
NOTHING_HELD: Mapping[int, UUID] = MappingProxyType({})

_IS_RUNNING = Subscription.state != str(SubscriptionState.EXPIRED)
Word = ProviderPayment | Rejected | Unknown | NotThere | NeverMade


@dataclass
class _Hearing:
    """One settling: what was locked for it, and what the listeners are to hear at its end.

    `running` are the subscriptions that run, by customer, of those customers (`asked_for`) whose
    payments name none: read in one statement, as reconciliation finds hundreds of such payments.
    """

    now: datetime
    payments: Mapping[UUID, Payment]
    subscriptions: dict[int, Subscription]
    asked_for: Set[int]
    running: dict[int, Subscription]
    changes: list[SubscriptionChange] = field(default_factory=list)
    settled: list[SettledPayment] = field(default_factory=list)
    given: list[dict[str, Any]] = field(default_factory=list)

    @cached_property
    def with_planned_payments(self) -> Set[int]:
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


def settle(words: Sequence[tuple[UUID, Word]], held: Mapping[int, UUID] = NOTHING_HELD) -> set[int]:
    """Record the provider's word on each payment; saying it again changes nothing.

    Subscriptions that the caller has claimed (`held`: id to claim_id) are given back by the same
    write, where the claim still stands; their ids are returned. Part of the caller's transaction.
    Rows are locked in the order of their ids, payments before subscriptions, so that two callers
    wait for each other and never deadlock.
    """
    if not words:
        return set()
    hearing = _begin(words)
    packages = _packages(hearing.payments.values(), hearing.subscriptions.values())
    for payment_id, word in words:
        payment = hearing.payments[payment_id]
        subscription = hearing.subscriptions.get(payment.subscription_id or 0)
        _hear(payment, subscription, packages[payment.package_id], word, hearing)
    given_back = _give_back(hearing.subscriptions.values(), held)
    db.session.flush()
    bulk.insert_rows(periods, hearing.given)
    if hearing.settled:
        signals.payment_settled.send(happened=hearing.settled)
    if hearing.changes:
        signals.subscription_changed.send(happened=hearing.changes)
    return given_back


def _begin(words: Sequence[tuple[UUID, Word]]) -> _Hearing:
    """Lock what the words are about."""
    payments = _locked_payments(payment_id for payment_id, _ in words)
    without = {one.customer_id for one in payments.values() if one.subscription_id is None}
    subscriptions = _locked_subscriptions(payments.values(), without)
    running = {
        one.customer_id: one
        for one in subscriptions.values()
        if one.customer_id in without and one.state != SubscriptionState.EXPIRED
    }
    return _Hearing(clock.now(), payments, subscriptions, without, running)


def _give_back(subscriptions: Iterable[Subscription], held: Mapping[int, UUID]) -> set[int]:
    given_back = set()
    for subscription in subscriptions:
        if subscription.claim_id is not None and held.get(subscription.id) == subscription.claim_id:
            subscription.claim_id = subscription.claimed_until = None
            given_back.add(subscription.id)
    return given_back


def _locked_payments(payment_ids: Iterable[UUID]) -> dict[UUID, Payment]:
    rows = db.session.scalars(
        select(Payment)
        .where(Payment.id.in_(list(payment_ids)))
        .order_by(Payment.id)
        .with_for_update()
        .execution_options(populate_existing=True)
    )
    return {payment.id: payment for payment in rows}


def _locked_subscriptions(
    payments: Iterable[Payment], customer_ids: Set[int]
) -> dict[int, Subscription]:
    """Lock the payments' subscriptions, and those that run of these customers."""
    ids = [payment.subscription_id for payment in payments if payment.subscription_id is not None]
    wanted: ColumnElement[bool] = Subscription.id.in_(ids)
    if customer_ids:
        wanted |= and_(Subscription.customer_id.in_(list(customer_ids)), _IS_RUNNING)
    rows = db.session.scalars(
        select(Subscription)
        .where(wanted)
        .order_by(Subscription.id)
        .with_for_update()
        .execution_options(populate_existing=True)
    )
    return {subscription.id: subscription for subscription in rows}


def _packages(
    payments: Iterable[Payment], subscriptions: Iterable[Subscription]
) -> dict[int, Package]:
    ids = {payment.package_id for payment in payments}
    ids |= {subscription.package_id for subscription in subscriptions}
    rows = db.session.scalars(select(Package).where(Package.id.in_(ids)))
    return {package.id: package for package in rows}


def _hear(
    payment: Payment,
    subscription: Subscription | None,
    package: Package,
    word: Word,
    hearing: _Hearing,
) -> None:
    match word:
        case ProviderPayment():
            _hear_of_payment(payment, subscription, package, word, hearing)
        case Rejected(reason):
            _not_taken(payment, subscription, reason, hearing)
        case NeverMade(reason):
            _never_made(payment, subscription, reason, hearing)
        case Unreadable(reason):
            cases.open_unreadable(word, payment.provider, payment)
            payment.is_answered = payment.is_answered or word.is_of_request
            _still_pending(payment, hearing.now, reason)
        case Unknown(reason):
            _still_pending(payment, hearing.now, reason)
        case NotThere():
            _still_pending(payment, hearing.now, "the provider does not know this payment")


def _hear_of_payment(
    payment: Payment,
    subscription: Subscription | None,
    package: Package,
    word: ProviderPayment,
    hearing: _Hearing,
) -> None:
    payment.external_id = payment.external_id or word.external_id
    payment.confirmation_url = payment.confirmation_url or word.confirmation_url
    kind = cases.difference(payment, word)
    if kind is not None:
        cases.open_case(kind, payment, word)
    if payment.external_id != word.external_id:
        return
    if kind is CaseKind.AMOUNT_DIFFERS:
        _still_pending(payment, hearing.now, "the provider names another amount")
    elif word.status is ProviderStatus.SUCCEEDED:
        _succeed(payment, subscription, package, word, hearing)
        _note_refund(payment, word)
    elif word.status is ProviderStatus.CANCELED:
        _refused(payment, subscription, package, word.reason, hearing, is_hard=word.is_hard)
    else:
        _still_pending(payment, hearing.now, None)


def _note_refund(payment: Payment, word: ProviderPayment) -> None:
    """Note what the provider has given back; an answer that is older than what is known is not."""
    is_paid = payment.state == PaymentState.SUCCEEDED
    if is_paid and word.refunded_amount > payment.refunded_amount:
        payment.refunded_amount = word.refunded_amount
        cases.open_refund(payment, word)


def _move(payment: Payment, state: PaymentState, now: datetime, reason: str | None) -> bool:
    """Move the payment if it is not final yet; False changes nothing."""
    old = PaymentState(payment.state)
    if old == state or not may_payment_move(old, state):
        return False
    payment.state = str(state)
    payment.reason = reason and reason[:REASON_LENGTH]
    payment.settled_at = now
    payment.due_at = None
    payment.claim_id = None
    payment.claimed_until = None
    return True


def _still_pending(payment: Payment, now: datetime, reason: str | None) -> None:
    if payment.state != PaymentState.PENDING:
        return
    age = (now - payment.created_at).total_seconds()
    wait = min(max(FIRST_INQUIRY_SECONDS, age), MAX_INQUIRY_SECONDS)
    payment.due_at = now + timedelta(seconds=wait)
    payment.reason = reason and reason[:REASON_LENGTH]
    payment.claim_id = None
    payment.claimed_until = None


def _succeed(
    payment: Payment,
    subscription: Subscription | None,
    package: Package,
    word: ProviderPayment,
    hearing: _Hearing,
) -> None:
    if not _move(payment, PaymentState.SUCCEEDED, hearing.now, None):
        return
    if word.saved_method_id is not None and payment.trigger == Trigger.PURCHASE:
        customer = db.session.get(
            Customer, payment.customer_id, with_for_update={"key_share": True}
        )
        assert customer is not None
        customer.payment_method_id = word.saved_method_id
    subscription = _subscription_paid(payment, subscription, package, hearing)
    hearing.changes.append(_give_period(payment, subscription, package, hearing))
    hearing.settled.append(_settled(payment, hearing.now, is_final=True))


def _give_period(
    payment: Payment, subscription: Subscription, package: Package, hearing: _Hearing
) -> SubscriptionChange:
    wanted = _wanted_period(payment, subscription, hearing.now)
    if wanted is None:
        wanted = _next_free_period(payment, subscription, package, hearing)
    payment.period_start, payment.period_end = wanted.start, wanted.end
    hearing.given.append(
        {
            "subscription_id": subscription.id,
            "period_start": wanted.start,
            "period_end": wanted.end,
            "package_id": package.id,
            "payment_id": payment.id,
        }
    )
    is_asked_for = payment.trigger not in COUNTED_TRIGGERS
    return rules.renew(subscription, package, wanted, hearing.now, is_asked_for=is_asked_for)


def _wanted_period(payment: Payment, subscription: Subscription, now: datetime) -> Period | None:
    """Return the period that the payment was made for; None if that cannot be given any more."""
    if payment.period_start is None or payment.period_end is None:
        return None
    is_new = subscription.state == SubscriptionState.PENDING
    is_given = payment.period_start < subscription.ended_at and not is_new
    is_over = subscription.state == SubscriptionState.EXPIRED and payment.period_end <= now
    return None if is_given or is_over else Period(payment.period_start, payment.period_end)


def _next_free_period(
    payment: Payment, subscription: Subscription, package: Package, hearing: _Hearing
) -> Period:
    """Return the period behind what is given; a payment that waits for it gets the one after."""
    with db.session.no_autoflush:
        current = db.session.get_one(Package, subscription.package_id)
        period = rules.next_period(subscription, package, current, hearing.now)
        if _may_be_waited_for(subscription, hearing):
            unit, count = PeriodUnit(package.period), package.period_count
            behind = period_from(period.end, unit, count, period.end)
            _put_off(payment, subscription, period, behind)
    return period


def _may_be_waited_for(subscription: Subscription, hearing: _Hearing) -> bool:
    was_locked = subscription.id in hearing.subscriptions
    return not was_locked or subscription.id in hearing.with_planned_payments


def _put_off(payment: Payment, subscription: Subscription, period: Period, behind: Period) -> None:
    db.session.execute(
        update(Payment)
        .where(
            Payment.subscription_id == subscription.id,
            Payment.id != payment.id,
            Payment.state == str(PaymentState.PENDING),
            Payment.period_start == period.start,
        )
        .values(period_start=behind.start, period_end=behind.end)
        .execution_options(synchronize_session="fetch")
    )


def _subscription_paid(
    payment: Payment, subscription: Subscription | None, package: Package, hearing: _Hearing
) -> Subscription:
    """Find or make the subscription that gets the period: the one that runs, if there is one."""
    if subscription is not None and subscription.state != SubscriptionState.EXPIRED:
        return subscription
    with db.session.no_autoflush:
        running = _running_of(payment.customer_id, hearing)
    if running is not None:
        payment.subscription_id = running.id
        payment.period_start = payment.period_end = None
        return running
    made = subscription or _new_subscription(payment, package, hearing.now)
    hearing.running[payment.customer_id] = made
    return made


def _running_of(customer_id: int, hearing: _Hearing) -> Subscription | None:
    known = hearing.running.get(customer_id)
    if known is not None and known.state != SubscriptionState.EXPIRED:
        return known
    if customer_id in hearing.asked_for:
        return None
    return db.session.scalars(
        select(Subscription)
        .where(Subscription.customer_id == customer_id, _IS_RUNNING)
        .with_for_update()
    ).one_or_none()


def _new_subscription(payment: Payment, package: Package, now: datetime) -> Subscription:
    period = period_from(now, PeriodUnit(package.period), package.period_count, now)
    subscription = Subscription(
        customer_id=payment.customer_id,
        package_id=package.id,
        state=str(SubscriptionState.PENDING),
        anchor_at=period.start,
        current_period_start=period.start,
        ended_at=period.end,
        created_at=now,
    )
    db.session.add(subscription)
    db.session.flush()
    payment.subscription_id = subscription.id
    payment.period_start, payment.period_end = period.start, period.end
    return subscription


def _refused(
    payment: Payment,
    subscription: Subscription | None,
    package: Package,
    reason: str | None,
    hearing: _Hearing,
    *,
    is_hard: bool,
) -> None:
    now = hearing.now
    if not _move(payment, PaymentState.CANCELED, now, reason or "refused"):
        return
    is_final = subscription is None or subscription.due_at is None
    is_counted = subscription is not None and payment.trigger in COUNTED_TRIGGERS
    if subscription is not None and is_counted and rules.is_payment_due(subscription, package, now):
        change = rules.refuse(subscription, package, now, is_hard=is_hard)
        if change is not None:
            hearing.changes.append(change)
        is_final = subscription.due_at is None
    hearing.settled.append(_settled(payment, now, is_final=is_final))


def _not_taken(
    payment: Payment, subscription: Subscription | None, reason: str, hearing: _Hearing
) -> None:
    """The provider did not take the request: that is no refusal of the customer's money.

    It is a case for people, and the customer is told nothing: nothing was asked of the card.
    """
    if not _move(payment, PaymentState.CANCELED, hearing.now, reason):
        return
    log.error("payment.not_taken", payment=str(payment.id), reason=reason)
    cases.open_not_taken(payment, reason)
    if subscription is not None and payment.trigger in COUNTED_TRIGGERS:
        rules.put_off(subscription, hearing.now)


def _never_made(
    payment: Payment, subscription: Subscription | None, reason: str, hearing: _Hearing
) -> None:
    """End a payment that never reached the provider, so that its period is charged anew.

    Nobody is told: the customer was neither charged nor refused.
    """
    if payment.external_id is not None or payment.state != PaymentState.PENDING:
        return
    _move(payment, PaymentState.EXPIRED, hearing.now, reason)
    log.warning("payment.never_made", payment=str(payment.id))
    if subscription is None or payment.trigger not in COUNTED_TRIGGERS:
        return
    if subscription.state == SubscriptionState.EXPIRED:
        with db.session.no_autoflush:
            if _running_of(payment.customer_id, hearing) is not None:
                return
    rules.take_up(subscription, hearing.now)


def _settled(payment: Payment, now: datetime, *, is_final: bool) -> SettledPayment:
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
