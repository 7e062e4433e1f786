"""Replays: one more attempt with the same id and body, beside the scheduled ones."""

from datetime import datetime, timedelta
from typing import Any
from urllib.parse import quote

import pytest
from flask.testing import FlaskClient
from standardwebhooks import Webhook

from project.callbacks.jobs import deliver_due_callbacks
from project.callbacks.queries import callbacks, due_callbacks, endpoint_ids_of_app
from project.core.db.transaction import transaction
from project.core.work.claims import claim
from simulator.client import SimulatorClient
from tests.api.problems import assert_problem
from tests.callbacks.conftest import Happen, Shown
from tests.conftest import ChangeSettings
from tests.factories import Factory, MadeApp
from tests.time_machine import Clock

LONG_AGO = "2020-01-01T00:00:00Z"


def arrived(simulator: SimulatorClient, app: MadeApp) -> dict[str, int]:
    found: dict[str, int] = simulator.control("GET", f"/inbox/{app.inbox}/ids")
    return found


def replay(operator: FlaskClient, **body: object) -> int:
    answer = operator.post("/api/callbacks/replay", json=body)
    assert answer.status_code == 202, answer.get_data(as_text=True)
    found = answer.get_json()
    assert found["status"] == "success"
    replayed: int = found["replayed"]
    return replayed


def fail(clock: Clock) -> None:
    for _ in range(3):
        deliver_due_callbacks()
        clock.advance(hours=1)


def test_a_replay_has_the_same_id_and_body_and_a_signature_of_its_own(
    happen: Happen,
    shown: Shown,
    operator: FlaskClient,
    factory: Factory,
    simulator: SimulatorClient,
) -> None:
    app = factory.app()
    [event_id] = happen(app)
    deliver_due_callbacks()
    answer = operator.post(f"/api/callbacks/{shown()['id']}/replay")
    assert (answer.status_code, answer.get_json()) == (202, {"status": "success", "replayed": 1})
    deliver_due_callbacks()
    assert arrived(simulator, app) == {event_id: 2}
    first, second = simulator.inbox(app.inbox)["messages"]
    assert first["body"] == second["body"]
    Webhook(app.secret).verify(second["body"], second["headers"])
    callback = shown()
    assert (callback["state"], callback["attempts"]) == ("delivered", 2)
    assert [attempt["trigger"] for attempt in callback["attempt_history"]] == ["schedule", "replay"]


def test_a_failed_callback_is_delivered_by_a_replay(
    happen: Happen,
    shown: Shown,
    operator: FlaskClient,
    factory: Factory,
    simulator: SimulatorClient,
    clock: Clock,
) -> None:
    happen(factory.app())
    fault_id = simulator.add_fault("/inbox/*", status=500)
    fail(clock)
    assert shown()["state"] == "failed"
    simulator.control("DELETE", f"/faults/{fault_id}")
    operator.post(f"/api/callbacks/{shown()['id']}/replay")
    assert shown()["state"] == "pending"
    deliver_due_callbacks()
    assert (shown()["state"], shown()["attempts"]) == ("delivered", 4)


def test_a_replay_of_a_failed_callback_that_fails_leaves_it_failed(
    happen: Happen,
    shown: Shown,
    operator: FlaskClient,
    factory: Factory,
    simulator: SimulatorClient,
    clock: Clock,
) -> None:
    happen(factory.app())
    simulator.add_fault("/inbox/*", status=500)
    fail(clock)
    for replays in (1, 2):
        operator.post(f"/api/callbacks/{shown()['id']}/replay")
        deliver_due_callbacks()
        assert (shown()["state"], shown()["attempts"]) == ("failed", 3 + replays)
    clock.advance(hours=2)
    assert deliver_due_callbacks() == 0


def test_a_replay_does_not_use_up_the_scheduled_attempts(
    happen: Happen,
    shown: Shown,
    operator: FlaskClient,
    factory: Factory,
    simulator: SimulatorClient,
    clock: Clock,
) -> None:
    happen(factory.app())
    simulator.add_fault("/inbox/*", status=500)
    deliver_due_callbacks()
    for _ in range(2):
        operator.post(f"/api/callbacks/{shown()['id']}/replay")
        deliver_due_callbacks()
    assert (shown()["state"], shown()["attempts"]) == ("pending", 3)
    for _ in range(4):
        clock.advance(hours=1)
        deliver_due_callbacks()
    assert (shown()["state"], shown()["attempts"]) == ("failed", 5)
    triggers = [attempt["trigger"] for attempt in shown()["attempt_history"]]
    assert triggers == ["schedule", "replay", "replay", "schedule", "schedule"]


