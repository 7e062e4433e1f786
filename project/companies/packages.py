"""A company's package: taken, canceled, paid for."""

from typing import Any

from project.billing import queries
from project.billing.customers import service as customers
from project.billing.payments import service as payments
from project.billing.states import PaymentState, Trigger
from project.billing.subscriptions import service as subscriptions
from project.companies.models import CompanyState
from project.companies.service import existing_company
from project.core.errors import Conflict, PaymentRequired
from project.core.transaction import transaction


def assign(company_id: int, package_id: int, *, by_operator: bool) -> dict[str, Any]:
    """Give the company a package.

    Raises NotFound and BadRequest for the package, Conflict for the one that is running, and
    Conflict for a passive company that has not paid, unless an operator gives it.
    """
    company = existing_company(company_id)
    if company.state == CompanyState.PASSIVE and not by_operator:
        raise Conflict("The last charge was refused. Pay what is owed first.")
    assigned = subscriptions.assign(customers.existing_customer(company.customer_id), package_id)
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
    """Charge what is owed now; (answer, status). Raises NotFound, Conflict, PaymentRequired."""
    trigger = Trigger.RETRY_ADMIN if by_operator else Trigger.RETRY_CUSTOMER
    with transaction():
        company = existing_company(company_id)
        attempt = payments.begin_retry(customers.existing_customer(company.customer_id), trigger)
    payment = payments.draw_now(attempt)
    if payment.state == PaymentState.CANCELED:
        raise PaymentRequired(
            f"The provider refused: {payment.reason}.", {"payment": [payment.reason]}
        )
    status = 200 if payment.state == PaymentState.SUCCEEDED else 202
    return {"status": "success", "data": payment}, status


def check(customer_id: int | None) -> dict[str, Any]:
    """Return the customer's newest package and its period; nulls if it never had one."""
    found = queries.current_subscription_with_package(customer_id or 0)
    if found is None:
        return dict.fromkeys(("package", "start_date", "end_date", "state"))
    subscription, package = found
    return {
        "package": package,
        "start_date": subscription.current_period_start,
        "end_date": subscription.ended_at,
        "state": subscription.state,
    }


def _shown(subscription: Any) -> dict[str, Any]:
    return {
        "status": "success",
        "start_date": subscription.current_period_start,
        "end_date": subscription.ended_at,
        "state": subscription.state,
        "package": queries.package_by_id(subscription.package_id),
        "takes_effect_at": None,
    }
