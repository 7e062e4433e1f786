"""Idempotency-Key: the same request again gets the first answer, for 24 hours."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_network
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import func, select, text
from werkzeug.test import TestResponse

from project.core.db.models import IdempotencyKey
from project.core.http import idempotency
from project.core.http.idempotency import forget_old_keys
from project.extensions import db
from project.mobile.apps import service as apps
from simulator.client import SimulatorClient
from tests.api.problems import assert_problem
from tests.conftest import ChangeSettings
from tests.factories import Factory, MadeApp
from tests.time_machine import Clock

KEY = {"Idempotency-Key": "order-17"}
WEATHER = {"name": "Weather", "endpoint": "http://127.0.0.1:9/"}


def phone(app: MadeApp) -> dict[str, Any]:
    return {"uid": "phone-1", "appId": app.id, "language": "en", "os": "ios"}


def test_an_app_made_twice_with_one_key_is_answered_twice_with_its_secret(
    operator: FlaskClient,
) -> None:
    first = operator.post("/api/apps", json=WEATHER, headers=KEY)
    again = operator.post("/api/apps", json=WEATHER, headers=KEY)
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.get_json() == first.get_json()
    assert again.mimetype == "application/json"
    assert "Idempotency-Replayed" not in first.headers
    assert again.headers["Idempotency-Replayed"] == "true"


def test_a_device_registered_twice_with_one_key_keeps_its_token(
    client: FlaskClient, factory: Factory
) -> None:
    body = phone(factory.app())
    first = client.post("/api/devices/register", json=body, headers=KEY).get_json()
    again = client.post("/api/devices/register", json=body, headers=KEY).get_json()
    assert again == first
    token = {"client-token": first["client-token"]}
    assert client.post("/api/purchase/check", json=token).status_code == 200
    other = client.post("/api/devices/register", json=body, headers={"Idempotency-Key": "18"})
    assert other.get_json()["client-token"] != first["client-token"]


def test_a_purchase_with_one_key_asks_the_store_once(
    client: FlaskClient, factory: Factory, simulator: SimulatorClient, clock: Clock
) -> None:
    body = {"client-token": factory.device().token, "receipt": factory.receipt()}
    first = client.post("/api/purchase", json=body, headers=KEY)
    clock.advance(hours=23)
    again = client.post("/api/purchase", json=body, headers=KEY)
    assert (first.status_code, again.status_code) == (200, 200)
    assert again.get_json() == first.get_json()
    assert simulator.control("GET", "/stores")["app-store"]["requests"] == 1


def test_a_store_that_refuses_draws_nothing_and_is_asked_again(
    client: FlaskClient, factory: Factory, simulator: SimulatorClient
) -> None:
    receipt = factory.receipt("2")
    body = {"client-token": factory.device().token, "receipt": receipt}
    assert_problem(client.post("/api/purchase", json=body, headers=KEY), 402)
    simulator.control("PUT", f"/receipts/app-store/{receipt}", {"state": "active"})
    assert client.post("/api/purchase", json=body, headers=KEY).status_code == 200


def test_a_rotation_with_one_key_rotates_once(operator: FlaskClient, factory: Factory) -> None:
    path = f"/api/apps/{factory.app().id}/secret"
    first = operator.post(path, headers=KEY).get_json()
    assert operator.post(path, headers=KEY).get_json() == first
    assert operator.post(path).get_json() != first


@pytest.mark.parametrize("changed", [{"endpoint": "http://127.0.0.1:9/b"}, {"name": "Sun"}])
def test_one_key_with_another_body_is_a_conflict(
    operator: FlaskClient, changed: dict[str, str]
) -> None:
    operator.post("/api/apps", json=WEATHER, headers=KEY)
    assert_problem(operator.post("/api/apps", json={**WEATHER, **changed}, headers=KEY), 409)
    assert len(operator.get("/api/apps").get_json()["data"]) == 1


def test_another_body_conflicts_when_registering_and_buying_too(
    client: FlaskClient, factory: Factory
) -> None:
    body = phone(factory.app())
    client.post("/api/devices/register", json=body, headers=KEY)
    other = {**body, "language": "de"}
    assert_problem(client.post("/api/devices/register", json=other, headers=KEY), 409)
    purchase = {"client-token": factory.device().token, "receipt": factory.receipt()}
    assert client.post("/api/purchase", json=purchase, headers=KEY).status_code == 200
    purchase["receipt"] = factory.receipt()
    assert_problem(client.post("/api/purchase", json=purchase, headers=KEY), 409)


def test_after_a_day_the_key_is_new(operator: FlaskClient, clock: Clock) -> None:
    operator.post("/api/apps", json=WEATHER, headers=KEY)
    clock.advance(hours=23, minutes=59)
    assert operator.post("/api/apps", json=WEATHER, headers=KEY).status_code == 201
    clock.advance(minutes=2)
    again = operator.post("/api/apps", json=WEATHER, headers=KEY)
    assert again.status_code == 200, "the app is there, and this is a request of its own"
    assert "Idempotency-Replayed" not in again.headers
    clock.advance(hours=25)
    sun = operator.post("/api/apps", json={**WEATHER, "name": "Sun"}, headers=KEY)
    assert sun.status_code == 201


def test_old_keys_are_forgotten(operator: FlaskClient, clock: Clock) -> None:
    operator.post("/api/apps", json=WEATHER, headers=KEY)
    clock.advance(hours=20)
    operator.post("/api/apps", json=WEATHER, headers={"Idempotency-Key": "order-18"})
    assert forget_old_keys() == 0
    clock.advance(hours=5)
    assert forget_old_keys() == 1
    assert db.session.scalar(select(func.count()).select_from(IdempotencyKey)) == 1


def test_a_key_is_good_for_one_path(operator: FlaskClient, factory: Factory) -> None:
    one, other = factory.app(), factory.app()
    first = operator.post(f"/api/apps/{one.id}/secret", headers=KEY).get_json()["data"]
    second = operator.post(f"/api/apps/{other.id}/secret", headers=KEY).get_json()["data"]
    assert (first["id"], second["id"]) == (one.id, other.id)


def test_a_slash_at_the_end_makes_no_other_path(operator: FlaskClient) -> None:
    first = operator.post("/api/apps", json=WEATHER, headers=KEY)
    assert operator.post("/api/apps/", json=WEATHER, headers=KEY).get_json() == first.get_json()


def test_keys_of_two_operators_are_two_keys(app: Flask, client: FlaskClient) -> None:
    answers = []
    for name in ("one", "other"):
        made = app.test_cli_runner().invoke(args=["api-key", "create", name])
        headers = {**KEY, "Authorization": f"Bearer {made.stdout.strip()}"}
        answers.append(client.post("/api/apps", json=WEATHER, headers=headers).status_code)
    assert answers == [201, 200]


def test_without_a_credential_a_key_opens_nothing(
    operator: FlaskClient, client: FlaskClient
) -> None:
    operator.post("/api/apps", json=WEATHER, headers=KEY)
    assert_problem(client.post("/api/apps", json=WEATHER, headers=KEY), 401)


@pytest.mark.parametrize("whose", ["another device", "nobody"])
def test_one_device_does_not_get_the_answer_of_another(
    client: FlaskClient, factory: Factory, whose: str
) -> None:
    owner = factory.device()
    stranger = {"another device": factory.device().token, "nobody": "ct_unknown"}[whose]
    body = {"receipt": factory.receipt()}
    first = client.post("/api/purchase", json=body, headers={**KEY, "X-Client-Token": owner.token})
    assert first.status_code == 200
    second = client.post("/api/purchase", json=body, headers={**KEY, "X-Client-Token": stranger})
    assert_problem(second, 409 if whose == "another device" else 401)


def test_a_dead_token_gets_no_kept_answer(client: FlaskClient, factory: Factory) -> None:
    app = factory.app()
    token = client.post("/api/devices/register", json=phone(app)).get_json()["client-token"]
    body = {"client-token": token, "receipt": factory.receipt()}
    assert client.post("/api/purchase", json=body, headers=KEY).status_code == 200
    new = client.post("/api/devices/register", json=phone(app)).get_json()["client-token"]
    assert client.post("/api/purchase/check", json={"client-token": new}).status_code == 200
    assert_problem(client.post("/api/purchase", json=body, headers=KEY), 401)


def test_a_multipart_form_sent_again_is_the_same_body(
    client: FlaskClient, factory: Factory
) -> None:
    """A client that tries again draws another boundary."""
    body = phone(factory.app())
    answers = []
    for boundary in ("one", "other"):
        parts = "".join(
            f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
            for name, value in body.items()
        )
        answers.append(
            client.post(
                "/api/devices/register",
                data=f"{parts}--{boundary}--\r\n",
                content_type=f"multipart/form-data; boundary={boundary}",
                headers=KEY,
            )
        )
    assert [answer.status_code for answer in answers] == [200, 200]
    assert answers[0].get_json() == answers[1].get_json()


@pytest.mark.parametrize("key", ["", " ", "two words", "x" * 256, "ü", "tab\tbed"])
def test_a_key_that_is_none(operator: FlaskClient, key: str) -> None:
    headers = {"Idempotency-Key": key}
    assert_problem(operator.post("/api/apps", json=WEATHER, headers=headers), 400)
    assert operator.get("/api/apps").get_json()["data"] == []


def test_a_body_that_cannot_be_used_gets_the_same_problem_again(operator: FlaskClient) -> None:
    for _ in range(2):
        assert_problem(operator.post("/api/apps", json={"name": ""}, headers=KEY), 400, "name")
    other = {"Idempotency-Key": "order-18"}
    assert operator.post("/api/apps", json=WEATHER, headers=other).status_code == 201


def test_a_device_that_registers_twice_at_once_with_one_key_gets_one_token(
    app: Flask, factory: Factory
) -> None:
    body = phone(factory.app())
    tokens = []
    together = threading.Barrier(4)

    def register() -> None:
        together.wait()
        answer = app.test_client().post("/api/devices/register", json=body, headers=KEY)
        tokens.append(answer.get_json()["client-token"])

    threads = [threading.Thread(target=register) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(tokens) == 4
    assert len(set(tokens)) == 1


def test_kept_answers_hold_no_secret_in_clear(operator: FlaskClient) -> None:
    answer = operator.post("/api/apps", json=WEATHER, headers=KEY)
    secret = answer.get_json()["data"]["callback_secret"]
    kept = db.session.execute(text("SELECT answer FROM idempotency_keys")).scalar_one()
    assert secret.encode() not in bytes(kept)


def test_devices_that_prove_themselves_in_the_body_have_keys_of_their_own(
    client: FlaskClient, factory: Factory
) -> None:
    app = factory.app()
    answers = [
        client.post(
            "/api/purchase",
            json={"client-token": factory.device(app).token, "receipt": factory.receipt()},
            headers=KEY,
        )
        for _ in range(3)
    ]

    assert [answer.status_code for answer in answers] == [200, 200, 200]
    assert not any("Idempotency-Replayed" in answer.headers for answer in answers)


def test_a_device_has_one_key_however_it_sends_its_token(
    client: FlaskClient, factory: Factory
) -> None:
    token, receipt = factory.device().token, factory.receipt()
    body = {"receipt": receipt, "client-token": token}

    first = client.post("/api/purchase", json=body, headers=KEY)
    other = {"receipt": factory.receipt()}
    by_header = client.post("/api/purchase", json=other, headers={**KEY, "X-Client-Token": token})

    assert first.status_code == 200
    assert_problem(by_header, 409)


def test_people_who_register_have_keys_of_their_own(client: FlaskClient, factory: Factory) -> None:
    body = phone(factory.app())
    senders = [("192.0.2.1", "a"), ("192.0.2.1", "b"), ("192.0.2.2", "a"), ("192.0.2.2", "c")]
    tokens = []
    for address, uid in senders:
        answer = client.post(
            "/api/devices/register",
            json=body | {"uid": uid},
            headers=KEY,
            environ_base={"REMOTE_ADDR": address},
        )
        assert answer.status_code == 200
        tokens.append(answer.get_json()["client-token"])

    assert len(set(tokens)) == len(senders)


def test_a_request_that_failed_leaves_its_key_free(
    operator: FlaskClient, change_settings: ChangeSettings
) -> None:
    change_settings(callback_allowed_networks=())
    assert_problem(operator.post("/api/apps", json=WEATHER, headers=KEY), 400, "endpoint")
    change_settings(callback_allowed_networks=(ip_network("127.0.0.0/8"),))

    mended = {**WEATHER, "name": "Mended"}

    assert operator.post("/api/apps", json=mended, headers=KEY).status_code == 201


def slow_stores(simulator: SimulatorClient, seconds: float) -> None:
    simulator.add_fault("/app-store/*", delay_seconds=seconds)


def at_once(app: Flask, times: int, call: Callable[[FlaskClient], TestResponse]) -> list[Any]:
    together = threading.Barrier(times)

    def run(_number: int) -> TestResponse:
        client = app.test_client()
        together.wait()
        return call(client)

    with ThreadPoolExecutor(times) as pool:
        return list(pool.map(run, range(times)))


def test_a_purchase_sent_several_times_at_once_asks_the_store_once(
    app: Flask, factory: Factory, simulator: SimulatorClient
) -> None:
    body = {"client-token": factory.device().token, "receipt": factory.receipt()}
    slow_stores(simulator, 0.3)

    answers = at_once(app, 5, lambda one: one.post("/api/purchase", json=body, headers=KEY))

    assert [answer.status_code for answer in answers] == [200] * 5
    assert sum("Idempotency-Replayed" in answer.headers for answer in answers) == 4
    assert simulator.control("GET", "/stores")["app-store"]["requests"] == 1


def test_who_waited_long_enough_is_asked_to_come_back_for_the_first_answer(
    app: Flask,
    client: FlaskClient,
    factory: Factory,
    simulator: SimulatorClient,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(idempotency, "WAIT_SECONDS", 0.2)
    body = {"client-token": factory.device().token, "receipt": factory.receipt()}
    slow_stores(simulator, 2)

    answers = at_once(app, 2, lambda one: one.post("/api/purchase", json=body, headers=KEY))

    early = min(answers, key=lambda answer: answer.status_code)
    late = max(answers, key=lambda answer: answer.status_code)
    assert early.status_code == 200
    assert_problem(late, 409)
    assert "still at work" in late.get_json()["detail"]
    assert int(late.headers["Retry-After"]) > 0
    again = client.post("/api/purchase", json=body, headers=KEY)
    assert again.get_json() == early.get_json()


def test_a_request_that_was_cut_short_holds_its_key_for_a_while_only(
    operator: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(idempotency, "WAIT_SECONDS", 0.2)

    def die(*_arguments: Any, **_named: Any) -> None:
        raise SystemExit

    with monkeypatch.context() as patched:
        patched.setattr(apps, "create_app", die)
        with pytest.raises(SystemExit):
            operator.post("/api/apps", json=WEATHER, headers=KEY)
    assert_problem(operator.post("/api/apps", json=WEATHER, headers=KEY), 409)
    with db.engine.begin() as connection:
        connection.execute(
            text("UPDATE idempotency_keys SET claimed_until = now() - interval '1 second'")
        )

    assert operator.post("/api/apps", json=WEATHER, headers=KEY).status_code == 201
