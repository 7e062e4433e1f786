"""Health: what is there, what is behind, what is late."""

import threading
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from redis import Redis
from sqlalchemy import text

from project.config.environment import get_settings
from project.config.kernel import StorageSettings
from project.core.db.migrations import head_revision
from project.core.http.health import ServiceProbe, due_probes
from project.core.work.worker import AppWorker
from project.extensions import db, redis_client
from simulator.client import SimulatorClient
from tests.conftest import ChangeSettings
from tests.factories import Factory
from tests.time_machine import Clock


def health(client: FlaskClient, path: str = "/api/health") -> tuple[int, dict[str, Any]]:
    answer = client.get(path)
    return answer.status_code, answer.get_json()


@pytest.fixture
def two_workers(app: Flask) -> Iterator[None]:
    """As many workers as the settings of the tests ask for, enrolled."""
    own_client = Redis.from_url(get_settings(StorageSettings).redis_url)
    workers = [AppWorker(["high"], connection=own_client, worker_ttl=45) for _ in range(2)]
    for worker in workers:
        worker.register_birth()
    yield
    for worker in workers:
        worker.register_death()
    own_client.close()


@pytest.fixture
def behind(app: Flask) -> Iterator[None]:
    """The database stands at a migration before the newest."""
    _stand_at("0000")
    yield
    _stand_at(head_revision())


def _stand_at(revision: str | None) -> None:
    with db.engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = :at"), {"at": revision})


@pytest.mark.usefixtures("two_workers")
def test_all_is_well(client: FlaskClient) -> None:
    status, told = health(client)

    assert (status, told["status"]) == (200, "ok")
    assert {name: part["status"] for name, part in told["parts"].items()} == dict.fromkeys(
        ("database", "redis", "migrations", "workers", "due"), "ok"
    )
    assert told["parts"]["workers"] == {"status": "ok", "alive": 2, "expected": 2}
    waiting = told["parts"]["due"]["oldest"]
    assert waiting == dict.fromkeys(probe.name for probe in due_probes())
    assert {"purchases", "callbacks", "payments", "clicks", "tasks", "messages"} <= set(waiting)


def test_without_workers_it_serves_on_but_says_so(client: FlaskClient) -> None:
    status, told = health(client)

    assert (status, told["status"]) == (200, "degraded")
    assert told["parts"]["workers"] == {"status": "degraded", "alive": 0, "expected": 2}


@pytest.mark.usefixtures("two_workers")
def test_workers_that_redis_forgot_are_not_counted(client: FlaskClient) -> None:
    redis_client().flushall()

    assert health(client)[1]["parts"]["workers"]["alive"] == 0


@pytest.mark.usefixtures("behind", "two_workers")
@pytest.mark.parametrize("path", ["/api/health", "/api/health/ready", "/health/ready"])
def test_a_database_that_is_behind_is_not_ready(client: FlaskClient, path: str) -> None:
    status, told = health(client, path)

    assert (status, told["status"]) == (503, "down")
    assert told["parts"]["migrations"] == {
        "status": "down",
        "current": "0000",
        "head": head_revision(),
    }


@pytest.mark.usefixtures("redis_away")
def test_without_redis_it_is_degraded_and_ready(client: FlaskClient) -> None:
    status, told = health(client)

    assert (status, told["status"]) == (200, "degraded")
    assert told["parts"]["redis"]["status"] == "down"
    assert told["parts"]["workers"]["status"] == "unknown"
    assert health(client, "/api/health/ready")[0] == 200


@pytest.mark.usefixtures("database_away")
def test_without_the_database_it_is_alive_but_not_ready(client: FlaskClient) -> None:
    status, told = health(client)

    assert (status, told["status"]) == (503, "down")
    assert told["parts"]["database"]["status"] == "down"
    assert told["parts"]["migrations"]["status"] == "down"
    assert told["parts"]["due"]["status"] == "unknown"
    assert health(client, "/api/health/ready")[0] == 503
    assert health(client, "/api/health/live") == (200, {"status": "ok"})


def test_the_oldest_due_row_of_each_kind(
    client: FlaskClient, factory: Factory, clock: Clock, simulator: SimulatorClient
) -> None:
    purchase = factory.purchase()
    assert purchase.expire_date is not None
    oldest = health(client)[1]["parts"]["due"]["oldest"]
    assert oldest["purchases"] is None, "it is not due before it expires"
    assert oldest["callbacks"]["late_seconds"] <= 5

    clock.set_to(purchase.expire_date)
    clock.advance(hours=2)
    oldest = health(client)[1]["parts"]["due"]["oldest"]

    assert datetime.fromisoformat(oldest["purchases"]["due_at"]) == purchase.expire_date
    assert oldest["purchases"]["late_seconds"] == pytest.approx(7200, abs=5)
    assert oldest["callbacks"]["late_seconds"] > 29 * 86_400


@pytest.mark.parametrize(
    "path",
    ["/api/health", "/api/health/", "/health", "/health/live", "/api/health/live", "/health/ready"],
)
def test_it_is_asked_without_a_credential_and_never_kept(client: FlaskClient, path: str) -> None:
    answer = client.get(path)

    assert answer.status_code == 200
    assert answer.headers["Cache-Control"] == "no-store"


def test_asking_is_never_limited(client: FlaskClient, change_settings: ChangeSettings) -> None:
    change_settings(register_rate_limit="1/minute")

    assert {client.get("/api/health/live").status_code for _ in range(20)} == {200}


class TestServices:
    """Outside services are asked by one for all, and never hold anybody up."""

    def test_a_service_is_asked_again_after_a_while_and_not_before(self) -> None:
        answers = iter(({"status": "ok"}, {"status": "down"}))
        probe = ServiceProbe("stub", lambda: next(answers), every_seconds=60)
        assert [probe.state() for _ in range(3)] == [{"status": "ok"}] * 3

        probe.every_seconds = 0
        assert probe.state() == {"status": "down"}

    def test_while_one_asks_the_others_are_told_what_is_known(self) -> None:
        asking, answered = threading.Event(), threading.Event()

        def ask() -> dict[str, Any]:
            asking.set()
            assert answered.wait(10)
            return {"status": "ok"}

        probe = ServiceProbe("stub", ask, every_seconds=60)
        first = threading.Thread(target=probe.state)
        first.start()
        assert asking.wait(10)
        assert probe.state() == {"status": "unknown"}
        answered.set()
        first.join()
        assert probe.state() == {"status": "ok"}

    def test_one_who_asked_in_vain_lets_the_next_one_ask(self) -> None:
        def fail() -> dict[str, Any]:
            raise RuntimeError("broken probe")

        probe = ServiceProbe("stub", fail)
        with pytest.raises(RuntimeError):
            probe.state()
        probe.ask = lambda: {"status": "ok"}

        assert probe.state() == {"status": "ok"}
