"""A company's package: taken, canceled, paid for."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from project.billing import queries
from project.billing.customers import service as customers
from project.billing.payments import service as payments
from project.billing.states import PaymentState, Trigger
from project.billing.subscription_state import standings
from project.billing.subscriptions import service as subscriptions
from project.companies.queries import standing
from project.companies.service import existing_company, unknown_token
from project.companies.sites import take_first_period
from project.core import clock
from project.core.db.transaction import transaction
from project.core.errors import ChargeRefused


def assign(company_id: int, package_id: int, *, by_operator: bool) -> dict[str, Any]:
    """Give the company a package.

    The first period is given once to each site: a company whose package has expired pays for the
    next one first. An operator may give it all the same. Raises NotFound and BadRequest
    for the package, Conflict for the one that is running and for what is to be paid first.
    """
    company = existing_company(company_id)
    customer = customers.existing_customer(company.customer_id)
    if not by_operator:
        subscriptions.require_paid(customer.id)
        if queries.current_subscription(customer.id) is None:
            take_first_period(company)
    assigned = subscriptions.assign(customer, package_id)
    shown = _shown(assigned.subscription)
    if assigned.is_later:
        shown["package"] = assigned.package
        shown["takes_effect_at"] = assigned.subscription.ended_at
    return shown


def cancel(company_id: int) -> dict[str, Any]:
    """Do not renew the company's package. Raises NotFound."""
    customer = customers.existing_customer(existing_company(company_id).customer_id)
    return _shown(subscriptions.cancel(customer.id))


def pay(company_id: int, *, by_operator: bool) -> tuple[dict[str, Any], int]:
    """Charge what is owed now; (answer, status). Raises NotFound, Conflict, ChargeRefused."""
    trigger = Trigger.RETRY_ADMIN if by_operator else Trigger.RETRY_CUSTOMER
    with transaction():
        company = existing_company(company_id)
        attempt = payments.begin_retry(customers.existing_customer(company.customer_id), trigger)
    payment = payments.draw_now(attempt)
    if payment.state == PaymentState.CANCELED:
        raise ChargeRefused(payments.refusal_in_words(payment), {"payment": [payment.reason]})
    status = 200 if payment.state == PaymentState.SUCCEEDED else 202
    return {"status": "success", "data": payment}, status


def checkout(company_id: int, package_id: int | None, return_url: str) -> dict[str, Any]:
    """Begin a payment that the company confirms at the provider, where its card is saved.

    Raises NotFound and BadRequest for the package, and PaymentRequired where the provider does
    not take it.
    """
    payment = payments.draw_link(
        lambda: payments.begin_checkout(
            customers.existing_customer(existing_company(company_id).customer_id),
            package_id,
            return_url,
        )
    )
    return payments.confirmation(payment)


async def check(token: str) -> dict[str, Any]:
    """Return the token's company, its newest package and its period; nulls if it never had one.

    Raises Unauthorized. This is asked with every page that a shop shows, so it writes by hand what
    schemas do elsewhere.
    """
    found = await standing(token)
    if found is None:
        raise unknown_token()
    company, subscription, package = found
    period: Mapping[str, Any] = subscription or {}
    return {
        "status": "success",
        "company": _written(company) | {"status": company["state"].status},
        "package": package and _written(package),
        "start_date": _moment(period.get("period_start")),
        "end_date": _moment(period.get("period_end")),
        "state": period.get("state"),
        "paid_until": _moment(period.get("paid_until")),
        "next_package_id": period.get("next_package_id"),
        "next_package_at": _moment(period.get("next_package_at")),
    }


def _written(row: Mapping[str, Any]) -> dict[str, Any]:
    return {**row, "created_at": _moment(row["created_at"])}


def _moment(moment: datetime | None) -> str | None:
    return None if moment is None else moment.astimezone(UTC).isoformat()


def _shown(subscription: Any) -> dict[str, Any]:
    running = standings([subscription.id], clock.now())[subscription.id]
    return {
        "status": "success",
        "start_date": running.period_start,
        "end_date": running.period_end,
        "state": running.state,
        "package": queries.package_by_id(running.package_id),
        "paid_until": running.paid_until,
        "next_package_id": running.next_package_id,
        "next_package_at": running.next_package_at,
        "takes_effect_at": None,
    }
