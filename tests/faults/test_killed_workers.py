"""kill -9 of workers in the middle of `purchase-run` and of the delivery of its callbacks."""

import itertools
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pytest

from tests.faults.world import (
    DELIVERING,
    VERIFYING,
    MadeApp,
    all_is_done,
    arrivals,
    assert_books_agree,
    assert_each_callback_was_delivered,
    assert_each_due_purchase_was_checked_once,
    busy,
    events,
    eventually,
    make_apps,
    most_in_flight,
    seed_due_purchases,
    undelivered,
)
from tests.support.stack import Program, Stack, running_stack

STORE_SECONDS = 0.4
INBOX_SECONDS = 0.1
LANE_SECONDS = 2.0
"""How long a lane sends before its answers are recorded."""
LANE_LOAD = 50
"""How many callbacks it carries at most, with a window as small as here."""
AT_ONCE = 8
TIMEOUT_SECONDS = 2
ROUND = (VERIFYING, DELIVERING)
"""What the victims of a round of kills are at."""


@dataclass(frozen=True)
class Size:
    """How much there is to do, and how often workers are killed at it."""

    purchases: int
    apps: int
    workers: int
    rounds: int


IN_CI = Size(purchases=3000, apps=20, workers=6, rounds=2)
LONG = Size(purchases=20_000, apps=40, workers=8, rounds=8)


@dataclass(frozen=True)
class Aftermath:
    """A copy that has done all its work, although workers were killed at these moments."""

    stack: Stack
    size: Size
    apps: Sequence[MadeApp]
    killed_at: Sequence[float]


@pytest.fixture(
    scope="module",
    params=[IN_CI, pytest.param(LONG, marks=pytest.mark.long)],
    ids=["short", "long"],
)
def aftermath(request: pytest.FixtureRequest) -> Iterator[Aftermath]:
    size: Size = request.param
    settings = {
        "STORE_TIMEOUT_SECONDS": str(TIMEOUT_SECONDS),
        "CALLBACK_TIMEOUT_SECONDS": str(TIMEOUT_SECONDS),
        "CALLBACK_ENDPOINT_CONCURRENCY": str(AT_ONCE),
        "CALLBACK_RETRY_SECONDS": "5",
        "CALLBACK_MAX_ATTEMPTS": "50",
        "LEASE_SLACK_SECONDS": "5",
    }
    with running_stack(
        workers=size.workers, schedulers=0, restart=True, environment=settings
    ) as stack:
        latencies = {"/*/verify": STORE_SECONDS, "/inbox/*": INBOX_SECONDS}
        stack.simulator.control("PUT", "/settings", {"latency_seconds": latencies})
        apps = make_apps(stack, size.apps)
        seed_due_purchases(stack, apps, size.purchases)
        stack.flask("purchase-run")
        killed_at = [_kill_one(stack, job) for _ in range(size.rounds) for job in ROUND]
        eventually(lambda: all_is_done(stack), within=180, every=0.2, what="all done")
        yield Aftermath(stack, size, apps, killed_at)


def _kill_one(stack: Stack, job: str) -> float:
    """Kill a worker that is at this job, once some progress was made; return when."""
    so_far = events(stack) - undelivered(stack)
    eventually(lambda: _is_beyond(stack, so_far), within=60, what="progress")
    victim: Program = random.choice(eventually(lambda: _at(stack, job), within=60, what=job))
    victim.kill()
    return time.time()


def _is_beyond(stack: Stack, delivered: int) -> bool:
    return events(stack) - undelivered(stack) > delivered or all_is_done(stack)


def _at(stack: Stack, job: str) -> list[Program]:
    """Return the workers that are at this job; if none is, see to it that one comes."""
    found = busy(stack, job)
    if not found:
        assert not all_is_done(stack), "all was done before enough workers were killed"
    return found


def test_every_purchase_is_checked_and_told_of_once(aftermath: Aftermath) -> None:
    assert_each_due_purchase_was_checked_once(aftermath.stack)
    assert events(aftermath.stack) == aftermath.size.purchases


def test_report_and_callbacks_agree_with_the_events(aftermath: Aftermath) -> None:
    assert_books_agree(aftermath.stack)


def test_every_callback_is_delivered_and_recorded_once(aftermath: Aftermath) -> None:
    assert_each_callback_was_delivered(aftermath.stack, aftermath.apps)


def _tried_again(aftermath: Aftermath) -> set[str]:
    """Return what was given up on at least once, on a machine that was too busy to answer."""
    failed = aftermath.stack.fetch(
        """
        SELECT c.event_id FROM callbacks c JOIN callback_attempts a ON a.callback_id = c.id
        WHERE a.error IS NOT NULL
        """
    )
    return {str(event_id) for (event_id,) in failed}


def test_only_what_was_under_way_at_a_kill_is_sent_twice(aftermath: Aftermath) -> None:
    longest = LANE_SECONDS + TIMEOUT_SECONDS
    tried_again = _tried_again(aftermath)
    again = 0
    for app in aftermath.apps:
        times: dict[str, list[float]] = {}
        for webhook_id, arrived_at in arrivals(aftermath.stack, app.inbox):
            if webhook_id not in tried_again:
                times.setdefault(webhook_id, []).append(arrived_at)
        for earlier, _later in itertools.chain.from_iterable(
            itertools.pairwise(moments) for moments in times.values()
        ):
            again += 1
            assert any(earlier <= kill <= earlier + longest for kill in aftermath.killed_at)
    assert again <= len(aftermath.killed_at) / 2 * aftermath.size.apps * 2 * LANE_LOAD


def test_no_endpoint_ever_has_more_requests_in_flight_than_is_set(aftermath: Aftermath) -> None:
    # What was given up on arrives whenever the receiver comes round to it.
    tried_again = _tried_again(aftermath)
    for app in aftermath.apps:
        times = [
            arrived_at
            for webhook_id, arrived_at in arrivals(aftermath.stack, app.inbox)
            if webhook_id not in tried_again
        ]
        # Half of it, as a clock that is corrected meanwhile brings arrivals nearer to each other.
        assert 1 <= most_in_flight(times, seconds=INBOX_SECONDS / 2) <= AT_ONCE