def test_a_callback_that_is_under_way_is_left_to_that_attempt(
    happen: Happen, shown: Shown, operator: FlaskClient, factory: Factory
) -> None:
    app = factory.app()
    happen(app)
    with transaction() as session:
        endpoint_id = session.scalars(endpoint_ids_of_app(app.id)).one()
        taken = claim(
            callbacks,
            due_callbacks({endpoint_id: 1}),
            lease=timedelta(seconds=60),
            returning=[callbacks.c.id],
        )
    answer = operator.post(f"/api/callbacks/{taken.rows[0].id}/replay")
    assert (answer.status_code, answer.get_json()["replayed"]) == (202, 0)


def test_many_are_replayed_by_state_app_and_time(
    happen: Happen,
    operator: FlaskClient,
    factory: Factory,
    simulator: SimulatorClient,
    clock: Clock,
) -> None:
    broken, other, healthy = factory.app(), factory.app(), factory.app()
    old = happen(broken)
    clock.advance(days=1)
    since = clock.now().isoformat()
    recent, elsewhere, fine = happen(broken, times=2), happen(other), happen(healthy)
    for app in (broken, other):
        simulator.add_fault(f"/inbox/{app.inbox}", status=500)
    fail(clock)
    simulator.control("DELETE", "/faults")

    assert replay(operator, since=since, app_id=broken.id) == 2
    deliver_due_callbacks()
    assert arrived(simulator, broken) == dict.fromkeys(recent, 4) | dict.fromkeys(old, 3)
    assert replay(operator, since=since) == 1, "what is delivered by now is not failed any more"
    deliver_due_callbacks()
    assert arrived(simulator, other) == dict.fromkeys(elsewhere, 4)
    assert arrived(simulator, healthy) == dict.fromkeys(fine, 1)
    assert replay(operator, since=LONG_AGO) == 1
    assert replay(operator, since=LONG_AGO, appId=healthy.id, state="delivered") == 1
    deliver_due_callbacks()
    assert arrived(simulator, broken)[old[0]] == 4
    assert arrived(simulator, healthy) == dict.fromkeys(fine, 2)


def test_nothing_to_replay_is_no_error(operator: FlaskClient, factory: Factory) -> None:
    assert replay(operator, since=LONG_AGO) == 0
    assert replay(operator, since=LONG_AGO, app_id=factory.app().id) == 0


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "since"),
        ({"since": "yesterday"}, "since"),
        ({"since": "2027-01-01T00:00:00"}, "since"),
        ({"since": 0}, "since"),
        ({"since": LONG_AGO, "state": "lost"}, "state"),
        ({"since": LONG_AGO, "app_id": "all"}, "app_id"),
        ({"since": LONG_AGO, "everything": True}, "everything"),
    ],
)
def test_a_replay_that_cannot_be_meant(
    operator: FlaskClient, body: dict[str, Any], field: str
) -> None:
    assert_problem(operator.post("/api/callbacks/replay", json=body), 400, field)


def test_there_is_no_callback_that_was_not_made(operator: FlaskClient, factory: Factory) -> None:
    assert_problem(operator.get("/api/callbacks/1"), 404)
    assert_problem(operator.post("/api/callbacks/1/replay"), 404)


def test_callbacks_are_listed_by_state_app_and_time(
    happen: Happen,
    operator: FlaskClient,
    factory: Factory,
    simulator: SimulatorClient,
    clock: Clock,
    change_settings: ChangeSettings,
) -> None:
    change_settings(callback_max_attempts=1)
    gone, fine = factory.app(), factory.app()
    simulator.add_fault(f"/inbox/{gone.inbox}", status=410)
    happen(gone)
    happen(fine)
    deliver_due_callbacks()
    clock.advance(hours=1)
    since = quote(clock.now().isoformat())
    happen(fine)

    def listed(query: str) -> list[tuple[int, str]]:
        answer = operator.get(f"/api/callbacks?{query}")
        assert answer.status_code == 200
        rows = answer.get_json()["data"]
        made = [datetime.fromisoformat(row["created_at"]) for row in rows]
        assert made == sorted(made, reverse=True), "the newest first"
        return [(row["app_id"], row["state"]) for row in rows]

    assert listed("state=failed") == [(gone.id, "failed")]
    assert listed("state=delivered") == [(fine.id, "delivered")]
    assert listed(f"app_id={fine.id}") == [(fine.id, "pending"), (fine.id, "delivered")]
    assert listed(f"appId={gone.id}") == [(gone.id, "failed")]
    assert listed(f"since={since}") == [(fine.id, "pending")]
    assert listed(f"since={since}&app_id={gone.id}") == []
    assert len(listed("")) == 3
    assert len(listed("limit=2&page=2")) == 1
    assert_problem(operator.get("/api/callbacks?state=lost"), 400, "state")
    assert_problem(operator.get("/api/callbacks?since=lately"), 400, "since")


def test_a_list_shows_no_secret(happen: Happen, operator: FlaskClient, factory: Factory) -> None:
    app = factory.app()
    happen(app)
    for page in ("/api/callbacks", "/api/callbacks/1", f"/api/apps/{app.id}"):
        assert app.secret not in operator.get(page).get_data(as_text=True)
