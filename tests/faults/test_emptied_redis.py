"""FLUSHALL in the middle, again and again: everything is still done, and nobody has to help."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pytest

from tests.faults.world import (
    MadeApp,
    assert_books_agree,
    assert_each_callback_was_delivered,
    assert_each_due_purchase_was_checked_once,
    events,
    eventually,
    make_apps,
    periodic_jobs,
    seed_due_purchases,
    undelivered,
    unverified,
)
from tests.support.stack import Stack, running_stack

WORKERS = 4
APPS = 20
ALLOWED_SECONDS = 120
SETTINGS = {"CALLBACK_RETRY_SECONDS": "5"}


@dataclass(frozen=True)
class Aftermath:
    """A copy whose Redis was emptied while it verified and delivered."""

    stack: Stack
    apps: Sequence[MadeApp]


@pytest.fixture(
    scope="module",
    params=[(2000, 2), pytest.param((10_000, 20), marks=pytest.mark.long)],
    ids=["short", "long"],
)
def aftermath(request: pytest.FixtureRequest) -> Iterator[Aftermath]:
    purchases, times = request.param
    with running_stack(workers=WORKERS, environment=SETTINGS) as stack:
        latencies = {"/*/verify": 0.3, "/inbox/*": 0.1}
        stack.simulator.control("PUT", "/settings", {"latency_seconds": latencies})
        apps = make_apps(stack, APPS)
        seed_due_purchases(stack, apps, purchases)
        stack.flask("purchase-run")
        for _ in range(times):
            _empty_redis_after_some_progress(stack)
        eventually(
            lambda: not unverified(stack) and not undelivered(stack),
            within=ALLOWED_SECONDS,
            what="all work done",
        )
        yield Aftermath(stack, apps)


def _empty_redis_after_some_progress(stack: Stack) -> None:
    so_far = events(stack)
    eventually(lambda: events(stack) > so_far, within=60, what="progress")
    assert unverified(stack) + undelivered(stack) > 0
    with stack.redis as redis:
        redis.flushall()


def test_all_work_is_done_once(aftermath: Aftermath) -> None:
    assert_each_due_purchase_was_checked_once(aftermath.stack)
    assert_books_agree(aftermath.stack)
    assert_each_callback_was_delivered(aftermath.stack, aftermath.apps)


def test_schedule_is_refilled(aftermath: Aftermath) -> None:
    wanted = periodic_jobs(aftermath.stack)
    with aftermath.stack.redis as redis:
        eventually(
            lambda: redis.zcard("rq:scheduler:scheduled_jobs") == wanted,
            within=30,
            what="refilled",
        )


def test_workers_go_on_and_are_enrolled_again(aftermath: Aftermath) -> None:
    with aftermath.stack.redis as redis:
        eventually(
            lambda: redis.scard("rq:workers") == WORKERS, within=ALLOWED_SECONDS, what="enrolled"
        )
    assert [worker.starts for worker in aftermath.stack.workers] == [1] * WORKERS
    assert all(program.is_running for program in aftermath.stack.programs)
