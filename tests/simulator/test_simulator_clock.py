"""The simulator lives in the time that the platform's test clock tells."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from simulator.client import Answer, SimulatorClient

if TYPE_CHECKING:
    from tests.simulator.conftest import StubClock


def told_time(simulator: SimulatorClient) -> datetime:
    """Return when the simulator thinks that a message sent now was received."""
    simulator.call("POST", "/inbox/clock", {})
    message = simulator.inbox("clock", limit=1)["messages"][0]
    return datetime.fromisoformat(message["received_at"])


def buy(simulator: SimulatorClient, receipt: str) -> Answer:
    """Have the App Store verify a receipt."""
    return simulator.call("POST", "/app-store/verify", {"receipt": receipt})


def expire_date(answer: Answer) -> datetime:
    """Return until when the store says that a receipt is good."""
    return datetime.fromisoformat(answer.json()["expire-date"])


def test_every_request_asks_for_the_time_anew(
    clocked_simulator: SimulatorClient, stub_clock: StubClock
) -> None:
    start, expires = stub_clock.now, expire_date(buy(clocked_simulator, "r-1"))
    for hours, receipt in ((25, "r-3"), (3, "r-5")):
        passed = timedelta(hours=hours)
        stub_clock.now = start + passed
        later = expire_date(buy(clocked_simulator, receipt)) - expires
        assert abs(later - passed) < timedelta(minutes=1)
    assert stub_clock.asked == 3


def test_requests_at_once_share_look_ups(
    clocked_simulator: SimulatorClient, stub_clock: StubClock
) -> None:
    stub_clock.delay_seconds = 0.1

    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda _: buy(clocked_simulator, "r-1"), range(8)))

    assert [answer.status for answer in answers] == [200] * 8
    # One for whoever is first, one for all that come while it is under way, rarely a third.
    assert stub_clock.asked <= 3


def test_a_look_up_from_before_a_move_does_not_serve_who_came_after_it(
    clocked_simulator: SimulatorClient, stub_clock: StubClock
) -> None:
    bought = expire_date(buy(clocked_simulator, "r-1"))
    stub_clock.told.clear()
    stub_clock.delay_seconds = 0.3
    with ThreadPoolExecutor(1) as threads:
        before = threads.submit(buy, clocked_simulator, "r-1")
        assert stub_clock.told.wait(10), "the time was never asked for"
        stub_clock.now += timedelta(days=31)
        after = buy(clocked_simulator, "r-1")

    assert expire_date(before.result()) == bought
    assert expire_date(after) == bought + timedelta(days=30)


def test_refused_receipt_needs_no_time(
    clocked_simulator: SimulatorClient, stub_clock: StubClock
) -> None:
    clocked_simulator.call("POST", "/app-store/verify", {"receipt": "r-2"})

    assert stub_clock.asked == 0


@pytest.mark.parametrize(
    ("status", "answer"),
    [
        (500, None),
        (302, None),
        (200, b"not json"),
        (200, b"[]"),
        (200, b"{}"),
        (200, b'{"now": null}'),
        (200, b'{"now": "soon"}'),
    ],
)
def test_last_known_offset_serves_when_the_clock_answers_nonsense(
    clocked_simulator: SimulatorClient, stub_clock: StubClock, status: int, answer: bytes | None
) -> None:
    known = expire_date(buy(clocked_simulator, "r-1"))
    stub_clock.now += timedelta(days=1)
    stub_clock.status, stub_clock.answer = status, answer

    assert abs(expire_date(buy(clocked_simulator, "r-3")) - known) < timedelta(minutes=1)


def test_a_store_waits_for_a_slow_clock_instead_of_going_by_an_old_time(
    clocked_simulator: SimulatorClient, stub_clock: StubClock
) -> None:
    bought = expire_date(buy(clocked_simulator, "r-1"))
    stub_clock.now += timedelta(days=31)
    stub_clock.delay_seconds = 1.0

    assert expire_date(buy(clocked_simulator, "r-1")) == bought + timedelta(days=30)


def test_what_is_only_noted_goes_by_the_last_known_time_when_the_clock_is_slow(
    clocked_simulator: SimulatorClient, stub_clock: StubClock
) -> None:
    buy(clocked_simulator, "r-1")
    known = stub_clock.now
    stub_clock.now += timedelta(days=1)
    stub_clock.delay_seconds = 2.0

    assert abs(told_time(clocked_simulator) - known) < timedelta(hours=1)


def test_real_time_is_told_without_a_clock(simulator_process: SimulatorClient) -> None:
    told = told_time(simulator_process)

    assert abs(told.timestamp() - time.time()) < 60
