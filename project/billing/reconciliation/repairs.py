"""Repairs of differences, written together: payments made from metadata, pending ones settled."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import structlog
import uuid_utils.compat
from sqlalchemy import select

from project.billing import cases, installation, queries
from project.billing.customers.service import COMPANY, customer_named, known_customers
from project.billing.models import Customer, Package, Payment, Subscription
from project.billing.packages.service import terms_of
from project.billing.payments.settlement import apply
from project.billing.providers.base import ProviderPayment, Unreadable
from project.billing.providers.listing import own_id_in
from project.billing.states import Audience, CaseKind, PaymentState, Trigger
from project.billing.subscriptions import rules
from project.billing.subscriptions.service import snapshot_of
from project.core import clock
from project.core.errors import AppError
from project.extensions import db

log = structlog.get_logger()

MAX_ID_DIGITS = 18
NUMBER_TAKEN = (
    "its metadata name a customer or package that was lost with the database: what has that number "
    "now was made after the payment"
)


class Repairs:
    """What is to be written about one batch of a provider's payments, part of one transaction."""

    def __init__(self, provider_name: str) -> None:
        self._provider_name = provider_name
        self._cases: list[dict[str, Any]] = []
        self._results: list[tuple[UUID, ProviderPayment]] = []
        self._known: set[UUID] = set()

    def of_known(self, payment_id: UUID, item: ProviderPayment) -> None:
        """Record what the provider says of a payment of ours."""
        self._results.append((payment_id, item))
        self._known.add(payment_id)

    def of_unreadable(self, item: Unreadable) -> None:
        """Leave to people what cannot be read."""
        kind = CaseKind.UNREADABLE_THERE
        self._cases.append(cases.new_case(kind, self._provider_name, None, item))

    def of_missing(self, items: Sequence[ProviderPayment]) -> None:
        """Make payments from the metadata where these name something of ours."""
        if items:
            packages = _packages(items)
            customers = known_customers(item.metadata.get("customer", "") for item in items)
            for item in items:
                if _is_foreign(item):
                    log.info("reconciliation.foreign", external_id=item.external_id)
                    continue
                self._of_missing(item, packages, customers)

    def of_under_way(self, items: Sequence[ProviderPayment]) -> None:
        """Write payments down that we have begun, as their metadata say, and that are not ended."""
        packages = _packages(items)
        customers = known_customers(item.metadata.get("customer", "") for item in items)
        for item in items:
            package = packages.get(_id_in(item, "package_id") or 0)
            customer = customers.get(item.metadata.get("customer", ""))
            if package is None or customer is None or not _is_ours(item):
                continue
            if _has_taken_its_number(package, customer, item):
                continue
            payment = self._new_payment(item, package, customer)
            if payment.subscription_id is not None:
                db.session.add(payment)

    def write(self) -> Counter[str]:
        """Write the payments and the cases, then give what was paid for; count the cases."""
        db.session.flush()
        cases.open_cases(self._cases)
        applied = apply(self._results, found=self._known)
        return Counter([*(case["kind"] for case in self._cases), *applied.cases])

    def _of_missing(
        self,
        item: ProviderPayment,
        packages: Mapping[int, Package],
        customers: Mapping[str, Customer],
    ) -> None:
        kind = CaseKind.PAID_THERE_MISSING_HERE
        package = packages.get(_id_in(item, "package_id") or 0)
        customer = _customer(item, customers) if package is not None else None
        if package is None or customer is None:
            self._leave(kind, item, "its metadata name nothing of ours")
            return
        if _has_taken_its_number(package, customer, item):
            self._leave(kind, item, NUMBER_TAKEN)
            return
        agrees = (package.price, package.currency) == (item.amount, item.currency)
        if not agrees and not _is_ours(item):
            self._leave(CaseKind.AMOUNT_DIFFERS, item, cases.TO_PEOPLE)
            return
        payment = self._new_payment(item, package, customer)
        db.session.add(payment)
        name, action = self._provider_name, "payment and subscription made from its metadata"
        self._cases.append(cases.new_case(kind, name, payment, item, action, is_resolved=True))
        self._results.append((payment.id, item))

    def _new_payment(self, item: ProviderPayment, package: Package, customer: Customer) -> Payment:
        own_id = own_id_in(item)
        if own_id is None or queries.payment_by_id(own_id) is not None:
            own_id = uuid_utils.compat.uuid7()
        period = _period_asked_for(item, package, customer) or {}
        return Payment(
            id=own_id,
            customer_id=customer.id,
            package_id=package.id,
            state=str(PaymentState.PENDING),
            trigger=str(Trigger.SUBSCRIPTION_CYCLE if period else Trigger.PURCHASE),
            attempt=1,
            amount=item.amount,
            currency=item.currency,
            description=package.name,
            plan=package.period,
            **period,
            provider=self._provider_name,
            external_id=item.external_id,
            created_at=item.created_at,
            due_at=clock.now(),
        )

    def _leave(self, kind: CaseKind, item: ProviderPayment, action: str) -> None:
        self._cases.append(cases.new_case(kind, self._provider_name, None, item, action))


def _is_foreign(item: ProviderPayment) -> bool:
    """Tell whether the metadata name another installation; those of before named none."""
    named = item.metadata.get("installation", "")
    return named != "" and not _is_ours(item)


def _is_ours(item: ProviderPayment) -> bool:
    return item.metadata.get("installation") == str(installation.installation_key())


def _has_taken_its_number(package: Package, customer: Customer, item: ProviderPayment) -> bool:
    """Tell whether a payment of ours names a number that a restored database has given anew.

    Numbers are counted on from the backup, so that what is made after it gets those of what was
    lost. References of customers outside are theirs, and stay the same.
    """
    if not _is_ours(item):
        return False
    is_numbered = customer.kind == COMPANY and customer.created_at > item.created_at
    return is_numbered or package.created_at > item.created_at


def _period_asked_for(
    item: ProviderPayment, package: Package, customer: Customer
) -> dict[str, Any] | None:
    """Return subscription and period that a payment of ours was made for, if they are there."""
    subscription_id = _id_in(item, "subscription_id")
    if subscription_id is None or not _is_ours(item):
        return None
    subscription = db.session.get(Subscription, subscription_id)
    if subscription is None or subscription.customer_id != customer.id:
        return None
    try:
        start = datetime.fromisoformat(item.metadata.get("period_start", ""))
    except ValueError:
        return None
    is_asked_for = queries.has_payment_for(subscription_id, start)
    if start.tzinfo is None or start < subscription.ended_at or is_asked_for:
        return None
    period = rules.period_beginning(snapshot_of(subscription), terms_of(package), start)
    return {
        "subscription_id": subscription.id,
        "period_start": period.start,
        "period_end": period.end,
    }


def _id_in(item: ProviderPayment, name: str) -> int | None:
    written = item.metadata.get(name, "")
    return int(written) if written.isdecimal() and len(written) <= MAX_ID_DIGITS else None


def _packages(items: Iterable[ProviderPayment]) -> dict[int, Package]:
    ids = {named for item in items if (named := _id_in(item, "package_id")) is not None}
    found = db.session.scalars(
        select(Package).where(Package.id.in_(ids), Package.audience == str(Audience.COMPANIES))
    )
    return {package.id: package for package in found}


def _customer(item: ProviderPayment, known: Mapping[str, Customer]) -> Customer | None:
    named = item.metadata.get("customer", "")
    if not named:
        return None
    try:
        return known.get(named) or customer_named(named)
    except AppError:
        return None
