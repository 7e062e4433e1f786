"""Buying: what a receipt starts, whatever the store and the device do."""

from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import func, select, text

from project.callbacks.jobs import deliver_due_callbacks
from project.callbacks.models import Callback, Event
from project.extensions import db
from project.mobile.purchases.jobs import verify_due_purchases
from project.mobile.states import DeviceOs
from simulator.client import SimulatorClient
from tests.api.problems import assert_problem
from tests.conftest import ChangeSettings
from tests.core.commands import wait_until
from tests.factories import STORE_PATHS, Factory, MadeDevice
from tests.mobile.conftest import Buy, Check, Told
from tests.time_machine import Clock

OnlyPurchase = Callable[[], dict[str, Any]]
PERIOD = timedelta(days=30)
SHORT_SECONDS = 0.3


def asked(simulator: SimulatorClient, os: DeviceOs = DeviceOs.IOS) -> int:
    requests: int = simulator.control("GET", "/stores")[STORE_PATHS[os]]["requests"]
    return requests


@pytest.mark.parametrize("os", list(DeviceOs))
def test_a_good_receipt_is_active_at_once_and_told_of(
    buy: Buy,
    check: Check,
    only_purchase: OnlyPurchase,
    factory: Factory,
    simulator: SimulatorClient,
    clock: Clock,
    os: DeviceOs,
) -> None:
    device = factory.device(os=os)
    answer = buy(device, factory.receipt())
    assert answer.status_code == 200
    found = answer.get_json()
    assert found.keys() == {"status", "state", "expire-date"}
    assert (found["status"], found["state"]) == ("success", "active")
    left = datetime.fromisoformat(found["expire-date"]) - clock.now()
    assert PERIOD - timedelta(minutes=1) < left <= PERIOD
    assert check(device)["expire-date"] == found["expire-date"]
    assert asked(simulator, os) == 1
    purchase = only_purchase()
    assert (purchase["os"], purchase["device_id"]) == (os, device.id)
    assert [event["type"] for event in purchase["events"]] == ["started"]
    deliver_due_callbacks()
    assert simulator.inbox(device.app.inbox)["count"] == 1


def test_a_refused_receipt_is_a_402_and_nothing_is_told(
    buy: Buy, check: Check, only_purchase: OnlyPurchase, factory: Factory
) -> None:
    device = factory.device()
    assert_problem(buy(device, factory.receipt("2")), 402, "receipt")
    assert check(device)["active"] is False
    purchase = only_purchase()
    assert (purchase["state"], purchase["events"]) == ("canceled", [])
    assert purchase["next_check_at"] is None


RETRY_AFTER_DATE = "Wed, 01 Jan 2020 00:00:00 GMT"
BAD_DAYS: dict[str, dict[str, object]] = {
    "500": {"status": 500},
    "404": {"status": 404},
    "a redirect": {"status": 302, "headers": {"Location": "/app-store/verify"}},
    "204 without a body": {"status": 204},
    "429": {"status": 429},
    "429 with seconds": {"status": 429, "headers": {"Retry-After": "120"}},
    "429 with a past date": {"status": 429, "headers": {"Retry-After": RETRY_AFTER_DATE}},
    "429 with nonsense": {"status": 429, "headers": {"Retry-After": "soon"}},
    "no JSON": {"body": "<html>Welcome</html>"},
    "nothing": {"body": ""},
    "a JSON list": {"body": "[]"},
    "no status": {"body": "{}"},
    "a status of text": {"body": '{"status": "true", "expire-date": "2099-01-01 00:00:00"}'},
    "no expire-date": {"body": '{"status": true}'},
    "an unreadable expire-date": {"body": '{"status": true, "expire-date": "tomorrow"}'},
    "an expire-date of a number": {"body": '{"status": true, "expire-date": 1893456000}'},
    "an expire-date out of range": {"body": '{"status": true, "expire-date": "9999-12-31 23:00"}'},
    "deeply nested JSON": {"body": "[" * 60_000},
    "too large an answer": {"body_bytes": 100_000},
    "slower than the deadline": {"delay_seconds": 20},
    "a dropped connection": {"drop": "before"},
    "a connection dropped after the work": {"drop": "after"},
}


