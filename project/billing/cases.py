"""Cases: each difference once, with its evidence and what was done about it."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Select, Table, select, update

from project.billing.models import Payment, ReconciliationCase
from project.billing.providers.base import ProviderPayment, ProviderStatus, Unreadable
from project.billing.states import CaseKind, PaymentState
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


def difference(payment: Payment, word: ProviderPayment) -> CaseKind | None:
    """Return how the provider's word contradicts a payment of ours, if nothing may repair it.

    What is pending on either side contradicts nothing: here it waits for the provider's word, and
    there it may be an answer that is older than what was recorded since.
    """
    is_paid_there = word.status is ProviderStatus.SUCCEEDED
    if payment.external_id not in (None, word.external_id):
        return CaseKind.PAID_THERE_MISSING_HERE if is_paid_there else None
    if not is_paid_there:
        is_refused_there = word.status is ProviderStatus.CANCELED
        contradicts = is_refused_there and payment.state == PaymentState.SUCCEEDED
        return CaseKind.PAID_HERE_UNPAID_THERE if contradicts else None
    named = (word.amount, word.currency)
    if word.names_amount and named != (payment.amount, payment.currency):
        return CaseKind.AMOUNT_DIFFERS
    if payment.state == PaymentState.CANCELED:
        return CaseKind.PAID_THERE_PENDING_HERE
    return None


@dataclass(frozen=True)
class NewCase:
    """A difference to be written down, with a payment of ours, one of theirs, or both."""

    kind: CaseKind
    provider: str
    payment: Payment | None
    word: ProviderPayment | None
    action: str
    is_resolved: bool = False


def open_case(kind: CaseKind, payment: Payment, word: ProviderPayment | None) -> None:
    """Write a case of a payment of ours down, and leave it open."""
    open_cases([NewCase(kind, payment.provider, payment, word, LEFT_OPEN[kind])])


def note_repair(payment: Payment, word: ProviderPayment) -> None:
    """Write down that a payment was found paid that is pending here, and is recorded as paid."""
    kind, action = CaseKind.PAID_THERE_PENDING_HERE, "recorded as paid"
    open_cases([NewCase(kind, payment.provider, payment, word, action, is_resolved=True)])


def open_cases(new: Sequence[NewCase]) -> None:
    """Write cases down; the same difference seen again is the same case."""
    _write(
        [
            _row(
                case.kind,
                case.provider,
                case.word.external_id if case.word is not None else None,
                case.payment,
                _theirs(case.word),
                case.action,
                is_resolved=case.is_resolved,
            )
            for case in new
        ]
    )


def open_unreadable(word: Unreadable, provider: str, payment: Payment | None = None) -> None:
    """Write down a payment of the provider that cannot be read, as it was said."""
    # Without an id of its own, what was said is what makes it the same case.
    digest = hashlib.sha256(word.said.encode()).hexdigest()[:DIGEST_LENGTH]
    external_id = word.external_id or f"unreadable-{digest}"
    there = {"said": word.said, "reason": word.reason}
    kind = CaseKind.UNREADABLE_THERE
    _write([_row(kind, provider, external_id, payment, there, LEFT_OPEN[kind])])


def open_refund(payment: Payment, word: ProviderPayment) -> None:
    """Write down that money was given back; when more is, the same case tells of all of it.

    One that was closed is opened again then.
    """
    kind = CaseKind.REFUNDED_THERE
    row = _row(kind, payment.provider, word.external_id, payment, _theirs(word), LEFT_OPEN[kind])
    _write([row])
    db.session.execute(
        update(ReconciliationCase)
        .where(
            ReconciliationCase.kind == str(kind),
            ReconciliationCase.provider == payment.provider,
            ReconciliationCase.external_id == word.external_id,
        )
        .values(state=OPEN, resolved_at=None, evidence=json.loads(row["evidence"]))
    )


def open_given_up(payments: Sequence[Payment]) -> None:
    """Write down payments of the cycle for periods that their customer gives up before they begin.

    One that was closed because the customer came back is opened again.
    """
    kind = CaseKind.GIVEN_UP
    open_cases([NewCase(kind, one.provider, one, None, LEFT_OPEN[kind]) for one in payments])
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


def open_not_taken(payment: Payment, reason: str) -> None:
    """Write down that the provider takes no requests of ours: one case for all with this reason.

    One that was closed is opened again when it goes on.
    """
    digest = hashlib.sha256(reason.encode()).hexdigest()[:DIGEST_LENGTH]
    kind, name = CaseKind.NOT_TAKEN, f"not-taken-{digest}"
    _write([_row(kind, payment.provider, name, payment, {"reason": reason}, LEFT_OPEN[kind])])
    db.session.execute(
        update(ReconciliationCase)
        .where(
            ReconciliationCase.kind == str(kind),
            ReconciliationCase.provider == payment.provider,
            ReconciliationCase.external_id == name,
            ReconciliationCase.state == RESOLVED,
        )
        .values(state=OPEN, resolved_at=None)
    )


def _row(
    kind: CaseKind,
    provider: str,
    external_id: str | None,
    payment: Payment | None,
    there: dict[str, Any] | None,
    action: str,
    *,
    is_resolved: bool = False,
) -> dict[str, Any]:
    now = clock.now()
    return {
        "kind": str(kind),
        "provider": provider,
        "external_id": external_id,
        "payment_id": payment.id if payment is not None else None,
        "evidence": json.dumps({"here": _ours(payment), "there": there}),
        "action": action,
        "state": RESOLVED if is_resolved else OPEN,
        "opened_at": now,
        "resolved_at": now if is_resolved else None,
    }


def _write(rows: Sequence[dict[str, Any]]) -> None:
    table: Table = ReconciliationCase.__table__  # type: ignore[assignment]
    bulk.insert_rows(table, rows, skip_conflicts=True)


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


def _theirs(word: ProviderPayment | None) -> dict[str, Any] | None:
    if word is None:
        return None
    return {
        "external_id": word.external_id,
        "status": str(word.status),
        "amount": to_decimal_text(word.amount, word.currency),
        "refunded_amount": to_decimal_text(word.refunded_amount, word.currency),
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


def untaken_reason() -> str | None:
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
