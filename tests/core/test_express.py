"""The short way past Flask says what the long way says, to good calls and to bad ones."""

import json
from datetime import UTC, datetime
from ipaddress import ip_network
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.middleware.proxy_fix import ProxyFix
from werkzeug.test import Client

from project.clicks.intake.signatures import signature_of
from project.companies import routes as companies
from project.config import get_settings
from project.core import express
from project.mobile.purchases import routes as purchases
from tests.api.problems import assert_problem
from tests.conftest import ChangeSettings
from tests.factories import Factory

WEBHOOK = "/api/webhook/clicks"
CLICK = {"click_id": "a", "offer_id": 1, "source": "s", "timestamp": datetime.now(UTC).isoformat()}
CHECK = "/api/purchase/check"
OWN_ID = "a-request-id-of-the-caller"
LONG = {"Content-Type": "application/json; charset=utf-8"}
SHORT = {"Content-Type": "application/json"}


@pytest.fixture
def passed(monkeypatch: pytest.MonkeyPatch, app: Flask) -> list[str]:
    """Which calls Flask has seen."""
    seen: list[str] = []
    lane = app.extensions["express"]
    flask = lane._application

    def see(environ: Any, start_response: Any) -> Any:
        seen.append(environ["PATH_INFO"])
        return flask(environ, start_response)

    monkeypatch.setattr(lane, "_application", see)
    return seen


def both_ways(client: FlaskClient, path: str, body: bytes, **headers: str) -> tuple[Any, Any]:
    """Return the answers of the short and of the long way."""
    given = {"X-Request-ID": OWN_ID, **{name.replace("_", "-"): headers[name] for name in headers}}
    short, long = (
        client.post(path, data=body, headers={**given, **kind}) for kind in (SHORT, LONG)
    )
    return short, long


def assert_same(short: Any, long: Any, *, but: tuple[str, ...] = ("Content-Length",)) -> None:
    assert short.status == long.status
    assert short.get_json() == long.get_json()
    for name in but:
        short.headers.pop(name, None)
        long.headers.pop(name, None)
    assert dict(short.headers) == dict(long.headers)


def test_a_check_that_is_in_order_never_sees_flask(
    client: FlaskClient, factory: Factory, passed: list[str]
) -> None:
    device = factory.device()
    factory.purchase(device)

    short, long = both_ways(client, CHECK, json.dumps({"client-token": device.token}).encode())

    assert passed.count(CHECK) == 1
    assert short.get_json()["active"] is True
    assert_same(short, long)


def test_a_click_that_is_in_order_never_sees_flask(client: FlaskClient, passed: list[str]) -> None:
    body = json.dumps(CLICK).encode()
    signature = signature_of(get_settings().webhook_secrets[0], body)

    short, long = both_ways(client, WEBHOOK, body, X_Signature=signature)

    assert len(passed) == 1
    assert short.status_code == 202
    assert_same(short, long)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"{", 400),
        (b"[]", 400),
        (b"", 400),
        (b'{"client-token": "nobody"}', 401),
        (b'{"client-token": 7}', 401),
        (b'{"client-token": ""}', 401),
        (b'{"client-token": "a", "more": 1}', 400),
        (b'{"client-token": "a", "client_token": "a"}', 400),
        (b'{"client-token": "\xff"}', 400),
    ],
)
def test_what_is_wrong_is_told_as_flask_tells_it(
    client: FlaskClient, body: bytes, status: int
) -> None:
    short, long = both_ways(client, CHECK, body)

    assert_problem(short, status)
    assert_same(short, long)


def test_a_call_that_failed_is_not_tried_again(
    client: FlaskClient, app: Flask, passed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = []

    def fail(_call: express.Call) -> dict[str, Any]:
        tried.append(True)
        raise ZeroDivisionError

    express.add(app, "POST", "/api/packages", fail)
    monkeypatch.setitem(app.config, "PROPAGATE_EXCEPTIONS", False)
    try:
        answer = client.post("/api/packages", json={}, headers={"X-Request-ID": OWN_ID})
    finally:
        del app.extensions["express"]._routes["POST", "/api/packages"]

    told = assert_problem(answer, 500)
    assert (told["request_id"], answer.headers["X-Request-ID"]) == (OWN_ID, OWN_ID)
    assert (len(tried), len(passed)) == (1, 1)


@pytest.mark.parametrize(
    "odd",
    [
        {"query_string": "a=1"},
        {"headers": {"Transfer-Encoding": "chunked"}},
        {"environ_overrides": {"CONTENT_LENGTH": "many"}},
        {"environ_overrides": {"CONTENT_LENGTH": "9" * 30}},
        {"content_type": "application/x-www-form-urlencoded"},
        {"method": "PUT"},
        {"path": CHECK + "/"},
    ],
)
def test_a_call_that_is_not_plain_takes_the_long_way(
    client: FlaskClient, passed: list[str], odd: dict[str, Any]
) -> None:
    given: dict[str, Any] = {"path": CHECK, "method": "POST", "content_type": "application/json"}

    answer = client.open(**{**given, "data": b'{"client-token": "nobody"}', **odd})

    assert len(passed) == 1
    assert 400 <= answer.status_code < 500


def test_a_body_that_is_too_long_is_refused_by_flask(
    client: FlaskClient, app: Flask, passed: list[str]
) -> None:
    body = b" " * (app.config["MAX_CONTENT_LENGTH"] + 1)

    assert_problem(client.post(CHECK, data=body, content_type="application/json"), 413)
    assert len(passed) == 1


def test_each_short_way_has_a_long_one(app: Flask) -> None:
    adapter = app.url_map.bind("localhost")
    views = {purchases.check_at_once, companies.check_at_once}
    known = app.extensions["express"]._routes

    assert views < {route.view for route in known.values()}
    for method, path in known:
        assert adapter.match(path, method=method)


def test_behind_a_proxy_a_call_comes_from_whom_the_proxy_names(
    app: Flask, change_settings: ChangeSettings
) -> None:
    change_settings(webhook_allowed_networks=(ip_network("203.0.113.0/24"),))
    body = json.dumps(CLICK).encode()
    headers = {"X-Signature": signature_of(get_settings().webhook_secrets[0], body)}

    asked = Client(ProxyFix(app.wsgi_app, x_for=1))
    statuses = [
        asked.post(WEBHOOK, data=body, headers={**headers, **SHORT, "X-Forwarded-For": sender})
        for sender in ("203.0.113.7", "198.51.100.7")
    ]

    assert [answer.status_code for answer in statuses] == [202, 403]