@pytest.mark.parametrize("fault", BAD_DAYS.values(), ids=BAD_DAYS)
def test_a_store_with_a_bad_day_leaves_the_purchase_pending_and_verified_later(
    buy: Buy,
    check: Check,
    told: Told,
    only_purchase: OnlyPurchase,
    factory: Factory,
    simulator: SimulatorClient,
    clock: Clock,
    change_settings: ChangeSettings,
    fault: dict[str, object],
) -> None:
    device = factory.device()
    if "delay_seconds" in fault:
        change_settings(store_interactive_timeout_seconds=SHORT_SECONDS)
    fault_id = simulator.add_fault("/app-store/verify", **fault)
    answer = buy(device, factory.receipt())
    assert answer.status_code == 202
    assert answer.get_json() == {"status": "success", "state": "pending"}
    assert check(device) == {
        "status": "success",
        "active": False,
        "state": "pending",
        "expire-date": None,
    }
    purchase = only_purchase()
    assert purchase["state"] == "pending"
    assert purchase["reason"]
    assert purchase["events"] == []

    simulator.control("DELETE", f"/faults/{fault_id}")
    clock.advance(hours=1)
    assert verify_due_purchases() == 1
    assert check(device)["active"] is True
    assert told(purchase["id"]) == ["started"]


def http_date(moment: datetime) -> str:
    return moment.strftime("%a, %d %b %Y %H:%M:%S GMT")


@pytest.mark.parametrize(
    ("retry_after", "seconds"),
    [
        (lambda now: {}, 3600),
        (lambda now: {"Retry-After": "120"}, 120),
        (lambda now: {"Retry-After": http_date(now + timedelta(seconds=300))}, 300),
        (lambda now: {"Retry-After": http_date(now - timedelta(days=1))}, 1),
        (lambda now: {"Retry-After": "0"}, 1),
        (lambda now: {"Retry-After": "9" * 30}, 86_400),
        (lambda now: {"Retry-After": "-5"}, 3600),
        (lambda now: {"Retry-After": "soon"}, 3600),
    ],
    ids=["none", "seconds", "date", "past date", "zero", "huge", "negative", "nonsense"],
)
def test_a_store_that_limits_is_asked_again_when_it_says_or_in_an_hour(
    buy: Buy,
    only_purchase: OnlyPurchase,
    factory: Factory,
    simulator: SimulatorClient,
    clock: Clock,
    retry_after: Callable[[datetime], dict[str, str]],
    seconds: int,
) -> None:
    headers = retry_after(clock.now())
    simulator.add_fault("/app-store/verify", status=429, headers=headers)
    before = clock.now()
    assert buy(factory.device(), factory.receipt()).status_code == 202
    wait = datetime.fromisoformat(only_purchase()["next_check_at"]) - before
    assert abs(wait.total_seconds() - seconds) < 15


def test_a_receipt_that_the_store_limits_by_its_rule_is_pending(
    buy: Buy, only_purchase: OnlyPurchase, factory: Factory
) -> None:
    assert buy(factory.device(), factory.receipt("06")).status_code == 202
    assert only_purchase()["state"] == "pending"


def test_a_slow_store_does_not_keep_its_customer_waiting(
    buy: Buy, factory: Factory, simulator: SimulatorClient, change_settings: ChangeSettings
) -> None:
    change_settings(store_interactive_timeout_seconds=SHORT_SECONDS)
    device = factory.device()
    simulator.add_fault("/app-store/verify", delay_seconds=20)
    started = datetime.now()
    assert buy(device, factory.receipt()).status_code == 202
    assert datetime.now() - started < timedelta(seconds=10)


def test_a_store_within_the_deadline_is_waited_for(
    buy: Buy, factory: Factory, simulator: SimulatorClient
) -> None:
    simulator.add_fault("/app-store/verify", delay_seconds=0.2)
    assert buy(factory.device(), factory.receipt()).status_code == 200


