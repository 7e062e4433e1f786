"""Wake-ups: after the commit, one per kind at a time, and nothing but a hint."""

import time
from typing import Any

import pytest
from flask import Flask

from project.core.db.transaction import transaction
from project.core.work.queues import QueueName, Wakeup, rq_queue, wake, wakeup_taken
from project.extensions import redis_client
from tests.core.things import Things

PURCHASES = Wakeup("purchases", QueueName.MEDIUM, "project.mobile.purchases.jobs.verify")
CALLBACKS = Wakeup("callbacks", QueueName.HIGH, "project.callbacks.jobs.deliver")


def queued(queue: QueueName) -> list[str]:
    return [job.func_name for job in rq_queue(queue).jobs]


@pytest.mark.usefixtures("app")
def test_workers_are_woken_after_the_commit() -> None:
    with transaction():
        wake(PURCHASES)
        assert queued(QueueName.MEDIUM) == []

    assert queued(QueueName.MEDIUM) == [PURCHASES.job]


@pytest.mark.usefixtures("app")
def test_nobody_is_woken_for_what_was_rolled_back() -> None:
    def wake_and_fail() -> None:
        with transaction():
            wake(PURCHASES)
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        wake_and_fail()

    assert queued(QueueName.MEDIUM) == []


@pytest.mark.usefixtures("app")
def test_wakeups_of_one_kind_that_wait_together_are_one_job() -> None:
    for _ in range(5):
        with transaction():
            wake(PURCHASES)
            wake(PURCHASES)

    assert queued(QueueName.MEDIUM) == [PURCHASES.job]


@pytest.mark.usefixtures("app")
def test_each_kind_is_woken_in_its_own_queue() -> None:
    with transaction():
        wake(PURCHASES)
        wake(CALLBACKS)

    assert queued(QueueName.MEDIUM) == [PURCHASES.job]
    assert queued(QueueName.HIGH) == [CALLBACKS.job]


@pytest.mark.usefixtures("app")
def test_once_the_job_has_begun_the_next_wakeup_is_queued_anew() -> None:
    wake(PURCHASES)
    wakeup_taken(PURCHASES)

    wake(PURCHASES)

    assert queued(QueueName.MEDIUM) == [PURCHASES.job] * 2


@pytest.mark.usefixtures("app")
def test_a_wakeup_that_was_lost_silences_the_next_ones_for_half_a_minute_at_most() -> None:
    wake(PURCHASES)

    marks = redis_client().keys("wakeup:*")

    assert len(marks) == 1
    assert 0 < redis_client().ttl(marks[0]) <= 30


@pytest.mark.usefixtures("app")
def test_an_emptied_redis_is_no_hindrance() -> None:
    wake(PURCHASES)
    redis_client().flushall()

    wake(PURCHASES)

    assert queued(QueueName.MEDIUM) == [PURCHASES.job]


@pytest.mark.usefixtures("redis_away")
def test_without_redis_the_work_is_recorded_and_its_wakeup_put_off(
    things: Things, logs: list[dict[str, Any]]
) -> None:
    started = time.monotonic()

    with transaction():
        things.add("work")
        wake(PURCHASES)

    assert time.monotonic() - started < 3
    assert things.row("work").due_at is not None
    assert [(entry["event"], entry["kind"]) for entry in logs] == [("wakeup.put_off", "purchases")]


def test_jobs_end_some_time_and_leave_little_behind(app: Flask) -> None:
    wake(PURCHASES)

    (job,) = rq_queue(QueueName.MEDIUM).jobs

    assert 0 < (job.timeout or 0) <= 300
    assert 0 < (job.result_ttl or 0) <= 300
    assert job.args == ()
    assert job.kwargs == {}
