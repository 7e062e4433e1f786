"""`flask worker` as a process: it runs jobs, survives an emptied Redis and ends in good order."""

import signal
from datetime import timedelta

import pytest
from flask import Flask
from rq.job import Job
from sqlalchemy import insert, select

from project.core import clock
from project.core.db.models import IdempotencyKey
from project.core.db.transaction import transaction
from project.core.work.queues import QueueName, count_live_workers, rq_queue, wake
from project.extensions import db, redis_client
from project.mobile.models import Purchase
from project.mobile.purchases.service import PURCHASES_DUE
from simulator.client import SimulatorClient
from tests.core.commands import run_flask, running_flask, wait_until
from tests.factories import Factory
from tests.time_machine import Clock

FORGET = "project.core.http.idempotency.forget_old_keys"


def remember_an_old_key() -> None:
    with transaction():
        old = clock.now() - timedelta(hours=25)
        values = {"scope_hash": b"scope", "request_hash": b"request", "created_at": old}
        db.session.execute(insert(IdempotencyKey).values(values))


def is_forgotten() -> bool:
    with transaction():
        return db.session.scalar(select(IdempotencyKey.id)) is None


def enrolled() -> int:
    return count_live_workers()


@pytest.mark.usefixtures("app")
def test_a_burst_does_what_is_queued_in_the_order_of_the_queues_and_ends() -> None:
    remember_an_old_key()
    broken = rq_queue(QueueName.DEFAULT).enqueue("project.no_such_module.job")
    late = rq_queue(QueueName.DEFAULT).enqueue(FORGET, result_ttl=60)
    early = rq_queue(QueueName.HIGH).enqueue(FORGET, result_ttl=60)

    ended = run_flask("worker", "--burst", "high", "medium", "default")

    assert ended.returncode == 0, ended.stderr
    assert is_forgotten()
    assert enrolled() == 0
    started = [Job.fetch(job.id, redis_client()).started_at for job in (early, broken, late)]
    assert started == sorted(moment for moment in started if moment)


@pytest.mark.usefixtures("app")
def test_a_worker_takes_only_from_its_queues() -> None:
    remember_an_old_key()
    rq_queue(QueueName.DEFAULT).enqueue(FORGET)

    assert run_flask("worker", "--burst", "high", "medium").returncode == 0

    assert not is_forgotten()
    assert len(rq_queue(QueueName.DEFAULT)) == 1


@pytest.mark.usefixtures("app")
def test_a_worker_is_recycled_after_so_many_jobs() -> None:
    for _ in range(3):
        rq_queue(QueueName.DEFAULT).enqueue(FORGET)

    ended = run_flask("worker", WORKER_MAX_JOBS="2")

    assert ended.returncode == 0, ended.stderr
    assert len(rq_queue(QueueName.DEFAULT)) == 1


@pytest.mark.usefixtures("app")
def test_a_worker_goes_on_and_enrols_again_after_redis_was_emptied() -> None:
    with running_flask("worker") as process:
        wait_until(enrolled)
        redis_client().flushall()
        assert enrolled() == 0
        remember_an_old_key()
        rq_queue(QueueName.DEFAULT).enqueue(FORGET)

        wait_until(is_forgotten)
        wait_until(enrolled)

        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=10) == 0
    assert enrolled() == 0


def test_told_to_end_a_worker_finishes_the_job_in_hand(
    app: Flask, factory: Factory, clock: Clock, simulator: SimulatorClient
) -> None:
    purchase = factory.purchase()
    assert purchase.expire_date is not None
    first_end = purchase.expire_date
    clock.advance(days=31)
    simulator.control("PUT", "/settings", {"latency_seconds": {"/app-store/*": 0.7}})
    asked_before = simulator.control("GET", "/stores")["app-store"]["requests"]

    with running_flask("worker", STORE_TIMEOUT_SECONDS="5") as process:
        wait_until(enrolled)
        wake(PURCHASES_DUE)
        wait_until(lambda: _is_being_asked(purchase.id))
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=10) == 0

    renewed = factory.reloaded(purchase.id)
    assert renewed.expire_date is not None
    assert renewed.expire_date > first_end
    assert renewed.claim_id is None
    assert simulator.control("GET", "/stores")["app-store"]["requests"] == asked_before + 1


def _is_being_asked(purchase_id: int) -> bool:
    with transaction():
        claimed = select(Purchase.claim_id).where(Purchase.id == purchase_id)
        return db.session.scalar(claimed) is not None
