"""Payments that somebody asks for: a first purchase, a customer who pays what is owed."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid5

import uuid_utils.compat
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from project.billing import installation, queries
from project.billing.customers.service import customer_named, lock_customers
from project.billing.models import Customer, Package, Payment, Subscription
from project.billing.packages.service import existing_package, package_for_sale, terms_of
from project.billing.payments.charging import PROMPT_CHARGES_DUE, Attempt, draw, name_payments
from project.billing.payments.decisions import FIRST_INQUIRY_SECONDS
from project.billing.payments.settlement import NO_PAYMENT_METHOD, apply
from project.billing.periods import Period
from project.billing.providers.base import Rejected
from project.billing.providers.registry import drawing_provider
from project.billing.states import PaymentState, Trigger
from project.billing.subscriptions import rules
from project.billing.subscriptions import service as subscriptions
from project.core import clock
from project.core.db.transaction import transaction
from project.core.errors import Conflict, NotFound, PaymentRequired, ServiceUnavailable
from project.core.net import http_client
from project.core.work.queues import wake
from project.extensions import db

CHECKOUT_LASTS = timedelta(minutes=50)
"""A card payment that nobody confirms is canceled by the provider after about an hour."""
NO_CLAIM = UUID(int=0)


def begin_purchase(customer: Customer, package_id: int, return_url: str) -> Attempt:
    """Write down a payment that the customer will confirm at the provider.

    One for the same package that is yet to be confirmed is gone on with: two links would be paid
    twice. Raises NotFound and BadRequest for the package.
    """
    package = package_for_sale(package_id)
    lock_customers([customer.id])
    begun = _open_purchase(customer, package)
    return begun or _begin(customer, package, Trigger.PURCHASE, return_url=return_url)


def begin_checkout(customer: Customer, package_id: int | None, return_url: str) -> Attempt:
    """Write down a payment for the customer's own package, or another, that they will confirm.

    One that was begun a short while ago and is still open is returned instead, so that two clicks
    are one payment. Raises NotFound without a package, and BadRequest for one that is not sold.
    """
    lock_customers([customer.id])
    last = queries.current_subscription(customer.id)
    own_id = None if last is None else last.next_package_id or last.package_id
    if package_id is None and own_id is None:
        raise NotFound("There is no package to pay for. Say which one, with package_id.")
    is_own = package_id in (None, own_id)
    package = existing_package(own_id or 0) if is_own else package_for_sale(package_id or 0)
    begun = _open_purchase(customer, package)
    if begun is None or begun.payment.return_url != return_url:
        return _begin(customer, package, Trigger.PURCHASE, return_url=return_url)
    return begun


def _open_purchase(customer: Customer, package: Package) -> Attempt | None:
    begun = queries.open_purchase(customer.id, package.id, clock.now() - CHECKOUT_LASTS)
    if begun is None:
        return None
    ours = installation.installation_key()
    return Attempt(begun, customer.written, ours, NO_CLAIM, is_first=False)


def purchase(customer_name: str, package_id: int, return_url: str) -> Payment:
    """Have the provider give a link by which the customer pays; opens its transactions itself.

    Raises NotFound and BadRequest for customer and package.
    """
    return draw_link(lambda: begin_purchase(customer_named(customer_name), package_id, return_url))


def draw_link(begin: Callable[[], Attempt]) -> Payment:
    """Have the provider give a link to what is begun, in a transaction that is opened here."""
    for _ in range(2):
        with transaction():
            attempt = begin()
        payment = draw_now(attempt)
        if attempt.is_first or payment.state != PaymentState.CANCELED:
            break
        # The link that was open has run out at the provider, and the next one is another.
    return payment


def begin_retry(customer: Customer, trigger: Trigger) -> Attempt:
    """Write down a payment for what is owed, outside of the retries' count.

    Raises NotFound without a subscription, Conflict if nothing is owed or a payment is still under
    way, and ServiceUnavailable while charges are held: what is owed may have been paid.
    """
    if installation.hold() is not None:
        raise ServiceUnavailable("Charges are held until the books are read; try again later.")
    subscription = _owing_subscription(customer.id)
    package = existing_package(subscription.next_package_id or subscription.package_id)
    return _begin(
        customer,
        package,
        trigger,
        subscription=subscription,
        period=rules.next_period(
            subscriptions.snapshot_of(subscription), terms_of(package), clock.now()
        ),
        payment_method_id=customer.payment_method_id,
    )


def _owing_subscription(customer_id: int) -> Subscription:
    found = queries.current_subscription(customer_id)
    if found is None:
        raise NotFound("There is no package to pay for.")
    subscription = db.session.get(
        Subscription, found.id, with_for_update=True, populate_existing=True
    )
    assert subscription is not None
    subscriptions.expire_if_over(subscription)
    if not rules.is_owed(subscription, clock.now()):
        raise Conflict(f"Nothing is owed before {subscription.ended_at:%d %B %Y %H:%M} UTC.")
    if queries.pending_payment_of(customer_id) is not None:
        raise Conflict("A payment is under way; its end is not known yet.")
    return subscription


def _begin(
    customer: Customer,
    package: Package,
    trigger: Trigger,
    *,
    subscription: Subscription | None = None,
    period: Period | None = None,
    payment_method_id: str | None = None,
    return_url: str | None = None,
) -> Attempt:
    now = clock.now()
    ours = installation.installation_key()
    row: dict[str, Any] = {
        "id": uuid5(ours, str(uuid_utils.compat.uuid7())),
        "customer_id": customer.id,
        "package_id": package.id,
        "subscription_id": subscription.id if subscription else None,
        "state": str(PaymentState.PENDING),
        "trigger": str(trigger),
        "attempt": 1,
        "amount": package.price,
        "currency": package.currency,
        "description": package.name,
        "plan": package.period,
        "sends": 1,
        "period_start": period.start if period else None,
        "period_end": period.end if period else None,
        "provider": drawing_provider(customer.provider),
        "payment_method_id": payment_method_id,
        "return_url": return_url,
        "created_at": now,
        "due_at": now + timedelta(seconds=FIRST_INQUIRY_SECONDS),
    }
    if subscription is not None:
        name_payments([row], {subscription.id: customer.written}, ours)
    payment = Payment(**row)
    db.session.add(payment)
    try:
        db.session.flush()
    except IntegrityError as error:
        raise Conflict("A payment for this period is under way or made.") from error
    db.session.refresh(payment)
    return Attempt(payment, customer.written, ours, NO_CLAIM)


def wake_prompt_charges() -> None:
    """Have a worker charge what is charged at the end of its period, after the commit."""
    wake(PROMPT_CHARGES_DUE)


def draw_now(attempt: Attempt) -> Payment:
    """Send a committed payment while its customer waits; record and return what came of it.

    Raises ServiceUnavailable for what is owed if the provider takes no requests of ours: nobody
    was refused, and nothing was charged.
    """
    word = http_client.start(draw(attempt)).result()
    with transaction():
        apply([(attempt.payment.id, word)])
        payment = existing_payment(attempt.payment.id)
    if isinstance(word, Rejected) and payment.trigger != Trigger.PURCHASE:
        raise ServiceUnavailable("Nothing was charged: payments cannot be made now. Try it later.")
    return payment


def refusal_in_words(payment: Payment) -> str:
    """Return why a payment was refused, and what to do where no card is saved."""
    if payment.reason == NO_PAYMENT_METHOD:
        return (
            "There is no saved card to charge. Pay with POST /api/companies/packages/checkout; "
            "that saves one."
        )
    return f"The provider refused: {payment.reason}."


def existing_payment(payment_id: Any) -> Payment:
    """Return the payment. Raises NotFound."""
    payment = db.session.scalars(
        select(Payment).where(Payment.id == payment_id).execution_options(populate_existing=True)
    ).one_or_none()
    if payment is None:
        raise NotFound(f"There is no payment {payment_id}.")
    return payment


def confirmation(payment: Payment) -> dict[str, Any]:
    """Return what whoever began a payment is answered. Raises PaymentRequired: not taken."""
    if payment.state == PaymentState.CANCELED:
        raise PaymentRequired(
            f"The provider did not take the payment {payment.id}: {payment.reason}.",
            {"payment_id": [str(payment.id)]},
        )
    return {
        "status": "success",
        "payment_id": payment.id,
        "state": payment.state,
        "confirmation_url": payment.confirmation_url,
    }
