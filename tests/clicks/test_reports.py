"""Reports: the daily sums by any column, page after page, as JSON or as a spreadsheet's CSV."""

import csv
import io
from datetime import date
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import text

from project.clicks.reports import queries, sizes
from project.core.db.transaction import transaction
from project.extensions import db
from tests.api.problems import assert_problem
from tests.clicks.records import Clicks

MARCH = "start_date=2027-03-01&end_date=2027-03-31"
SUMS = [
    (date(2027, 3, 1), 1, "mail", 5),
    (date(2027, 3, 1), 2, "mail", 7),
    (date(2027, 3, 1), 2, "Web", 5),
    (date(2027, 3, 2), 1, "mail", 2),
    (date(2027, 3, 2), 10, "ads", 5),
    (date(2027, 3, 31), 1, "ads", 9),
]
Sum = tuple[str, int, str, int]


@pytest.fixture
def sums(clicks: Clicks) -> None:
    """Six sums of March, and one before and one after it."""
    for one in SUMS:
        clicks.summed(*one)
    clicks.summed(date(2027, 2, 28), 1, "mail", 100)
    clicks.summed(date(2027, 4, 1), 1, "mail", 100)


def shown(rows: list[tuple[date, int, str, int]]) -> list[Sum]:
    return [(str(day), *rest) for day, *rest in rows]


def aggregated(operator: FlaskClient, query: str) -> list[Sum]:
    answer = operator.get(f"/api/reports/aggregated?{query}")
    assert answer.status_code == 200, answer.get_json()
    return [
        (row["date"], row["offer_id"], row["source"], row["clicks_count"])
        for row in answer.get_json()["data"]
    ]


@pytest.mark.usefixtures("sums")
def test_the_answer_says_what_it_shows(operator: FlaskClient) -> None:
    answer = operator.get(f"/api/reports/aggregated?{MARCH}&offer_id=1&source=mail&limit=1")

    assert answer.get_json() == {
        "status": "success",
        "data": [{"date": "2027-03-02", "offer_id": 1, "source": "mail", "clicks_count": 2}],
        "pagination": {"current_page": 1, "per_page": 1, "total": 2, "last_page": 2},
        "filters": {
            "start_date": "2027-03-01",
            "end_date": "2027-03-31",
            "offer_id": 1,
            "source": "mail",
        },
        "sorting": {"sort_by": "date", "sort_direction": "desc"},
    }


@pytest.mark.usefixtures("sums")
def test_without_filters_every_row_of_the_days_is_there_newest_first(
    operator: FlaskClient,
) -> None:
    by_day = sorted(SUMS, key=lambda one: (-one[0].toordinal(), one[1], one[2]))
    assert aggregated(operator, MARCH) == shown(by_day)


KEYS = {"date": 0, "offer_id": 1, "source": 2, "clicks_count": 3}


@pytest.mark.usefixtures("sums")
@pytest.mark.parametrize("limit", [1, 2, 100])
@pytest.mark.parametrize("direction", ["asc", "desc"])
@pytest.mark.parametrize("column", KEYS)
@pytest.mark.parametrize("deep", [0, 1, 5000])
def test_each_order_has_its_ties_by_date_offer_and_source(
    operator: FlaskClient,
    monkeypatch: pytest.MonkeyPatch,
    column: str,
    direction: str,
    limit: int,
    deep: int,
) -> None:
    """Page after page, found by walking there or by counting groups, it is one list."""
    monkeypatch.setattr(queries, "DEEP", deep)
    expected = sorted(SUMS)
    expected.sort(key=lambda one: one[KEYS[column]], reverse=direction == "desc")

    query = f"{MARCH}&sort_by={column}&sort_direction={direction}&limit={limit}"
    pages = [
        aggregated(operator, f"{query}&page={page}") for page in range(1, len(SUMS) // limit + 2)
    ]

    assert [row for page in pages for row in page] == shown(expected)
    assert aggregated(operator, f"{query}&page=1000000") == []


@pytest.mark.usefixtures("sums")
@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("offer_id=2", SUMS[1:3]),
        ("source=mail", [SUMS[0], SUMS[1], SUMS[3]]),
        ("source=Mail", []),
        ("offer_id=1&source=ads", [SUMS[5]]),
        ("offer_id=3", []),
    ],
)
@pytest.mark.parametrize("deep", [0, 5000])
def test_rows_are_of_the_offer_and_the_source(
    operator: FlaskClient,
    monkeypatch: pytest.MonkeyPatch,
    query: str,
    expected: list[tuple[date, int, str, int]],
    deep: int,
) -> None:
    monkeypatch.setattr(queries, "DEEP", deep)
    query = f"{MARCH}&{query}"
    assert sorted(aggregated(operator, query)) == shown(sorted(expected))
    answer = operator.get(f"/api/reports/aggregated?{query}")
    assert answer.get_json()["pagination"]["total"] == len(expected)


