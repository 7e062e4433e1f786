"""The clicks' reports over a year: every order, filters of all kinds, first and deep pages."""

import http.client
import itertools
import random
import time
from collections.abc import Iterator
from datetime import date, timedelta
from statistics import quantiles
from urllib.parse import urlencode, urlsplit

from benchmarks import data
from benchmarks.report import Figure, Row, at_most
from benchmarks.rig import BenchmarkError, Rig
from tests.support.stack import API_KEY

OFFERS = 500
SOURCES = 20
DAYS = 365
MONTH_DAYS = 31
CLICKS_PER_SUM = 10
FIRST_DAY = date(2026, 1, 1)
WANTED_MONTH_MS = 100.0
WANTED_YEAR_MS = 1000.0
TIMEOUT_SECONDS = 60
Depths = tuple[float, ...]
# Whole numbers are pages; others are how far into the report.
FIRST_PAGES: Depths = (1, 2, 10)
DEEP_PAGES: Depths = (0.5, 0.999)

# Sums lie on disk day by day, as counting leaves them, and in no order within a day.
_SUMS = """
    INSERT INTO clicks_daily (day, offer_id, source, clicks)
    SELECT :first_day + d, o, 'source-' || lpad(s::text, 2, '0'),
           greatest(1, round(-ln(1 - random()) * :mean))
      FROM generate_series(0, :days - 1) AS d, generate_series(1, :offers) AS o,
           generate_series(1, :sources) AS s
     ORDER BY d, random()
"""
_DAYS = """
    INSERT INTO click_days (day, clicks, version)
    SELECT day, sum(clicks), 1 FROM clicks_daily GROUP BY day
"""


def measure(rig: Rig) -> list[Row]:
    """Measure the aggregated report of a month and of the year, then summary and CSV."""
    offers = max(5, round(OFFERS * rig.options.scale))
    _fill(rig, offers)
    requests = {
        (days, depths): list(_requests(offers, days, depths))
        for days in (MONTH_DAYS, DAYS)
        for depths in (FIRST_PAGES, DEEP_PAGES)
    }
    took: dict[tuple[int, Depths], list[float]] = {kind: [] for kind in requests}
    for _ in range(rig.options.rounds):
        for kind, paths in requests.items():
            took[kind].append(_p95_ms(_ask_all(rig, paths)))
    figures = {kind: _figure(rounds) for kind, rounds in took.items()}
    year: dict[str, object] = {
        "start_date": FIRST_DAY,
        "end_date": FIRST_DAY + timedelta(days=DAYS - 1),
    }
    work = (
        f"aggregated report of {{}}, {offers * SOURCES * DAYS:,} sums, every order and filter, p95"
    )
    return [
        at_most(work.format("a month"), figures[MONTH_DAYS, FIRST_PAGES], WANTED_MONTH_MS),
        Row("the same, its middle and last pages", figures[MONTH_DAYS, DEEP_PAGES]),
        at_most(work.format("the year"), figures[DAYS, FIRST_PAGES], WANTED_YEAR_MS),
        at_most("the same, its middle and last pages", figures[DAYS, DEEP_PAGES], WANTED_YEAR_MS),
        Row("summary of the year", _timed(rig, "summary", year)),
        Row(
            "the year as CSV, to the last row", _timed(rig, "aggregated", year | {"format": "csv"})
        ),
    ]


def _fill(rig: Rig, offers: int) -> None:
    data.empty_tables(rig)
    sizes = {"days": DAYS, "offers": offers, "sources": SOURCES}
    rig.execute(_SUMS, first_day=FIRST_DAY, mean=CLICKS_PER_SUM, **sizes)
    rig.execute(_DAYS)
    rig.settle()


def _requests(offers: int, days: int, depths: Depths) -> Iterator[str]:
    """Make the requests of a mix: 4 columns, 2 directions, 4 filters, some pages; shuffled."""
    chosen = random.Random(1)
    filters: list[dict[str, object]] = [{}, {"offer_id": offers // 2}, {"source": "source-07"}]
    filters.append({"offer_id": offers // 3, "source": "source-11"})
    orders = itertools.product(("clicks_count", "offer_id", "source", "date"), ("asc", "desc"))
    mix = list(itertools.product(orders, filters, depths))
    chosen.shuffle(mix)
    for (column, direction), wanted, depth in mix:
        start = FIRST_DAY + timedelta(days=chosen.randint(0, DAYS - days))
        rows: int = days
        rows *= 1 if "offer_id" in wanted else offers
        rows *= 1 if "source" in wanted else SOURCES
        query = {
            "start_date": start,
            "end_date": start + timedelta(days=days - 1),
            "sort_by": column,
            "sort_direction": direction,
            "page": depth if isinstance(depth, int) else 1 + int(depth * (rows - 1)) // 100,
            **wanted,
        }
        yield f"/api/reports/aggregated?{urlencode(query)}"


def _ask_all(rig: Rig, paths: list[str]) -> list[float]:
    return [_ask(rig, path) for path in paths]


def _ask(rig: Rig, path: str) -> float:
    """Return how many seconds an answer takes, to its last byte."""
    address = urlsplit(rig.stack.api_url)
    connection = http.client.HTTPConnection(address.netloc, timeout=TIMEOUT_SECONDS)
    try:
        started = time.perf_counter()
        connection.request("GET", path, headers={"Authorization": f"Bearer {API_KEY}"})
        answer = connection.getresponse()
        while answer.read(1_048_576):
            pass
        seconds = time.perf_counter() - started
    finally:
        connection.close()
    if answer.status != http.HTTPStatus.OK:
        raise BenchmarkError(f"{path} was answered {answer.status}.")
    return seconds


def _timed(rig: Rig, report: str, query: dict[str, object]) -> Figure:
    path = f"/api/reports/{report}?{urlencode(query)}"
    return _figure([_ask(rig, path) * 1000 for _ in range(rig.options.rounds)])


def _p95_ms(seconds: list[float]) -> float:
    return quantiles(seconds, n=20)[-1] * 1000


def _figure(milliseconds: list[float]) -> Figure:
    return Figure(tuple(milliseconds), "ms")
