"""Purchases as operators see them: the list with its filters, and one with its events."""

from datetime import datetime, timedelta
from urllib.parse import quote

import pytest
from flask.testing import FlaskClient

from project.mobile.purchases.jobs import verify_due_purchases
from tests.api.problems import assert_problem
from tests.factories import Factory
from tests.time_machine import Clock


def listed(operator: FlaskClient, query: str = "") -> list[int]:
    answer = operator.get(f"/api/purchases{query}")
    assert answer.status_code == 200
    return [row["id"] for row in answer.get_json()["data"]]


def one_of_each_state(factory: Factory, clock: Clock) -> dict[str, int]:
    expired = factory.purchase()
    canceled = factory.purchase(receipt=factory.receipt("2"))
    clock.advance(days=31)
    active = factory.purchase()
    pending = factory.purchase(receipt=factory.receipt("06"))
    return {
        "expired": expired.id,
        "canceled": canceled.id,
        "active": active.id,
        "pending": pending.id,
    }


def test_purchases_are_listed_newest_first(
    operator: FlaskClient, factory: Factory, clock: Clock
) -> None:
    ids = one_of_each_state(factory, clock)
    assert listed(operator) == sorted(ids.values(), reverse=True)
    assert listed(operator, "?page=2&limit=3") == [min(ids.values())]


@pytest.mark.parametrize("state", ["active", "expired", "canceled", "pending"])
def test_purchases_are_listed_by_the_state_that_the_world_sees(
    operator: FlaskClient, factory: Factory, clock: Clock, state: str
) -> None:
    ids = one_of_each_state(factory, clock)
    assert listed(operator, f"?state={state}") == [ids[state]]
    shown = operator.get(f"/api/purchases/{ids[state]}").get_json()["data"]
    assert shown["state"] == state


def test_purchases_are_listed_by_app_and_device(operator: FlaskClient, factory: Factory) -> None:
    device = factory.device()
    one = factory.purchase(device).id
    sibling = factory.purchase(factory.device(device.app)).id
    foreign = factory.purchase().id
    assert listed(operator, f"?device_id={device.id}") == [one]
    assert listed(operator, f"?app_id={device.app.id}") == [sibling, one]
    assert listed(operator, f"?appId={device.app.id}") == [sibling, one]
    assert listed(operator, f"?app_id={device.app.id}&device_id={device.id}") == [one]
    assert listed(operator, f"?app_id={device.app.id}&device_id=99") == []
    assert foreign in listed(operator)


@pytest.mark.parametrize("offset", ["Z", "+00:00", "+03:00", "-06:00"])
def test_purchases_are_listed_by_when_they_expire(
    operator: FlaskClient, factory: Factory, clock: Clock, offset: str
) -> None:
    sooner = factory.purchase()
    clock.advance(days=1)
    later = factory.purchase()
    never = factory.purchase(receipt=factory.receipt("06"))
    assert sooner.expire_date is not None
    hours = {"Z": 0, "+00:00": 0, "+03:00": 3, "-06:00": -6}[offset]

    def before(moment: datetime) -> list[int]:
        local = (moment + timedelta(hours=hours)).replace(tzinfo=None).isoformat() + offset
        encoded = listed(operator, f"?expires_before={quote(local)}")
        assert encoded == listed(operator, f"?expires_before={local}"), "an unescaped + is meant"
        return encoded

    assert before(sooner.expire_date) == []
    assert before(sooner.expire_date + timedelta(seconds=1)) == [sooner.id]
    assert before(sooner.expire_date + timedelta(days=2)) == [later.id, sooner.id]
    assert never.id not in before(sooner.expire_date + timedelta(days=900))


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("state=bought", "state"),
        ("state=active' OR '1'='1", "state"),
        ("device_id=x", "device_id"),
        ("app_id=-1", "app_id"),
        ("expires_before=2027-01-01", "expires_before"),
        ("expires_before=2027-01-01T00:00:00", "expires_before"),
        ("expires_before=soon", "expires_before"),
        ("expires_before=0001-01-01T00:00:00%2B14:00", "expires_before"),
    ],
)
def test_purchases_that_cannot_be_listed(operator: FlaskClient, query: str, field: str) -> None:
    assert_problem(operator.get(f"/api/purchases?{query}"), 400, field)


def test_a_purchase_is_shown_with_what_happened_to_it(
    operator: FlaskClient, factory: Factory, clock: Clock
) -> None:
    device = factory.device()
    purchase = factory.purchase(device)
    clock.advance(days=31)
    verify_due_purchases()
    shown = operator.get(f"/api/purchases/{purchase.id}").get_json()["data"]
    events = shown.pop("events")
    assert shown == operator.get("/api/purchases").get_json()["data"][0]
    assert shown["receipt"] == "…" + purchase.receipt[-4:]
    assert shown["next_check_at"] == shown["expire-date"]
    assert [event["type"] for event in events] == ["started", "renewed"]
    for event in events:
        assert event.keys() == {"id", "type", "occurred_at", "data"}
        assert event["data"]["appID"] == device.app.id
        assert event["data"]["deviceID"] == device.id
        assert event["data"]["purchaseID"] == purchase.id
    assert datetime.fromisoformat(events[0]["data"]["expire-date"]) == purchase.expire_date
    assert events[1]["data"]["expire-date"] == shown["expire-date"]
    gap = datetime.fromisoformat(events[1]["occurred_at"]) - datetime.fromisoformat(
        events[0]["occurred_at"]
    )
    assert abs(gap - timedelta(days=31)) < timedelta(seconds=10)


def test_there_is_no_purchase_that_was_not_made(operator: FlaskClient, factory: Factory) -> None:
    assert_problem(operator.get("/api/purchases/1"), 404)
