"""The one way to claim due work, shared by every kind of row and every process."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import (
    ColumnElement,
    Integer,
    Row,
    Select,
    Table,
    and_,
    case,
    func,
    or_,
    select,
    update,
)
from sqlalchemy.sql.selectable import FromClause

from project.config.environment import get_settings
from project.config.kernel import WorkSettings
from project.extensions import db


@dataclass(frozen=True)
class Claim:
    """Rows held by this claimant: results are recorded only where `claim_id` still stands."""

    id: UUID
    rows: Sequence[Row[Any]]


def is_free(table: FromClause) -> ColumnElement[bool]:
    """Hold for rows that nobody has, or whose holder's lease has ended."""
    return or_(table.c.claimed_until.is_(None), table.c.claimed_until < func.clock_timestamp())


def is_due(table: FromClause, now: datetime) -> ColumnElement[bool]:
    """Hold for rows to be worked on: due now or earlier, so that a missed night is caught up."""
    return and_(table.c.due_at <= now, is_free(table))


def due(table: Table, *, now: datetime, limit: int) -> Select[Any]:
    """Select the ids of the longest-due rows, passing over those that another claimant locks."""
    return (
        select(table.c.id)
        .where(is_due(table, now))
        .order_by(table.c.due_at)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )


def lease_for(longest_call_seconds: float) -> timedelta:
    """Return the lease that outlives the call, with slack for a machine that is slow at it.

    It is also how long the work of a process that was killed waits to be done again.
    """
    return timedelta(seconds=longest_call_seconds + get_settings(WorkSettings).lease_slack_seconds)


def claim(
    table: Table,
    candidates: Select[Any],
    *,
    lease: timedelta,
    returning: Sequence[ColumnElement[Any]],
) -> Claim:
    """Take the candidate rows for the length of the lease and count the attempt, in one statement.

    `candidates` selects ids under `FOR UPDATE SKIP LOCKED`. The lease must outlive the longest
    call. A row whose former holder died keeps its count: that attempt was never recorded, so it
    is made again and not held against the row.
    """
    claim_id = uuid4()
    chosen = candidates.cte("chosen").prefix_with("MATERIALIZED")
    statement = (
        update(table)
        .where(table.c.id == chosen.c.id)
        .values(
            claim_id=claim_id,
            claimed_until=func.clock_timestamp() + lease,
            attempts=table.c.attempts
            + case((table.c.claim_id.is_(None), 1), else_=0).cast(Integer),
        )
        .returning(*returning)
    )
    return Claim(claim_id, db.session.execute(statement).all())


RELEASED: dict[str, Any] = {"claim_id": None, "claimed_until": None}
