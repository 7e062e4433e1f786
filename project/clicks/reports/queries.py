"""The daily sums, by any of their columns, at any page; and what they come to in all.

A report over a year stands on millions of rows, so nothing here counts or sorts more than it
must: how many rows a day has is remembered for as long as the day does not change, and a deep
page is found by the sizes of the groups before it.
"""

import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    Row,
    Select,
    Text,
    cast,
    column,
    distinct,
    func,
    select,
    text,
)

from project.clicks.models import ClickDay, ClicksDaily
from project.core.snapshot import in_batches, snapshot
from project.extensions import db

SORT_COLUMNS: Mapping[str, Any] = {
    "clicks_count": ClicksDaily.clicks,
    "offer_id": ClicksDaily.offer_id,
    "source": ClicksDaily.source,
    "date": ClicksDaily.day,
}
TIES = (ClicksDaily.day, ClicksDaily.offer_id, ClicksDaily.source)
DEEP = 5000
"""From so many rows on, a page is found by counting groups rather than by walking there."""

AnyRow = Row[*tuple[Any, ...]]


@dataclass(frozen=True)
class ReportFilter:
    """Which sums: days (both ends included), and one offer or source if it is given."""

    start_date: date
    end_date: date
    offer_id: int | None = None
    source: str | None = None

    @property
    def takes_whole_days(self) -> bool:
        """Tell whether every row of a day is wanted."""
        return self.offer_id is None and self.source is None

    def conditions(self) -> list[ColumnElement[bool]]:
        """Return what holds for the wanted rows."""
        wanted: list[ColumnElement[bool]] = [
            ClicksDaily.day.between(self.start_date, self.end_date)
        ]
        if self.offer_id is not None:
            wanted.append(ClicksDaily.offer_id == self.offer_id)
        if self.source is not None:
            wanted.append(ClicksDaily.source == self.source)
        return wanted


@dataclass(frozen=True)
class Sorting:
    """By which column; rows that are equal there stand by date, offer and source, upwards."""

    sort_by: str
    descending: bool

    @property
    def column(self) -> Any:
        """Return the column of the table."""
        return SORT_COLUMNS[self.sort_by]


def report_page(
    wanted: ReportFilter, sorting: Sorting, *, offset: int, limit: int
) -> tuple[Sequence[AnyRow], int]:
    """Return the rows (date, offer_id, source, clicks_count) of a page, and how many there are."""
    with snapshot(db.engine) as connection:
        _avoid_index_order(connection, sorting)
        if offset < DEEP:
            rows = connection.execute(_listed(wanted, sorting).limit(limit).offset(offset)).all()
            return rows, _count(connection, wanted)
        return _deep_page(connection, wanted, sorting, offset=offset, limit=limit)


def report_rows(wanted: ReportFilter, sorting: Sorting) -> Iterator[Sequence[AnyRow]]:
    """Return a reader of all rows, some at a time; it needs no application context."""
    engine = db.engine

    def read() -> Iterator[Sequence[AnyRow]]:
        with snapshot(engine) as connection:
            _avoid_index_order(connection, sorting)
            yield from in_batches(connection, _listed(wanted, sorting))

    return read()


def totals(start_date: date, end_date: date) -> AnyRow:
    """Return total_clicks, unique_offers and unique_sources of the days, both ends included."""
    pairs = (
        select(
            ClicksDaily.offer_id, ClicksDaily.source, func.sum(ClicksDaily.clicks).label("clicks")
        )
        .where(*ReportFilter(start_date, end_date).conditions())
        .group_by(ClicksDaily.offer_id, ClicksDaily.source)
        .subquery()
    )
    return db.session.execute(
        select(
            cast(func.coalesce(func.sum(pairs.c.clicks), 0), BigInteger).label("total_clicks"),
            func.count(distinct(pairs.c.offer_id)).label("unique_offers"),
            func.count(distinct(pairs.c.source)).label("unique_sources"),
        )
    ).one()


