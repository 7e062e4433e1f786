"""The daily sums, by any of their columns, at any page; and what they come to in all.

A report over a year stands on millions of rows, so nothing here counts or sorts more than it
must: how many rows a day has is remembered for as long as the day does not change, and a deep
page is found by the sizes of the groups before it.
"""

from collections.abc import Iterator, Sequence
from datetime import date
from typing import Any

from sqlalchemy import BigInteger, Connection, Row, Select, cast, distinct, func, select, text

from project.clicks.models import ClicksDaily
from project.clicks.reports.filters import TIES, ReportFilter, Sorting
from project.clicks.reports.sizes import count_rows, group_sizes
from project.core.db.snapshot import in_batches, snapshot
from project.extensions import db

DEEP = 5000
"""From so many rows on, a page is found by counting groups rather than by walking there."""

AnyRow = Row[*tuple[Any, ...]]


def report_page(
    wanted: ReportFilter, sorting: Sorting, *, offset: int, limit: int
) -> tuple[Sequence[AnyRow], int]:
    """Return the rows (date, offer_id, source, clicks_count) of a page, and how many there are."""
    with snapshot(db.engine) as connection:
        _avoid_index_order(connection, sorting)
        if offset < DEEP:
            rows = connection.execute(_listed(wanted, sorting).limit(limit).offset(offset)).all()
            return rows, count_rows(connection, wanted)
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


def _deep_page(
    connection: Connection, wanted: ReportFilter, sorting: Sorting, *, offset: int, limit: int
) -> tuple[Sequence[AnyRow], int]:
    sizes = group_sizes(connection, wanted, sorting)
    values, before = _groups_of_page(sizes, offset=offset, limit=limit)
    total = sum(size for _, size in sizes)
    if not values:
        return [], total
    low, high = (values[-1], values[0]) if sorting.descending else (values[0], values[-1])
    near = _listed(wanted, sorting).where(sorting.column >= low, sorting.column <= high)
    return connection.execute(near.limit(limit).offset(offset - before)).all(), total


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
