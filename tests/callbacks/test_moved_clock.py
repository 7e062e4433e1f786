"""However the test clock is moved, nothing rests until a time that the clock was set back from."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from flask.testing import FlaskClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import func, select

from project.callbacks import queries
from project.callbacks.congestion import MAX_REST
from project.callbacks.jobs import deliver_due_callbacks
from project.callbacks.settings import CallbackSettings
from project.config.environment import get_settings
from project.core import clock as product_clock
from project.core.db.transaction import transaction
from project.extensions import db
from simulator.client import SimulatorClient
from tests.callbacks.conftest import Happen
from tests.conftest import ChangeSettings
from tests.factories import Factory
from tests.time_machine import Clock

SLACK = timedelta(seconds=20)
STEPS = st.sampled_from(
    [
        *("advance:3600", "advance:86400", "advance:2764800", "set:-7200", "set:-2764800", "reset"),
        *("happen", "deliver", "break", "hang", "mend"),
    ]
)


def latest_due_at() -> dict[str, datetime | None]:
    with transaction(read_only=True):
        return {
            "callback": db.session.scalar(select(func.max(queries.callbacks.c.due_at))),
            "lane": db.session.scalar(select(func.max(queries.lanes.c.due_at))),
        }


@dataclass
class History:
    """What is done to an endpoint and to the clock, in whatever order."""

    happen: Happen
    factory: Factory
    simulator: SimulatorClient
    clock: Clock

    def __post_init__(self) -> None:
        self.app = self.factory.app()
        self.told: list[str] = []

    def take(self, step: str) -> None:
        word, _, seconds = step.partition(":")
        inbox = f"/inbox/{self.app.inbox}"
        match word:
            case "advance":
                self.clock.advance(seconds=float(seconds))
            case "set":
                self.clock.set_to(self.clock.now() + timedelta(seconds=float(seconds)))
            case "reset":
                product_clock.reset()
            case "happen":
                self.told += self.happen(self.app)
            case "deliver":
                deliver_due_callbacks()
            case "break":
                self.simulator.add_fault(inbox, status=503)
            case "hang":
                self.simulator.add_fault(inbox, delay_seconds=3, times=1)
            case "mend":
                self.simulator.control("DELETE", "/faults")

    def nothing_rests_too_long(self) -> None:
        latest, now = latest_due_at(), self.clock.now()
        retry = timedelta(seconds=get_settings(CallbackSettings).callback_retry_seconds)
        if latest["callback"] is not None:
            assert latest["callback"] <= now + retry + SLACK
        assert latest["lane"] is not None
        assert latest["lane"] <= now + MAX_REST + SLACK


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(STEPS, min_size=3, max_size=14))
def test_in_any_order_of_moves_and_deliveries_every_callback_arrives_in_the_end(
    happen: Happen,
    factory: Factory,
    simulator: SimulatorClient,
    clock: Clock,
    change_settings: ChangeSettings,
    steps: list[str],
) -> None:
    change_settings(callback_timeout_seconds=0.2, callback_max_attempts=100)
    history = History(happen, factory, simulator, clock)
    for step in steps:
        history.take(step)
        history.nothing_rests_too_long()
    history.take("mend")
    clock.advance(seconds=get_settings(CallbackSettings).callback_retry_seconds + 60)
    deliver_due_callbacks()

    arrived = simulator.control("GET", f"/inbox/{history.app.inbox}/ids")
    assert set(history.told) <= set(arrived)


def test_callbacks_go_out_after_a_reset_as_they_did_before(
    happen: Happen,
    factory: Factory,
    simulator: SimulatorClient,
    clock: Clock,
    change_settings: ChangeSettings,
    operator: FlaskClient,
) -> None:
    app = factory.app()
    clock.advance(days=45)
    happen(app)
    deliver_due_callbacks()

    operator.post("/api/clock", json={"reset": True})
    happen(app, times=3)
    deliver_due_callbacks()

    assert simulator.inbox(app.inbox)["count"] == 4


def test_what_was_not_yet_delivered_when_the_clock_was_reset_goes_out_at_once(
    happen: Happen, factory: Factory, simulator: SimulatorClient, clock: Clock
) -> None:
    app = factory.app()
    clock.advance(days=400)
    happen(app)
    product_clock.reset()

    deliver_due_callbacks()

    assert simulator.inbox(app.inbox)["count"] == 1


def test_a_pause_keeps_its_length(
    happen: Happen, factory: Factory, simulator: SimulatorClient, clock: Clock
) -> None:
    app = factory.app()
    clock.advance(days=3)
    happen(app)
    simulator.add_fault("/inbox/*", status=500, times=1)
    deliver_due_callbacks()
    clock.set_to(clock.now() - timedelta(days=2))

    clock.advance(minutes=58)
    assert deliver_due_callbacks() == 0
    clock.advance(minutes=3)
    deliver_due_callbacks()

    assert simulator.inbox(app.inbox)["count"] == 2
