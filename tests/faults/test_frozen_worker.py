"""A worker stands still for longer than its leases, and then goes on as if nothing had been."""

import signal
from collections.abc import Sequence

from tests.faults.world import (
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
    seed_due_purchases,
)
from tests.support.stack import Program, Stack, running_stack

PURCHASES = 1000
SETTINGS = {
    "WORKERS": "4",  # So many places that two workers may do the same kind of work.
    "STORE_TIMEOUT_SECONDS": "2",
    "CALLBACK_RETRY_SECONDS": "5",
    "LEASE_SLACK_SECONDS": "1",
}


def test_late_results_of_a_frozen_worker_change_nothing() -> None:
    with running_stack(workers=2, schedulers=0, environment=SETTINGS) as stack:
        frozen, other = stack.workers
        # As long as nobody else is there, what is claimed is what the first one holds.
        other.terminate()
        stack.simulator.control("PUT", "/settings", {"latency_seconds": {"/*/verify": 0.5}})
        apps = make_apps(stack, 5)
        seed_due_purchases(stack, apps, PURCHASES)
        stack.flask("purchase-run")
        _freeze_with_leases(stack, frozen)
        other.start()
        eventually(lambda: all_is_done(stack), within=90, what="all done by the other")
        asked = _questions_to_the_stores(stack)

        frozen.send(signal.SIGCONT)
        eventually(lambda: frozen not in busy(stack, VERIFYING), within=30, what="it is through")

        assert asked > PURCHASES, "the frozen worker held nothing: nothing was done again"
        _assert_nothing_doubled(stack, apps)


def _freeze_with_leases(stack: Stack, worker: Program) -> None:
    """Stop the worker with SIGSTOP while it holds purchases, but not inside of a transaction."""
    eventually(lambda: events(stack) > 0, within=60, what="progress")
    while True:
        eventually(lambda: _held(stack), within=30, what="purchases at hand")
        worker.send(signal.SIGSTOP)
        if _held(stack) and not _is_a_transaction_open(stack):
            return
        worker.send(signal.SIGCONT)


def _held(stack: Stack) -> int:
    query = "SELECT count(*) FROM purchases WHERE claimed_until > clock_timestamp()"
    return int(stack.value(query))


def _is_a_transaction_open(stack: Stack) -> bool:
    """Tell whether one stays open, whatever it does at the moment: it would keep its locks."""
    query = """
        SELECT pid, xact_start FROM pg_stat_activity
         WHERE xact_start IS NOT NULL AND backend_type = 'client backend'
           AND pid <> pg_backend_pid()
    """
    opened = set(stack.fetch(query))
    for _ in range(10):
        opened &= set(stack.fetch(query))
    return bool(opened)


def _questions_to_the_stores(stack: Stack) -> int:
    stores = stack.simulator.control("GET", "/stores").values()
    return sum(store["requests"] for store in stores)


def _assert_nothing_doubled(stack: Stack, apps: Sequence[MadeApp]) -> None:
    assert_each_due_purchase_was_checked_once(stack)
    assert events(stack) == PURCHASES
    assert_books_agree(stack)
    assert_each_callback_was_delivered(stack, apps)
    assert sum(len(arrivals(stack, app.inbox)) for app in apps) == PURCHASES