def test_the_workers_give_the_store_more_time_than_a_customer_has(
    buy: Buy,
    check: Check,
    factory: Factory,
    simulator: SimulatorClient,
    clock: Clock,
    change_settings: ChangeSettings,
) -> None:
    change_settings(store_interactive_timeout_seconds=SHORT_SECONDS)
    device = factory.device()
    simulator.add_fault("/app-store/verify", delay_seconds=0.7)
    assert buy(device, factory.receipt()).status_code == 202
    clock.advance(minutes=2)
    verify_due_purchases()
    assert check(device)["active"] is True


def test_a_pending_receipt_sent_again_waits_for_its_turn(
    buy: Buy, only_purchase: OnlyPurchase, factory: Factory, simulator: SimulatorClient
) -> None:
    device, receipt = factory.device(), factory.receipt()
    simulator.add_fault("/app-store/verify", status=429)
    assert [buy(device, receipt).status_code for _ in range(3)] == [202, 202, 202]
    assert asked(simulator) == 0, "the fault answers in the store's place"
    assert simulator.control("GET", "/faults")["faults"][0]["hits"] == 1
    assert only_purchase()["state"] == "pending"


def test_the_purchase_run_command_verifies_what_is_pending(
    app: Flask, buy: Buy, check: Check, factory: Factory, simulator: SimulatorClient, clock: Clock
) -> None:
    devices = [factory.device() for _ in range(3)]
    simulator.add_fault("/app-store/verify", times=3, status=500)
    assert [buy(device, factory.receipt()).status_code for device in devices] == [202, 202, 202]
    clock.advance(hours=1)
    flask = app.test_cli_runner()
    first = flask.invoke(args=["purchase-run", "--inline", "--limit", "2"])
    assert (first.exit_code, first.stdout) == (0, "2 purchases done.\n")
    assert sorted(check(device)["active"] for device in devices) == [False, True, True]
    second = flask.invoke(args=["purchase-run", "--inline"])
    assert (second.exit_code, second.stdout) == (0, "1 purchases done.\n")
    assert all(check(device)["active"] for device in devices)
    third = flask.invoke(args=["purchase-run"])
    assert third.stdout == "0 purchases are due; the workers have been woken.\n"


def test_the_same_good_receipt_again_changes_nothing(
    buy: Buy, only_purchase: OnlyPurchase, factory: Factory, simulator: SimulatorClient
) -> None:
    device, receipt = factory.device(), factory.receipt()
    first = buy(device, receipt)
    before = only_purchase()
    again = buy(device, receipt)
    assert (again.status_code, again.get_json()) == (200, first.get_json())
    assert only_purchase() == before
    assert asked(simulator) == 1
    assert db.session.scalar(select(func.count()).select_from(Event)) == 1
    assert db.session.scalar(select(func.count()).select_from(Callback)) == 1


def test_a_receipt_moves_to_the_other_device_of_the_same_app(
    buy: Buy,
    check: Check,
    told: Told,
    only_purchase: OnlyPurchase,
    factory: Factory,
    clock: Clock,
    simulator: SimulatorClient,
) -> None:
    old = factory.device()
    new = factory.device(old.app)
    receipt = factory.receipt()
    first = buy(old, receipt)
    moved = buy(new, receipt)
    assert (moved.status_code, moved.get_json()) == (200, first.get_json())
    assert check(new)["active"] is True
    assert check(old) == {"status": "success", "active": False, "state": None, "expire-date": None}
    purchase = only_purchase()
    assert purchase["device_id"] == new.id
    assert told(purchase["id"]) == ["started", "canceled", "started"]
    _, lost, got = purchase["events"]
    assert (lost["data"]["deviceID"], lost["data"]["transferred_to"]) == (old.id, new.id)
    assert (got["data"]["deviceID"], got["data"]["transferred_from"]) == (new.id, old.id)
    for event in (lost, got):
        assert event["data"]["expire-date"] == purchase["expire-date"]
    assert buy(new, receipt).status_code == 200
    assert len(only_purchase()["events"]) == 3, "it has moved already"

    clock.advance(days=31)
    verify_due_purchases()
    renewed = only_purchase()["events"][-1]
    assert (renewed["type"], renewed["data"]["deviceID"]) == ("renewed", new.id)


