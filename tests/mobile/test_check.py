"""Checking: is the device's subscription active, and until when?"""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from flask.testing import FlaskClient

from project.mobile.purchases.jobs import verify_due_purchases
from project.mobile.states import DeviceOs
from simulator.client import SimulatorClient
from tests.api.problems import assert_problem
from tests.conftest import API_KEY
from tests.factories import Factory, MadeDevice
from tests.mobile.conftest import Buy, Check
from tests.time_machine import Clock

NOTHING_BOUGHT = {"status": "success", "active": False, "state": None, "expire-date": None}


def test_a_device_that_bought_nothing_is_not_active(check: Check, factory: Factory) -> None:
    assert check(factory.device()) == NOTHING_BOUGHT


def test_a_good_purchase_is_active_until_its_expire_date(
    check: Check, factory: Factory, clock: Clock
) -> None:
    device = factory.device()
    purchase = factory.purchase(device)
    assert purchase.expire_date is not None
    found = check(device)
    assert (found["active"], found["state"]) == (True, "active")
    assert datetime.fromisoformat(found["expire-date"]) == purchase.expire_date

    clock.set_to(purchase.expire_date - timedelta(seconds=30))
    assert check(device)["active"] is True
    clock.set_to(purchase.expire_date)
    late = check(device)
    assert (late["active"], late["state"]) == (False, "expired")
    assert late["expire-date"] == found["expire-date"]


def test_a_canceled_purchase_is_not_active(check: Check, factory: Factory, clock: Clock) -> None:
    device = factory.device()
    purchase = factory.purchase(device)
    factory.store_says(purchase, "canceled")
    clock.advance(days=31)
    verify_due_purchases()
    found = check(device)
    assert (found["active"], found["state"]) == (False, "canceled")
    assert datetime.fromisoformat(found["expire-date"]) == purchase.expire_date


def test_a_pending_purchase_is_not_active_yet(check: Check, factory: Factory) -> None:
    device = factory.device()
    factory.purchase(device, factory.receipt("06"))
    assert check(device) == {**NOTHING_BOUGHT, "state": "pending"}


def test_a_restarted_database_is_not_noticed(
    check: Check, factory: Factory, cut_connections: Callable[[], None]
) -> None:
    device = factory.device()
    assert check(device) == NOTHING_BOUGHT
    cut_connections()
    assert check(device) == NOTHING_BOUGHT


@pytest.mark.parametrize(
    ("lasts", "state"), [(("1", "2"), "active"), (("2", "1"), "active"), (("2", "06"), "pending")]
)
def test_of_several_purchases_the_best_one_counts(
    check: Check, factory: Factory, lasts: tuple[str, str], state: str
) -> None:
    device = factory.device()
    for last in lasts:
        factory.purchase(device, factory.receipt(last))
    assert check(device)["state"] == state


def test_of_two_active_purchases_the_one_that_lasts_longer_counts(
    check: Check, factory: Factory, simulator: SimulatorClient
) -> None:
    device = factory.device()
    for expires_at in ("2098-01-01", "2099-01-01", "2097-01-01"):
        receipt = factory.receipt()
        order = {"state": "active", "expires_at": f"{expires_at}T00:00:00+00:00"}
        simulator.control("PUT", f"/receipts/app-store/{receipt}", order)
        factory.purchase(device, receipt)
    assert check(device)["expire-date"] == "2099-01-01T00:00:00+00:00"


def test_a_subscription_that_still_runs_counts_before_one_that_has_ended(
    check: Check, factory: Factory, clock: Clock
) -> None:
    device = factory.device()
    ended = factory.purchase(device)
    clock.advance(days=31)
    running = factory.purchase(device)
    assert check(device)["active"] is True
    factory.store_says(ended, "canceled")
    verify_due_purchases()
    found = check(device)
    assert found["active"] is True
    assert datetime.fromisoformat(found["expire-date"]) == running.expire_date


def test_one_device_does_not_see_what_another_bought(check: Check, factory: Factory) -> None:
    one = factory.device()
    factory.purchase(one)
    assert check(factory.device(one.app)) == NOTHING_BOUGHT


def sent(token: object, where: str) -> dict[str, Any]:
    return {
        "body": {"json": {"client-token": token}},
        "underscore": {"json": {"client_token": token}},
        "form": {"data": {"client-token": token}},
        "header": {"headers": {"X-Client-Token": str(token)}},
        "header and empty object": {"headers": {"X-Client-Token": str(token)}, "json": {}},
    }[where]


