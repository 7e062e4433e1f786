"""Apps: made once per name, changed, and their signing secret rotated."""

import threading
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import text
from standardwebhooks import Webhook, WebhookVerificationError

from project.callbacks.jobs import deliver_due_callbacks
from project.extensions import db
from simulator.client import SimulatorClient
from tests.api.problems import assert_problem
from tests.conftest import API_KEY
from tests.factories import Factory, MadeDevice
from tests.time_machine import Clock

WEATHER = {"name": "Weather", "endpoint": "http://127.0.0.1:9/callbacks"}


def created(operator: FlaskClient, body: dict[str, str]) -> dict[str, Any]:
    answer = operator.post("/api/apps", json=body)
    assert answer.status_code == 201
    data: dict[str, Any] = answer.get_json()["data"]
    return data


def test_a_new_app_gets_an_id_and_a_secret_shown_this_once(operator: FlaskClient) -> None:
    app = created(operator, WEATHER)
    assert app.keys() == {
        "id",
        "name",
        "endpoint",
        "require_proof",
        "created_at",
        "callback_secret",
    }
    assert app["callback_secret"].startswith("whsec_")
    secret = app.pop("callback_secret")
    assert operator.get(f"/api/apps/{app['id']}").get_json() == {"status": "success", "data": app}
    assert operator.get("/api/apps").get_json()["data"] == [app]
    stored = db.session.execute(text("SELECT secret FROM endpoints")).scalar_one()
    assert secret.encode() not in bytes(stored)
    assert secret.removeprefix("whsec_").encode() not in bytes(stored)


def test_the_same_app_again_is_the_same_app_without_its_secret(operator: FlaskClient) -> None:
    first = created(operator, WEATHER)
    again = operator.post("/api/apps", json=WEATHER)
    assert again.status_code == 200
    first.pop("callback_secret")
    assert again.get_json()["data"] == first
    assert operator.get("/api/apps").get_json()["pagination"]["total"] == 1


def test_the_same_name_with_another_endpoint_is_a_conflict(operator: FlaskClient) -> None:
    created(operator, WEATHER)
    other = {**WEATHER, "endpoint": "http://127.0.0.1:9/elsewhere"}
    assert_problem(operator.post("/api/apps", json=other), 409, "endpoint")
    assert operator.get("/api/apps").get_json()["data"][0]["endpoint"] == WEATHER["endpoint"]


def test_two_who_register_one_app_at_once_make_one_app(app: Flask) -> None:
    statuses = []
    together = threading.Barrier(4)

    def register() -> None:
        together.wait()
        headers = {"Authorization": f"Bearer {API_KEY}"}
        answer = app.test_client().post("/api/apps", json=WEATHER, headers=headers)
        statuses.append(answer.status_code)

    threads = [threading.Thread(target=register) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(statuses) == [200, 200, 200, 201]


@pytest.mark.parametrize("name", ["Ünïcode 🎉 天気", "O'Brien; DROP TABLE apps; --", "x" * 200])
def test_a_name_is_kept_as_it_was_given(operator: FlaskClient, name: str) -> None:
    app = created(operator, {**WEATHER, "name": name})
    assert operator.get(f"/api/apps/{app['id']}").get_json()["data"]["name"] == name


def test_apps_are_listed_oldest_first_in_pages(operator: FlaskClient, factory: Factory) -> None:
    ids = [factory.app().id for _ in range(3)]
    page = operator.get("/api/apps?page=2&limit=2").get_json()
    assert [app["id"] for app in page["data"]] == ids[2:]
    assert page["pagination"] == {"current_page": 2, "per_page": 2, "total": 3, "last_page": 2}


@pytest.mark.parametrize(
    "change",
    [
        {"name": "Forecasts"},
        {"endpoint": "http://127.0.0.1:9/new"},
        {"name": "Forecasts", "endpoint": "http://127.0.0.1:9/new"},
        WEATHER,
    ],
)
def test_a_change_changes_what_it_names(operator: FlaskClient, change: dict[str, str]) -> None:
    app = created(operator, WEATHER)
    del app["callback_secret"]
    answer = operator.patch(f"/api/apps/{app['id']}", json=change)
    assert answer.status_code == 200
    assert answer.get_json()["data"] == {**app, **change}
    assert operator.get(f"/api/apps/{app['id']}").get_json()["data"] == {**app, **change}


@pytest.mark.parametrize(
    ("change", "status", "field"),
    [
        ({"name": "Taken"}, 409, "name"),
        ({"name": "Taken", "endpoint": "http://127.0.0.1:9/new"}, 409, "name"),
        ({}, 400, "name"),
        ({"name": ""}, 400, "name"),
        ({"name": None}, 400, "name"),
        ({"endpoint": "http://10.0.0.1/"}, 400, "endpoint"),
        ({"endpoint": "ftp://127.0.0.1/"}, 400, "endpoint"),
        ({"id": 7}, 400, "id"),
    ],
)
def test_a_change_that_cannot_be_made_changes_nothing(
    operator: FlaskClient, change: dict[str, Any], status: int, field: str
) -> None:
    created(operator, {**WEATHER, "name": "Taken"})
    app = created(operator, WEATHER)
    assert_problem(operator.patch(f"/api/apps/{app['id']}", json=change), status, field)
    shown = operator.get(f"/api/apps/{app['id']}").get_json()["data"]
    assert (shown["name"], shown["endpoint"]) == (WEATHER["name"], WEATHER["endpoint"])


def test_there_is_no_app_that_was_not_made(operator: FlaskClient) -> None:
    assert_problem(operator.get("/api/apps/1"), 404)
    assert_problem(operator.patch("/api/apps/1", json={"name": "x"}), 404)
    assert_problem(operator.post("/api/apps/1/secret"), 404)


def latest_message(simulator: SimulatorClient, device: MadeDevice) -> dict[str, Any]:
    deliver_due_callbacks()
    message: dict[str, Any] = simulator.inbox(device.app.inbox)["messages"][-1]
    return message


def test_after_a_rotation_both_secrets_sign_for_a_day(
    operator: FlaskClient, factory: Factory, simulator: SimulatorClient, clock: Clock
) -> None:
    device = factory.device()
    answer = operator.post(f"/api/apps/{device.app.id}/secret")
    assert answer.status_code == 201
    new = answer.get_json()["data"]["callback_secret"]
    assert new.startswith("whsec_")
    assert new != device.app.secret

    clock.advance(hours=23, minutes=59)
    factory.purchase(device)
    message = latest_message(simulator, device)
    Webhook(device.app.secret).verify(message["body"], message["headers"])
    Webhook(new).verify(message["body"], message["headers"])

    clock.advance(minutes=2)
    factory.purchase(device)
    message = latest_message(simulator, device)
    Webhook(new).verify(message["body"], message["headers"])
    with pytest.raises(WebhookVerificationError):
        Webhook(device.app.secret).verify(message["body"], message["headers"])


def test_before_a_rotation_only_the_first_secret_signs(
    factory: Factory, simulator: SimulatorClient
) -> None:
    device = factory.device()
    stranger = factory.app()
    factory.purchase(device)
    message = latest_message(simulator, device)
    Webhook(device.app.secret).verify(message["body"], message["headers"])
    with pytest.raises(WebhookVerificationError):
        Webhook(stranger.secret).verify(message["body"], message["headers"])
