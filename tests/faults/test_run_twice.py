"""Two `purchase-run` and two schedulers at once: nothing is doubled."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest

from tests.faults.world import (
    MadeApp,
    arrivals,
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

PURCHASES = 2000
APPS = 10
SETTINGS = {"CALLBACK_RETRY_SECONDS": "5"}


@dataclass(frozen=True)
class Aftermath:
    """A copy in which everything was started twice at once."""

    stack: Stack
    apps: Sequence[MadeApp]
    printed: Sequence[str]


@pytest.fixture(scope="module")
def aftermath() -> Iterator[Aftermath]:
    with running_stack(workers=2, schedulers=2, environment=SETTINGS) as stack:
        stack.simulator.control("PUT", "/settings", {"latency_seconds": {"/*/verify": 0.2}})
        apps = make_apps(stack, APPS)
        seed_due_purchases(stack, apps, PURCHASES)
        with ThreadPoolExecutor(4) as at_once:
            runs = [
                at_once.submit(stack.flask, "purchase-run", *options)
                for options in (["--inline"], ["--inline"], [], [])
            ]
            printed = [run.result() for run in runs]
        eventually(
            lambda: not unverified(stack) and not undelivered(stack), within=90, what="all done"
        )
        yield Aftermath(stack, apps, printed)


def test_each_purchase_is_verified_by_one_of_the_runs(aftermath: Aftermath) -> None:
    assert_each_due_purchase_was_checked_once(aftermath.stack)
    assert_books_agree(aftermath.stack)
    assert events(aftermath.stack) == PURCHASES
    stores = aftermath.stack.simulator.control("GET", "/stores").values()
    assert sum(store["requests"] for store in stores) == PURCHASES


def test_each_callback_is_sent_once(aftermath: Aftermath) -> None:
    assert_each_callback_was_delivered(aftermath.stack, aftermath.apps)
    sent = [arrival for app in aftermath.apps for arrival in arrivals(aftermath.stack, app.inbox)]
    assert len(sent) == PURCHASES


def test_both_runs_had_a_share(aftermath: Aftermath) -> None:
    shares = [int(text.split()[0]) for text in aftermath.printed if "done" in text]
    assert len(shares) == 2
    assert all(0 < share < PURCHASES for share in shares)


def test_two_schedulers_keep_one_schedule(aftermath: Aftermath) -> None:
    wanted = periodic_jobs(aftermath.stack)
    with aftermath.stack.redis as redis:
        assert redis.zcard("rq:scheduler:scheduled_jobs") == wanted
    assert all(scheduler.is_running for scheduler in aftermath.stack.schedulers)
