"""Repairs of differences, written together: payments made from metadata, pending ones settled."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from uuid import UUID

import uuid_utils.compat
from sqlalchemy import select

from project.billing import queries
from project.billing.customers.service import customer_named, known_customers
from project.billing.models import Customer, Package, Payment
from project.billing.payments.settlement import settle
from project.billing.providers.base import ProviderPayment
from project.billing.reconciliation import cases
from project.billing.reconciliation.books import own_id_in
from project.billing.reconciliation.cases import NewCase
from project.billing.states import CaseKind, PaymentState, Trigger
from project.core import clock
from project.core.errors import AppError
from project.extensions import db

MAX_ID_DIGITS = 18


class Repairs:
    """What is to be written about one batch of a provider's payments, part of one transaction."""

    def __init__(self, provider_name: str) -> None:
        self._provider_name = provider_name
        self._cases: list[NewCase] = []
        self._words: list[tuple[UUID, ProviderPayment]] = []

    def of_pending(self, payment: Payment, item: ProviderPayment) -> CaseKind:
        """Record a payment as paid that was waiting here."""
        kind = CaseKind.PAID_THERE_PENDING_HERE
        self._repair(kind, payment, item, "recorded as paid")
        return kind

    def of_missing(self, items: Sequence[ProviderPayment]) -> Counter[str]:
        """Make payments from the metadata where these name something of ours; count the cases."""
        found: Counter[str] = Counter()
        if items:
            packages = _packages(items)
            customers = known_customers(item.metadata.get("customer", "") for item in items)
            for item in items:
                found[self._of_missing(item, packages, customers)] += 1
        return found

    def write(self) -> None:
        """Write the payments and the cases, then give what was paid for."""
        db.session.flush()
        cases.open_cases(self._cases)
        settle(self._words)

    def _of_missing(
        self,
        item: ProviderPayment,
        packages: Mapping[int, Package],
        customers: Mapping[str, Customer],
    ) -> CaseKind:
        kind = CaseKind.PAID_THERE_MISSING_HERE
        package = packages.get(_package_id(item) or 0)
        customer = _customer(item, customers) if package is not None else None
        if package is None or customer is None:
            self._leave(kind, item, "its metadata name nothing of ours")
            return kind
        if (package.price, package.currency) != (item.amount, item.currency):
            kind = CaseKind.AMOUNT_DIFFERS
            self._leave(kind, item, cases.TO_PEOPLE)
            return kind
        payment = self._new_payment(item, package, customer)
        db.session.add(payment)
        self._repair(kind, payment, item, "payment and subscription made from its metadata")
        return kind

    def _new_payment(self, item: ProviderPayment, package: Package, customer: Customer) -> Payment:
        own_id = own_id_in(item)
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
            provider=self._provider_name,
            external_id=item.external_id,
            created_at=item.created_at,
            due_at=clock.now(),
        )

    def _leave(self, kind: CaseKind, item: ProviderPayment, action: str) -> None:
        self._cases.append(NewCase(kind, self._provider_name, None, item, action))

    def _repair(self, kind: CaseKind, payment: Payment, item: ProviderPayment, action: str) -> None:
        self._cases.append(
            NewCase(kind, self._provider_name, payment, item, action, is_resolved=True)
        )
        self._words.append((payment.id, item))


def _package_id(item: ProviderPayment) -> int | None:
    written = item.metadata.get("package_id", "")
    return int(written) if written.isdecimal() and len(written) <= MAX_ID_DIGITS else None


def _packages(items: Iterable[ProviderPayment]) -> dict[int, Package]:
    ids = {package_id for item in items if (package_id := _package_id(item)) is not None}
    found = db.session.scalars(select(Package).where(Package.id.in_(ids)))
    return {package.id: package for package in found}


def _customer(item: ProviderPayment, known: Mapping[str, Customer]) -> Customer | None:
    named = item.metadata.get("customer", "")
    if not named:
        return None
    try:
        return known.get(named) or customer_named(named)
    except AppError:
        return None
