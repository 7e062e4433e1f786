"""Everything is killed while clicks come in: each that was answered 202 counts exactly once."""

import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import cycle
from typing import Any

import pytest

from tests.faults.click_senders import SECRET, Ledger, make_clicks, senders
from tests.faults.world import eventually
from tests.support.stack import Stack, running_stack

SETTINGS = {
    "WEBHOOK_SECRET_KEY": SECRET,
    "WEBHOOK_RATE_LIMIT": "1000000/second",
    "CLICKS_BATCH_SIZE": "500",
}
PAUSE_SECONDS = 1.5
AWAY_SECONDS = 1.0
ALLOWED_SECONDS = 240
"""A frozen worker is thrown out after a minute; the next sweep comes a minute later."""


def kill_a_worker(stack: Stack) -> None:
    stack.workers[0].kill()


def kill_all_workers(stack: Stack) -> None:
    for worker in stack.workers:
        worker.kill()


def kill_the_api(stack: Stack) -> None:
    stack.api.kill()


def kill_valkey(stack: Stack) -> None:
    stack.valkey.stop(kill=True)
    time.sleep(AWAY_SECONDS)
    stack.valkey.start()


def empty_valkey(stack: Stack) -> None:
    with stack.redis as redis:
        redis.flushall()


def restart_postgres(stack: Stack) -> None:
    stack.postgres.stop()
    time.sleep(AWAY_SECONDS)
    stack.postgres.start()


def kill_postgres(stack: Stack) -> None:
    stack.postgres.stop(kill=True)
    stack.postgres.start()


MISHAPS: tuple[Callable[[Stack], None], ...] = (
    kill_a_worker,
    kill_all_workers,
    kill_the_api,
    kill_valkey,
    restart_postgres,
    empty_valkey,
    kill_postgres,
)


@pytest.fixture(scope="module", params=[6_000, pytest.param(60_000, marks=pytest.mark.long)])
def aftermath(request: pytest.FixtureRequest) -> Iterator[tuple[Stack, Ledger]]:
    """A copy in which everything was killed in turn, as long as clicks came in."""
    with running_stack(workers=3, durable=True, restart=True, environment=SETTINGS) as stack:
        with senders(stack.api_url, make_clicks(request.param)) as ledger:
            mishaps = cycle(MISHAPS)
            seen = 0
            while seen < len(MISHAPS) or ledger.sent < request.param * 0.9:
                next(mishaps)(stack)
                seen += 1
                time.sleep(PAUSE_SECONDS)
        eventually(
            lambda: stack.value("SELECT count(*) FROM click_inbox") == 0,
            within=ALLOWED_SECONDS,
            what="every accepted click was counted",
        )
        yield stack, ledger


def test_everybody_was_answered_in_the_end(aftermath: tuple[Stack, Ledger]) -> None:
    _, ledger = aftermath
    assert ledger.failures == []
    assert ledger.sent_again > 0, "nothing was ever away: this proves nothing"


def test_what_was_accepted_counts_exactly_once(aftermath: tuple[Stack, Ledger]) -> None:
    stack, ledger = aftermath
    stored = Counter(row[0] for row in stack.fetch("SELECT click_id FROM clicks"))
    assert stored == Counter(dict.fromkeys(ledger.accepted, 1))


def test_the_sums_are_those_of_the_clicks(aftermath: tuple[Stack, Ledger]) -> None:
    stack, ledger = aftermath
    sums: list[Any] = stack.fetch("SELECT offer_id, sum(clicks) FROM clicks_daily GROUP BY 1")
    assert dict(sums) == Counter(ledger.accepted.values())
    assert stack.value("SELECT sum(clicks) FROM click_days") == len(ledger.accepted)


def test_what_was_refused_is_nowhere(aftermath: tuple[Stack, Ledger]) -> None:
    stack, ledger = aftermath
    assert ledger.refused
    assert all(click_id.startswith("bad") for click_id in ledger.refused)
    assert stack.value("SELECT count(*) FROM click_ids WHERE click_id LIKE 'bad%%'") == 0
    assert stack.value("SELECT count(*) FROM click_dead") == 0


@pytest.mark.long
def test_a_frozen_drain_holds_up_nobody_for_long() -> None:
    """A worker that stops in the middle of its transaction is thrown out by the database."""
    settings = {**SETTINGS, "CLICKS_BATCH_SIZE": "10"}
    with running_stack(workers=2, environment=settings) as stack:
        clicks = make_clicks(2_000)
        with senders(stack.api_url, clicks) as ledger:
            eventually(
                lambda: stack.value("SELECT count(*) FROM clicks") > 0, within=30, what="a count"
            )
            stack.workers[0].send(signal.SIGSTOP)
        eventually(
            lambda: stack.value("SELECT count(*) FROM click_inbox") == 0,
            within=ALLOWED_SECONDS,
            what="the other worker counted the rest",
        )
        assert stack.value("SELECT count(*) FROM clicks") == len(ledger.accepted)