def total_of(operator: FlaskClient, query: str = MARCH) -> int:
    answer = operator.get(f"/api/reports/aggregated?{query}")
    found: int = answer.get_json()["pagination"]["total"]
    assert found == len(answer.get_json()["data"])
    return found


@pytest.mark.parametrize("order", ["date", "offer_id", "clicks_count"])
@pytest.mark.parametrize("deep", [0, 5000])
def test_the_total_follows_every_change_of_a_day(
    operator: FlaskClient,
    clicks: Clicks,
    monkeypatch: pytest.MonkeyPatch,
    deep: int,
    order: str,
) -> None:
    monkeypatch.setattr(queries, "DEEP", deep)

    def total(operator: FlaskClient) -> int:
        return total_of(operator, f"{MARCH}&sort_by={order}")

    assert total(operator) == 0
    clicks.summed(date(2027, 3, 1), 1, "mail", 1)
    assert total(operator) == 1
    clicks.summed(date(2027, 3, 1), 1, "mail", 1)
    assert total(operator) == 1
    clicks.summed(date(2027, 3, 1), 2, "mail", 1)
    clicks.summed(date(2027, 3, 2), 2, "mail", 1)
    assert total(operator) == 3


def test_days_that_did_not_change_are_not_counted_again(
    operator: FlaskClient, clicks: Clicks, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted: list[list[date]] = []
    count = sizes._counted

    def counting(connection: Any, days: list[date]) -> dict[date, int]:
        counted.append(days)
        return count(connection, days)

    monkeypatch.setattr(sizes, "_counted", counting)
    for day in (1, 2, 3):
        clicks.summed(date(2027, 3, day), 1, "mail", 1)
    total_of(operator)
    clicks.summed(date(2027, 3, 2), 2, "mail", 1)

    assert total_of(operator) == 4
    assert [sorted(days) for days in counted] == [
        [date(2027, 3, 1), date(2027, 3, 2), date(2027, 3, 3)],
        [date(2027, 3, 2)],
    ]


@pytest.mark.usefixtures("sums")
def test_of_the_sizes_for_deep_pages_only_the_last_are_kept(
    operator: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queries, "DEEP", 0)
    monkeypatch.setattr(sizes, "KEPT_REPORTS", 2)
    sizes._known_groups.clear()
    for offer in (1, 2, 10):
        aggregated(operator, f"{MARCH}&offer_id={offer}&sort_by=source")

    assert [wanted.offer_id for wanted, _ in sizes._known_groups] == [2, 10]
    monkeypatch.setattr(sizes, "LARGEST_KEPT", 1)
    aggregated(operator, f"{MARCH}&sort_by=source")
    assert len(sizes._known_groups) == 2


@pytest.mark.usefixtures("sums")
def test_csv_has_every_row_whatever_the_page(operator: FlaskClient) -> None:
    answer = operator.get(
        f"/api/reports/aggregated?{MARCH}&format=csv&limit=1&page=3&sort_by=clicks_count"
    )

    assert answer.mimetype == "text/csv"
    disposition = answer.headers["Content-Disposition"]
    assert disposition == "attachment; filename=clicks_2027-03-01_2027-03-31.csv"
    header, *rows = csv.reader(io.StringIO(answer.get_data(as_text=True)))
    assert header == ["date", "offer_id", "source", "clicks_count"]
    expected = sorted(SUMS, key=lambda one: (-one[3], one))
    assert [tuple(row) for row in rows] == [tuple(map(str, one)) for one in expected]


def test_csv_of_nothing_is_a_header(operator: FlaskClient) -> None:
    answer = operator.get(f"/api/reports/aggregated?{MARCH}&format=csv")

    assert answer.get_data() == b"date,offer_id,source,clicks_count\r\n"


@pytest.mark.parametrize("first", ["=", "+", "-", "@", "\t", "\r"])
def test_csv_holds_no_formula(operator: FlaskClient, clicks: Clicks, first: str) -> None:
    source = first + 'HYPERLINK("http://evil.example","x")'
    clicks.summed(date(2027, 3, 1), 1, source, 1)
    answer = operator.get(f"/api/reports/aggregated?{MARCH}&format=csv")

    [_, row] = csv.reader(io.StringIO(answer.get_data(as_text=True), newline=""))
    assert row[2] == "'" + source


def test_csv_of_many_rows_comes_in_pieces_of_one_moment(
    app: Flask, operator: FlaskClient, clicks: Clicks
) -> None:
    with transaction() as session:
        session.execute(
            text(
                "INSERT INTO clicks_daily SELECT '2027-03-05', n, 'mail', 1"
                " FROM generate_series(1, 10000) AS n"
            )
        )
    answer = operator.get(f"/api/reports/aggregated?{MARCH}&format=csv", buffered=False)
    pieces = iter(answer.response)
    first = next(pieces)
    clicks.summed(date(2027, 3, 5), 20_000, "mail", 1)
    rest = list(pieces)

    assert len(rest) >= 4
    lines = (first + b"".join(rest)).splitlines()
    assert len(lines) == 10_001
    answer.close()


def test_a_csv_that_nobody_reads_to_its_end_gives_its_connection_back(
    operator: FlaskClient, clicks: Clicks
) -> None:
    clicks.summed(date(2027, 3, 1), 1, "mail", 1)
    before = db.engine.pool.checkedout()  # type: ignore[attr-defined]
    answer = operator.get(f"/api/reports/aggregated?{MARCH}&format=csv", buffered=False)
    assert db.engine.pool.checkedout() == before + 1  # type: ignore[attr-defined]
    answer.close()
    assert db.engine.pool.checkedout() == before  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("end_date=2027-03-31", "start_date"),
        ("start_date=2027-03-01", "end_date"),
        ("start_date=2027-03-02&end_date=2027-03-01", "end_date"),
        ("start_date=2027-02-30&end_date=2027-03-01", "start_date"),
        (f"{MARCH}&offer_id=0", "offer_id"),
        (f"{MARCH}&offer_id=9223372036854775808", "offer_id"),
        (f"{MARCH}&source=", "source"),
        (f"{MARCH}&source=%00", "source"),
        (f"{MARCH}&source={'x' * 256}", "source"),
        (f"{MARCH}&sort_by=clicks", "sort_by"),
        (f"{MARCH}&sort_direction=DESC", "sort_direction"),
        (f"{MARCH}&limit=1001", "limit"),
        (f"{MARCH}&limit=0", "limit"),
        (f"{MARCH}&page=0", "page"),
        (f"{MARCH}&format=xls", "format"),
        (f"{MARCH}&sort=date", "sort"),
    ],
)
def test_a_report_that_cannot_be_made(operator: FlaskClient, query: str, field: str) -> None:
    assert_problem(operator.get(f"/api/reports/aggregated?{query}"), 400, field)


