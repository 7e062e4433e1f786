"""A Redis that hangs, vanishes, loses packets or crawls holds nobody up, and wakes up again."""

import itertools
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from redis import Redis, RedisError
from rq import Worker

from project import extensions, redis_pool
from project.config.environment import get_settings
from project.config.kernel import StorageSettings
from project.core.db.transaction import transaction
from project.core.http.limiter import limiter
from project.core.work.pump import place
from project.core.work.queues import (
    QueueName,
    Wakeup,
    count_live_workers,
    rq_queue,
    wake,
    wakeup_taken,
)
from project.extensions import redis_client
from project.redis_pool import REST_SECONDS, RedisAway
from tests.conftest import REDIS_PATIENCE, ChangeSettings
from tests.core.commands import wait_until
from tests.core.conftest import InThreads
from tests.factories import Factory

ERRANDS = Wakeup("errands", QueueName.MEDIUM, "project.errands.run")
CHORES = Wakeup("chores", QueueName.HIGH, "project.chores.run")
ANSWER_SECONDS = REDIS_PATIENCE["ANSWER_SECONDS"]
CRAWL_SECONDS = 0.35
TROUBLE = ("hanging", "losing_packets", "crawling", "redis_away")
HELLO = b"%1\r\n$5\r\nproto\r\n:3\r\n"


