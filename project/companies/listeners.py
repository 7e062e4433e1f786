"""Companies listen to billing: what happens to the customer happens to the company."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row, select

from project.billing.signals import (
    SettledPayment,
    SubscriptionChange,
    payment_settled,
    subscription_changed,
)
from project.billing.states import PaymentState, SubscriptionState
from project.billing.subscription_state import standings
from project.companies.events import CompanyEvent, tell
from project.companies.models import Company
from project.companies.service import move
from project.companies.states import CompanyState
from project.core import clock
from project.core.db.rows import current
from project.extensions import db

TYPES = {
    "assigned": "package.assigned",
    "changed": "package.assigned",
    "renewed": "package.renewed",
    "canceled": "package.canceled",
    "expired": "package.expired",
}
EXHAUSTED_TYPES = {
    SubscriptionState.EXPIRED: "package.expired",
    SubscriptionState.CANCELED: "package.canceled",
}
WAYS_BACK = {"renewed": "it has paid", "assigned": "it was given a package"}


def _companies(customer_ids: set[int]) -> dict[int, Company]:
    theirs = select(Company).where(Company.customer_id.in_(customer_ids)).order_by(Company.id)
    rows = db.session.scalars(current(theirs.with_for_update()))
    return {company.customer_id: company for company in rows if company.customer_id is not None}


@subscription_changed.connect
def hear_of_subscriptions(_sender: Any, happened: Sequence[SubscriptionChange]) -> None:
    """Tell the companies, and make them passive or active again."""
    companies = _companies({change.customer_id for change in happened})
    ours = [change for change in happened if change.customer_id in companies]
    running = standings([change.subscription_id for change in ours], clock.now()) if ours else {}
    events: list[CompanyEvent] = []
    for change in ours:
        company = companies[change.customer_id]
        type_ = _subscription_type(change)
        if type_ is not None:
            data = _period(change, running[change.subscription_id])
            events.append(CompanyEvent(type_, company, change.occurred_at, data))
        events += _state_events(company, change)
    tell(events)


def _subscription_type(change: SubscriptionChange) -> str | None:
    if change.type == "exhausted":
        # What the last refusal does is the package's to say; access may go on for some hours.
        return EXHAUSTED_TYPES.get(change.state)
    return TYPES.get(change.type)


def _state_events(company: Company, change: SubscriptionChange) -> list[CompanyEvent]:
    is_passive = company.state is CompanyState.PASSIVE
    if _is_shut_out(change) and not is_passive:
        move(company, CompanyState.PASSIVE, change.occurred_at)
        return [_state_event("company.passive", company, change, "the last charge was refused")]
    if change.type in WAYS_BACK and is_passive:
        move(company, CompanyState.ACTIVE, change.occurred_at)
        return [_state_event("company.activated", company, change, WAYS_BACK[change.type])]
    return []


def _is_shut_out(change: SubscriptionChange) -> bool:
    """Tell whether access ends with this, because the last charge was refused."""
    has_ended = change.ended_at <= change.occurred_at
    return change.is_exhausted and has_ended and change.type in ("exhausted", "expired")


def _state_event(
    type_: str, company: Company, change: SubscriptionChange, reason: str
) -> CompanyEvent:
    return CompanyEvent(type_, company, change.occurred_at, {"reason": reason})


def _period(change: SubscriptionChange, running: Row[Any]) -> dict[str, Any]:
    """Return the period that a renewal pays for, and the one that runs with any other event."""
    if change.type == "renewed":
        package_id, next_package_id = change.package_id, change.next_package_id
        start, end = change.current_period_start, change.ended_at
    else:
        package_id, next_package_id = running.package_id, running.next_package_id
        start, end = running.period_start, running.period_end
    return {
        "subscription_id": change.subscription_id,
        "package_id": package_id,
        "start_date": start.isoformat(),
        "end_date": end.isoformat(),
        "paid_until": change.ended_at.isoformat(),
        "next_package_id": next_package_id,
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
