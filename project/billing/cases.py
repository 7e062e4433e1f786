"""Cases: each difference once, with its evidence and what was done about it."""

import hashlib
import json
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Select, Table, select, true, update

from project.billing.models import Payment, ReconciliationCase
from project.billing.providers.base import (
    ProviderPayment,
    ProviderResult,
    Rejected,
    Unreadable,
)
from project.billing.states import CaseKind
from project.core import clock
from project.core.db import bulk
from project.core.errors import NotFound
from project.core.money import to_decimal_text
from project.extensions import db

OPEN = "open"
RESOLVED = "resolved"
TO_PEOPLE = "left for people to decide"
LEFT_OPEN = {
    CaseKind.PAID_THERE_MISSING_HERE: f"a second payment there: {TO_PEOPLE}",
    CaseKind.PAID_THERE_PENDING_HERE: f"refused here, paid there: {TO_PEOPLE}",
    CaseKind.PAID_HERE_UNPAID_THERE: f"paid here, not paid there: {TO_PEOPLE}",
    CaseKind.PAID_HERE_UNKNOWN_THERE: TO_PEOPLE,
    CaseKind.AMOUNT_DIFFERS: TO_PEOPLE,
    CaseKind.UNREADABLE_THERE: TO_PEOPLE,
    CaseKind.REFUNDED_THERE: f"given back there, its period runs on here: {TO_PEOPLE}",
    CaseKind.GIVEN_UP: f"charged for a period that was given up before it began: {TO_PEOPLE}",
    CaseKind.NOT_TAKEN: "a request of ours is not taken: mend what its reason says",
}
"""What is written into a case that nothing can repair, by its kind."""
DIGEST_LENGTH = 32
TAKEN_AGAIN = "the customer has taken the package again"


def new_case(
    kind: CaseKind,
    provider: str,
    payment: Payment | None,
    result: ProviderResult | None,
    action: str | None = None,
    *,
    is_resolved: bool = False,
) -> dict[str, Any]:
    """Return a case to be opened: a difference with a payment of ours, what was said, or both."""
    now = clock.now()
    return {
        "kind": str(kind),
        "provider": provider,
        "external_id": _external_id(result),
        "payment_id": payment.id if payment is not None else None,
        "evidence": json.dumps({"here": _ours(payment), "there": _theirs(result)}),
        "action": action or LEFT_OPEN[kind],
        "state": RESOLVED if is_resolved else OPEN,
        "opened_at": now,
        "resolved_at": now if is_resolved else None,
    }


def new_repair(payment: Payment, result: ProviderResult) -> dict[str, Any]:
    """Return the case of a payment that was found paid, and is recorded as paid here by that."""
    kind, action = CaseKind.PAID_THERE_PENDING_HERE, "recorded as paid"
    return new_case(kind, payment.provider, payment, result, action, is_resolved=True)


def open_cases(new: Sequence[dict[str, Any]]) -> None:
    """Write cases down; the same difference seen again is the same case.

    When more is given back, the same case tells of all of it. What was closed is opened again then,
    and when the provider goes on to take no requests of ours.
    """
    table: Table = ReconciliationCase.__table__  # type: ignore[assignment]
    bulk.insert_rows(table, new, skip_conflicts=True)
    for case in {(case["kind"], case["external_id"]): case for case in new}.values():
        if case["kind"] == CaseKind.REFUNDED_THERE:
            _reopen(case, evidence=json.loads(case["evidence"]))
        elif case["kind"] == CaseKind.NOT_TAKEN:
            _reopen(case)


def _reopen(case: dict[str, Any], **changes: Any) -> None:
    names = ("kind", "provider", "external_id")
    db.session.execute(
        update(ReconciliationCase)
        .where(*(getattr(ReconciliationCase, name) == case[name] for name in names))
        .where(true() if changes else ReconciliationCase.state == RESOLVED)
        .values(state=OPEN, resolved_at=None, **changes)
    )


def open_given_up(payments: Sequence[Payment]) -> None:
    """Write down payments of the cycle for periods that their customer gives up before they begin.

    One that was closed because the customer came back is opened again.
    """
    kind = CaseKind.GIVEN_UP
    open_cases([new_case(kind, one.provider, one, None) for one in payments])
    _move_given_up(payments, RESOLVED, {"state": OPEN, "note": None, "resolved_at": None})


def close_given_up(payments: Sequence[Payment]) -> None:
    """Close the cases of periods that their customer will have after all."""
    closed = {"state": RESOLVED, "note": TAKEN_AGAIN, "resolved_at": clock.now()}
    _move_given_up(payments, OPEN, closed)


def _move_given_up(payments: Sequence[Payment], state: str, values: dict[str, Any]) -> None:
    statement = update(ReconciliationCase).where(
        ReconciliationCase.kind == str(CaseKind.GIVEN_UP),
        ReconciliationCase.payment_id.in_([payment.id for payment in payments]),
        ReconciliationCase.state == state,
    )
    if state == RESOLVED:
        statement = statement.where(ReconciliationCase.note == TAKEN_AGAIN)
    db.session.execute(statement.values(**values))


def _external_id(result: ProviderResult | None) -> str | None:
    """Return what makes it the same case; of what has no id of its own, what was said."""
    match result:
        case ProviderPayment():
            return result.external_id
        case Unreadable():
            return result.external_id or f"unreadable-{_digest(result.said)}"
        case Rejected():
            return f"not-taken-{_digest(result.reason)}"
    return None


def _digest(said: str) -> str:
    return hashlib.sha256(said.encode()).hexdigest()[:DIGEST_LENGTH]


def _ours(payment: Payment | None) -> dict[str, Any] | None:
    if payment is None:
        return None
    return {
        "payment_id": str(payment.id),
        "state": payment.state,
        "amount": to_decimal_text(payment.amount, payment.currency),
        "refunded_amount": to_decimal_text(payment.refunded_amount or 0, payment.currency),
        "currency": payment.currency,
        "external_id": payment.external_id,
        "created_at": payment.created_at.isoformat(),
    }


def _theirs(result: ProviderResult | None) -> dict[str, Any] | None:
    match result:
        case Unreadable():
            return {"said": result.said, "reason": result.reason}
        case Rejected():
            return {"reason": result.reason}
        case ProviderPayment():
            return {
                "external_id": result.external_id,
                "status": str(result.status),
                "amount": to_decimal_text(result.amount, result.currency),
                "refunded_amount": to_decimal_text(result.refunded_amount, result.currency),
                "currency": result.currency,
                "created_at": result.created_at.isoformat(),
                "metadata": dict(result.metadata),
            }
    return None


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


def rejection_reason() -> str | None:
    """Return why a provider takes no requests of ours, by the newest case that is open."""
    return db.session.scalar(
        listed_cases(state=OPEN, kind=CaseKind.NOT_TAKEN)
        .with_only_columns(ReconciliationCase.evidence["there"]["reason"].astext)
        .limit(1)
    )


def listed_cases(*, state: str | None = None, kind: str | None = None) -> Select[Any]:
    """Select cases, newest first."""
    statement = select(ReconciliationCase).order_by(ReconciliationCase.id.desc())
    if state is not None:
        statement = statement.where(ReconciliationCase.state == state)
    if kind is not None:
        statement = statement.where(ReconciliationCase.kind == kind)
    return statement
