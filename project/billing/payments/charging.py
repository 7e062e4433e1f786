"""Autopayments: due subscriptions are claimed with their payment rows committed, then charged."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Select, func, select, update

from project.billing import installation, queries
from project.billing.models import Customer, Package, Payment, Subscription
from project.billing.packages.service import terms_of
from project.billing.payments.decisions import FIRST_INQUIRY_SECONDS
from project.billing.payments.settlement import NO_PAYMENT_METHOD, apply
from project.billing.providers.base import (
    Charge,
    NotThere,
    PaymentProvider,
    ProviderPayment,
    ProviderResult,
    ProviderStatus,
    Rejected,
    Unknown,
    Unreadable,
)
from project.billing.providers.registry import drawing_provider, provider_named
from project.billing.settings import BillingSettings
from project.billing.signals import PlannedCharge, charge_planned
from project.billing.states import PaymentState, Trigger
from project.billing.subscriptions import rules
from project.billing.subscriptions.service import snapshot_of
from project.config.environment import get_settings
from project.core import clock
from project.core.db import bulk
from project.core.work.claims import RELEASED, Claim, claim, due, lease_for
from project.core.work.queues import QueueName, Wakeup
from project.core.work.scheduler import last_time
from project.extensions import db

CHARGES_DUE = Wakeup("autopayments", QueueName.MEDIUM, "project.billing.jobs.charge_due")
LATE_CHARGES_DUE = Wakeup("late_charges", QueueName.MEDIUM, "project.billing.jobs.charge_late")
PROMPT_CHARGES_DUE = Wakeup(
    "prompt_charges", QueueName.MEDIUM, "project.billing.jobs.charge_prompt"
)
# The provider forgets an idempotence key after 24 hours; after that the same request would be a
# second payment, so the books are asked instead.
KEY_LIVES_FOR = timedelta(hours=23)
ASK_AGAIN_AFTER = timedelta(minutes=10)
ONE_DAY = timedelta(days=1)
NO_ID = UUID(int=0)
# Payments of earlier releases have ids of version 7; what was sent of them named less.
MEANING_VERSION = 5
KEY_USED = "the key has made another payment; left to the provider's books"
ANSWERED = "was answered, and nobody can read with what; left to people"
NOT_TO_BE_ASKED = "may have been done, and the provider cannot be asked; left to people"
SENT_ENOUGH = "sent as often as is allowed; left to the inquiry"


@dataclass
class Attempt:
    """A committed payment row that is to be sent to the provider.

    `is_first` if nobody can have sent it before; `is_key_alive` while the provider still knows
    the key, by its clock and by ours; `is_sent_again` once the same request is sent anew.
    """

    payment: Payment
    customer_reference: str
    installation: UUID
    claim_id: UUID
    is_first: bool = True
    is_key_alive: bool = True
    is_sent_again: bool = False
    inquiries: int = 0
    inquiry_due_at: datetime | None = None


class Autopayment:
    """Due subscriptions, as the pump works through them; an item is a payment to be drawn."""

    wakeup = CHARGES_DUE

    def __init__(self) -> None:
        settings = get_settings(BillingSettings)
        self.capacity = settings.provider_concurrency
        self.armful = settings.provider_concurrency

    def claim(self, limit: int) -> Sequence[Attempt]:
        """Claim subscriptions and write a payment for each; both are committed before any call.

        Nothing is claimed while charges are held.
        """
        if installation.hold() is not None:
            return []
        claimed = claim(
            queries.subscriptions,
            self._candidates(limit),
            lease=lease_for(get_settings(BillingSettings).provider_timeout_seconds),
            returning=[queries.subscriptions.c.id],
        )
        return attempts_for(claimed)

    def _candidates(self, limit: int) -> Select[Any]:
        return due(queries.subscriptions, now=clock.now(), limit=limit)

    async def call(self, attempt: Attempt) -> ProviderResult:
        """Draw the money; the payment's id is the idempotence key."""
        return await draw(attempt)

    def record(self, results: Sequence[tuple[Attempt, ProviderResult]]) -> None:
        """Record the provider's word and give the subscriptions back."""
        held = {attempt.payment.subscription_id or 0: attempt.claim_id for attempt, _ in results}
        _count_sends([attempt for attempt, _ in results])
        applied = apply([(one.payment.id, word) for one, word in results], held=held)
        unpaid = [attempt for attempt, word in results if not _is_paid(attempt, word)]
        _look_again_later(unpaid)
        _keep_inquiries([attempt for attempt in unpaid if not attempt.is_first])
        _release([one for one, _ in results if one.payment.subscription_id not in applied.released])

    def is_anything_due(self) -> bool:
        """Tell whether a subscription is due that nobody works on, and may be charged."""
        return self._is_any_due() and installation.hold() is None

    def _is_any_due(self) -> bool:
        return queries.is_charge_due()


