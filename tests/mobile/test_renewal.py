"""Renewal: the store is asked when a purchase has expired, for as long as it takes."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from flask import Flask

from project.callbacks.jobs import deliver_due_callbacks
from project.mobile.models import Purchase
from project.mobile.purchases.jobs import verify_due_purchases
from project.mobile.states import DeviceOs
from simulator.client import SimulatorClient
from tests.factories import STORE_PATHS, Factory
from tests.mobile.conftest import Check, Told
from tests.time_machine import Clock

OnlyPurchase = Callable[[], dict[str, Any]]
PERIOD = timedelta(days=30)


def expire_date(purchase: Purchase) -> datetime:
    assert purchase.expire_date is not None
    return purchase.expire_date


def hits(simulator: SimulatorClient) -> int:
    return sum(fault["hits"] for fault in simulator.control("GET", "/faults")["faults"])


def test_a_purchase_that_has_not_expired_is_left_alone(
    told: Told, factory: Factory, simulator: SimulatorClient, clock: Clock
) -> None:
    purchase = factory.purchase()
    clock.advance(days=29, hours=23)
    assert verify_due_purchases() == 0
    assert simulator.control("GET", "/stores")["app-store"]["requests"] == 1
    assert told(purchase.id) == ["started"]


@pytest.mark.parametrize("os", list(DeviceOs))
def test_an_expired_purchase_is_renewed_by_its_store(
    check: Check, told: Told, factory: Factory, clock: Clock, os: DeviceOs
) -> None:
    device = factory.device(os=os)
    purchase = factory.purchase(device)
    clock.advance(days=30, minutes=1)
    assert check(device)["state"] == "expired"
    assert verify_due_purchases() == 1
    renewed = factory.reloaded(purchase.id)
    assert abs(expire_date(renewed) - expire_date(purchase) - PERIOD) <= timedelta(seconds=1)
    assert renewed.started_at == purchase.started_at
    assert check(device)["active"] is True
    assert told(purchase.id) == ["started", "renewed"]
    assert verify_due_purchases() == 0


def test_a_purchase_refused_at_its_expiry_is_canceled_for_good(
    check: Check, told: Told, only_purchase: OnlyPurchase, factory: Factory, clock: Clock
) -> None:
    device = factory.device()
    purchase = factory.purchase(device)
    factory.store_says(purchase, "canceled")
    clock.advance(days=31)
    verify_due_purchases()
    found = only_purchase()
    assert found["state"] == "canceled"
    assert found["canceled_at"] is not None
    assert found["next_check_at"] is None
    assert datetime.fromisoformat(found["expire-date"]) == purchase.expire_date
    assert told(purchase.id) == ["started", "canceled"]

    factory.store_says(purchase, "active")
    clock.advance(days=365)
    assert verify_due_purchases() == 0
    assert check(device)["active"] is False


def test_a_subscription_is_renewed_month_by_month(
    app: Flask, check: Check, told: Told, factory: Factory
) -> None:
    device = factory.device()
    purchase = factory.purchase(device)
    ran = app.test_cli_runner().invoke(args=["clock", "advance", "95d", "--run"])
    assert ran.exit_code == 0, ran.output
    assert told(purchase.id) == ["started"] + ["renewed"] * 3
    assert check(device)["active"] is True


def test_a_missed_month_is_caught_up_in_one_renewal(
    check: Check, told: Told, factory: Factory, clock: Clock
) -> None:
    device = factory.device()
    purchase = factory.purchase(device)
    clock.advance(days=100)
    verify_due_purchases()
    assert told(purchase.id) == ["started", "renewed"]
    assert check(device)["active"] is True


def test_a_store_that_limits_is_asked_again_an_hour_later_and_never_given_up_on(
    check: Check, told: Told, factory: Factory, simulator: SimulatorClient, clock: Clock
) -> None:
    device = factory.device()
    purchase = factory.purchase(device)
    clock.advance(days=30, minutes=1)
    simulator.add_fault("/app-store/verify", status=429)
    for hour in range(12):
        verify_due_purchases()
        assert hits(simulator) == hour + 1
        clock.advance(minutes=59)
        assert verify_due_purchases() == 0
        clock.advance(minutes=1, seconds=1)
    assert told(purchase.id) == ["started"]
    assert check(device) == {
        "status": "success",
        "active": False,
        "state": "expired",
        "expire-date": expire_date(purchase).isoformat(),
    }
    simulator.control("DELETE", "/faults")
    verify_due_purchases()
    assert told(purchase.id) == ["started", "renewed"]
    assert check(device)["active"] is True


@pytest.mark.parametrize("wait", ["120", "7200"])
def test_a_store_that_says_when_is_asked_then(
    factory: Factory, simulator: SimulatorClient, clock: Clock, wait: str
) -> None:
    factory.purchase()
    clock.advance(days=30, minutes=1)
    simulator.add_fault("/app-store/verify", status=429, headers={"Retry-After": wait})
    verify_due_purchases()
    clock.advance(seconds=int(wait) - 30)
    assert verify_due_purchases() == 0
    clock.advance(seconds=31)
    assert verify_due_purchases() == 1


@pytest.mark.parametrize(
    "fault",
    [{"status": 503}, {"drop": "before"}, {"body": "<html>Maintenance</html>"}],
    ids=["503", "dropped", "garbage"],
)
def test_a_store_that_is_down_for_a_day_costs_nobody_a_subscription(
    check: Check,
    told: Told,
    factory: Factory,
    simulator: SimulatorClient,
    clock: Clock,
    fault: dict[str, object],
) -> None:
    device = factory.device()
    purchase = factory.purchase(device)
    clock.advance(days=30, minutes=1)
    simulator.add_fault("/app-store/verify", **fault)
    for _ in range(24):
        verify_due_purchases()
        down = factory.reloaded(purchase.id)
        assert (down.state, down.expire_date) == ("active", purchase.expire_date)
        clock.advance(hours=1)
    assert hits(simulator) >= 20, "it was asked again and again"
    assert told(purchase.id) == ["started"]

    simulator.control("DELETE", "/faults")
    verify_due_purchases()
    assert check(device)["active"] is True
    assert told(purchase.id) == ["started", "renewed"]


def test_a_store_that_is_away_is_asked_again_in_a_minute_and_then_ever_later(
    factory: Factory, simulator: SimulatorClient, clock: Clock
) -> None:
    purchase = factory.purchase()
    simulator.add_fault("/app-store/verify", status=500)
    clock.advance(days=30, minutes=1)
    waits = []
    for _ in range(8):
        before = clock.now()
        assert verify_due_purchases() == 1
        due_at = factory.reloaded(purchase.id).due_at
        assert due_at is not None
        waits.append(round((due_at - before).total_seconds() / 60))
        clock.set_to(due_at)
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60]


def test_waits_begin_anew_once_the_store_has_answered(
    factory: Factory, simulator: SimulatorClient, clock: Clock
) -> None:
    purchase = factory.purchase()
    for _ in range(2):
        clock.advance(days=31)
        simulator.add_fault("/app-store/verify", status=500, times=1)
        before = clock.now()
        verify_due_purchases()
        due_at = factory.reloaded(purchase.id).due_at
        assert due_at is not None
        assert 60 <= (due_at - before).total_seconds() < 90
        clock.set_to(due_at)
        verify_due_purchases()
    assert factory.reloaded(purchase.id).state == "active"


def test_one_store_that_is_down_does_not_hold_up_the_other(
    check: Check, factory: Factory, simulator: SimulatorClient, clock: Clock
) -> None:
    ios, android = factory.device(), factory.device(os=DeviceOs.ANDROID)
    for device in (ios, android):
        factory.purchase(device)
    clock.advance(days=30, minutes=1)
    simulator.add_fault(f"/{STORE_PATHS[DeviceOs.IOS]}/verify", status=500)
    verify_due_purchases()
    assert check(ios)["state"] == "expired"
    assert check(android)["active"] is True


def test_one_receipt_with_a_bad_answer_does_not_hold_up_the_others(
    check: Check, factory: Factory, simulator: SimulatorClient, clock: Clock
) -> None:
    devices = [factory.device() for _ in range(5)]
    for device in devices:
        factory.purchase(device)
    clock.advance(days=30, minutes=1)
    simulator.add_fault("/app-store/verify", times=1, body='{"status": true, "expire-date": 7}')
    verify_due_purchases()
    assert sorted(check(device)["active"] for device in devices) == [False] + [True] * 4


def test_a_subscription_asked_about_in_the_second_of_its_expiry_is_not_canceled(
    told: Told, factory: Factory, clock: Clock
) -> None:
    """The store tells whole seconds and renews at its own fraction of the second."""
    clock.set_to(clock.now().replace(microsecond=600_000))
    device = factory.device()
    purchase = factory.purchase(device)
    clock.set_to(expire_date(purchase))
    verify_due_purchases()
    clock.advance(hours=2)
    verify_due_purchases()
    assert told(purchase.id) == ["started", "renewed"]


@pytest.mark.parametrize("late_minutes", [1, 3, 20, 58])
def test_a_store_that_renews_late_ends_no_subscription(
    told: Told, factory: Factory, clock: Clock, late_minutes: int
) -> None:
    purchase = factory.purchase()
    factory.store_says(purchase, "active", expire_date(purchase))
    clock.set_to(expire_date(purchase))
    for _ in range(late_minutes):
        clock.advance(minutes=1)
        verify_due_purchases()
    assert told(purchase.id) == ["started"]
    factory.store_says(purchase, "default")
    for _ in range(60):
        clock.advance(minutes=1)
        verify_due_purchases()
    assert told(purchase.id) == ["started", "renewed"]


def test_a_store_that_has_not_renewed_within_an_hour_has_ended_it(
    told: Told, factory: Factory, clock: Clock
) -> None:
    purchase = factory.purchase()
    factory.store_says(purchase, "active", expire_date(purchase))
    clock.set_to(expire_date(purchase))
    for _ in range(13):
        verify_due_purchases()
        clock.advance(minutes=10)
    assert told(purchase.id) == ["started", "canceled"]


def test_a_subscription_that_the_store_lets_end_is_canceled(
    told: Told, factory: Factory, clock: Clock
) -> None:
    purchase = factory.purchase()
    factory.store_says(purchase, "active", expire_date(purchase))
    clock.advance(days=40)
    verify_due_purchases()
    assert told(purchase.id) == ["started", "canceled"]
    assert factory.reloaded(purchase.id).expire_date == purchase.expire_date


def test_a_renewal_is_told_with_what_has_changed(
    factory: Factory, simulator: SimulatorClient, clock: Clock
) -> None:
    device = factory.device()
    purchase = factory.purchase(device)
    clock.advance(days=31)
    verify_due_purchases()
    deliver_due_callbacks()
    renewed = factory.reloaded(purchase.id)
    bodies = [message["body"] for message in simulator.inbox(device.app.inbox)["messages"]]
    assert len(bodies) == 2
    assert any('"renewed"' in body and expire_date(renewed).isoformat() in body for body in bodies)