@pytest.mark.usefixtures("sums")
def test_the_summary_counts_each_offer_and_source_once(operator: FlaskClient) -> None:
    answer = operator.get(f"/api/reports/summary?{MARCH}")

    assert answer.get_json() == {
        "status": "success",
        "summary": {
            "total_clicks": 33,
            "unique_offers": 3,
            "unique_sources": 3,
            "date_range": {"start_date": "2027-03-01", "end_date": "2027-03-31"},
        },
    }


def test_the_summary_of_nothing_is_zero(operator: FlaskClient) -> None:
    summary = operator.get(f"/api/reports/summary?{MARCH}").get_json()["summary"]

    assert {summary[name] for name in ("total_clicks", "unique_offers", "unique_sources")} == {0}


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("end_date=2027-03-31", "start_date"),
        ("start_date=2027-03-02&end_date=2027-03-01", "end_date"),
        (f"{MARCH}&offer_id=1", "offer_id"),
    ],
)
def test_a_summary_that_cannot_be_made(operator: FlaskClient, query: str, field: str) -> None:
    assert_problem(operator.get(f"/api/reports/summary?{query}"), 400, field)


@pytest.mark.parametrize("path", ["aggregated", "summary"])
def test_reports_are_for_operators(client: FlaskClient, path: str) -> None:
    assert_problem(client.get(f"/api/reports/{path}?{MARCH}"), 401)


@pytest.mark.usefixtures("database_away")
@pytest.mark.parametrize("format_", ["json", "csv"])
def test_without_the_database_a_report_is_a_problem(operator: FlaskClient, format_: str) -> None:
    assert_problem(operator.get(f"/api/reports/aggregated?{MARCH}&format={format_}"), 503)