class PromptAutopayment(Autopayment):
    """Subscriptions that are charged at the moment at which their period ends, not on its day.

    The daily run charges these too, but nobody need wait for it.
    """

    wakeup = PROMPT_CHARGES_DUE

    def _candidates(self, limit: int) -> Select[Any]:
        return super()._candidates(limit).where(queries.is_charged_at_the_end())

    def _is_any_due(self) -> bool:
        due_at = queries.oldest_prompt_charge_due_at()
        return due_at is not None and due_at <= clock.now()


class LateAutopayment(Autopayment):
    """Charges that no daily run need be waited for; the day's renewals wait for theirs."""

    wakeup = LATE_CHARGES_DUE

    def _candidates(self, limit: int) -> Select[Any]:
        return super()._candidates(limit).where(queries.is_left_over(_last_run_at()))

    def _is_any_due(self) -> bool:
        return queries.is_charge_left_over(_last_run_at())


def _last_run_at() -> datetime:
    return last_time(get_settings(BillingSettings).autopayments_cron, clock.now())


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
    # Who has a payment that is still pending gets no second one.
    pending = {one.subscription_id for one in _open_payments(ids)}
    wanted = [
        _payment_row(one, packages, customers[one.customer_id], now)
        for one in subscriptions
        if one.id not in pending
    ]
    put_off = _put_off(wanted, customers, claimed.id)
    wanted = [row for row in wanted if row["subscription_id"] not in put_off]
    ours = installation.installation_key()
    references = {one.id: customers[one.customer_id].written for one in subscriptions}
    name_payments(wanted, references, ours)
    bulk.insert_rows(queries.payments, wanted, skip_conflicts=True)
    new = {row["id"] for row in wanted}
    restored_at = installation.restored_at()
    payments = _open_payments(ids)
    return [
        Attempt(
            payment,
            customers[payment.customer_id].written,
            ours,
            claimed.id,
            is_first=payment.id in new and not _may_be_lost(payment, restored_at),
            is_key_alive=_is_key_alive(payment, now),
            inquiries=payment.attempts,
            inquiry_due_at=payment.due_at,
        )
        for payment in payments
    ]


def _put_off(
    wanted: Sequence[Mapping[str, Any]], customers: Mapping[int, Customer], claim_id: UUID
) -> Mapping[int, datetime]:
    """Put off the charges that somebody knows to be for nothing now, and give them back."""
    planned = [
        PlannedCharge(
            row["subscription_id"],
            row["customer_id"],
            customers[row["customer_id"]].kind,
            row["period_start"],
            row["period_end"],
        )
        for row in wanted
    ]
    put_off: dict[int, datetime] = {}
    for _, answer in charge_planned.send(happened=planned) if planned else []:
        put_off |= answer or {}
    if put_off:
        table = queries.subscriptions
        later = bulk.rows_of(
            {
                "id": (table.c.id.type, list(put_off)),
                "due_at": (table.c.due_at.type, list(put_off.values())),
            }
        )
        db.session.execute(
            update(table)
            .where(table.c.id == later.c.id, table.c.claim_id == claim_id)
            .values(due_at=later.c.due_at, **RELEASED)
        )
    return put_off


def _may_be_lost(payment: Payment, restored_at: datetime | None) -> bool:
    """Tell whether the payment may have been made before the database was restored."""
    began = payment.period_start
    return restored_at is not None and began is not None and began <= restored_at + ONE_DAY


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
    period = rules.next_period(snapshot_of(subscription, packages), terms_of(package), now)
    first = subscription.refusals == 0
    return {
        "id": NO_ID,
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
        "provider": drawing_provider(customer.provider),
        "payment_method_id": customer.payment_method_id,
        "description": package.name,
        "plan": package.period,
        "sends": 1,
        "created_at": now,
        "due_at": now + timedelta(seconds=FIRST_INQUIRY_SECONDS),
    }


def name_payments(
    rows: Sequence[dict[str, Any]], references: Mapping[int, str], ours: UUID
) -> None:
    """Give each payment the key of its meaning, and the price of its period's first try."""
    numbers = dict.fromkeys(range(len(rows)), 0)
    unnamed = set(numbers)
    while unnamed:
        for index in unnamed:
            row = rows[index]
            row["id"] = installation.payment_id(
                ours,
                references[row["subscription_id"]],
                row["subscription_id"],
                row["period_start"],
                numbers[index],
            )
        taken = set(
            db.session.scalars(
                select(Payment.id).where(Payment.id.in_([rows[index]["id"] for index in unnamed]))
            )
        )
        unnamed = {index for index in unnamed if rows[index]["id"] in taken}
        for index in unnamed:
            numbers[index] += 1
    _keep_prices([rows[index] for index, number in numbers.items() if number > 0])


