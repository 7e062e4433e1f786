"""We were away, or the provider was, or it took nothing of ours: nobody pays for that but once."""

import itertools
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import text

from project.billing.jobs import (
    charge_due,
    charge_late,
    expire_payments,
    expire_subscriptions,
    match_pending,
    match_successful,
)
from project.core.db.transaction import transaction
from tests.billing.conftest import Told
from tests.billing.desk import Desk, at_once, close_to
from tests.time_machine import Clock

END = datetime(2027, 2, 15, 10, tzinfo=UTC)
NEXT_END = datetime(2027, 3, 15, 10, tzinfo=UTC)
ANY = "/yookassa/v3/*"
CREATE = "/yookassa/v3/payments"
REFUSED = "canceled:insufficient_funds"
JOBS: dict[str, Callable[[], object]] = {
    "charge": charge_due,
    "expire": expire_subscriptions,
    "expire payments": expire_payments,
    "inquire": match_pending,
}
RECEIPT = {"type": "error", "code": "invalid_request", "description": "Receipt is missing"}
OUTAGES: dict[str, tuple[str, dict[str, object]]] = {
    "503": (ANY, {"status": 503}),
    "no answer": (ANY, {"drop": "before"}),
    "work done, no answer": (ANY, {"drop": "after"}),
    "a page instead": (ANY, {"body": "<html>"}),
    "paths that are not there": (ANY, {"status": 404}),
    "too many requests": (ANY, {"status": 429}),
    "wrong key": (ANY, {"status": 401}),
    "no recurring payments": (CREATE, {"status": 403}),
    "no receipt": (CREATE, {"status": 400, "body": json.dumps(RECEIPT)}),
}
OUR_FAULT = ("wrong key", "no recurring payments", "no receipt", "paths that are not there")


