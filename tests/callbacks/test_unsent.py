"""What could not be sent uses no attempt, is tried again soon, and delays nobody else."""

import itertools
import time
from datetime import datetime, timedelta

import pytest
from flask.testing import FlaskClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from project.callbacks.jobs import deliver_due_callbacks
from project.callbacks.settings import CallbackSettings
from project.callbacks.states import CallbackState
from project.config.environment import get_settings
from simulator.client import SimulatorClient
from tests.callbacks.conftest import Happen, Shown
from tests.conftest import ChangeSettings
from tests.core.name_server import NameServer
from tests.factories import Factory
from tests.processes import free_port
from tests.time_machine import Clock

HANGING = 24


def test_a_name_that_no_server_tells_of_uses_no_attempt_and_is_looked_up_again_soon(
    names: NameServer, happen: Happen, shown: Shown, factory: Factory, clock: Clock
) -> None:
    happen(factory.app("http://a.silent.test/hook"))

    deliver_due_callbacks()

    callback = shown()
    assert (callback["state"], callback["attempts"], callback["attempt_history"]) == (
        "pending",
        0,
        [],
    )
    assert callback["last_error"].startswith("no name server answered")
    wait = datetime.fromisoformat(callback["next_attempt_at"]) - clock.now()
    assert abs(wait - timedelta(minutes=1)) < timedelta(seconds=10)


def test_when_the_name_is_found_again_the_callback_goes_out_as_its_first_attempt(
    names: NameServer,
    happen: Happen,
    shown: Shown,
    factory: Factory,
    simulator: SimulatorClient,
    clock: Clock,
) -> None:
    app = factory.app()
    host = app.endpoint.replace("127.0.0.1", "shop.failing.test")
    happen(factory.app(host))
    deliver_due_callbacks()
    names.failing, names.addresses["shop.failing.test"] = ".never.test", "127.0.0.1"

    clock.advance(minutes=2)
    deliver_due_callbacks()

    assert (shown()["state"], shown()["attempts"]) == ("delivered", 1)
    assert simulator.inbox(app.inbox)["count"] == 1


def test_a_name_that_is_not_told_for_a_day_counts_from_then_on(
    names: NameServer, happen: Happen, shown: Shown, factory: Factory, clock: Clock
) -> None:
    happen(factory.app("http://b.failing.test/hook"))
    attempts = []
    for _ in range(30):
        deliver_due_callbacks()
        attempts.append(shown()["attempts"])
        clock.advance(hours=1)

    assert attempts[:24] == [0] * 24
    assert (shown()["state"], attempts[-1]) == ("failed", 3)


def test_the_tries_grow_apart_up_to_the_usual_pause(
    names: NameServer, happen: Happen, shown: Shown, factory: Factory, clock: Clock
) -> None:
    happen(factory.app("http://c.failing.test/hook"))
    waits = []
    for _ in range(25):
        deliver_due_callbacks()
        due_at = datetime.fromisoformat(shown()["next_attempt_at"])
        waits.append((due_at - clock.now()).total_seconds())
        clock.set_to(max(due_at, clock.now() + timedelta(seconds=30)))

    assert all(later > sooner - 5 for sooner, later in itertools.pairwise(waits))
    assert waits[0] == pytest.approx(60, abs=10)
    assert waits[-1] == pytest.approx(3600, abs=10)


def test_a_replay_that_could_not_be_sent_remains_one(
    names: NameServer,
    happen: Happen,
    shown: Shown,
    factory: Factory,
    simulator: SimulatorClient,
    clock: Clock,
    operator: FlaskClient,
) -> None:
    app = factory.app()
    happen(app)
    deliver_due_callbacks()
    operator.patch(f"/api/apps/{app.id}", json={"endpoint": "http://d.failing.test/hook"})
    operator.post(f"/api/callbacks/{shown()['id']}/replay")
    deliver_due_callbacks()
    operator.patch(f"/api/apps/{app.id}", json={"endpoint": app.endpoint})
    clock.advance(minutes=2)

    deliver_due_callbacks()

    assert [attempt["trigger"] for attempt in shown()["attempt_history"]] == ["schedule", "replay"]
    assert simulator.inbox(app.inbox)["count"] == 2


def test_names_that_hang_leave_other_endpoints_their_attempts_and_their_time(
    names: NameServer,
    happen: Happen,
    factory: Factory,
    simulator: SimulatorClient,
    operator: FlaskClient,
) -> None:
    for number in range(HANGING):
        happen(factory.app(f"http://hook-{number}.silent.test/"))
    names.addresses |= {f"shop-{number}.test": "127.0.0.1" for number in range(5)}
    healthy = []
    for number in range(5):
        app = factory.app()
        healthy.append(app.inbox)
        happen(factory.app(app.endpoint.replace("127.0.0.1", f"shop-{number}.test")), times=3)
    began = time.time()

    deliver_due_callbacks()

    came = [
        at
        for inbox in healthy
        for at in simulator.control("GET", f"/inbox/{inbox}/arrivals").values()
    ]
    assert len(came) == 15
    assert max(came) - began < 1.5
    listed = operator.get("/api/callbacks?limit=100").get_json()["data"]
    assert sorted({(row["state"], row["attempts"]) for row in listed}) == [
        ("delivered", 1),
        ("pending", 0),
    ]


def test_a_secret_that_no_key_opens_stops_nobody_else_and_uses_no_attempt(
    happen: Happen,
    factory: Factory,
    simulator: SimulatorClient,
    operator: FlaskClient,
    change_settings: ChangeSettings,
) -> None:
    sealed_before, fine = factory.app(), None
    happen(sealed_before)
    change_settings(secret_keys=("another-secret-key-of-more-than-32-bytes",))
    fine = factory.app()
    happen(fine)

    deliver_due_callbacks()

    assert simulator.inbox(fine.inbox)["count"] == 1
    [waiting] = operator.get(f"/api/callbacks?app_id={sealed_before.id}").get_json()["data"]
    assert (waiting["state"], waiting["attempts"]) == ("pending", 0)
    assert "SECRET_KEY" in waiting["last_error"]


OUTCOMES = ("unsent", "refused", "500", "200")


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(outcomes=st.lists(st.sampled_from(OUTCOMES), min_size=1, max_size=8))
def test_attempts_are_used_by_what_was_sent_or_refused_and_by_nothing_else(
    names: NameServer,
    happen: Happen,
    factory: Factory,
    simulator: SimulatorClient,
    operator: FlaskClient,
    clock: Clock,
    outcomes: list[str],
) -> None:
    """Whatever order things go wrong in, three requests that failed close it, and no fewer."""
    app = factory.app()
    happen(app)
    urls = {
        "unsent": "http://e.failing.test/",
        "refused": f"http://127.0.0.1:{free_port()}/",
        "500": f"{app.endpoint}-broken",
        "200": app.endpoint,
    }
    simulator.add_fault(f"/inbox/{app.inbox}-broken", status=500)
    used, state = 0, CallbackState.PENDING
    for outcome in outcomes:
        operator.patch(f"/api/apps/{app.id}", json={"endpoint": urls[outcome]})
        deliver_due_callbacks()
        if state is CallbackState.PENDING and outcome != "unsent":
            used += 1
            if outcome == "200":
                state = CallbackState.DELIVERED
            elif used == get_settings(CallbackSettings).callback_max_attempts:
                state = CallbackState.FAILED
        [callback] = operator.get(f"/api/callbacks?app_id={app.id}").get_json()["data"]
        assert (callback["state"], callback["attempts"]) == (state, used)
        clock.advance(hours=1)
