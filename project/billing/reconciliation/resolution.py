"""What people decide about a case: it is closed with a note, and done what they say."""

from collections.abc import Sequence
from enum import StrEnum
from uuid import UUID

from sqlalchemy import and_, or_, select

from project.billing import cases
from project.billing.models import Payment, ReconciliationCase
from project.billing.payments.settlement import apply
from project.billing.providers.base import NeverMade, ProviderPayment, ProviderStatus
from project.billing.states import CaseKind, PaymentState
from project.core import clock
from project.core.errors import Conflict, NotFound
from project.core.money import from_decimal_text
from project.extensions import db

DECIDABLE = (CaseKind.AMOUNT_DIFFERS, CaseKind.UNREADABLE_THERE)
NO_PAYMENT = UUID(int=0)
DECIDED = "an operator found that it was not made"


class Decision(StrEnum):
    """Accept what the provider took as the payment, or drop the payment so that it is made anew."""

    ACCEPT = "accept"
    DROP = "drop"


def resolve(case_id: int, note: str, decision: Decision | None) -> ReconciliationCase:
    """Close a case by hand, and settle its payment as was decided.

    Raises NotFound for the case, and Conflict where there is no payment to decide about.
    """
    if decision is not None:
        _decide(case_id, decision)
    return cases.resolve_case(case_id, note)


def _decide(case_id: int, decision: Decision) -> None:
    case = db.session.get(ReconciliationCase, case_id, with_for_update=True)
    if case is None:
        raise NotFound(f"There is no case {case_id}.")
    own_id = case.payment_id or NO_PAYMENT
    payment = db.session.get(Payment, own_id, with_for_update=True)
    undecided = (PaymentState.PENDING, PaymentState.EXPIRED)
    if case.kind not in DECIDABLE or payment is None or payment.state not in undecided:
        raise Conflict("This case has no payment that is yet to be decided.")
    if decision is Decision.DROP:
        if payment.external_id is not None or payment.state != PaymentState.PENDING:
            raise Conflict("The provider has this payment: it cannot be dropped here.")
        apply([(one.id, NeverMade(DECIDED)) for one in _answered_alike(payment)])
    elif case.kind == CaseKind.AMOUNT_DIFFERS:
        there = case.evidence.get("there") or {}
        payment.amount = from_decimal_text(there["amount"], there["currency"])
        payment.currency = there["currency"]
        db.session.flush()
        apply([(payment.id, _paid(payment))])
    else:
        apply([(one.id, _paid(one)) for one in _answered_alike(payment)])


def _answered_alike(payment: Payment) -> Sequence[Payment]:
    """Return the payment and all others that wait because nobody can read their answers."""
    return db.session.scalars(
        select(Payment).where(
            Payment.provider == payment.provider,
            Payment.state.in_([str(PaymentState.PENDING), str(PaymentState.EXPIRED)]),
            or_(
                Payment.id == payment.id,
                and_(
                    Payment.is_answered,
                    Payment.external_id.is_(None),
                    Payment.state == str(PaymentState.PENDING),
                ),
            ),
        )
    ).all()


def _paid(payment: Payment) -> ProviderPayment:
    return ProviderPayment(
        external_id=payment.external_id or str(payment.id),
        status=ProviderStatus.SUCCEEDED,
        amount=payment.amount,
        currency=payment.currency,
        created_at=clock.now(),
    )