def test_the_daily_report_counts_a_move_as_it_is_told(
    buy: Buy, operator: FlaskClient, only_purchase: OnlyPurchase, factory: Factory
) -> None:
    old = factory.device()
    new = factory.device(old.app)
    receipt = factory.receipt()
    for device in (old, new, old):
        assert buy(device, receipt).status_code == 200

    (row,) = operator.get("/api/reports").get_json()["data"]

    events = Counter(event["type"] for event in only_purchase()["events"])
    assert (
        (row["ios-start"], row["ios-cancel"]) == (events["started"], events["canceled"]) == (3, 2)
    )


def test_a_receipt_whose_store_is_away_moves_and_only_the_last_device_is_told_of(
    buy: Buy,
    told: Told,
    only_purchase: OnlyPurchase,
    factory: Factory,
    simulator: SimulatorClient,
    clock: Clock,
) -> None:
    old = factory.device()
    new = factory.device(old.app)
    receipt = factory.receipt()
    fault = simulator.add_fault("/app-store/verify", status=503)
    assert [buy(device, receipt).status_code for device in (old, new)] == [202, 202]
    simulator.control("DELETE", f"/faults/{fault}")

    clock.advance(hours=2)
    verify_due_purchases()

    (event,) = only_purchase()["events"]
    assert (event["type"], event["data"]["deviceID"]) == ("started", new.id)


@pytest.mark.parametrize("os", list(DeviceOs))
def test_no_app_blocks_the_receipt_of_another_while_the_store_is_away(
    buy: Buy,
    check: Check,
    only_purchase: OnlyPurchase,
    factory: Factory,
    simulator: SimulatorClient,
    clock: Clock,
    os: DeviceOs,
) -> None:
    blocker, owner = factory.device(), factory.device(os=os)
    receipt = factory.receipt()
    faults = [simulator.add_fault(f"/{store}/verify", status=503) for store in STORE_PATHS.values()]
    assert buy(blocker, receipt).status_code == 202
    assert buy(owner, receipt).status_code == 202
    for fault in faults:
        simulator.control("DELETE", f"/faults/{fault}")

    clock.advance(hours=2)
    verify_due_purchases()

    assert check(owner)["active"] is True
    assert check(blocker)["state"] is None
    found = only_purchase()
    assert (found["app_id"], found["os"]) == (owner.app.id, os)
    assert [event["data"]["appID"] for event in found["events"]] == [owner.app.id]
    assert_problem(buy(blocker, receipt), 409, "receipt")
    assert check(owner)["active"] is True


def is_being_asked() -> bool:
    with db.engine.begin() as connection:
        return bool(connection.scalar(text("SELECT count(claim_id) FROM purchases")))


def test_an_app_that_lost_a_receipt_while_its_store_was_asked_is_told_so(
    app: Flask, buy: Buy, check: Check, factory: Factory, simulator: SimulatorClient
) -> None:
    first, second = factory.device(), factory.device(os=DeviceOs.ANDROID)
    receipt = factory.receipt()
    simulator.add_fault("/app-store/verify", delay_seconds=1.5)

    with ThreadPoolExecutor(1) as pool:
        body = {"client-token": first.token, "receipt": receipt}
        asking = pool.submit(app.test_client().post, "/api/purchase", json=body)
        wait_until(is_being_asked)
        assert buy(second, receipt).status_code == 200
        answer = asking.result()

    assert_problem(answer, 409, "receipt")
    assert check(second)["active"] is True
    assert check(first)["state"] is None


def test_a_receipt_that_moves_to_another_system_is_still_asked_of_its_own_store(
    buy: Buy, check: Check, factory: Factory, clock: Clock, simulator: SimulatorClient
) -> None:
    old = factory.device()
    new = factory.device(old.app, DeviceOs.ANDROID)
    receipt = factory.receipt()
    buy(old, receipt)
    assert buy(new, receipt).status_code == 200
    clock.advance(days=31)
    verify_due_purchases()
    assert asked(simulator, DeviceOs.IOS) == 2
    assert asked(simulator, DeviceOs.ANDROID) == 0
    assert check(new)["active"] is True


