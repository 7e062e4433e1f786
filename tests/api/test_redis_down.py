"""A server whose Redis is away: it answers and records, and what it recorded is done later."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
from flask import Flask

from project.callbacks.jobs import deliver_due_callbacks
from project.mobile.purchases.jobs import verify_due_purchases
from simulator.client import SimulatorClient
from tests.conftest import API_KEY
from tests.factories import Factory, MadeApp
from tests.processes import PROJECT_ROOT, START_SECONDS, free_port
from tests.time_machine import Clock


@pytest.fixture(scope="module")
def server(migrated_app: Flask) -> Iterator[SimulatorClient]:
    """Serve the API as its own process, over the same database but without a Redis."""
    port = free_port()
    nobody = f"redis://127.0.0.1:{free_port()}/0"
    process = subprocess.Popen(
        [sys.executable, "-m", "flask", "--app", "wsgi", "run", "--port", str(port)],
        cwd=PROJECT_ROOT,
        env=os.environ | {"REDIS_URL": nobody, "PYTHONWARNINGS": ""},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        caller = SimulatorClient(f"http://127.0.0.1:{port}")
        _wait_until_alive(caller, process)
        yield caller
    finally:
        process.terminate()
        process.wait(timeout=10)


def _wait_until_alive(caller: SimulatorClient, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        assert process.poll() is None, f"the server ended with {process.returncode}"
        try:
            if caller.call("GET", "/health/live").status == 200:
                return
        except OSError:
            time.sleep(0.05)
    raise AssertionError(f"the server did not answer within {START_SECONDS} s")


def register(server: SimulatorClient, app: MadeApp, uid: str) -> str:
    body = {"uid": uid, "appId": app.id, "language": "en", "os": "ios"}
    answer = server.call("POST", "/api/devices/register", body)
    assert answer.status == 200, answer.body
    token: str = answer.json()["client-token"]
    return token


def test_without_redis_everything_is_recorded_and_done_later(
    server: SimulatorClient, factory: Factory, simulator: SimulatorClient, clock: Clock
) -> None:
    app = factory.app()
    started = time.monotonic()
    token = register(server, app, "phone-1")
    body = {"client-token": token, "receipt": factory.receipt()}
    bought = server.call("POST", "/api/purchase", body)
    assert (bought.status, bought.json()["state"]) == (200, "active")
    assert server.call("POST", "/api/purchase/check", {"client-token": token}).json()["active"]
    waiting = {"client-token": register(server, app, "phone-2"), "receipt": factory.receipt("06")}
    assert server.call("POST", "/api/purchase", waiting).status == 202
    assert time.monotonic() - started < 5, "it does not wait for what is not there"

    assert simulator.inbox(app.inbox)["count"] == 0
    deliver_due_callbacks()
    assert simulator.inbox(app.inbox)["count"] == 1
    clock.advance(hours=1)
    assert verify_due_purchases() == 1


def test_without_redis_operators_are_served_and_health_says_so(
    server: SimulatorClient, factory: Factory
) -> None:
    key = {"Authorization": f"Bearer {API_KEY}"}
    body = {"name": "Weather", "endpoint": "http://127.0.0.1:9/"}
    assert server.call("POST", "/api/apps", body, key).status == 201
    assert server.call("GET", "/api/apps", headers=key).json()["pagination"]["total"] == 1
    health = server.call("GET", "/api/health")
    assert health.status == 200
    assert health.json()["parts"]["redis"]["status"] == "down"
    assert server.call("GET", "/health/ready").status == 200
