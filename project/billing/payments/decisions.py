"""What a provider's result makes of a payment: decided here, purely; `settlement` applies it.

What is final stays final, except that a late yes counts. What is not known, and what never reached
the provider, decides nothing against a customer.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from project.billing.periods import Period, period_from
from project.billing.providers.base import (
    NeverMade,
    NotThere,
    ProviderPayment,
    ProviderResult,
    ProviderStatus,
    Rejected,
    TimedOut,
    Unknown,
    Unreadable,
)
from project.billing.snapshots import PackageSnapshot, PaymentSnapshot, SubscriptionSnapshot
from project.billing.states import (
    COUNTED_TRIGGERS,
    CaseKind,
    PaymentState,
    SubscriptionState,
    Trigger,
    may_payment_move,
)
from project.billing.subscriptions import rules

FIRST_INQUIRY_SECONDS = 120
MAX_INQUIRY_SECONDS = 3600
REASON_LENGTH = 500
OTHER_AMOUNT = "the provider names another amount"


@dataclass(frozen=True)
class Decision:
    """What a result makes of a payment and its subscription: both as they are to be.

    `subscription` is the one that changes, None if none does; without an id it is a new one.
    `given` is the period that is paid for; a payment that waits for the same one gets that of
    `given_next`. `saved_method_id` is how the customer pays from now on. `change` is what is told
    of the subscription. `is_final` tells whether no further try follows, None while nothing is
    told of the payment. `cases` are the contradictions that are left to people.
    """

    payment: PaymentSnapshot
    subscription: SubscriptionSnapshot | None = None
    given: Period | None = None
    given_next: Period | None = None
    saved_method_id: str | None = None
    change: str | None = None
    is_final: bool | None = None
    cases: tuple[CaseKind, ...] = ()


@dataclass(frozen=True)
class _Facts:
    payment: PaymentSnapshot
    subscription: SubscriptionSnapshot | None
    package: PackageSnapshot
    running: SubscriptionSnapshot | None
    now: datetime

    @property
    def is_counted(self) -> bool:
        return self.payment.trigger in COUNTED_TRIGGERS


def decide(
    payment: PaymentSnapshot,
    subscription: SubscriptionSnapshot | None,
    package: PackageSnapshot,
    result: ProviderResult,
    now: datetime,
    *,
    running: SubscriptionSnapshot | None = None,
) -> Decision:
    """Return what a result makes of a payment for a package; the same result again makes nothing.

    `subscription` is the one that the payment names, and `running` the one that its customer has
    if that has expired, or if the payment names none.
    """
    facts = _Facts(payment, subscription, package, running, now)
    match result:
        case ProviderPayment():
            return _decide_payment(facts, result)
        case Rejected(reason):
            return _reject(facts, reason)
        case NeverMade(reason):
            return _charge_anew(facts, reason)
        case TimedOut(reason):
            return _time_out(facts, reason)
        case Unreadable(reason):
            waiting = _wait(facts, reason)
            is_answered = payment.is_answered or result.is_of_request
            seen = replace(waiting.payment, is_answered=is_answered)
            return Decision(seen, cases=(CaseKind.UNREADABLE_THERE,))
        case Unknown(reason):
            return _wait(facts, reason)
        case NotThere():
            return _wait(facts, "the provider does not know this payment")


def _decide_payment(facts: _Facts, result: ProviderPayment) -> Decision:
    payment, is_paid = facts.payment, result.status is ProviderStatus.SUCCEEDED
    if payment.external_id not in (None, result.external_id):
        return Decision(payment, cases=(CaseKind.PAID_THERE_MISSING_HERE,) if is_paid else ())
    confirmation_url = payment.confirmation_url or result.confirmation_url
    payment = replace(payment, external_id=result.external_id, confirmation_url=confirmation_url)
    facts = replace(facts, payment=payment)
    kind = _contradiction(payment, result)
    if kind is CaseKind.AMOUNT_DIFFERS:
        decision = _wait(facts, OTHER_AMOUNT)
    elif is_paid:
        decision = _note_refund(_succeed(facts, result), result)
    elif result.status is ProviderStatus.CANCELED:
        decision = _refuse(facts, result)
    else:
        decision = _wait(facts, None)
    return decision if kind is None else replace(decision, cases=(kind, *decision.cases))


def _contradiction(payment: PaymentSnapshot, result: ProviderPayment) -> CaseKind | None:
    """Return how the provider contradicts a payment of ours, if nothing may repair it.

    What is pending on either side contradicts nothing: here it waits for the provider's answer,
    and there it may be an answer that is older than what was recorded since.
    """
    if result.status is not ProviderStatus.SUCCEEDED:
        is_refused_there = result.status is ProviderStatus.CANCELED
        contradicts = is_refused_there and payment.state == PaymentState.SUCCEEDED
        return CaseKind.PAID_HERE_UNPAID_THERE if contradicts else None
    named = (result.amount, result.currency)
    if result.names_amount and named != (payment.amount, payment.currency):
        return CaseKind.AMOUNT_DIFFERS
    if payment.state == PaymentState.CANCELED:
        return CaseKind.PAID_THERE_PENDING_HERE
    return None


def _settled(facts: _Facts, state: PaymentState, reason: str | None) -> PaymentSnapshot | None:
    """Return the payment in its new state; None if it is there already, or is final."""
    old = PaymentState(facts.payment.state)
    if old == state or not may_payment_move(old, state):
        return None
    return replace(
        facts.payment,
        state=state,
        reason=reason and reason[:REASON_LENGTH],
        settled_at=facts.now,
        due_at=None,
        claim_id=None,
        claimed_until=None,
    )


def _wait(facts: _Facts, reason: str | None) -> Decision:
    """Have the provider asked again, later and later."""
    payment = facts.payment
    if payment.state != PaymentState.PENDING:
        return Decision(payment)
    age = (facts.now - payment.created_at).total_seconds()
    wait = min(max(FIRST_INQUIRY_SECONDS, age), MAX_INQUIRY_SECONDS)
    return Decision(
        replace(
            payment,
            due_at=facts.now + timedelta(seconds=wait),
            reason=reason and reason[:REASON_LENGTH],
            claim_id=None,
            claimed_until=None,
        )
    )


def _succeed(facts: _Facts, result: ProviderPayment) -> Decision:
    """Give the period that was paid for, to the subscription that runs, if there is one."""
    payment, package, now = _settled(facts, PaymentState.SUCCEEDED, None), facts.package, facts.now
    if payment is None:
        return Decision(facts.payment)
    subscription, wanted = _paid_for(facts)
    given = wanted or rules.next_period(subscription, package, now)
    # What it was asked for at first, nobody else can be paying for.
    is_sole = wanted is not None and facts.payment.state == PaymentState.PENDING
    given_next = None if is_sole else period_from(given.end, *package.rhythm, given.end)
    return Decision(
        replace(
            payment,
            subscription_id=subscription.id,
            period_start=given.start,
            period_end=given.end,
        ),
        rules.renew(subscription, package, given, is_asked_for=not facts.is_counted),
        given,
        given_next,
        result.saved_method_id if payment.trigger == Trigger.PURCHASE else None,
        "renewed",
        is_final=True,
    )


def _paid_for(facts: _Facts) -> tuple[SubscriptionSnapshot, Period | None]:
    """Return the subscription that gets a period, and the one that was asked for.

    None if that cannot be given any more, so that the next one is due.
    """
    payment, own = facts.payment, facts.subscription
    if facts.running is not None and (own is None or own.state == SubscriptionState.EXPIRED):
        return facts.running, None
    if own is None:
        new = rules.begin(payment.customer_id, facts.package, facts.now)
        return new, Period(new.current_period_start, new.ended_at)
    if payment.period_start is None or payment.period_end is None:
        return own, None
    is_given = payment.period_start < own.ended_at and own.state != SubscriptionState.PENDING
    is_over = own.state == SubscriptionState.EXPIRED and payment.period_end <= facts.now
    if is_given or is_over:
        return own, None
    return own, Period(payment.period_start, payment.period_end)


def _note_refund(decision: Decision, result: ProviderPayment) -> Decision:
    """Note what the provider has given back; an answer that is older than what is known is not."""
    payment = decision.payment
    is_paid = payment.state == PaymentState.SUCCEEDED
    if not is_paid or result.refunded_amount <= payment.refunded_amount:
        return decision
    refunded = replace(payment, refunded_amount=result.refunded_amount)
    return replace(decision, payment=refunded, cases=(CaseKind.REFUNDED_THERE,))


def _refuse(facts: _Facts, result: ProviderPayment) -> Decision:
    """Count a refusal of the customer's money against what is due, and tell of it."""
    subscription, now = facts.subscription, facts.now
    payment = _settled(facts, PaymentState.CANCELED, result.reason or "refused")
    if payment is None:
        return Decision(facts.payment)
    if subscription is None:
        return Decision(payment, is_final=True)
    change = None
    if facts.is_counted and rules.is_payment_due(subscription, facts.package, now):
        subscription, change = rules.refuse(
            subscription, facts.package, now, is_hard=result.is_hard
        )
    return Decision(payment, subscription, change=change, is_final=subscription.due_at is None)


