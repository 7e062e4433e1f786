"""Autopayments: due subscriptions are claimed with their payment rows committed, then charged."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import uuid_utils.compat
from sqlalchemy import Select, select, update

from project.billing import queries
from project.billing.models import Customer, Package, Payment, Subscription
from project.billing.payments import settlement
from project.billing.payments.settlement import NO_PAYMENT_METHOD, Word
from project.billing.providers.base import (
    Charge,
    NotThere,
    ProviderPayment,
    ProviderStatus,
    Rejected,
    Unknown,
)
from project.billing.providers.registry import provider_named
from project.billing.states import PaymentState, Trigger
from project.billing.subscriptions import rules
from project.config import get_settings
from project.core import bulk, clock
from project.core.claims import RELEASED, Claim, claim, due, lease_for
from project.core.queues import QueueName, Wakeup
from project.extensions import db

CHARGES_DUE = Wakeup("autopayments", QueueName.MEDIUM, "project.billing.payments.jobs.charge_due")
PROMPT_CHARGES_DUE = Wakeup(
    "prompt_charges", QueueName.MEDIUM, "project.billing.payments.jobs.charge_prompt"
)
# The provider forgets an idempotence key after 24 hours; after that the same request would be a
# second payment, so the books are asked instead.
KEY_LIVES_FOR = timedelta(hours=23)
ASK_AGAIN_AFTER = timedelta(minutes=10)


@dataclass(frozen=True)
class Attempt:
    """A committed payment row that is to be sent to the provider.

    `is_first` if nobody can have sent it before; `is_key_alive` while the provider still knows
    the key, by its clock and by ours.
    """

    payment: Payment
    customer_reference: str
    package_name: str
    claim_id: UUID
    is_first: bool = True
    is_key_alive: bool = True


class Autopayment:
    """Due subscriptions, as the pump works through them; an item is a payment to be drawn."""

    wakeup = CHARGES_DUE

    def __init__(self) -> None:
        settings = get_settings()
        self.capacity = settings.provider_concurrency
        self.armful = settings.provider_concurrency

    def claim(self, limit: int) -> Sequence[Attempt]:
        """Claim subscriptions and write a payment for each; both are committed before any call."""
        claimed = claim(
            queries.subscriptions,
            self._candidates(limit),
            lease=lease_for(get_settings().provider_timeout_seconds),
            returning=[queries.subscriptions.c.id],
        )
        return attempts_for(claimed)

    def _candidates(self, limit: int) -> Select[Any]:
        return due(queries.subscriptions, now=clock.now(), limit=limit)

    async def call(self, attempt: Attempt) -> Word:
        """Draw the money; the payment's id is the idempotence key."""
        return await draw(attempt)

    def record(self, results: Sequence[tuple[Attempt, Word]]) -> None:
        """Record the provider's word and give the subscriptions back."""
        held = {attempt.payment.subscription_id or 0: attempt.claim_id for attempt, _ in results}
        given_back = settlement.settle([(one.payment.id, word) for one, word in results], held)
        _look_again_later([attempt for attempt, word in results if not _is_paid(attempt, word)])
        _release([one for one, _ in results if one.payment.subscription_id not in given_back])

    def is_anything_due(self) -> bool:
        """Tell whether a subscription is due that nobody works on."""
        return queries.is_charge_due()


class PromptAutopayment(Autopayment):
    """Subscriptions that are charged at the moment at which their period ends, not on its day.

    The daily run charges these too, but nobody need wait for it.
    """

    wakeup = PROMPT_CHARGES_DUE

    def _candidates(self, limit: int) -> Select[Any]:
        return super()._candidates(limit).where(queries.is_charged_at_the_end())

    def is_anything_due(self) -> bool:
        """Tell whether such a subscription is due that nobody works on."""
        due_at = queries.oldest_prompt_charge_due_at()
        return due_at is not None and due_at <= clock.now()


def attempts_for(claimed: Claim) -> list[Attempt]:
    """Write the payment of each claimed subscription, or find the one that is still pending."""
    ids = [row.id for row in claimed.rows]
    if not ids:
        return []
    subscriptions = db.session.scalars(
        select(Subscription)
        .where(Subscription.id.in_(ids))
        .order_by(Subscription.id)
        .execution_options(populate_existing=True)
    ).all()
    packages = _by_id(Package, _package_ids(subscriptions))
    customers = _by_id(Customer, {one.customer_id for one in subscriptions})
    now = clock.now()
    wanted = [_payment_row(one, packages, customers[one.customer_id], now) for one in subscriptions]
    new = {row["id"] for row in wanted}
    _insert_unless_pending(wanted)
    payments = _open_payments(wanted)
    return [
        Attempt(
            payment,
            f"{customer.kind}:{customer.reference}",
            packages[payment.package_id].name,
            claimed.id,
            is_first=payment.id in new,
            is_key_alive=_is_key_alive(payment, now),
        )
        for payment in payments
        if (customer := customers[payment.customer_id])
    ]


def _package_ids(subscriptions: Iterable[Subscription]) -> set[int]:
    ids = set()
    for one in subscriptions:
        ids |= {one.package_id, one.next_package_id or one.package_id}
    return ids


def _by_id(model: Any, ids: Iterable[int]) -> dict[int, Any]:
    found = db.session.scalars(select(model).where(model.id.in_(list(ids))))
    return {one.id: one for one in found}