@pytest.mark.parametrize("state", ["active", "canceled"])
def test_a_receipt_of_another_app_is_a_conflict(
    buy: Buy,
    check: Check,
    only_purchase: OnlyPurchase,
    factory: Factory,
    simulator: SimulatorClient,
    clock: Clock,
    state: str,
) -> None:
    owner, thief = factory.device(), factory.device()
    receipt = factory.receipt()
    purchase = factory.purchase(owner, receipt)
    if state == "canceled":
        factory.store_says(purchase, "canceled")
        clock.advance(days=31)
        verify_due_purchases()
    assert only_purchase()["state"] == state
    assert_problem(buy(thief, receipt), 409, "receipt")
    assert only_purchase()["device_id"] == owner.id
    assert check(thief)["state"] is None


@pytest.mark.parametrize("os", list(DeviceOs))
def test_a_refused_receipt_may_be_bought_by_another_app(
    buy: Buy, check: Check, only_purchase: OnlyPurchase, factory: Factory, os: DeviceOs
) -> None:
    guesser, owner = factory.device(), factory.device(os=os)
    receipt = factory.receipt("2")
    assert buy(guesser, receipt).status_code == 402
    purchase = factory.reloaded(only_purchase()["id"])
    purchase.os = str(os)
    factory.store_says(purchase, "active")
    assert buy(owner, receipt).status_code == 200
    found = only_purchase()
    assert (found["app_id"], found["device_id"]) == (owner.app.id, owner.id)
    assert found["os"] == os
    assert check(guesser)["active"] is False
    assert_problem(buy(guesser, receipt), 409, "receipt")


def test_a_refused_receipt_may_be_good_later(
    buy: Buy, check: Check, told: Told, only_purchase: OnlyPurchase, factory: Factory
) -> None:
    device, receipt = factory.device(), factory.receipt("2")
    assert buy(device, receipt).status_code == 402
    assert_problem(buy(device, receipt), 402, "receipt")
    purchase = factory.reloaded(only_purchase()["id"])
    factory.store_says(purchase, "active")
    assert buy(device, receipt).status_code == 200
    assert check(device)["active"] is True
    assert told(purchase.id) == ["started"]
    assert only_purchase()["reason"] is None


def test_a_canceled_subscription_bought_again_starts_again(
    buy: Buy, check: Check, told: Told, factory: Factory, clock: Clock
) -> None:
    device, receipt = factory.device(), factory.receipt()
    purchase = factory.purchase(device, receipt)
    factory.store_says(purchase, "canceled")
    clock.advance(days=31)
    verify_due_purchases()
    assert check(device)["active"] is False
    assert_problem(buy(device, receipt), 402)
    factory.store_says(purchase, "default")
    assert buy(device, receipt).status_code == 200
    assert check(device)["active"] is True
    assert told(purchase.id) == ["started", "canceled", "started"]


def test_an_expired_receipt_sent_again_is_asked_at_once(
    buy: Buy, check: Check, told: Told, factory: Factory, clock: Clock
) -> None:
    device, receipt = factory.device(), factory.receipt()
    purchase = factory.purchase(device, receipt)
    clock.advance(days=31)
    assert buy(device, receipt).status_code == 200
    assert check(device)["active"] is True
    assert told(purchase.id) == ["started", "renewed"]


def test_a_receipt_that_expired_at_the_store_buys_nothing(
    buy: Buy, told: Told, only_purchase: OnlyPurchase, factory: Factory, simulator: SimulatorClient
) -> None:
    order = {"state": "active", "expires_at": "2020-01-01T00:00:00+00:00"}
    simulator.control("PUT", "/receipts/app-store/an-old-receipt-1", order)
    assert_problem(buy(factory.device(), "an-old-receipt-1"), 402, "receipt")
    assert only_purchase()["events"] == []


