"""FLUSHALL in the middle of autopayments: the sweep takes up what is left, nobody pays twice."""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.faults.charges import (
    CHARGES,
    assert_each_paid_once,
    assert_each_was_told_once,
    paid_there,
    pending_here,
    seed_due_companies,
    unpaid,
)
from tests.faults.world import eventually
from tests.support.stack import Stack, running_stack

SETTINGS = {
    "PROVIDER_CONCURRENCY": "20",
    "PROVIDER_TIMEOUT_SECONDS": "5",
    "LEASE_SLACK_SECONDS": "1",
    "PUMP_SECONDS": "1",  # So that a worker often asks Redis to be woken again.
    # The run of the day has just been; only the sweep, which comes every minute, is there to help.
    "AUTOPAYMENTS_CRON": "* * * * *",
    "MATCH_PENDING_CRON": "* * * * *",
}


@dataclass(frozen=True)
class Aftermath:
    """A copy whose Redis was emptied while it charged."""

    stack: Stack
    companies: int


@dataclass(frozen=True)
class Size:
    """How many companies, how often Redis is emptied, and whether the sweep comes by itself."""

    companies: int
    times: int
    is_scheduled: bool


@pytest.fixture(
    scope="module",
    params=[Size(300, 2, False), pytest.param(Size(4000, 10, True), marks=pytest.mark.long)],
    ids=["short", "long"],
)
def aftermath(request: pytest.FixtureRequest) -> Iterator[Aftermath]:
    size: Size = request.param
    with running_stack(
        workers=2, schedulers=int(size.is_scheduled), api=False, environment=SETTINGS
    ) as stack:
        stack.simulator.control("PUT", "/settings", {"latency_seconds": {CHARGES: 0.5}})
        seed_due_companies(stack, size.companies)
        stack.flask("autopayments-run")
        for _ in range(size.times):
            empty_redis_after_some_progress(stack, size)
        eventually(lambda: is_paid(stack), within=240, every=0.3, what="everybody has paid")
        yield Aftermath(stack, size.companies)


def empty_redis_after_some_progress(stack: Stack, size: Size) -> None:
    """Empty it while charges are under way."""
    so_far = len(paid_there(stack))
    eventually(lambda: len(paid_there(stack)) > so_far, within=90, what="progress")
    assert unpaid(stack) > 0, "everybody had paid before Redis was emptied"
    with stack.redis as redis:
        redis.flushall()
    if not size.is_scheduled:
        stack.flask("match-pending-payments-run")


def is_paid(stack: Stack) -> bool:
    """Tell whether nothing is left to charge."""
    return not unpaid(stack) and not pending_here(stack)


def test_everybody_is_charged_once_by_both_books(aftermath: Aftermath) -> None:
    assert_each_paid_once(aftermath.stack, aftermath.companies)


def test_each_renewal_is_told_once(aftermath: Aftermath) -> None:
    assert_each_was_told_once(aftermath.stack, aftermath.companies)
