"""kill -9 of a worker at each of the three points of a charge: each is charged exactly once."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from uuid import UUID

import psycopg
import pytest

from tests.faults.charges import (
    CHARGES,
    all_is_paid,
    assert_each_paid_once,
    assert_each_was_told_once,
    paid_there,
    pending_here,
    seed_due_companies,
)
from tests.faults.world import eventually
from tests.support.stack import Program, Stack, running_stack

AT_ONCE = 20
"""How many charges a worker has under way."""
HELD_SECONDS = 30.0
SETTINGS = {
    "WORKERS": "8",  # So many places that the one of a dead worker is not missed.
    "PROVIDER_CONCURRENCY": str(AT_ONCE),
    "PROVIDER_TIMEOUT_SECONDS": "6",
    "LEASE_SLACK_SECONDS": "1",
}


@dataclass(frozen=True)
class Size:
    """How many companies are due before each kill, and how often each point is killed at."""

    companies: int
    rounds: int


@dataclass(frozen=True)
class Aftermath:
    """A copy that has charged everybody, although a worker was killed at it again and again."""

    stack: Stack
    companies: int


@pytest.fixture(
    scope="module",
    params=[Size(40, 1), pytest.param(Size(400, 8), marks=pytest.mark.long)],
    ids=["short", "long"],
)
def aftermath(request: pytest.FixtureRequest) -> Iterator[Aftermath]:
    size: Size = request.param
    with running_stack(
        workers=1, schedulers=0, api=False, restart=True, environment=SETTINGS
    ) as stack:
        points = (
            kill_after_the_claim_is_committed,
            kill_after_the_provider_did_the_work,
            kill_before_the_record_is_committed,
        )
        for number in range(size.rounds):
            for point in points:
                seed_due_companies(stack, size.companies, prefix=f"{number}-{point.__name__}-")
                point(stack)
        everybody = size.companies * size.rounds * len(points)
        eventually(lambda: all_is_paid(stack), within=240, every=0.3, what="everybody has paid")
        yield Aftermath(stack, everybody)


def kill_after_the_claim_is_committed(stack: Stack) -> None:
    """Kill while the requests are on their way to a provider that will drop them all."""
    with charges_begun(stack, drop="before", delay_seconds=HELD_SECONDS) as held:
        paid = paid_there(stack)
        the_worker(stack).kill()
    assert not held <= paid, "everything had been paid before"
    assert paid_there(stack) == paid, "the provider did the work after all"


def kill_after_the_provider_did_the_work(stack: Stack) -> None:
    """Kill while the answers lie unread in the sockets of a worker that stands still."""
    with charges_begun(stack, delay_seconds=2) as held:
        eventually(lambda: requests_that_arrived(stack) >= len(held), within=3, what="all asked")
        worker = the_worker(stack)
        os.kill(worker.pid, signal.SIGSTOP)
        eventually(lambda: held <= paid_there(stack), within=30, what="paid at the provider")
        worker.kill()
    assert held <= pending_here(stack), "the worker has recorded an answer"


def kill_before_the_record_is_committed(stack: Stack) -> None:
    """Kill while the record, all but committed, waits for a lock that we hold."""
    with companies_locked(stack):
        stack.flask("autopayments-run")
        eventually(lambda: waiting_for_a_lock(stack), within=30, what="a record that waits")
        held = pending_here(stack) & paid_there(stack)
        the_worker(stack).kill()
    assert held, "nothing was paid there and not yet recorded here"


@contextmanager
def charges_begun(stack: Stack, **fault: object) -> Iterator[set[UUID]]:
    """Let charges meet this fault; give the payments of the first claim, once it is committed."""
    before = claims(stack)
    stack.simulator.add_fault(CHARGES, **fault)
    stack.flask("autopayments-run")
    new = eventually(lambda: claims(stack) - before, within=30, every=0.01, what="a claim")
    yield payments_of(stack, new)
    stack.simulator.control("DELETE", "/faults")


@contextmanager
def companies_locked(stack: Stack) -> Iterator[None]:
    """Hold the companies' rows, which a record locks last."""
    url = stack.database_url.replace("+psycopg", "", 1)
    with psycopg.connect(url) as connection:
        connection.execute("SELECT 1 FROM companies FOR UPDATE")
        yield
        connection.rollback()


def the_worker(stack: Stack) -> Program:
    """Return the only worker."""
    return stack.workers[0]


def payments_of(stack: Stack, standing: set[UUID]) -> set[UUID]:
    """Return the payments of the subscriptions that are held by these claims."""
    rows = stack.fetch(
        """
        SELECT p.id FROM payments p JOIN subscriptions s ON s.id = p.subscription_id
        WHERE s.claim_id = ANY(%(claims)s) AND p.state = 'pending'
        """,
        {"claims": list(standing)},
    )
    assert rows, "a claim without its payments"
    return {payment_id for (payment_id,) in rows}


def claims(stack: Stack) -> set[UUID]:
    """Return the claims on subscriptions that stand, also those of the dead."""
    rows = stack.fetch("SELECT DISTINCT claim_id FROM subscriptions WHERE claim_id IS NOT NULL")
    return {claim_id for (claim_id,) in rows}


def requests_that_arrived(stack: Stack) -> int:
    """Return how many requests have met the fault."""
    return sum(fault["hits"] for fault in stack.simulator.control("GET", "/faults")["faults"])


def waiting_for_a_lock(stack: Stack) -> bool:
    """Tell whether somebody waits for a row that another has."""
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
    return bool(stack.value(waiting))


def test_everybody_is_charged_once_by_both_books(aftermath: Aftermath) -> None:
    assert_each_paid_once(aftermath.stack, aftermath.companies)


def test_each_renewal_is_told_once(aftermath: Aftermath) -> None:
    assert_each_was_told_once(aftermath.stack, aftermath.companies)


def test_no_attempt_is_a_refusal(aftermath: Aftermath) -> None:
    states = aftermath.stack.fetch("SELECT state, max(attempt), count(*) FROM payments GROUP BY 1")
    assert states == [("succeeded", 1, aftermath.companies)]
