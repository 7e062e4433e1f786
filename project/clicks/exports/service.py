"""Exports: asked for, at most one of a day under way, and what came of each try."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

from sqlalchemy import Row, select, update
from sqlalchemy.dialects.postgresql import insert

from project.clicks.exports import queries
from project.clicks.models import ClickExport
from project.clicks.settings import ExportSettings, export_job_timeout_seconds
from project.clicks.states import EXPORT_MOVES, ExportState
from project.config.environment import get_settings
from project.core import clock
from project.core.db.rows import current
from project.core.errors import BadRequest
from project.core.work.claims import RELEASED, is_free
from project.core.work.queues import QueueName, Wakeup, wake
from project.extensions import db

EXPORTS_DUE = Wakeup(
    "click-exports",
    QueueName.DEFAULT,
    "project.clicks.exports.jobs.send_due_exports",
    timeout_seconds=export_job_timeout_seconds,
)
LONGEST_PAUSE = timedelta(hours=6)

AnyRow = Row[*tuple[Any, ...]]


@dataclass(frozen=True)
class Delivered:
    """Finance has taken the day."""

    clicks: int
    checksum: str
    day_version: int


@dataclass(frozen=True)
class Failed:
    """The day did not arrive; `is_final` where another try would not help."""

    reason: str
    retry_after_seconds: int | None = None
    is_final: bool = False


Outcome = Delivered | Failed


def today() -> date:
    """Return the present day (UTC)."""
    return clock.now().date()


def require_past_or_present(day: date) -> None:
    """Raise BadRequest for a day that has not begun (UTC)."""
    if day > today():
        raise BadRequest("That day has not begun.", {"date": ["Must not be in the future."]})


def request_export(day: date) -> tuple[ClickExport, bool]:
    """Have a day sent now, and tell whether that is a new export or the one that is pending.

    One that waits between two tries is tried at once. Raises BadRequest for a future day.
    """
    require_past_or_present(day)
    now = clock.now()
    made = db.session.scalar(
        insert(ClickExport)
        .values(day=day, state=ExportState.PENDING, due_at=now, created_at=now, attempts=0)
        .on_conflict_do_nothing(
            index_elements=["day"], index_where=ClickExport.state == ExportState.PENDING
        )
        .returning(ClickExport.id)
    )
    export = _pending_export(day)
    if export is None:
        # The other one has just ended; what it sent may be older than what was asked for now.
        return request_export(day)
    wake(EXPORTS_DUE)
    return export, made is not None


def _pending_export(day: date) -> ClickExport | None:
    db.session.execute(
        update(ClickExport)
        .where(
            ClickExport.day == day,
            ClickExport.state == ExportState.PENDING,
            ClickExport.due_at > clock.now(),
            is_free(queries.exports),
        )
        .values(due_at=clock.now())
    )
    pending = select(ClickExport).where(
        ClickExport.day == day, ClickExport.state == ExportState.PENDING
    )
    return db.session.scalar(current(pending))


def record_outcomes(results: Sequence[tuple[AnyRow, Outcome]]) -> None:
    """Write down what came of each try, where the claim still stands."""
    now = clock.now()
    for export, outcome in results:
        values = _values(export, outcome, now)
        EXPORT_MOVES.require(ExportState.PENDING, values["state"])
        db.session.execute(
            update(queries.exports)
            .where(queries.exports.c.id == export.id, queries.exports.c.claim_id == export.claim_id)
            .values(**values, **RELEASED)
        )


def _values(export: AnyRow, outcome: Outcome, now: datetime) -> dict[str, Any]:
    if isinstance(outcome, Delivered):
        return {
            "state": ExportState.SUCCEEDED,
            "due_at": None,
            "finished_at": now,
            "clicks_sent": outcome.clicks,
            "checksum": outcome.checksum,
            "day_version": outcome.day_version,
            "last_error": None,
        }
    if outcome.is_final or export.attempts >= get_settings(ExportSettings).export_max_attempts:
        state, due_at, finished_at = ExportState.FAILED, None, now
    else:
        state, due_at, finished_at = ExportState.PENDING, now + pause(export, outcome), None
    return {
        "state": state,
        "due_at": due_at,
        "finished_at": finished_at,
        "last_error": outcome.reason,
    }


def pause(export: AnyRow, outcome: Failed) -> timedelta:
    """Return how long to wait: doubled at each try, and as long as finance asks for."""
    doubled = get_settings(ExportSettings).export_retry_seconds * 2 ** min(export.attempts - 1, 20)
    wait = min(timedelta(seconds=doubled), LONGEST_PAUSE)
    return max(wait, timedelta(seconds=outcome.retry_after_seconds or 0))


def status_of(day: date) -> dict[str, Any]:
    """Return how the newest export of the day stands; `state` is None if it never was exported."""
    export = queries.latest_export(day)
    shown = ("state", "clicks_sent", "attempts", "last_error", "finished_at", "checksum")
    return {
        "date": day,
        "export_ready": queries.is_day_complete(day),
        **{name: getattr(export, name, None) for name in shown},
        "changed_since_export": queries.has_changed_since_export(day),
    }
