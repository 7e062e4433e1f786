"""What surrounds the resources: health, the document of the API, the clock, the rate limit."""

import re
import time
from datetime import datetime, timedelta

import pytest
from flask import Flask
from flask.testing import FlaskClient
from rq import Queue

from project.core.work.probes import due_probes
from project.core.work.queues import rq_queue
from tests.api.problems import assert_problem
from tests.conftest import ChangeSettings
from tests.factories import Factory
from tests.processes import free_port
from tests.time_machine import Clock


@pytest.mark.parametrize("path", ["/api/health", "/health"])
def test_health_tells_the_state_of_every_part(client: FlaskClient, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 200
    health = answer.get_json()
    parts = health["parts"]
    assert parts.keys() == {"database", "redis", "migrations", "workers", "due"}
    assert parts["database"] == {"status": "ok"}
    assert parts["redis"] == {"status": "ok"}
    assert parts["migrations"]["status"] == "ok"
    assert parts["migrations"]["current"] == parts["migrations"]["head"]
    assert parts["workers"] == {"status": "degraded", "alive": 0, "expected": 2}
    nothing = dict.fromkeys(probe.name for probe in due_probes())
    assert {"purchases", "callbacks", "payments", "clicks", "tasks", "messages"} <= set(nothing)
    assert parts["due"] == {"status": "ok", "oldest": nothing}
    assert health["status"] == "degraded", "no worker runs in this test"


def test_health_tells_what_is_late(client: FlaskClient, factory: Factory, clock: Clock) -> None:
    purchase = factory.purchase()
    assert purchase.expire_date is not None
    clock.set_to(purchase.expire_date + timedelta(minutes=10))
    oldest = client.get("/api/health").get_json()["parts"]["due"]["oldest"]
    assert datetime.fromisoformat(oldest["purchases"]["due_at"]) == purchase.expire_date
    assert 600 <= oldest["purchases"]["late_seconds"] < 660
    assert oldest["callbacks"]["late_seconds"] > 29 * 86_400


def test_health_is_degraded_but_up_without_redis(
    client: FlaskClient, change_settings: ChangeSettings
) -> None:
    change_settings(redis_url=nobody())
    answer = client.get("/api/health")
    assert answer.status_code == 200
    health = answer.get_json()
    assert health["status"] == "degraded"
    assert health["parts"]["redis"]["status"] == "down"
    assert health["parts"]["workers"]["status"] == "unknown"
    assert client.get("/api/health/ready").status_code == 200


def nobody() -> str:
    return f"redis://127.0.0.1:{free_port()}/0"


@pytest.mark.parametrize("prefix", ["/api/health", "/health"])
def test_live_and_ready_answer_supervisors(client: FlaskClient, prefix: str) -> None:
    assert client.get(f"{prefix}/live").get_json() == {"status": "ok"}
    ready = client.get(f"{prefix}/ready")
    assert (ready.status_code, ready.get_json()["status"]) == (200, "ok")


def test_a_purchase_is_recorded_and_answered_while_redis_is_away(
    client: FlaskClient, factory: Factory, change_settings: ChangeSettings
) -> None:
    device = factory.device()
    change_settings(redis_url=nobody())
    body = {"client-token": device.token, "receipt": factory.receipt()}
    answer = client.post("/api/purchase", json=body)
    assert (answer.status_code, answer.get_json()["state"]) == (200, "active")


def test_what_happens_wakes_the_workers_once(factory: Factory) -> None:
    for _ in range(3):
        factory.purchase()
    high: Queue = rq_queue("high")
    assert [job.func_name for job in high.jobs] == ["project.callbacks.jobs.deliver_due_callbacks"]


def test_the_document_names_every_address(app: Flask, client: FlaskClient) -> None:
    answer = client.get("/openapi.json")
    assert answer.status_code == 200
    paths = answer.get_json()["paths"]
    served = {
        re.sub(r"<(?:[^:<>]+:)?([^<>]+)>", r"{\1}", rule.rule)
        for rule in app.url_map.iter_rules()
        if rule.rule.startswith("/api/") and not rule.rule.startswith("/api/health")
    }
    assert served - paths.keys() == set()
    register = paths["/api/devices/register"]["post"]
    assert {"200", "400", "404", "409", "413", "415", "429", "503"} <= register["responses"].keys()
    assert register["security"] == []
    assert paths["/api/apps"]["post"]["security"] == [{"operatorKey": []}]


def test_the_document_is_written_once(app: Flask, client: FlaskClient) -> None:
    first = client.get("/openapi.json").get_data()
    began = time.process_time()

    assert all(client.get("/openapi.json").get_data() == first for _ in range(20))

    assert time.process_time() - began < 1, "twenty that are written anew take two seconds"


def test_the_documentation_needs_nothing_from_elsewhere(client: FlaskClient) -> None:
    answer = client.get("/docs")
    assert answer.status_code == 200
    assert answer.mimetype == "text/html"
    page = answer.get_data(as_text=True)
    assets = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert assets
    for asset in assets:
        assert asset.startswith("/docs/assets/"), asset
        with client.get(asset) as served:
            assert served.status_code == 200
    assert "/openapi.json" in page


@pytest.mark.parametrize(
    "name", ["nothing.js", "../__init__.py", "..%2f__init__.py", "%2fetc%2fpasswd", "%00"]
)
def test_the_documentation_serves_its_own_files_only(client: FlaskClient, name: str) -> None:
    assert_problem(client.get(f"/docs/assets/{name}"), 404)


def test_registering_too_often_is_limited(
    app: Flask, client: FlaskClient, factory: Factory, change_settings: ChangeSettings
) -> None:
    made = factory.app()
    change_settings(register_rate_limit="2/minute")
    body = {"uid": "x", "appId": made.id, "language": "en", "os": "ios"}
    statuses = [client.post("/api/devices/register", json=body).status_code for _ in range(2)]
    assert statuses == [200, 200]
    answer = client.post("/api/devices/register", json=body)
    assert_problem(answer, 429)
    assert 1 <= int(answer.headers["Retry-After"]) <= 60
    another = app.test_client()
    there = another.post(
        "/api/devices/register", json=body, environ_base={"REMOTE_ADDR": "198.51.100.7"}
    )
    assert there.status_code == 200
    spoofed = client.post(
        "/api/devices/register", json=body, headers={"X-Forwarded-For": "203.0.113.9"}
    )
    assert_problem(spoofed, 429)


def test_the_clock_is_shown_and_moved(client: FlaskClient, operator: FlaskClient) -> None:
    before = datetime.fromisoformat(client.get("/api/clock").get_json()["now"])
    moved = operator.post("/api/clock", json={"advance": "25h"}).get_json()
    after = datetime.fromisoformat(moved["now"])
    assert abs(after - before - timedelta(hours=25)) < timedelta(minutes=1)
    assert abs(moved["offset_seconds"] - 25 * 3600) < 60
    fixed = operator.post("/api/clock", json={"set": "2027-03-01T12:00:00+02:00"}).get_json()
    assert fixed["now"].startswith("2027-03-01T10:0")
    assert operator.post("/api/clock", json={"reset": True}).get_json()["offset_seconds"] == 0


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"advance": "1h", "reset": True},
        {"advance": "soon"},
        {"advance": "-1h"},
        {"advance": "1"},
        {"advance": "99999999w"},
        {"advance": "1h "},
        {"set": "2027-03-01T12:00:00"},
        {"set": "9999-12-31T23:59:59Z"},
        {"set": "0001-01-01T00:00:00Z"},
        {"reset": False},
        {"reset": []},
    ],
)
def test_a_move_of_the_clock_that_cannot_be_made(
    operator: FlaskClient, body: dict[str, object]
) -> None:
    assert_problem(operator.post("/api/clock", json=body), 400)
    assert operator.get("/api/clock").get_json()["offset_seconds"] == 0


def test_a_clock_of_real_time_cannot_be_moved(
    operator: FlaskClient, change_settings: ChangeSettings
) -> None:
    change_settings(test_clock=False)
    assert_problem(operator.get("/api/clock"), 404)
    assert_problem(operator.post("/api/clock", json={"advance": "1h"}), 404)