WHERE = ["body", "underscore", "form", "header", "header and empty object"]


@pytest.mark.parametrize("where", WHERE)
@pytest.mark.parametrize("path", ["/api/purchase/check", "/api/purchase/check/"])
def test_the_token_may_come_in_the_body_or_in_the_header(
    client: FlaskClient, factory: Factory, path: str, where: str
) -> None:
    device = factory.device()
    factory.purchase(device)
    answer = client.post(path, **sent(device.token, where))
    assert (answer.status_code, answer.get_json()["active"]) == (200, True)


def test_a_token_in_the_header_buys_too(client: FlaskClient, factory: Factory) -> None:
    answer = client.post(
        "/api/purchase",
        json={"receipt": factory.receipt()},
        headers={"X-Client-Token": factory.device().token},
    )
    assert answer.status_code == 200


def test_the_token_in_the_body_counts_before_the_one_in_the_header(
    client: FlaskClient, factory: Factory
) -> None:
    bought, other = factory.device(), factory.device()
    factory.purchase(bought)
    answer = client.post(
        "/api/purchase/check",
        json={"client-token": other.token},
        headers={"X-Client-Token": bought.token},
    )
    assert answer.get_json() == NOTHING_BOUGHT


def dead_token(device: MadeDevice, client: FlaskClient) -> str:
    answer = client.post(
        "/api/devices/register",
        json={"uid": "reborn", "appId": device.app.id, "language": "en", "os": "ios"},
    )
    token: str = answer.get_json()["client-token"]
    again = client.post(
        "/api/devices/register",
        json={"uid": "reborn", "appId": device.app.id, "language": "en", "os": "ios"},
    )
    new = {"client-token": again.get_json()["client-token"]}
    assert client.post("/api/purchase/check", json=new).status_code == 200
    return token


@pytest.mark.parametrize("path", ["/api/purchase/check", "/api/purchase"])
@pytest.mark.parametrize("where", WHERE)
@pytest.mark.parametrize("kind", ["wrong", "cut", "upper case", "dead", "operator's", "long"])
def test_a_token_that_is_not_in_force_never_gets_through(
    client: FlaskClient, factory: Factory, path: str, where: str, kind: str
) -> None:
    device = factory.device()
    factory.purchase(device)
    token = {
        "wrong": "ct_wrong",
        "cut": device.token[:-1],
        "upper case": device.token.upper(),
        "dead": dead_token(device, client),
        "operator's": API_KEY,
        "long": "x" * 10_000,
    }[kind]
    request = sent(token, where)
    body = "data" if "data" in request else "json"
    if path == "/api/purchase":
        request[body] = {**request.get(body, {}), "receipt": "a-receipt-1"}
    assert_problem(client.post(path, **request), 401)


@pytest.mark.parametrize("path", ["/api/purchase/check", "/api/purchase"])
@pytest.mark.parametrize(
    "token", [None, "", 7, True, [], {}, ["ct_x"], "\x00", "\ud800", "' OR 1=1 --"]
)
def test_what_is_no_token_never_gets_through(
    client: FlaskClient, factory: Factory, path: str, token: object
) -> None:
    factory.purchase()
    receipt = {"receipt": "a-receipt-1"} if path == "/api/purchase" else {}
    assert_problem(client.post(path, json={"client-token": token, **receipt}), 401)


@pytest.mark.parametrize("path", ["/api/purchase/check", "/api/purchase"])
def test_without_a_token_nobody_gets_through(
    client: FlaskClient, operator: FlaskClient, factory: Factory, path: str
) -> None:
    factory.purchase()
    for caller in (client, operator):
        assert_problem(caller.post(path), 401, "client-token")
        assert_problem(caller.post(path, json={}), 401, "client-token")
        assert_problem(caller.get(path), 405)


def test_a_device_is_no_operator(client: FlaskClient, factory: Factory) -> None:
    token = factory.device().token
    headers = {"Authorization": f"Bearer {token}", "X-Client-Token": token}
    assert_problem(client.get("/api/purchases", headers=headers), 401)


def test_a_device_of_another_app_has_nothing_there(
    buy: Buy, check: Check, factory: Factory
) -> None:
    owner, foreign = factory.device(), factory.device(os=DeviceOs.ANDROID)
    buy(owner, factory.receipt())
    assert check(foreign) == NOTHING_BOUGHT
