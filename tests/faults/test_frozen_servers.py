"""Each server hangs in turn under load: nothing is lost, nothing done twice, nobody waits long."""

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest

from tests.faults.charges import all_is_paid, assert_each_paid_once, seed_due_companies
from tests.faults.click_senders import SECRET, Ledger, make_clicks, senders
from tests.faults.world import (
    Api,
    MadeApp,
    all_is_done,
    assert_each_callback_was_delivered,
    assert_each_due_purchase_was_checked_once,
    eventually,
    make_apps,
    seed_due_purchases,
)
from tests.processes import family, frozen
from tests.support.stack import Stack, running_stack

SETTINGS = {
    "WEBHOOK_SECRET_KEY": SECRET,
    "WEBHOOK_RATE_LIMIT": "1000000/second",
    "CALLBACK_RETRY_SECONDS": "3",
    "CALLBACK_MAX_ATTEMPTS": "50",
    "LEASE_SLACK_SECONDS": "5",
}
ALLOWED_SECONDS = 180
AT_ONCE_SECONDS = 1.0
KINDS = ("valkey", "outside", "scheduler", "worker", "postgres")


@dataclass
class Pulse:
    """How long answers took while each server hung."""

    seconds: dict[str, list[float]] = field(default_factory=dict)
    hanging: str = "nothing"
    ended: threading.Event = field(default_factory=threading.Event)

    def watch(self, stack: Stack) -> None:
        api = Api(stack, timeout_seconds=30)
        while not self.ended.wait(0.1):
            hanging, began = self.hanging, time.monotonic()
            for answer in (api.get("/api/health/live"), api.check(1)):
                assert answer.status in (200, 503)
            self.seconds.setdefault(hanging, []).append(time.monotonic() - began)


@dataclass(frozen=True)
class Aftermath:
    """A copy in which each server hung for a while, and what came of it."""

    stack: Stack
    apps: Sequence[MadeApp]
    clicks: Ledger
    pulse: Pulse
    companies: int


@pytest.fixture(
    scope="module",
    params=[(1500, 60, 5, 3.0), pytest.param((20_000, 3000, 200, 20.0), marks=pytest.mark.long)],
    ids=["short", "long"],
)
def aftermath(request: pytest.FixtureRequest) -> Iterator[Aftermath]:
    clicks, purchases, companies, seconds = request.param
    with running_stack(workers=2, restart=True, environment=SETTINGS) as stack:
        apps = make_apps(stack, 3)
        seed_due_purchases(stack, apps, purchases)
        seed_due_companies(stack, companies)
        stack.flask("purchase-run")
        stack.flask("autopayments-run")
        with senders(stack.api_url, make_clicks(clicks)) as ledger, watched(stack) as pulse:
            for kind in KINDS:
                pulse.hanging = kind
                with frozen(family(_pid(stack, kind)), seconds=seconds):
                    pass
                pulse.hanging = "nothing"
                time.sleep(1)
        eventually(lambda: all_is_done(stack), within=ALLOWED_SECONDS, every=0.5, what="all done")
        eventually(lambda: all_is_paid(stack), within=ALLOWED_SECONDS, every=0.5, what="all paid")
        yield Aftermath(stack, apps, ledger, pulse, companies)


def _pid(stack: Stack, kind: str) -> int:
    return {
        "valkey": stack.valkey.pid,
        "postgres": stack.postgres.pid,
        "outside": stack.outside.pid,
        "scheduler": stack.schedulers[0].pid,
        "worker": stack.workers[0].pid,
    }[kind]


@contextmanager
def watched(stack: Stack) -> Iterator[Pulse]:
    """Ask for a sign of life and for a customer's access all the time."""
    pulse = Pulse()
    thread = threading.Thread(target=pulse.watch, args=(stack,))
    thread.start()
    try:
        yield pulse
    finally:
        pulse.ended.set()
        thread.join()


def test_every_click_that_was_taken_is_counted_once(aftermath: Aftermath) -> None:
    stack, ledger = aftermath.stack, aftermath.clicks
    assert ledger.failures == []

    def counted() -> int:
        return int(stack.value("SELECT count(*) FROM clicks"))

    eventually(lambda: counted() >= len(ledger.accepted), within=120, what="all are counted")
    stored = stack.fetch("SELECT click_id, offer_id FROM clicks")
    assert sorted(stored) == sorted(ledger.accepted.items())


def test_every_purchase_and_charge_has_one_outcome_that_is_told_once(aftermath: Aftermath) -> None:
    assert_each_due_purchase_was_checked_once(aftermath.stack)
    assert_each_callback_was_delivered(aftermath.stack, aftermath.apps)
    assert_each_paid_once(aftermath.stack, aftermath.companies)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "postgres"])
def test_checks_and_signs_of_life_go_on_while_it_hangs(aftermath: Aftermath, kind: str) -> None:
    """The middle one of all: a machine that is busy may answer a single one late."""
    took = sorted(aftermath.pulse.seconds[kind])

    assert took[len(took) // 2] < AT_ONCE_SECONDS
    assert took[-1] < 3 * AT_ONCE_SECONDS