def days_of_work(desk: Desk, clock: Clock, days: int, *, every_hours: int = 6) -> None:
    """Every periodic job, several times a day."""
    for _ in range(days * 24 // every_hours):
        for job in (charge_due, charge_late, match_pending, expire_subscriptions, expire_payments):
            job()
        clock.advance(hours=every_hours)


@pytest.fixture
def left(desk: Desk, clock: Clock) -> tuple[int, int]:
    """A subscription refused once, and one never charged, when all of us stopped for five days."""
    package = desk.package()
    refused_once = desk.subscription(REFUSED, package_id=package)
    clock.advance(days=1)
    never_charged = desk.subscription(package_id=package)
    clock.set_to(END)
    charge_due()
    assert desk.states(refused_once) == ["canceled"]
    clock.set_to(END + timedelta(days=6))
    return refused_once, never_charged


@pytest.mark.parametrize("order", list(itertools.permutations(JOBS)), ids=", ".join)
def test_after_days_without_us_whatever_runs_first_everybody_pays_once(
    desk: Desk, clock: Clock, left: tuple[int, int], order: tuple[str, ...]
) -> None:
    for name in order:
        JOBS[name]()

    refused_once, never_charged = left
    assert desk.states(refused_once) == ["canceled", "succeeded"]
    assert desk.states(never_charged) == ["succeeded"]
    assert {desk.read(sub).state for sub in left} == {"active"}
    assert sum(desk.paid_there().values()) == 2


def test_after_days_without_us_everything_may_run_at_once(
    app: Flask, desk: Desk, clock: Clock, left: tuple[int, int]
) -> None:
    at_once(app, *JOBS.values(), charge_due, expire_subscriptions)

    assert {desk.read(sub).state for sub in left} == {"active"}
    assert sum(desk.paid_there().values()) == 2


def test_a_first_try_that_came_late_is_followed_by_all_others(
    desk: Desk, clock: Clock, told: Told
) -> None:
    sub = desk.subscription(REFUSED, REFUSED, REFUSED)
    clock.set_to(END + timedelta(days=5))

    days_of_work(desk, clock, 3, every_hours=12)

    assert desk.states(sub) == ["canceled"] * 3
    assert told.types() == ["assigned", "past_due", "past_due", "exhausted"]


@pytest.mark.parametrize("days", [1, 5])
@pytest.mark.parametrize("outage", OUTAGES)
def test_an_outage_costs_nobody_anything(
    desk: Desk, clock: Clock, told: Told, outage: str, days: int
) -> None:
    sub = desk.subscription()
    clock.set_to(END.replace(hour=3))
    path, fault = OUTAGES[outage]
    with desk.trouble(path, **fault):
        days_of_work(desk, clock, days)
    assert desk.read(sub).state == "active"

    days_of_work(desk, clock, 2)
    match_successful()

    paid = desk.read(sub)
    assert (paid.state, paid.refusals) == ("active", 0)
    assert close_to(paid.ended_at, NEXT_END)
    assert desk.states(sub).count("succeeded") == 1
    assert sum(desk.paid_there().values()) == 1
    assert {change.type for change in told.changes} == {"assigned", "renewed"}
    assert [one.state for one in told.settled] == ["succeeded"]
    assert len(desk.payments(sub)) <= 6 * days


@pytest.mark.parametrize("outage", OUR_FAULT)
def test_what_is_not_taken_is_one_case_for_all_and_loud(
    desk: Desk, clock: Clock, operator: FlaskClient, outage: str
) -> None:
    package = desk.package()
    for _ in range(3):
        desk.subscription(package_id=package)
    clock.set_to(END)
    path, fault = OUTAGES[outage]
    with desk.trouble(path, **fault):
        days_of_work(desk, clock, 1)

    [case] = operator.get("/api/reconciliation/cases?state=open").get_json()["data"]
    assert case["kind"] == "not_taken"
    assert str(fault["status"]) in case["evidence"]["there"]["reason"]
    health = operator.get("/api/health").get_json()
    assert health["parts"]["charges_not_taken"]["error"] == case["evidence"]["there"]["reason"]
    note = {"note": "mended"}
    operator.post(f"/api/reconciliation/cases/{case['id']}/resolve", json=note)
    assert "charges_not_taken" not in operator.get("/api/health").get_json()["parts"]


def test_a_fault_of_ours_that_comes_back_opens_its_case_again(desk: Desk, clock: Clock) -> None:
    desk.subscription()
    clock.set_to(END)
    with desk.trouble(CREATE, status=403):
        charge_due()
        assert desk.cases() == [("not_taken", "open")]


@pytest.mark.parametrize("hours", [1, 25])
def test_a_try_between_two_daily_runs_comes_at_its_time(
    desk: Desk, clock: Clock, told: Told, hours: int
) -> None:
    package = desk.package(retry_attempts=3, retry_interval_seconds=hours * 3600)
    sub = desk.subscription(REFUSED, REFUSED, REFUSED, package_id=package)
    clock.set_to(END.replace(hour=3))
    charge_due()
    for number in (2, 3):
        clock.advance(hours=hours, minutes=-2)
        charge_late()
        assert len(desk.payments(sub)) == number - 1
        clock.advance(minutes=3)
        charge_late()
        assert len(desk.payments(sub)) == number
    assert told.types()[-1] == "exhausted"


def test_the_days_renewals_wait_for_the_days_run(desk: Desk, clock: Clock) -> None:
    package = desk.package()
    renewed = desk.subscription(package_id=package)
    clock.set_to(END.replace(hour=0, minute=30))

    charge_late()
    match_pending()
    charge_late()
    assert desk.payments(renewed) == []
    clock.set_to(END.replace(hour=3, minute=1))
    charge_late()

    assert desk.states(renewed) == ["succeeded"]


def test_a_whole_days_retry_waits_for_the_days_run_too(desk: Desk, clock: Clock) -> None:
    sub = desk.subscription(REFUSED)
    clock.set_to(END.replace(hour=3))
    charge_due()
    clock.set_to(END + timedelta(hours=16))
    charge_late()
    assert desk.states(sub) == ["canceled"]
    charge_due()
    assert desk.states(sub) == ["canceled", "succeeded"]


def test_who_expired_although_nothing_ever_reached_the_provider_is_brought_back(
    desk: Desk, clock: Clock
) -> None:
    """As releases before did it: expired by the days, while its payment was waiting."""

    sub = desk.subscription()
    clock.set_to(END)
    with desk.trouble(ANY, status=503):
        charge_due()
    with transaction() as session:
        session.execute(text("UPDATE subscriptions SET state = 'expired', due_at = NULL"))
    clock.advance(days=4)

    match_pending()
    charge_late()

    assert desk.read(sub).state == "active"
    assert sum(desk.paid_there().values()) == 1