def _listed(wanted: ReportFilter, sorting: Sorting) -> Select[*tuple[Any, ...]]:
    first = sorting.column.desc() if sorting.descending else sorting.column.asc()
    return (
        select(
            ClicksDaily.day.label("date"),
            ClicksDaily.offer_id,
            ClicksDaily.source,
            ClicksDaily.clicks.label("clicks_count"),
        )
        .where(*wanted.conditions())
        .order_by(first, *(column for column in TIES if column is not sorting.column))
    )


def _avoid_index_order(connection: Connection, sorting: Sorting) -> None:
    """Keep the planner from fetching row by row what must be sorted anyway.

    No index holds the counts. The planner takes rows that lie together by day for rows in the
    order of the key, and would fetch a month's rows one by one, which takes five times as long.
    """
    if sorting.sort_by == "clicks_count":
        connection.execute(text("SET LOCAL enable_indexscan = off"))


def _count(connection: Connection, wanted: ReportFilter) -> int:
    if wanted.takes_whole_days:
        return sum(_rows_per_day(connection, wanted).values())
    counted = select(func.count()).select_from(ClicksDaily).where(*wanted.conditions())
    return int(connection.scalar(counted) or 0)


def _deep_page(
    connection: Connection, wanted: ReportFilter, sorting: Sorting, *, offset: int, limit: int
) -> tuple[Sequence[AnyRow], int]:
    sizes = _group_sizes(connection, wanted, sorting)
    values, before = _groups_of_page(sizes, offset=offset, limit=limit)
    total = sum(size for _, size in sizes)
    if not values:
        return [], total
    low, high = (values[-1], values[0]) if sorting.descending else (values[0], values[-1])
    near = _listed(wanted, sorting).where(sorting.column >= low, sorting.column <= high)
    return connection.execute(near.limit(limit).offset(offset - before)).all(), total


def _group_sizes(
    connection: Connection, wanted: ReportFilter, sorting: Sorting
) -> list[tuple[Any, int]]:
    """Return how many rows share each value of the column, in the order of the report."""
    if sorting.sort_by == "date" and wanted.takes_whole_days:
        return sorted(_rows_per_day(connection, wanted).items(), reverse=sorting.descending)
    order = sorting.column.desc() if sorting.descending else sorting.column.asc()
    sizes = (
        select(sorting.column, func.count())
        .where(*wanted.conditions())
        .group_by(sorting.column)
        .order_by(order)
    )
    return [(value, size) for value, size in connection.execute(sizes)]


def _groups_of_page(
    sizes: Sequence[tuple[Any, int]], *, offset: int, limit: int
) -> tuple[list[Any], int]:
    """Return the values that the page's rows have, and how many rows come before them."""
    values: list[Any] = []
    passed = before = 0
    for value, size in sizes:
        if passed >= offset + limit:
            break
        if passed + size > offset:
            before = before if values else passed
            values.append(value)
        passed += size
    return values, before


_known_sizes: dict[date, tuple[str, int]] = {}
_known_sizes_lock = threading.Lock()


def _rows_per_day(connection: Connection, wanted: ReportFilter) -> dict[date, int]:
    """Return how many rows each day has; only days that changed since the last time are counted.

    Whatever changes a day's sums changes its row in `click_days` too, and that row's `xmin`, the
    transaction that wrote it, is never the same again.
    """
    stamps = _stamps(connection, wanted)
    with _known_sizes_lock:
        known = {day: _known_sizes.get(day, ("", 0)) for day in stamps}
    changed = [day for day, stamp in stamps.items() if known[day][0] != stamp]
    sizes = {day: size for day, (_, size) in known.items()}
    if changed:
        counted = _counted(connection, changed)
        sizes |= counted
        with _known_sizes_lock:
            _known_sizes.update({day: (stamps[day], size) for day, size in counted.items()})
    return sizes


def _stamps(connection: Connection, wanted: ReportFilter) -> dict[date, str]:
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