@pytest.fixture(autouse=True)
def _the_products_patience(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in REDIS_PATIENCE.items():
        monkeypatch.setattr(redis_pool, name, seconds)
    monkeypatch.setattr(extensions, "_redis", {})
    monkeypatch.setattr(limiter.storage.storage, "connection_pool", redis_client().connection_pool)


class Hang:
    """The real server, stopped in the middle of whatever it does: connections open, no answer."""

    def __init__(self) -> None:
        self._pid = redis_client().info("server")["process_id"]

    def begin(self) -> None:
        os.kill(self._pid, signal.SIGSTOP)

    def end(self, *, await_it: bool = True) -> None:
        os.kill(self._pid, signal.SIGCONT)
        if await_it:
            wait_until(_redis_answers)


@pytest.fixture
def hanging(app: Flask) -> Iterator[Hang]:
    """Redis hangs from the start of the test on."""
    hang = Hang()
    hang.begin()
    yield hang
    hang.end()
    limiter._storage_dead = False


@pytest.fixture
def losing_packets(change_settings: ChangeSettings) -> Iterator[None]:
    """A full queue of connections: the kernel drops what else asks to connect."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as server, closing(socket.socket()) as a:
        address = server.getsockname()
        a.connect(address)
        with closing(socket.socket()) as b:
            b.setblocking(False)
            b.connect_ex(address)
            change_settings(redis_url=f"redis://127.0.0.1:{address[1]}/0")
            yield


@pytest.fixture
def crawling(change_settings: ChangeSettings) -> Iterator[None]:
    """Every answer is late, but in time for a single command."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=_crawl, args=(server,), daemon=True).start()
        change_settings(redis_url=f"redis://127.0.0.1:{server.getsockname()[1]}/0")
        yield


def _crawl(server: socket.socket) -> None:
    with suppress(OSError):
        while True:
            peer, _ = server.accept()
            threading.Thread(target=_answer_late, args=(peer,), daemon=True).start()


def _answer_late(peer: socket.socket) -> None:
    with peer, suppress(OSError):
        while asked := peer.recv(65_536):
            time.sleep(CRAWL_SECONDS)
            peer.sendall(HELLO if b"HELLO" in asked else b"+OK\r\n")


@pytest.fixture(params=TROUBLE)
def trouble(request: pytest.FixtureRequest) -> str:
    """Each way in which Redis may be no help."""
    request.getfixturevalue(request.param)
    return str(request.param)


def _redis_answers() -> bool:
    with suppress(RedisError):
        return bool(redis_client().ping())
    return False


def seconds_of(call: Callable[[], Any]) -> float:
    began = time.monotonic()
    call()
    return time.monotonic() - began


@pytest.mark.usefixtures("trouble")
def test_a_commit_that_wakes_several_kinds_of_work_takes_less_than_a_second() -> None:
    def commit() -> None:
        with transaction():
            wake(ERRANDS)
            wake(CHORES)

    assert sorted(seconds_of(commit) for _ in range(5))[-2] < 1


@pytest.mark.parametrize("trouble_of", TROUBLE)
def test_health_is_told_within_a_second_and_is_degraded(
    client: FlaskClient, request: pytest.FixtureRequest, trouble_of: str
) -> None:
    # The first time of all, the migrations are read.
    usual = max(seconds_of(lambda: client.get("/api/health")) for _ in range(2))
    request.getfixturevalue(trouble_of)
    took = []
    for _ in range(3):
        began = time.monotonic()
        answer = client.get("/api/health")
        took.append(time.monotonic() - began)
        assert (answer.status_code, answer.get_json()["status"]) == (200, "degraded")
        assert answer.get_json()["parts"]["redis"]["status"] == "down"
    assert sorted(took)[-2] < 1 + usual


def test_what_is_limited_by_address_is_answered_within_a_second(
    client: FlaskClient, factory: Factory, request: pytest.FixtureRequest
) -> None:
    numbers = itertools.count()
    body = {"appId": factory.app().id, "language": "en", "os": "ios"}

    def register() -> None:
        answer = client.post("/api/devices/register", json=body | {"uid": f"u-{next(numbers)}"})
        assert answer.status_code == 200

    usual = max(seconds_of(register) for _ in range(2))
    request.getfixturevalue("hanging")

    assert sorted(seconds_of(register) for _ in range(4))[-2] < 1 + usual


@pytest.mark.usefixtures("app")
def test_work_that_was_woken_in_vain_is_woken_when_redis_is_back(hanging: Hang) -> None:
    with transaction():
        wake(ERRANDS)
        wake(CHORES)

    hanging.end()

    wait_until(lambda: rq_queue(QueueName.MEDIUM).jobs and rq_queue(QueueName.HIGH).jobs)


def test_a_wakeup_whose_mark_was_set_and_whose_job_was_not_queued_is_queued_after_all(
    hanging: Hang,
) -> None:
    hanging.end()
    wake(ERRANDS)
    queue = rq_queue(QueueName.MEDIUM)
    queue.empty()
    hanging.begin()

    with transaction():
        wake(ERRANDS)
    hanging.end()

    wait_until(lambda: queue.jobs)


@pytest.mark.usefixtures("trouble")
def test_a_job_begins_and_works_although_nobody_counts_the_places() -> None:
    def work() -> None:
        wakeup_taken(ERRANDS)
        with place(ERRANDS) as keep:
            assert keep is not None
            keep(1)

    assert min(seconds_of(work) for _ in range(3)) < 1


@pytest.mark.usefixtures("hanging")
def test_one_caller_looks_whether_it_is_back_and_the_others_go_on(in_threads: InThreads) -> None:
    def ask() -> float:
        def ping() -> None:
            with suppress(RedisError):
                redis_client().ping()

        return seconds_of(ping)

    ask()
    time.sleep(REST_SECONDS)

    waited = sorted(in_threads(*[ask] * 12))

    assert waited[len(waited) // 2] < ANSWER_SECONDS / 2 <= waited[-1]


def test_after_its_rest_redis_is_asked_again(hanging: Hang) -> None:
    with pytest.raises(RedisError):
        redis_client().ping()
    hanging.end(await_it=False)

    with pytest.raises(RedisAway):
        redis_client().ping()

    wait_until(_redis_answers)


def test_a_connection_that_was_closed_at_the_other_end_is_made_anew(app: Flask) -> None:
    redis_client().ping()
    with Redis.from_url(get_settings(StorageSettings).redis_url) as other:
        other.client_kill_filter(_type="normal", skipme=True)

    assert redis_client().ping()


def test_no_library_changes_the_timeouts_of_the_shared_client(app: Flask) -> None:
    pool = redis_client().connection_pool
    before = dict(pool.connection_kwargs)

    with pytest.raises(AttributeError):
        Worker(["high"], connection=redis_client())

    assert (before["socket_timeout"], before["socket_connect_timeout"]) == (ANSWER_SECONDS,) * 2
    assert dict(pool.connection_kwargs) == before


def test_whatever_asks_redis_leaves_its_timeouts_alone(
    client: FlaskClient, factory: Factory
) -> None:
    pool = redis_client().connection_pool

    factory.purchase()
    client.get("/api/health")
    count_live_workers()
    with place(ERRANDS):
        wake(CHORES)

    assert redis_client().connection_pool is pool
    assert limiter.storage.storage.connection_pool is pool
    connection: Any = pool.get_connection()
    assert connection.socket_timeout == ANSWER_SECONDS
    pool.release(connection)
