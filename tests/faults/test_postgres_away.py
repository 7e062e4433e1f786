"""Postgres is down for five seconds: 503 with Retry-After, then everything as before."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pytest

from tests.faults.customers import Customers, customers
from tests.faults.world import (
    Api,
    MadeApp,
    all_is_done,
    assert_books_agree,
    assert_each_callback_was_delivered,
    assert_each_due_purchase_was_checked_once,
    events,
    eventually,
    make_apps,
    seed_due_purchases,
)
from tests.support.stack import Stack, running_stack

PURCHASES = 1500
APPS = 10
AWAY_SECONDS = 5
LONGEST_ANSWER_SECONDS = 10
SETTLING_SECONDS = 5
"""How long after its return a connection from before may still show up."""
ALLOWED_SECONDS = 120


@dataclass(frozen=True)
class Aftermath:
    """A copy whose Postgres was away, and what customers met with meanwhile."""

    stack: Stack
    apps: Sequence[MadeApp]
    met: Customers
    gone_at: float
    back_at: float


@pytest.fixture(scope="module", params=["stopped", pytest.param("killed", marks=pytest.mark.long)])
def aftermath(request: pytest.FixtureRequest) -> Iterator[Aftermath]:
    settings = {
        "STORE_TIMEOUT_SECONDS": "2",
        "CALLBACK_RETRY_SECONDS": "5",
        "LEASE_SLACK_SECONDS": "5",
    }
    with running_stack(
        workers=2, schedulers=0, restart=True, durable=True, environment=settings
    ) as stack:
        latencies = {"/*/verify": 0.2, "/inbox/*": 0.05}
        stack.simulator.control("PUT", "/settings", {"latency_seconds": latencies})
        apps = make_apps(stack, APPS)
        seed_due_purchases(stack, apps, PURCHASES)
        with customers(stack, range(1, PURCHASES + 1)) as met:
            stack.flask("purchase-run")
            eventually(lambda: events(stack) > 100, within=60, what="progress")
            stack.postgres.stop(kill=request.param == "killed")
            gone_at = time.time()
            time.sleep(AWAY_SECONDS)
            stack.postgres.start()
            back_at = time.time()
            eventually(
                lambda: Api(stack).get("/health/ready").status == 200, within=10, what="ready"
            )
            time.sleep(2 * SETTLING_SECONDS)
        eventually(lambda: all_is_done(stack), within=ALLOWED_SECONDS, every=0.2, what="all done")
        yield Aftermath(stack, apps, met, gone_at, back_at)


def test_api_says_503_and_when_to_come_back(aftermath: Aftermath) -> None:
    answers = aftermath.met.between(aftermath.gone_at, aftermath.gone_at + AWAY_SECONDS)
    assert {answer.status for answer in answers} == {503}
    assert {answer.content_type for answer in answers} == {"application/problem+json"}
    assert all(answer.retry_after and int(answer.retry_after) > 0 for answer in answers)


def test_api_never_fails_otherwise_and_never_hangs(aftermath: Aftermath) -> None:
    assert {answer.status for answer in aftermath.met.experiences} <= {200, 202, 503}
    longest = max(answer.seconds for answer in aftermath.met.experiences)
    assert longest < LONGEST_ANSWER_SECONDS
    assert "request.failed" not in aftermath.stack.api.log.read_text()


def test_api_is_as_before_when_postgres_is_back(aftermath: Aftermath) -> None:
    settled = aftermath.back_at + SETTLING_SECONDS
    answers = aftermath.met.between(settled, settled + SETTLING_SECONDS)
    assert {answer.status for answer in answers} == {200}


def test_workers_recover_and_nothing_is_lost_or_doubled(aftermath: Aftermath) -> None:
    stack = aftermath.stack
    assert_each_due_purchase_was_checked_once(stack)
    assert_books_agree(stack)
    assert_each_callback_was_delivered(stack, aftermath.apps)
    recorded = {
        receipt
        for (receipt,) in stack.fetch("SELECT receipt FROM purchases WHERE state = 'active'")
    }
    assert aftermath.met.receipts(200, 202) <= recorded
