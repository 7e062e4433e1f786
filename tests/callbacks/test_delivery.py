"""Delivery: signed, frozen, tried again an hour apart, closed after the third failure."""

import json
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from standardwebhooks import Webhook, WebhookVerificationError

from project.callbacks.jobs import deliver_due_callbacks
from project.callbacks.settings import CallbackSettings
from project.config.environment import get_settings
from simulator.client import SimulatorClient
from tests.callbacks.conftest import Happen, Shown
from tests.conftest import ChangeSettings
from tests.core.raw_server import Connection, RawServer
from tests.factories import Factory, MadeApp
from tests.processes import free_port
from tests.time_machine import Clock

SHORT_SECONDS = 0.3


def messages(simulator: SimulatorClient, app: MadeApp) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = simulator.inbox(app.inbox)["messages"]
    return found


def count(simulator: SimulatorClient, app: MadeApp) -> int:
    found: int = simulator.inbox(app.inbox)["count"]
    return found


def test_a_purchase_is_told_as_the_documentation_says(
    factory: Factory, simulator: SimulatorClient
) -> None:
    device = factory.device()
    purchase = factory.purchase(device)
    assert purchase.expire_date is not None
    deliver_due_callbacks()
    [message] = messages(simulator, device.app)
    body = json.loads(message["body"])
    assert body == {
        "id": message["headers"]["webhook-id"],
        "type": "started",
        "appID": device.app.id,
        "deviceID": device.id,
        "purchaseID": purchase.id,
        "occurred_at": body["occurred_at"],
        "expire-date": purchase.expire_date.isoformat(),
    }
    assert datetime.fromisoformat(body["occurred_at"]) == purchase.started_at
    assert message["headers"]["content-type"] == "application/json"