def _payment_row(
    subscription: Subscription, packages: Mapping[int, Package], customer: Customer, now: datetime
) -> dict[str, Any]:
    package = packages[subscription.next_package_id or subscription.package_id]
    period = rules.next_period(subscription, package, packages[subscription.package_id], now)
    first = subscription.refusals == 0
    return {
        "id": uuid_utils.compat.uuid7(),
        "customer_id": customer.id,
        "package_id": package.id,
        "subscription_id": subscription.id,
        "state": str(PaymentState.PENDING),
        "trigger": str(Trigger.SUBSCRIPTION_CYCLE if first else Trigger.RETRY_DUNNING),
        "attempt": subscription.refusals + 1,
        "attempts": 0,
        "amount": package.price,
        "currency": package.currency,
        "period_start": period.start,
        "period_end": period.end,
        "provider": customer.provider,
        "payment_method_id": customer.payment_method_id,
        "created_at": now,
        "due_at": now + timedelta(seconds=settlement.FIRST_INQUIRY_SECONDS),
    }


def _insert_unless_pending(rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert the payments; a subscription with one that is still pending gets no second one."""
    pending = set(
        db.session.scalars(
            select(Payment.subscription_id).where(
                Payment.subscription_id.in_([row["subscription_id"] for row in rows]),
                Payment.state == str(PaymentState.PENDING),
            )
        )
    )
    new = [row for row in rows if row["subscription_id"] not in pending]
    bulk.insert_rows(queries.payments, new, skip_conflicts=True)


def _open_payments(rows: Sequence[Mapping[str, Any]]) -> Sequence[Payment]:
    return db.session.scalars(
        select(Payment)
        .where(
            Payment.subscription_id.in_([row["subscription_id"] for row in rows]),
            Payment.state == str(PaymentState.PENDING),
        )
        .order_by(Payment.id)
        .execution_options(populate_existing=True)
    ).all()


async def draw(attempt: Attempt) -> Word:
    """Ask the provider to draw the payment, or what became of it if it was asked before."""
    payment = attempt.payment
    provider = provider_named(payment.provider)
    if payment.external_id is not None:
        return await provider.get(payment.external_id)
    if payment.payment_method_id is None and payment.return_url is None:
        return _refusal(payment, NO_PAYMENT_METHOD)
    if not attempt.is_key_alive:
        return Unknown("sent more than a day ago; left to reconciliation")
    if not attempt.is_first and not provider.has_listing:
        known = await provider.get(str(payment.id))
        if not isinstance(known, NotThere):
            return known
    word = await provider.create(_charge(attempt))
    if isinstance(word, Rejected) and not attempt.is_first:
        # What was sent first may have been taken all the same.
        return Unknown(f"sent again, and not taken: {word.reason}")
    return word


def _is_key_alive(payment: Payment, now: datetime) -> bool:
    """Tell whether the provider still knows the key, by the product's clock and the real one."""
    age = max(now - payment.created_at, clock.real_now() - _created_really(payment))
    return age <= KEY_LIVES_FOR


def _created_really(payment: Payment) -> datetime:
    """Return when the payment was made by the real clock, from its id (a UUID of version 7)."""
    milliseconds = payment.id.int >> 80
    return datetime.fromtimestamp(milliseconds / 1000, tz=clock.real_now().tzinfo)


def _refusal(payment: Payment, reason: str) -> ProviderPayment:
    return ProviderPayment(
        external_id=f"none-{payment.id}",
        status=ProviderStatus.CANCELED,
        amount=payment.amount,
        currency=payment.currency,
        created_at=payment.created_at,
        reason=reason,
    )


def _charge(attempt: Attempt) -> Charge:
    payment = attempt.payment
    return Charge(
        payment_id=payment.id,
        amount=payment.amount,
        currency=payment.currency,
        payment_method_id=payment.payment_method_id,
        return_url=payment.return_url,
        description=attempt.package_name,
        metadata={
            "payment_id": str(payment.id),
            "customer": attempt.customer_reference,
            "package_id": str(payment.package_id),
        },
    )


def _is_paid(attempt: Attempt, word: Word) -> bool:
    """Tell whether the word surely leaves nothing pending, as nearly always."""
    payment = attempt.payment
    return (
        attempt.is_first
        and isinstance(word, ProviderPayment)
        and word.status is ProviderStatus.SUCCEEDED
        and (word.amount, word.currency) == (payment.amount, payment.currency)
    )


def _look_again_later(attempts: Sequence[Attempt]) -> None:
    """Keep subscriptions whose payment is still pending from being claimed again at once.

    One that was decided, by this answer or meanwhile by a notice, has its next charge day already.
    """
    ids = [attempt.payment.subscription_id for attempt in attempts]
    if ids:
        table = queries.subscriptions
        db.session.execute(
            update(table)
            .where(
                table.c.id.in_(ids),
                table.c.due_at.is_not(None),
                queries.has_pending_payment(table.c.id),
            )
            .values(due_at=clock.now() + ASK_AGAIN_AFTER)
        )


def _release(attempts: Sequence[Attempt]) -> None:
    """Give back the subscriptions whose claim still stands."""
    table = queries.subscriptions
    held: dict[UUID, list[int | None]] = {}
    for attempt in attempts:
        held.setdefault(attempt.claim_id, []).append(attempt.payment.subscription_id)
    for claim_id, ids in held.items():
        db.session.execute(
            update(table)
            .where(table.c.id.in_(ids), table.c.claim_id == claim_id)
            .values(**RELEASED)
        )