@pytest.mark.parametrize(
    ("expires_at", "written"),
    [
        ("2099-01-31T23:30:00+00:00", "2099-01-31 17:30:00"),
        ("2099-03-01T03:00:00+00:00", "2099-02-28 21:00:00"),
        ("2099-07-01T12:00:00+00:00", "2099-07-01 06:00:00"),
    ],
)
def test_an_expire_date_in_the_stores_own_time_comes_out_right(
    buy: Buy,
    check: Check,
    factory: Factory,
    simulator: SimulatorClient,
    expires_at: str,
    written: str,
) -> None:
    device, receipt = factory.device(), factory.receipt()
    order = {"state": "active", "expires_at": expires_at}
    simulator.control("PUT", f"/receipts/app-store/{receipt}", order)
    said = simulator.call("POST", "/app-store/verify", {"receipt": receipt}).json()
    assert said["expire-date"] == written
    bought = buy(device, receipt).get_json()["expire-date"]
    assert datetime.fromisoformat(bought).utcoffset() is not None
    assert datetime.fromisoformat(bought) == datetime.fromisoformat(expires_at)
    assert check(device)["expire-date"] == bought


def test_an_expire_date_with_an_offset_is_taken_at_its_word(
    buy: Buy, factory: Factory, simulator: SimulatorClient
) -> None:
    body = '{"status": true, "expire-date": "2099-01-01T00:00:00+05:30"}'
    simulator.add_fault("/app-store/verify", body=body)
    bought = buy(factory.device(), factory.receipt()).get_json()["expire-date"]
    assert datetime.fromisoformat(bought) == datetime.fromisoformat("2098-12-31T18:30:00+00:00")


def test_a_device_may_have_several_purchases(
    buy: Buy, check: Check, factory: Factory, operator: FlaskClient
) -> None:
    device = factory.device()
    for last in ("1", "3", "2"):
        buy(device, factory.receipt(last))
    states = [row["state"] for row in operator.get("/api/purchases").get_json()["data"]]
    assert sorted(states) == ["active", "active", "canceled"]
    assert check(device)["active"] is True


@pytest.mark.parametrize("form", ["urlencoded", "multipart"])
@pytest.mark.parametrize("name", ["client-token", "client_token"])
def test_a_receipt_may_come_as_a_form(
    client: FlaskClient, factory: Factory, form: str, name: str
) -> None:
    content_type = {"multipart": "multipart/form-data"}.get(form)
    body = {name: factory.device().token, "receipt": factory.receipt()}
    answer = client.post("/api/purchase/", data=body, content_type=content_type)
    assert (answer.status_code, answer.get_json()["state"]) == (200, "active")


@pytest.mark.parametrize(
    "receipt", [None, "", 7, ["a"], "two\nlines", "nul\x001", "x" * 100_001, "\ud800"]
)
def test_what_is_no_receipt(
    client: FlaskClient, operator: FlaskClient, factory: Factory, receipt: object
) -> None:
    body = {"client-token": factory.device().token, "receipt": receipt}
    assert_problem(client.post("/api/purchase", json=body), 400, "receipt")
    assert operator.get("/api/purchases").get_json()["data"] == []


def test_a_receipt_as_long_as_stores_make_them_is_taken(buy: Buy, factory: Factory) -> None:
    assert buy(factory.device(), "x" * 99_999 + "1").status_code == 200


def test_a_receipt_is_never_shown_in_full(
    buy: Buy, operator: FlaskClient, factory: Factory
) -> None:
    receipt = "a-receipt-that-nobody-may-read-1"
    buy(factory.device(), receipt)
    for page in ("/api/purchases", "/api/purchases/1", "/api/callbacks/1"):
        assert receipt[:20] not in operator.get(page).get_data(as_text=True)


def unknown_device(factory: Factory) -> MadeDevice:
    return MadeDevice(1, factory.app(), DeviceOs.IOS, "ct_unknown")


def test_nobody_buys_with_a_token_that_is_not_known(
    buy: Buy, operator: FlaskClient, factory: Factory, simulator: SimulatorClient
) -> None:
    assert_problem(buy(unknown_device(factory), factory.receipt()), 401)
    assert operator.get("/api/purchases").get_json()["data"] == []
    assert asked(simulator) == 0
