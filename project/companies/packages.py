"""A company's package: taken, canceled, paid for."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from project.billing import queries
from project.billing.customers import service as customers
from project.billing.payments import service as payments
from project.billing.states import PaymentState, SubscriptionState, Trigger
from project.billing.subscriptions import service as subscriptions
from project.companies.models import Company, CompanyState, status_of
from project.companies.queries import standing
from project.companies.service import existing_company, unknown_token
from project.core.errors import ChargeRefused, Conflict
from project.core.transaction import transaction


def assign(company_id: int, package_id: int, *, by_operator: bool) -> dict[str, Any]:
    """Give the company a package.

    The first period is given once: a company that is passive, or whose package has expired, pays
    for the next one first. An operator may give it all the same. Raises NotFound and BadRequest
    for the package, Conflict for the one that is running and for what is to be paid first.
    """
    company = existing_company(company_id)
    if not by_operator:
        _require_paid(company)
    assigned = subscriptions.assign(customers.existing_customer(company.customer_id), package_id)
    shown = _shown(assigned.subscription)
    if assigned.is_later:
        shown["package"] = assigned.package
        shown["takes_effect_at"] = assigned.subscription.ended_at
    return shown


def _require_paid(company: Company) -> None:
    if company.state == CompanyState.PASSIVE:
        raise Conflict("The last charge was refused. Pay what is owed first.")
    last = queries.current_subscription(company.customer_id or 0)
    if last is not None and last.state == SubscriptionState.EXPIRED:
        raise Conflict(
            "Your package has expired, and a first period is given once. Pay for the next one with "
            "POST /api/companies/packages/pay."
        )


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
        raise ChargeRefused(
            f"The provider refused: {payment.reason}.", {"payment": [payment.reason]}
        )
    status = 200 if payment.state == PaymentState.SUCCEEDED else 202
    return {"status": "success", "data": payment}, status


def check(token: str) -> dict[str, Any]:
    """Return the token's company, its newest package and its period; nulls if it never had one.

    Raises Unauthorized. This is asked with every page that a shop shows, so it writes by hand what
    schemas do elsewhere.
    """
    found = standing(token)
    if found is None:
        raise unknown_token()
    company, subscription, package = found
    period: Mapping[str, Any] = subscription or {}
    return {
        "status": "success",
        "company": _written(company) | {"status": status_of(company["state"])},
        "package": package and _written(package),
        "start_date": _moment(period.get("current_period_start")),
        "end_date": _moment(period.get("ended_at")),
        "state": period.get("state"),
    }


def _written(row: Mapping[str, Any]) -> dict[str, Any]:
    return {**row, "created_at": _moment(row["created_at"])}


def _moment(moment: datetime | None) -> str | None:
    return None if moment is None else moment.astimezone(UTC).isoformat()


def _shown(subscription: Any) -> dict[str, Any]:
    return {
        "status": "success",
        "start_date": subscription.current_period_start,
        "end_date": subscription.ended_at,
        "state": subscription.state,
        "package": queries.package_by_id(subscription.package_id),
        "takes_effect_at": None,
    }
