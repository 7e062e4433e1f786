"""SIGTERM to a worker in the middle: it finishes what is under way, claims no more, and ends."""

import time

from tests.faults.world import (
    VERIFYING,
    busy,
    events,
    eventually,
    leases,
    make_apps,
    seed_due_purchases,
)
from tests.support.stack import running_stack

PURCHASES = 1000
STORE_SECONDS = 2
ALLOWED_SECONDS = 15


def test_stopped_worker_finishes_its_work_and_exits_with_0() -> None:
    with running_stack(workers=1, schedulers=0) as stack:
        latencies = {"/*/verify": STORE_SECONDS}
        stack.simulator.control("PUT", "/settings", {"latency_seconds": latencies})
        apps = make_apps(stack, 2)
        seed_due_purchases(stack, apps, PURCHASES)
        stack.flask("purchase-run")
        worker = eventually(lambda: busy(stack, VERIFYING), within=30, what="at work")[0]
        eventually(lambda: events(stack) > 0 and leases(stack) > 0, within=30, what="progress")

        began = time.monotonic()
        assert worker.terminate(seconds=ALLOWED_SECONDS) == 0
        assert time.monotonic() - began < ALLOWED_SECONDS

        assert leases(stack) == 0
        left = stack.value("SELECT count(*) FROM purchases WHERE due_at <= now()")
        assert left == PURCHASES - events(stack) > 0