def _reject(facts: _Facts, reason: str) -> Decision:
    """End what the provider did not take: that is no refusal of the customer's money.

    It is a case for people, and the customer is told nothing: nothing was asked of the card.
    """
    payment, subscription = _settled(facts, PaymentState.CANCELED, reason), facts.subscription
    if payment is None:
        return Decision(facts.payment)
    if subscription is not None and facts.is_counted:
        subscription = rules.postpone(subscription, facts.now)
    return Decision(payment, subscription, cases=(CaseKind.NOT_TAKEN,))


def _charge_anew(facts: _Facts, reason: str) -> Decision:
    """End a payment that never reached the provider, so that its period is charged anew.

    Nobody is told: the customer was neither charged nor refused.
    """
    payment, subscription = facts.payment, facts.subscription
    if payment.external_id is not None or payment.state != PaymentState.PENDING:
        return Decision(payment)
    expired = _settled(facts, PaymentState.EXPIRED, reason) or payment
    if subscription is None or not facts.is_counted:
        return Decision(expired)
    if subscription.state == SubscriptionState.EXPIRED and facts.running is not None:
        return Decision(expired)
    return Decision(expired, rules.charge_anew(subscription, facts.now))


def _time_out(facts: _Facts, reason: str) -> Decision:
    """End a payment that the provider has and has not decided in all that time."""
    payment, subscription = facts.payment, facts.subscription
    if payment.state != PaymentState.PENDING:
        return Decision(payment)
    expired = _settled(facts, PaymentState.EXPIRED, reason) or payment
    if subscription is None:
        return Decision(expired)
    return Decision(expired, rules.end_unpaid(subscription, facts.now))