def test_a_callback_is_signed_as_standard_webhooks_asks(
    happen: Happen, factory: Factory, simulator: SimulatorClient
) -> None:
    app = factory.app()
    [event_id] = happen(app)
    deliver_due_callbacks()
    [message] = messages(simulator, app)
    headers, body = message["headers"], message["body"]
    verified = Webhook(app.secret).verify(body, headers)
    assert verified["id"] == headers["webhook-id"] == event_id
    assert headers["webhook-signature"].startswith("v1,")
    sent_at = datetime.fromtimestamp(int(headers["webhook-timestamp"]), UTC)
    assert abs(datetime.now(UTC) - sent_at) < timedelta(seconds=10)
    for forged in (body.replace("renewed", "started"), body + " "):
        with pytest.raises(WebhookVerificationError):
            Webhook(app.secret).verify(forged, headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(app.secret).verify(body, {**headers, "webhook-id": "another"})


def test_receivers_can_verify_even_while_the_test_clock_is_a_year_ahead(
    happen: Happen, factory: Factory, simulator: SimulatorClient, clock: Clock
) -> None:
    app = factory.app()
    clock.advance(days=365)
    happen(app)
    deliver_due_callbacks()
    [message] = messages(simulator, app)
    Webhook(app.secret).verify(message["body"], message["headers"])


@pytest.mark.parametrize("status", [200, 201])
def test_200_and_201_are_success(
    happen: Happen, shown: Shown, factory: Factory, simulator: SimulatorClient, status: int
) -> None:
    app = factory.app()
    happen(app)
    simulator.add_fault("/inbox/*", status=status)
    assert deliver_due_callbacks() == 1
    callback = shown()
    assert callback["state"] == "delivered"
    assert (callback["last_status"], callback["last_error"]) == (status, None)
    assert callback["delivered_at"] is not None
    assert callback["next_attempt_at"] is None
    assert deliver_due_callbacks() == 0


FAILURES: dict[str, tuple[dict[str, object], int | None, str]] = {
    "202": ({"status": 202}, 202, "answered 202"),
    "204": ({"status": 204}, 204, "answered 204"),
    "301": ({"status": 301, "headers": {"Location": "/inbox/elsewhere"}}, 301, "answered 301"),
    "307": ({"status": 307, "headers": {"Location": "/inbox/elsewhere"}}, 307, "answered 307"),
    "304": ({"status": 304}, 304, "answered 304"),
    "400": ({"status": 400}, 400, "answered 400"),
    "404": ({"status": 404}, 404, "answered 404"),
    "429": ({"status": 429, "headers": {"Retry-After": "1"}}, 429, "answered 429"),
    "500": ({"status": 500}, 500, "answered 500"),
    "410": ({"status": 410}, 410, "answered 410"),
    "timeout": ({"delay_seconds": 20}, None, "no answer within"),
    "dropped": ({"drop": "before"}, None, "closed"),
    "dropped after the work": ({"drop": "after"}, None, "closed"),
}


@pytest.mark.parametrize(("fault", "status", "error"), FAILURES.values(), ids=FAILURES)
def test_anything_else_is_tried_again_an_hour_later(
    happen: Happen,
    shown: Shown,
    factory: Factory,
    simulator: SimulatorClient,
    clock: Clock,
    change_settings: ChangeSettings,
    fault: dict[str, object],
    status: int | None,
    error: str,
) -> None:
    app = factory.app()
    happen(app)
    fault_id = simulator.add_fault(f"/inbox/{app.inbox}", **fault)
    usual = get_settings(CallbackSettings).callback_timeout_seconds
    change_settings(callback_timeout_seconds=SHORT_SECONDS if "delay_seconds" in fault else usual)
    deliver_due_callbacks()
    change_settings(callback_timeout_seconds=usual)
    callback = shown()
    assert (callback["state"], callback["attempts"]) == ("pending", 1)
    assert callback["last_status"] == status
    assert error in callback["last_error"]
    wait = datetime.fromisoformat(callback["next_attempt_at"]) - clock.now()
    assert abs(wait - timedelta(hours=1)) < timedelta(seconds=5)

    simulator.control("DELETE", f"/faults/{fault_id}")
    clock.advance(minutes=59)
    assert deliver_due_callbacks() == 0
    clock.advance(minutes=1)
    assert deliver_due_callbacks() == 1
    assert (shown()["state"], shown()["attempts"]) == ("delivered", 2)
    assert simulator.inbox("elsewhere")["count"] == 0, "redirects are not followed"


@pytest.mark.usefixtures("names")
@pytest.mark.parametrize(
    ("endpoint", "error"),
    [("http://127.0.0.1:{port}/", "cannot connect"), ("http://nobody.test/", "not resolve")],
    ids=["refused connection", "unknown host"],
)
def test_an_endpoint_that_is_not_there_is_tried_again(
    happen: Happen, shown: Shown, factory: Factory, clock: Clock, endpoint: str, error: str
) -> None:
    happen(factory.app(endpoint.format(port=free_port())))
    deliver_due_callbacks()
    assert (shown()["state"], shown()["attempts"]) == ("pending", 1)
    assert error in shown()["last_error"]
    for _ in range(2):
        clock.advance(hours=1)
        deliver_due_callbacks()
    assert (shown()["state"], shown()["attempts"]) == ("failed", 3)


def test_the_third_failure_closes_a_callback(
    happen: Happen, shown: Shown, factory: Factory, simulator: SimulatorClient, clock: Clock
) -> None:
    app = factory.app()
    happen(app)
    simulator.add_fault("/inbox/*", status=500)
    states = []
    for _ in range(5):
        deliver_due_callbacks()
        states.append((shown()["state"], shown()["attempts"]))
        clock.advance(hours=1)
    assert states == [("pending", 1), ("pending", 2)] + [("failed", 3)] * 3
    assert count(simulator, app) == 3
    assert shown()["next_attempt_at"] is None
    assert shown()["delivered_at"] is None


def test_410_closes_a_callback_at_once_where_a_setting_says_so(
    happen: Happen,
    shown: Shown,
    factory: Factory,
    simulator: SimulatorClient,
    clock: Clock,
    change_settings: ChangeSettings,
) -> None:
    change_settings(callback_close_on_410=True)
    app = factory.app()
    happen(app)
    simulator.add_fault("/inbox/*", status=410)
    deliver_due_callbacks()
    assert (shown()["state"], shown()["attempts"]) == ("failed", 1)
    clock.advance(hours=5)
    assert deliver_due_callbacks() == 0
    assert count(simulator, app) == 1


def endlessly(connection: Connection) -> None:
    connection.send(b"HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n")
    while not connection.stopping:
        connection.send(b"3e8\r\n" + b"x" * 1000 + b"\r\n")


def drop_by_drop(connection: Connection) -> None:
    connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n")
    while not connection.stopping:
        connection.send(b".")
        connection.wait(0.1)


BODIES: dict[str, Callable[[Connection], object]] = {
    "long": lambda connection: connection.answer(b"<p>" * 100_000),
    "endless": endlessly,
    "drop by drop": drop_by_drop,
    "never coming": lambda connection: (
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n"),
        connection.wait(30),
    ),
    "shorter than announced": lambda connection: connection.send(
        b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\nfine"
    ),
    "broken in a chunk": lambda connection: connection.send(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nnot a chunk"
    ),
    "garbage that is called gzip": lambda connection: connection.answer(
        b"\x00\xff\x00garbage", "Content-Encoding: gzip"
    ),
    "of an unknown coding": lambda connection: connection.answer(
        b"fine", "Content-Encoding: no-such-coding", "Content-Type: text/plain; charset=nonsense"
    ),
    "none": lambda connection: connection.answer(b"", status="201 Created"),
}


@pytest.mark.parametrize("script", BODIES.values(), ids=BODIES)
def test_the_status_decides_whatever_the_body_is_like(
    happen: Happen, shown: Shown, factory: Factory, script: Callable[[Connection], object]
) -> None:
    def serve(connection: Connection) -> None:
        connection.read_request()
        script(connection)

    server = RawServer(serve)
    try:
        happen(factory.app(server.url))
        began = time.monotonic()
        deliver_due_callbacks()
        assert time.monotonic() - began < 4
    finally:
        server.stop()
    callback = shown()
    assert (callback["state"], callback["attempts"]) == ("delivered", 1)
    assert callback["last_error"] is None
    assert len(server.requests) == 1


def test_a_body_is_frozen_whatever_happens_after(
    factory: Factory, simulator: SimulatorClient, clock: Clock, operator: FlaskClient
) -> None:
    device = factory.device()
    purchase = factory.purchase(device)
    simulator.add_fault("/inbox/*", status=500, times=1)
    deliver_due_callbacks()
    operator.patch(f"/api/apps/{device.app.id}", json={"name": "Another name"})
    operator.post(f"/api/apps/{device.app.id}/secret")
    moved_to = factory.device(device.app)
    factory.purchase(moved_to, purchase.receipt)
    clock.advance(hours=1)
    deliver_due_callbacks()
    received = messages(simulator, device.app)
    (first,) = [one for one in received if one["answered"] == 500]
    (second,) = [
        one
        for one in received
        if one is not first and one["headers"]["webhook-id"] == first["headers"]["webhook-id"]
    ]
    assert first["body"] == second["body"]
    assert json.loads(second["body"])["deviceID"] == device.id


def test_a_later_attempt_is_signed_anew(
    happen: Happen, factory: Factory, simulator: SimulatorClient, clock: Clock
) -> None:
    """Receivers refuse old timestamps."""
    app = factory.app()
    happen(app)
    simulator.add_fault("/inbox/*", status=500, times=1)
    deliver_due_callbacks()
    clock.advance(hours=1)
    deliver_due_callbacks()
    for message in messages(simulator, app):
        Webhook(app.secret).verify(message["body"], message["headers"])


def test_every_attempt_is_shown(
    happen: Happen,
    shown: Shown,
    factory: Factory,
    simulator: SimulatorClient,
    clock: Clock,
    change_settings: ChangeSettings,
) -> None:
    change_settings(callback_timeout_seconds=1)
    app = factory.app()
    happen(app)
    simulator.add_fault(
        "/inbox/*", status=503, times=1, body="Closed \x00 until Monday" + "!" * 900
    )
    simulator.add_fault("/inbox/*", delay_seconds=20, times=1)
    started = clock.now()
    for _ in range(3):
        deliver_due_callbacks()
        clock.advance(hours=1)
    first, second, third = shown()["attempt_history"]
    assert [attempt["number"] for attempt in (first, second, third)] == [1, 2, 3]
    assert {attempt["trigger"] for attempt in (first, second, third)} == {"schedule"}
    assert {attempt["url"] for attempt in (first, second, third)} == {app.endpoint}
    assert (first["status"], second["status"], third["status"]) == (503, None, 200)
    assert first["answer"].startswith("Closed \N{REPLACEMENT CHARACTER} until Monday")
    assert len(first["answer"]) == 500
    assert "answered 503" in first["error"]
    assert "no answer within 1 s" in second["error"]
    assert second["duration_ms"] >= 1000
    assert third["error"] is None
    assert third["answer"] == '{"ok": true}'
    for hours, attempt in enumerate((first, second, third)):
        expected = started + timedelta(hours=hours)
        at = datetime.fromisoformat(attempt["attempted_at"])
        assert abs(at - expected) < timedelta(minutes=1)


def test_a_changed_endpoint_gets_what_is_still_pending(
    happen: Happen,
    shown: Shown,
    operator: FlaskClient,
    factory: Factory,
    simulator: SimulatorClient,
    clock: Clock,
    change_settings: ChangeSettings,
) -> None:
    app = factory.app()
    happen(app)
    simulator.add_fault(f"/inbox/{app.inbox}", delay_seconds=20)
    usual = get_settings(CallbackSettings).callback_timeout_seconds
    change_settings(callback_timeout_seconds=SHORT_SECONDS)
    deliver_due_callbacks()
    change_settings(callback_timeout_seconds=usual)
    new = f"{simulator.base_url}/inbox/moved"
    operator.patch(f"/api/apps/{app.id}", json={"endpoint": new})
    assert shown()["endpoint"] == new
    clock.advance(hours=1)
    deliver_due_callbacks()
    assert simulator.inbox("moved")["count"] == 1
    assert count(simulator, app) == 1
    assert [attempt["url"] for attempt in shown()["attempt_history"]] == [app.endpoint, new]
    [message] = simulator.inbox("moved")["messages"]
    Webhook(app.secret).verify(message["body"], message["headers"])


def test_a_missed_night_is_caught_up(
    happen: Happen, factory: Factory, simulator: SimulatorClient, clock: Clock
) -> None:
    app = factory.app()
    ids = happen(app, times=120)
    clock.advance(days=3)
    assert deliver_due_callbacks() == 120
    arrived = simulator.control("GET", f"/inbox/{app.inbox}/ids")
    assert arrived == dict.fromkeys(ids, 1)


def test_the_callbacks_run_command_delivers_here(
    app: Flask, happen: Happen, factory: Factory, simulator: SimulatorClient
) -> None:
    made = factory.app()
    happen(made, times=3)
    flask = app.test_cli_runner()
    asked = flask.invoke(args=["callbacks-run"])
    assert asked.stdout == "3 callbacks are due; the workers have been woken.\n"
    assert count(simulator, made) == 0
    done = flask.invoke(args=["callbacks-run", "--inline"])
    assert (done.exit_code, done.stdout) == (0, "3 callbacks done.\n")
    assert count(simulator, made) == 3


def test_what_is_not_an_event_of_the_app_is_not_sent_to_it(
    factory: Factory, simulator: SimulatorClient
) -> None:
    bystander = factory.app()
    factory.purchase()
    deliver_due_callbacks()
    assert count(simulator, bystander) == 0
