"""Companies listen to billing: what happens to the customer happens to the company."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import select

from project.billing.signals import (
    SettledPayment,
    SubscriptionChange,
    payment_settled,
    subscription_changed,
)
from project.billing.states import PaymentState, SubscriptionState
from project.companies.events import CompanyEvent, tell
from project.companies.models import Company, CompanyState
from project.extensions import db

TYPES = {
    "assigned": "package.assigned",
    "changed": "package.assigned",
    "renewed": "package.renewed",
    "canceled": "package.canceled",
    "expired": "package.expired",
}


def _companies(customer_ids: set[int]) -> dict[int, Company]:
    rows = db.session.scalars(
        select(Company)
        .where(Company.customer_id.in_(customer_ids))
        .order_by(Company.id)
        .with_for_update()
        .execution_options(populate_existing=True)
    )
    return {company.customer_id: company for company in rows if company.customer_id is not None}


@subscription_changed.connect
def hear_of_subscriptions(_sender: Any, happened: Sequence[SubscriptionChange]) -> None:
    """Tell the companies, and make them passive or active again."""
    companies = _companies({change.customer_id for change in happened})
    events: list[CompanyEvent] = []
    for change in happened:
        company = companies.get(change.customer_id)
        if company is None:
            continue
        type_ = _subscription_type(change)
        if type_ is not None:
            events.append(CompanyEvent(type_, company, change.occurred_at, _period(change)))
        events += _state_events(company, change)
    tell(events)


def _subscription_type(change: SubscriptionChange) -> str | None:
    if change.type == "exhausted":
        # What the last refusal does is the package's to say.
        ended = change.state is SubscriptionState.EXPIRED
        return "package.expired" if ended else "package.canceled"
    return TYPES.get(change.type)


def _state_events(company: Company, change: SubscriptionChange) -> list[CompanyEvent]:
    if change.type == "exhausted" and company.state != CompanyState.PASSIVE:
        company.state = str(CompanyState.PASSIVE)
        return [_state_event("company.passive", company, change, "the last charge was refused")]
    if change.type == "renewed" and company.state == CompanyState.PASSIVE:
        company.state = str(CompanyState.ACTIVE)
        return [_state_event("company.activated", company, change, "it has paid")]
    return []


def _state_event(
    type_: str, company: Company, change: SubscriptionChange, reason: str
) -> CompanyEvent:
    company.updated_at = change.occurred_at
    return CompanyEvent(type_, company, change.occurred_at, {"reason": reason})


def _period(change: SubscriptionChange) -> dict[str, Any]:
    return {
        "subscription_id": change.subscription_id,
        "package_id": change.package_id,
        "start_date": change.current_period_start.isoformat(),
        "end_date": change.ended_at.isoformat(),
        "next_package_id": change.next_package_id,
    }


@payment_settled.connect
def hear_of_payments(_sender: Any, happened: Sequence[SettledPayment]) -> None:
    """Tell the companies what was paid and what was refused."""
    companies = _companies({payment.customer_id for payment in happened})
    tell(
        [
            CompanyEvent(
                _payment_type(payment), company, payment.occurred_at, _payment_data(payment)
            )
            for payment in happened
            if (company := companies.get(payment.customer_id)) is not None
        ]
    )


def _payment_type(payment: SettledPayment) -> str:
    succeeded = payment.state is PaymentState.SUCCEEDED
    return "payment.succeeded" if succeeded else "payment.refused"


def _payment_data(payment: SettledPayment) -> dict[str, Any]:
    return {
        "payment_id": str(payment.payment_id),
        "amount": payment.amount,
        "currency": payment.currency,
        "attempt": payment.attempt,
        "trigger": payment.trigger,
        "reason": payment.reason,
        "is_final": payment.is_final,
    }