def _keep_prices(rows: Sequence[dict[str, Any]]) -> None:
    """Have later tries of a period draw what its first try was for, whatever changed since."""
    if not rows:
        return
    firsts: dict[tuple[Any, ...], Payment] = {}
    for first in db.session.scalars(
        select(Payment)
        .where(
            Payment.subscription_id.in_([row["subscription_id"] for row in rows]),
            Payment.period_start.in_([row["period_start"] for row in rows]),
        )
        .order_by(Payment.created_at, Payment.id)
    ):
        firsts.setdefault((first.subscription_id, first.period_start, first.package_id), first)
    for row in rows:
        found = firsts.get((row["subscription_id"], row["period_start"], row["package_id"]))
        if found is not None:
            row["amount"], row["currency"] = found.amount, found.currency
            row["period_end"] = found.period_end or row["period_end"]
            row["description"] = found.description or row["description"]
            row["plan"] = found.plan or row["plan"]


def _count_sends(attempts: Sequence[Attempt]) -> None:
    """Count the requests that were sent once more; the first one is counted by its row."""
    table = queries.payments
    again = [one.payment.id for one in attempts if one.is_sent_again]
    if again:
        db.session.execute(
            update(table).where(table.c.id.in_(again)).values(sends=table.c.sends + 1)
        )


def _open_payments(subscription_ids: Sequence[int]) -> Sequence[Payment]:
    return db.session.scalars(
        select(Payment)
        .where(
            Payment.subscription_id.in_(subscription_ids),
            Payment.state == str(PaymentState.PENDING),
        )
        .order_by(Payment.id)
        .execution_options(populate_existing=True)
    ).all()


async def draw(attempt: Attempt) -> ProviderResult:
    """Ask the provider to draw the payment, or what became of it if it was asked before."""
    payment = attempt.payment
    provider = provider_named(payment.provider)
    if payment.external_id is not None:
        return await provider.get(payment.external_id)
    if payment.payment_method_id is None and payment.return_url is None:
        return _refusal(payment, NO_PAYMENT_METHOD)
    if not attempt.is_key_alive:
        return Unknown("sent more than a day ago; left to reconciliation")
    if not attempt.is_first or payment.is_answered:
        known = await _known_before(payment, provider)
        if known is not None:
            return known
    attempt.is_sent_again = not attempt.is_first
    word = await provider.create(_charge(attempt))
    if isinstance(word, Unreadable):
        return replace(word, is_of_request=True)
    if isinstance(word, Rejected) and word.is_key_used:
        return Unknown(KEY_USED)
    if isinstance(word, Rejected) and not attempt.is_first:
        # What was sent first may have been taken all the same.
        return Unknown(f"sent again, and not taken: {word.reason}")
    return word


async def _known_before(payment: Payment, provider: PaymentProvider) -> ProviderResult | None:
    """Return what became of a payment that was sent before; None if it may be sent once more."""
    if provider.has_listing:
        return Unknown(ANSWERED) if payment.is_answered else None
    known = await ask_by_our_id(payment, provider)
    if not isinstance(known, NotThere):
        return known
    is_too_often = provider.max_sends is not None and payment.sends >= provider.max_sends
    return Unknown(SENT_ENOUGH) if is_too_often else None


async def ask_by_our_id(payment: Any, provider: PaymentProvider) -> ProviderResult:
    """Ask a provider without a list what became of a payment; NotThere if it surely has none.

    An answer that nobody can read is no absence: such a request is never sent again.
    """
    if not provider.has_inquiry:
        return Unreadable(NOT_TO_BE_ASKED, None, f"no answer to {payment.id}", is_of_request=True)
    word = await provider.get(str(payment.id))
    return Unknown(ANSWERED) if isinstance(word, NotThere) and payment.is_answered else word


def _is_key_alive(payment: Payment, now: datetime) -> bool:
    """Tell whether the provider still knows the key, by the product's clock and the real one."""
    age = max(now - payment.created_at, clock.real_now() - payment.made_at)
    return age <= KEY_LIVES_FOR


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
    metadata = {
        "payment_id": str(payment.id),
        "customer": attempt.customer_reference,
        "package_id": str(payment.package_id),
    }
    is_named_by_meaning = payment.id.version == MEANING_VERSION
    if is_named_by_meaning:
        metadata["installation"] = str(attempt.installation)
    if is_named_by_meaning and payment.subscription_id and payment.period_start:
        metadata["subscription_id"] = str(payment.subscription_id)
        metadata["period_start"] = payment.period_start.astimezone(UTC).isoformat()
    return Charge(
        payment_id=payment.id,
        amount=payment.amount,
        currency=payment.currency,
        payment_method_id=payment.payment_method_id,
        return_url=payment.return_url,
        description=payment.description or "",
        metadata=metadata,
        plan=payment.plan,
    )


def _is_paid(attempt: Attempt, word: ProviderResult) -> bool:
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


def _keep_inquiries(attempts: Sequence[Attempt]) -> None:
    """Put each inquiry off once at most: who sends often would else put it off for ever.

    `attempts` of a payment counts its inquiries since.
    """
    table = queries.payments
    for attempt in attempts:
        is_put_off_already = attempt.inquiries == 0
        due_at = func.least(table.c.due_at, attempt.inquiry_due_at)
        db.session.execute(
            update(table)
            .where(table.c.id == attempt.payment.id, table.c.due_at.is_not(None))
            .values(attempts=0, due_at=due_at if is_put_off_already else table.c.due_at)
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
