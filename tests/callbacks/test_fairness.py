"""What one endpoint does is not at another one's cost, and each callback is sent once."""

import threading
import time
from collections.abc import Callable

from flask import Flask

from project.callbacks.delivery import CallbackDelivery
from project.callbacks.jobs import deliver_due_callbacks
from project.callbacks.settings import CallbackSettings
from project.config.environment import get_settings
from project.core.work import pump
from simulator.client import SimulatorClient
from tests.callbacks.conftest import Happen
from tests.conftest import ChangeSettings
from tests.factories import Factory, MadeApp
from tests.time_machine import Clock

HANGS_SECONDS = 2.0
SHORT_SECONDS = 0.3


def arrivals(simulator: SimulatorClient, inbox: str) -> list[float]:
    found = simulator.control("GET", f"/inbox/{inbox}/arrivals")
    return sorted(found.values())


def deliver_in_threads(app: Flask, *, threads: int) -> None:
    def run() -> None:
        with app.app_context():
            pump.run(CallbackDelivery())

    running = [threading.Thread(target=run) for _ in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()


def test_several_pumps_at_once_send_every_callback_once(
    app: Flask, happen: Happen, factory: Factory, simulator: SimulatorClient
) -> None:
    apps = [factory.app() for _ in range(6)]
    ids = {made.inbox: happen(made, times=15) for made in apps}
    deliver_in_threads(app, threads=4)
    for inbox, sent in ids.items():
        assert simulator.control("GET", f"/inbox/{inbox}/ids") == dict.fromkeys(sent, 1)


def test_an_endpoint_that_hangs_delays_nobody_else(
    happen: Happen,
    factory: Factory,
    simulator: SimulatorClient,
    change_settings: ChangeSettings,
) -> None:
    change_settings(callback_timeout_seconds=HANGS_SECONDS)
    hanging, healthy = factory.app(), factory.app()
    happen(hanging, times=30)
    happen(healthy, times=30)
    simulator.add_fault(f"/inbox/{hanging.inbox}", delay_seconds=20)
    started = time.time()
    deliver_due_callbacks()
    took = [came - started for came in arrivals(simulator, healthy.inbox)]
    assert len(took) == 30
    assert max(took) < HANGS_SECONDS, "the healthy one waited for a time-out of the other"


def test_hanging_endpoints_leave_half_of_the_room_to_the_others(
    app: Flask,
    happen: Happen,
    factory: Factory,
    simulator: SimulatorClient,
    clock: Clock,
    change_settings: ChangeSettings,
) -> None:
    change_settings(callback_concurrency=4, callback_timeout_seconds=SHORT_SECONDS)
    hanging = [factory.app() for _ in range(3)]
    healthy = factory.app()
    for made in hanging:
        happen(made, times=4)
        simulator.add_fault(f"/inbox/{made.inbox}", delay_seconds=20)
    deliver_due_callbacks()

    clock.advance(hours=2)
    change_settings(callback_timeout_seconds=HANGS_SECONDS)
    known = requests(simulator, hanging)
    delivering = threading.Thread(target=deliver_in_threads, args=(app,), kwargs={"threads": 1})
    delivering.start()
    try:
        wait_until(lambda: requests(simulator, hanging) - known >= 2)
        time.sleep(0.3)
        assert requests(simulator, hanging) - known == 2, "half of the room, which is four"
        asked_at = time.time()
        happen(healthy, times=5)
        wait_until(lambda: len(arrivals(simulator, healthy.inbox)) == 5)
    finally:
        pump.stopping.set()
        delivering.join()
    assert max(arrivals(simulator, healthy.inbox)) - asked_at < HANGS_SECONDS / 2


def requests(simulator: SimulatorClient, apps: list[MadeApp]) -> int:
    return sum(simulator.inbox(made.inbox)["count"] for made in apps)


def wait_until(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_an_endpoint_that_hung_is_not_pestered_with_all_that_waits(
    happen: Happen,
    factory: Factory,
    simulator: SimulatorClient,
    clock: Clock,
    change_settings: ChangeSettings,
) -> None:
    made = factory.app()
    happen(made, times=40)
    simulator.add_fault(f"/inbox/{made.inbox}", delay_seconds=20)
    usual = get_settings(CallbackSettings).callback_timeout_seconds
    change_settings(callback_timeout_seconds=SHORT_SECONDS)
    assert deliver_due_callbacks() == 1, "one request, and then a rest"
    change_settings(callback_timeout_seconds=usual)
    clock.advance(seconds=31)
    simulator.control("DELETE", "/faults")
    assert deliver_due_callbacks() == 39, "once it answers again, it gets the rest"


def test_what_was_claimed_but_not_sent_loses_no_attempt(
    happen: Happen,
    factory: Factory,
    simulator: SimulatorClient,
    clock: Clock,
    change_settings: ChangeSettings,
) -> None:
    made = factory.app()
    ids = happen(made, times=6)
    simulator.add_fault(f"/inbox/{made.inbox}", delay_seconds=20)
    usual = get_settings(CallbackSettings).callback_timeout_seconds
    change_settings(callback_timeout_seconds=SHORT_SECONDS)
    for _ in range(2):
        deliver_due_callbacks()
        clock.advance(minutes=1)
    change_settings(callback_timeout_seconds=usual)
    simulator.control("DELETE", "/faults")
    simulator.add_fault(f"/inbox/{made.inbox}", status=500)
    for _ in range(4):
        deliver_due_callbacks()
        clock.advance(hours=1)
    arrived = simulator.control("GET", f"/inbox/{made.inbox}/ids")
    assert arrived == dict.fromkeys(ids, 3)
