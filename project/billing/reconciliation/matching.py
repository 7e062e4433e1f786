"""Two-sided reconciliation of a stretch of time: each difference is a case, repaired where it can.

Nothing is guessed: a payment of the provider whose metadata do not name a package of ours, or
whose amount differs, is left open for people, with both sides as evidence.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

import uuid_utils.compat
from sqlalchemy import select

from project.billing import queries
from project.billing.customers.service import customer_named
from project.billing.models import Payment
from project.billing.payments.settlement import settle
from project.billing.providers.base import (
    NotThere,
    Page,
    PaymentProvider,
    ProviderPayment,
    ProviderStatus,
)
from project.billing.reconciliation import books, cases
from project.billing.states import CaseKind, PaymentState, Trigger
from project.core import clock, http_client
from project.core.errors import AppError
from project.core.transaction import transaction
from project.extensions import db

# Clocks of two companies differ: ours is asked a little further than theirs.
TOLERANCE = timedelta(minutes=5)
MAX_ID_DIGITS = 18


@dataclass
class Report:
    """How many payments of the provider were read, and what cases came of it."""

    read: int = 0
    cases: Counter[str] = field(default_factory=Counter)


def reconcile(provider: PaymentProvider, start: datetime, end: datetime) -> Report:
    """Compare both sides over payments made from start to end.

    Raises BooksUnreadable when the provider does not give all of its pages; what was found until
    then is recorded, and the next run begins anew.
    """
    report = match_successful(provider, start, end)
    for payment in _paid_here(provider.name, start, end):
        word = http_client.start(provider.get(payment.external_id or "")).result()
        if isinstance(word, NotThere):
            with transaction():
                cases.open_case(
                    CaseKind.PAID_HERE_UNKNOWN_THERE, payment, None, "left for people to decide"
                )
            report.cases[CaseKind.PAID_HERE_UNKNOWN_THERE] += 1
    return report


def match_successful(provider: PaymentProvider, start: datetime, end: datetime) -> Report:
    """Record what succeeded at the provider and is missing or pending here."""
    report = Report()
    reading = books.pages(provider, start - TOLERANCE, end + TOLERANCE, ProviderStatus.SUCCEEDED)
    while True:
        page: Page | None = http_client.start(_next(reading)).result()
        if page is None:
            return report
        report.read += len(page.items) + len(page.unreadable)
        with transaction():
            report.cases.update(_compare(provider.name, page.items))


async def _next(reading: object) -> Page | None:
    return await anext(reading, None)  # type: ignore[call-overload, no-any-return]


def _compare(provider_name: str, items: Sequence[ProviderPayment]) -> Counter[str]:
    by_external_id, by_own_id = _known(provider_name, items)
    found: Counter[str] = Counter()
    for item in items:
        own_id = _uuid(item.metadata.get("payment_id"))
        payment_id = by_external_id.get(item.external_id) or by_own_id.get(own_id)
        if payment_id is None:
            found[_repair_missing(provider_name, item)] += 1
            continue
        kind = _compare_one(payment_id, item)
        if kind is not None:
            found[kind] += 1
    return found


def _known(
    provider_name: str, items: Iterable[ProviderPayment]
) -> tuple[Mapping[str | None, UUID], Mapping[UUID | None, UUID]]:
    """Return our payments of these items, by external id and by their own."""
    external_ids = [item.external_id for item in items]
    own_ids = [own_id for item in items if (own_id := _uuid(item.metadata.get("payment_id")))]
    table = queries.payments
    rows = db.session.execute(
        select(table.c.id, table.c.external_id).where(
            table.c.provider == provider_name,
            table.c.external_id.in_(external_ids) | table.c.id.in_(own_ids),
        )
    ).all()
    by_external_id = {row.external_id: row.id for row in rows if row.external_id is not None}
    return by_external_id, {row.id: row.id for row in rows}


def _uuid(written: str | None) -> UUID | None:
    try:
        return UUID(written or "")
    except ValueError:
        return None


def _compare_one(payment_id: UUID, item: ProviderPayment) -> CaseKind | None:
    payment = db.session.get(Payment, payment_id, populate_existing=True)
    assert payment is not None
    if payment.external_id not in (None, item.external_id):
        cases.open_case(CaseKind.PAID_THERE_MISSING_HERE, payment, item, cases.SECOND_PAYMENT)
        return CaseKind.PAID_THERE_MISSING_HERE
    if (payment.amount, payment.currency) != (item.amount, item.currency):
        cases.open_case(CaseKind.AMOUNT_DIFFERS, payment, item, "left for people to decide")
        return CaseKind.AMOUNT_DIFFERS
    if payment.state == PaymentState.SUCCEEDED:
        return None
    if payment.state == PaymentState.CANCELED:
        cases.open_case(
            CaseKind.PAID_THERE_PENDING_HERE, payment, item, "refused here, paid there: open"
        )
        return CaseKind.PAID_THERE_PENDING_HERE
    cases.open_case(
        CaseKind.PAID_THERE_PENDING_HERE, payment, item, "recorded as paid", is_resolved=True
    )
    settle([(payment.id, item)])
    return CaseKind.PAID_THERE_PENDING_HERE


def _repair_missing(provider_name: str, item: ProviderPayment) -> CaseKind:
    payment = _payment_from(provider_name, item)
    if payment is None:
        cases.open_case(
            CaseKind.PAID_THERE_MISSING_HERE,
            None,
            item,
            "its metadata name nothing of ours",
            provider=provider_name,
        )
        return CaseKind.PAID_THERE_MISSING_HERE
    if (payment.amount, payment.currency) != (item.amount, item.currency):
        cases.open_case(
            CaseKind.AMOUNT_DIFFERS,
            None,
            item,
            "left for people to decide",
            provider=provider_name,
        )
        return CaseKind.AMOUNT_DIFFERS
    db.session.add(payment)
    db.session.flush()
    cases.open_case(
        CaseKind.PAID_THERE_MISSING_HERE,
        payment,
        item,
        "payment and subscription made from its metadata",
        is_resolved=True,
    )
    settle([(payment.id, item)])
    return CaseKind.PAID_THERE_MISSING_HERE


def _payment_from(provider_name: str, item: ProviderPayment) -> Payment | None:
    """Return a payment as the metadata describe it; None if they do not."""
    written = item.metadata.get("package_id", "")
    is_id = written.isdecimal() and len(written) <= MAX_ID_DIGITS
    package = queries.package_by_id(int(written)) if is_id else None
    named = item.metadata.get("customer", "")
    if package is None or not named:
        return None
    try:
        customer = customer_named(named)
    except AppError:
        return None
    now = clock.now()
    own_id = _uuid(item.metadata.get("payment_id"))
    if own_id is None or queries.payment_by_id(own_id) is not None:
        own_id = uuid_utils.compat.uuid7()
    return Payment(
        id=own_id,
        customer_id=customer.id,
        package_id=package.id,
        state=str(PaymentState.PENDING),
        trigger=str(Trigger.PURCHASE),
        attempt=1,
        amount=package.price,
        currency=package.currency,
        provider=provider_name,
        external_id=item.external_id,
        created_at=item.created_at,
        due_at=now,
    )


def _paid_here(provider_name: str, start: datetime, end: datetime) -> Sequence[Payment]:
    """Return what was recorded as paid in that time; each is asked for at the provider by id."""
    with transaction():
        return db.session.scalars(
            select(Payment).where(
                Payment.provider == provider_name,
                Payment.state == str(PaymentState.SUCCEEDED),
                Payment.external_id.is_not(None),
                Payment.settled_at >= start,
                Payment.settled_at < end,
            )
        ).all()
