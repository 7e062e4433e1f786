"""The daily report: starts, renewals and cancellations per app and day."""

from datetime import UTC, datetime
from typing import Any

import pytest
from flask.testing import FlaskClient

from project.mobile.purchases.jobs import verify_due_purchases
from project.mobile.states import DeviceOs
from tests.api.problems import assert_problem
from tests.factories import Factory
from tests.time_machine import Clock

NOON = datetime(2027, 3, 1, 12, tzinfo=UTC)


def report(operator: FlaskClient, query: str = "") -> list[dict[str, Any]]:
    answer = operator.get(f"/api/reports{query}")
    assert answer.status_code == 200
    rows: list[dict[str, Any]] = answer.get_json()["data"]
    return rows


def days(rows: list[dict[str, Any]]) -> list[tuple[str, int]]:
    return [(row["day"], row["app_id"]) for row in rows]


def test_nothing_happened_is_an_empty_report(operator: FlaskClient, factory: Factory) -> None:
    factory.device()
    assert report(operator) == []


def test_a_row_counts_what_happened_to_an_app_on_a_day(
    operator: FlaskClient, factory: Factory, clock: Clock
) -> None:
    clock.set_to(NOON)
    ios = factory.device()
    android = factory.device(ios.app, DeviceOs.ANDROID)
    kept = [factory.purchase(ios) for _ in range(3)]
    ended = [factory.purchase(android) for _ in range(2)]
    factory.purchase(ios, factory.receipt("2"))
    factory.store_says(kept[0], "canceled")
    factory.store_says(ended[0], "canceled")
    clock.advance(days=30, minutes=1)
    verify_due_purchases()
    common = {"app_id": ios.app.id, "app": f"App {ios.app.inbox}"}
    assert report(operator) == [
        {
            **common,
            "day": "2027-03-31",
            "ios-start": 0,
            "ios-update": 2,
            "ios-cancel": 1,
            "android-start": 0,
            "android-update": 1,
            "android-cancel": 1,
            "total": 5,
        },
        {
            **common,
            "day": "2027-03-01",
            "ios-start": 3,
            "ios-update": 0,
            "ios-cancel": 0,
            "android-start": 2,
            "android-update": 0,
            "android-cancel": 0,
            "total": 5,
        },
    ]


def three_days_of_two_apps(factory: Factory, clock: Clock) -> tuple[int, int]:
    one, other = factory.device(), factory.device()
    for day in (1, 2, 3):
        clock.set_to(NOON.replace(day=day))
        for device in (one, other):
            factory.purchase(device)
    return one.app.id, other.app.id


def test_the_newest_day_comes_first(operator: FlaskClient, factory: Factory, clock: Clock) -> None:
    one, other = three_days_of_two_apps(factory, clock)
    expected = [(f"2027-03-0{day}", app) for day in (3, 2, 1) for app in (one, other)]
    assert days(report(operator)) == expected
    page = operator.get("/api/reports?page=2&limit=4").get_json()
    assert days(page["data"]) == expected[4:]
    assert page["pagination"]["total"] == 6


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("start_date=2027-03-02", [3, 2]),
        ("end_date=2027-03-02", [2, 1]),
        ("start_date=2027-03-02&end_date=2027-03-02", [2]),
        ("start_date=2027-03-04", []),
        ("end_date=2027-02-28", []),
    ],
)
def test_a_report_is_bounded_by_days_and_by_app(
    operator: FlaskClient, factory: Factory, clock: Clock, query: str, expected: list[int]
) -> None:
    one, other = three_days_of_two_apps(factory, clock)
    for spelling in ("app_id", "appId"):
        rows = report(operator, f"?{query}&{spelling}={one}")
        assert days(rows) == [(f"2027-03-0{day}", one) for day in expected]
    both = days(report(operator, f"?{query}"))
    assert both == [(f"2027-03-0{day}", app) for day in expected for app in (one, other)]


@pytest.mark.parametrize(
    ("moment", "day"),
    [
        (datetime(2027, 3, 1, 23, 59, 50, tzinfo=UTC), "2027-03-01"),
        (datetime(2027, 3, 2, 0, 0, 0, tzinfo=UTC), "2027-03-02"),
    ],
)
def test_a_day_is_a_day_in_utc(
    operator: FlaskClient, factory: Factory, clock: Clock, moment: datetime, day: str
) -> None:
    device = factory.device()
    receipt = factory.receipt()
    clock.set_to(moment)
    factory.purchase(device, receipt)
    assert [row["day"] for row in report(operator)] == [day]


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("start_date=yesterday", "start_date"),
        ("start_date=2027-02-30", "start_date"),
        ("end_date=2027-03-01T00:00:00Z", "end_date"),
        ("start_date=2027-03-02&end_date=2027-03-01", "end_date"),
        ("app_id=0", "app_id"),
        ("app_id=1 OR 1=1", "app_id"),
    ],
)
def test_a_report_that_cannot_be_made(operator: FlaskClient, query: str, field: str) -> None:
    assert_problem(operator.get(f"/api/reports?{query}"), 400, field)


def test_a_renamed_app_is_reported_by_its_new_name(operator: FlaskClient, factory: Factory) -> None:
    purchase = factory.purchase()
    operator.patch(f"/api/apps/{purchase.app_id}", json={"name": "New"})
    assert [row["app"] for row in report(operator)] == ["New"]
