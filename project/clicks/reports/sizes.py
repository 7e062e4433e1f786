"""How many rows a report has and where they are, counted again only where something changed."""

import threading
from collections.abc import Sequence
from datetime import date
from typing import Any

from sqlalchemy import Connection, Text, cast, column, func, select

from project.clicks.models import ClickDay, ClicksDaily
from project.clicks.reports.filters import ReportFilter, Sorting

KEPT_REPORTS = 32
LARGEST_KEPT = 5_000
"""How many reports' group sizes this process keeps, and how many groups one may have for that."""

Sizes = dict[Any, int]
Stamps = dict[date, str]

_lock = threading.Lock()
_known_days: dict[date, tuple[str, int]] = {}
_known_groups: dict[tuple[ReportFilter, str], tuple[Stamps, Sizes]] = {}


def count_rows(connection: Connection, wanted: ReportFilter) -> int:
    """Count the rows of a report."""
    if wanted.takes_whole_days:
        return sum(_rows_per_day(connection, wanted).values())
    counted = select(func.count()).select_from(ClicksDaily).where(*wanted.conditions())
    return int(connection.scalar(counted) or 0)


def group_sizes(
    connection: Connection, wanted: ReportFilter, sorting: Sorting
) -> list[tuple[Any, int]]:
    """Return how many rows share each value of the sorted column, in the order of the report."""
    if sorting.sort_by == "date" and wanted.takes_whole_days:
        sizes = _rows_per_day(connection, wanted)
    else:
        sizes = _sizes_by_column(connection, wanted, sorting)
    # Text is in the order of its bytes in the database, which is that of its code points here.
    return sorted(sizes.items(), reverse=sorting.descending)


def _sizes_by_column(connection: Connection, wanted: ReportFilter, sorting: Sorting) -> Sizes:
    """Return the sizes as they were counted for a page before, if no day has changed since."""
    key = (wanted, sorting.sort_by)
    stamps = _stamps(connection, wanted)
    with _lock:
        known = _known_groups.get(key)
    if known is not None and known[0] == stamps:
        return known[1]
    grouped = (
        select(sorting.column.label("value"), func.count().label("size"))
        .where(*wanted.conditions())
        .group_by(sorting.column)
    )
    sizes = {row.value: row.size for row in connection.execute(grouped)}
    if len(sizes) <= LARGEST_KEPT:
        _keep(key, (stamps, sizes))
    return sizes


def _keep(key: tuple[ReportFilter, str], counted: tuple[Stamps, Sizes]) -> None:
    with _lock:
        _known_groups.pop(key, None)
        while len(_known_groups) >= KEPT_REPORTS:
            del _known_groups[next(iter(_known_groups))]
        _known_groups[key] = counted


def _rows_per_day(connection: Connection, wanted: ReportFilter) -> dict[date, int]:
    """Return how many rows each day has; only days that changed since the last time are counted."""
    stamps = _stamps(connection, wanted)
    with _lock:
        known = {day: _known_days.get(day, ("", 0)) for day in stamps}
    changed = [day for day, stamp in stamps.items() if known[day][0] != stamp]
    sizes = {day: size for day, (_, size) in known.items()}
    if changed:
        counted = _counted(connection, changed)
        sizes |= counted
        with _lock:
            _known_days.update({day: (stamps[day], size) for day, size in counted.items()})
    return sizes


def _stamps(connection: Connection, wanted: ReportFilter) -> Stamps:
    """Return what tells of each day whether it is still the same.

    Whatever changes a day's sums changes its row in `click_days` too, and that row's `xmin`, the
    transaction that wrote it, is then another one.
    """
    statement = select(ClickDay.day, cast(column("xmin"), Text).label("stamp")).where(
        ClickDay.day.between(wanted.start_date, wanted.end_date)
    )
    return {row.day: row.stamp for row in connection.execute(statement)}


def _counted(connection: Connection, days: Sequence[date]) -> dict[date, int]:
    statement = (
        select(ClicksDaily.day, func.count().label("size"))
        .where(ClicksDaily.day.between(min(days), max(days)), ClicksDaily.day.in_(days))
        .group_by(ClicksDaily.day)
    )
    found = {row.day: row.size for row in connection.execute(statement)}
    return {day: found.get(day, 0) for day in days}
