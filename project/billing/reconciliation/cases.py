"""Cases: each difference once, with its evidence and what was done about it."""

from typing import Any

from sqlalchemy import Select, select, text, update
from sqlalchemy.dialects.postgresql import insert

from project.billing.models import Payment, ReconciliationCase
from project.billing.providers.base import ProviderPayment
from project.billing.states import CaseKind
from project.core import clock
from project.core.errors import NotFound
from project.core.money import to_decimal_text
from project.extensions import db

OPEN = "open"
RESOLVED = "resolved"
SECOND_PAYMENT = "a second payment there: left for people to decide"


def open_case(
    kind: CaseKind,
    payment: Payment | None,
    word: ProviderPayment | None,
    action: str,
    *,
    is_resolved: bool = False,
    provider: str | None = None,
) -> None:
    """Write a case down; the same difference seen again is the same case.

    Without a payment of ours, `provider` says in whose books it was found.
    """
    now = clock.now()
    provider = payment.provider if payment is not None else provider
    external_id = word.external_id if word is not None else None
    statement = insert(ReconciliationCase).values(
        kind=str(kind),
        provider=provider,
        external_id=external_id,
        payment_id=payment.id if payment is not None else None,
        evidence={"here": _ours(payment), "there": _theirs(word)},
        action=action,
        state=RESOLVED if is_resolved else OPEN,
        opened_at=now,
        resolved_at=now if is_resolved else None,
    )
    db.session.execute(
        statement.on_conflict_do_nothing(
            index_elements=[
                ReconciliationCase.kind,
                ReconciliationCase.provider,
                text("coalesce(external_id, payment_id::text)"),
            ]
        )
    )


def _ours(payment: Payment | None) -> dict[str, Any] | None:
    if payment is None:
        return None
    return {
        "payment_id": str(payment.id),
        "state": payment.state,
        "amount": to_decimal_text(payment.amount, payment.currency),
        "currency": payment.currency,
        "external_id": payment.external_id,
        "created_at": payment.created_at.isoformat(),
    }


def _theirs(word: ProviderPayment | None) -> dict[str, Any] | None:
    if word is None:
        return None
    return {
        "external_id": word.external_id,
        "status": str(word.status),
        "amount": to_decimal_text(word.amount, word.currency),
        "currency": word.currency,
        "created_at": word.created_at.isoformat(),
        "metadata": dict(word.metadata),
    }


def resolve_case(case_id: int, note: str) -> ReconciliationCase:
    """Close a case by hand, saying what was done. Raises NotFound."""
    case = db.session.scalars(
        update(ReconciliationCase)
        .where(ReconciliationCase.id == case_id)
        .values(state=RESOLVED, note=note, resolved_at=clock.now())
        .returning(ReconciliationCase)
    ).one_or_none()
    if case is None:
        raise NotFound(f"There is no case {case_id}.")
    return case


def listed_cases(*, state: str | None = None, kind: str | None = None) -> Select[Any]:
    """Select cases, newest first."""
    statement = select(ReconciliationCase).order_by(ReconciliationCase.id.desc())
    if state is not None:
        statement = statement.where(ReconciliationCase.state == state)
    if kind is not None:
        statement = statement.where(ReconciliationCase.kind == kind)
    return statement
