"""What there is to know about exports and about the day they hand over; nothing here writes."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Select, and_, exists, func, select

from project.clicks.models import ClickDay, ClickExport, click_inbox, clicks
from project.clicks.states import ExportState
from project.core import clock
from project.core.db.rows import current, table_of
from project.core.work.claims import due, is_due, is_free
from project.extensions import db

exports = table_of(ClickExport)
DRAINED_WITHIN = timedelta(minutes=1)


@dataclass(frozen=True)
class DayFacts:
    """A day's clicks at one moment: how many are kept, how many counted, and its version."""

    kept: int
    counted: int
    version: int

    @property
    def is_whole(self) -> bool:
        """Tell whether every click that was counted is still kept."""
        return self.kept == self.counted


def facts_of_day(connection: Connection, day: date) -> DayFacts:
    """Return what is there of a day, in the transaction that then reads it."""
    kept = connection.scalar(select(func.count()).select_from(clicks).where(_on_day(day)))
    row = connection.execute(
        select(ClickDay.clicks, ClickDay.version).where(ClickDay.day == day)
    ).one_or_none()
    return DayFacts(kept or 0, row.clicks if row else 0, row.version if row else 0)


def clicks_of_day(day: date) -> Select[*tuple[Any, ...]]:
    """Select a day's clicks as finance gets them, in an order that is always the same."""
    return (
        select(
            clicks.c.click_id,
            clicks.c.offer_id,
            clicks.c.source,
            clicks.c.clicked_at,
            clicks.c.signature,
        )
        .where(_on_day(day))
        .order_by(clicks.c.clicked_at, clicks.c.click_id.collate("C"))
    )


def _on_day(day: date) -> Any:
    start = datetime(day.year, day.month, day.day, tzinfo=UTC)
    return and_(clicks.c.clicked_at >= start, clicks.c.clicked_at < start + timedelta(days=1))


def latest_export(day: date) -> ClickExport | None:
    """Return the newest export of a day."""
    newest = (
        select(ClickExport).where(ClickExport.day == day).order_by(ClickExport.id.desc()).limit(1)
    )
    return db.session.scalar(current(newest))


def has_changed_since_export(day: date) -> bool | None:
    """Tell whether clicks were added since finance last took the day; None if it never did."""
    sent = db.session.scalar(
        select(ClickExport.day_version)
        .where(ClickExport.day == day, ClickExport.state == ExportState.SUCCEEDED)
        .order_by(ClickExport.id.desc())
        .limit(1)
    )
    if sent is None:
        return None
    now = db.session.scalar(select(ClickDay.version).where(ClickDay.day == day))
    return sent != (now or 0)


def is_day_complete(day: date) -> bool:
    """Tell whether the day (UTC) is over and everything that came in has been counted.

    A click that waits for less than a minute is of the present; one that waits longer says that
    counting is behind, and may be of any day. What comes in late is seen by the day's version.
    """
    oldest = select(click_inbox.c.received_at).order_by(click_inbox.c.id).limit(1).scalar_subquery()
    is_behind = db.session.scalar(select(oldest < func.clock_timestamp() - DRAINED_WITHIN))
    return day < clock.now().date() and not is_behind


def due_exports(*, limit: int, only: int | None = None) -> Select[Any]:
    """Select the ids of exports to send, the longest due first."""
    statement = due(exports, now=clock.now(), limit=limit)
    return statement if only is None else statement.where(exports.c.id == only)


def is_anything_due(only: int | None = None) -> bool:
    """Tell whether an export is due that nobody works on."""
    wanted = is_due(exports, clock.now())
    wanted = wanted if only is None else and_(wanted, exports.c.id == only)
    return bool(db.session.scalar(select(exists().where(wanted))))


def oldest_due_at() -> datetime | None:
    """Return when the longest-waiting export that nobody works on was or will be due."""
    return db.session.scalar(
        select(exports.c.due_at)
        .where(exports.c.due_at.is_not(None), is_free(exports))
        .order_by(exports.c.due_at)
        .limit(1)
    )
