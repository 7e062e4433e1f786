"""Devices: registered as often as they like, known by the newest client-token."""

import threading
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import text

from project.core.secrets import token_hash
from project.extensions import db
from project.mobile.models import DeviceOs
from tests.api.problems import assert_problem
from tests.factories import Factory, MadeApp
from tests.mobile.conftest import Buy

REGISTER = "/api/devices/register"


def phone(app: MadeApp, **changed: Any) -> dict[str, Any]:
    return {"uid": "phone-1", "appId": app.id, "language": "en", "os": "ios", **changed}


def registered(client: FlaskClient, body: dict[str, Any]) -> str:
    answer = client.post(REGISTER, json=body)
    assert answer.status_code == 200
    found = answer.get_json()
    assert found.keys() == {"status", "register", "client-token"}
    assert (found["status"], found["register"]) == ("success", "OK")
    token: str = found["client-token"]
    return token


def is_known(client: FlaskClient, token: str) -> bool:
    answer = client.post("/api/purchase/check", json={"client-token": token})
    assert answer.status_code in (200, 401)
    return answer.status_code == 200


def only_device(operator: FlaskClient) -> dict[str, Any]:
    devices = operator.get("/api/devices").get_json()["data"]
    assert len(devices) == 1
    device: dict[str, Any] = devices[0]
    return device


def test_a_device_registers_and_is_known_by_its_token(
    client: FlaskClient, operator: FlaskClient, factory: Factory
) -> None:
    app = factory.app()
    token = registered(client, phone(app))
    assert len(token) > 40
    assert is_known(client, token)
    device = only_device(operator)
    shown = {name: device[name] for name in ("uid", "app_id", "language", "os", "click_id")}
    assert shown == {
        "uid": "phone-1",
        "app_id": app.id,
        "language": "en",
        "os": "ios",
        "click_id": None,
    }


def test_the_same_uid_and_app_is_the_same_device_with_a_new_token(
    client: FlaskClient, operator: FlaskClient, factory: Factory
) -> None:
    app = factory.app()
    old = registered(client, phone(app))
    before = only_device(operator)
    new = registered(client, phone(app, language="de", os="android"))
    assert new != old
    assert not is_known(client, old)
    assert is_known(client, new)
    after = only_device(operator)
    assert after["id"] == before["id"]
    assert (after["language"], after["os"]) == ("de", "android")
    assert after["created_at"] == before["created_at"]
    assert after["updated_at"] > before["updated_at"]


def test_the_same_uid_in_another_app_is_another_device(
    client: FlaskClient, operator: FlaskClient, factory: Factory
) -> None:
    one = registered(client, phone(factory.app()))
    other = registered(client, phone(factory.app()))
    assert is_known(client, one)
    assert is_known(client, other)
    assert len(operator.get("/api/devices").get_json()["data"]) == 2


def test_the_click_that_first_brought_a_device_stands(
    client: FlaskClient, operator: FlaskClient, factory: Factory
) -> None:
    app = factory.app()
    registered(client, phone(app))
    registered(client, phone(app, click_id="click-1"))
    registered(client, phone(app, click_id="click-2"))
    registered(client, phone(app))
    assert only_device(operator)["click_id"] == "click-1"


def test_an_unknown_app_is_not_found(
    client: FlaskClient, operator: FlaskClient, factory: Factory
) -> None:
    app = factory.app()
    assert_problem(client.post(REGISTER, json=phone(app, appId=app.id + 1)), 404, "appId")
    assert operator.get("/api/devices").get_json()["data"] == []


@pytest.mark.parametrize("path", [REGISTER, REGISTER + "/"])
@pytest.mark.parametrize("name", ["appId", "app_id"])
@pytest.mark.parametrize("form", ["json", "urlencoded", "multipart"])
def test_a_device_registers_by_json_or_form_in_either_spelling(
    client: FlaskClient, operator: FlaskClient, factory: Factory, path: str, name: str, form: str
) -> None:
    app = factory.app()
    body = {"uid": "phone-1", "language": "en", "os": "android", "click_id": "c 1", name: app.id}
    sent = {
        "json": {"json": body},
        "urlencoded": {"data": body},
        "multipart": {"data": body, "content_type": "multipart/form-data"},
    }
    answer = client.post(path, **sent[form])
    assert answer.status_code == 200
    assert is_known(client, answer.get_json()["client-token"])
    device = only_device(operator)
    assert (device["uid"], device["app_id"], device["os"]) == ("phone-1", app.id, "android")
    assert device["click_id"] == "c 1"


def test_both_spellings_at_once_are_refused(client: FlaskClient, factory: Factory) -> None:
    app = factory.app()
    assert_problem(client.post(REGISTER, json=phone(app, app_id=app.id)), 400, "appId")


@pytest.mark.parametrize("app_id", ["1", 1])
def test_an_app_id_may_be_digits_in_a_string(
    client: FlaskClient, factory: Factory, app_id: object
) -> None:
    assert factory.app().id == 1
    body = {"uid": "phone-1", "language": "en", "os": "ios", "appId": app_id}
    assert client.post(REGISTER, json=body).status_code == 200


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("uid", ""),
        ("uid", "x" * 256),
        ("uid", None),
        ("uid", 7),
        ("uid", "two\nlines"),
        ("appId", 0),
        ("appId", -1),
        ("appId", 1.5),
        ("appId", True),
        ("appId", "one"),
        ("appId", "²"),
        ("appId", 2**63),
        ("language", "x" * 36),
        ("os", "windows"),
        ("os", "iOS"),
        ("os", ""),
        ("os", ["ios"]),
        ("click_id", "x" * 256),
        ("colour", "red"),
    ],
)
def test_what_a_device_may_not_say_of_itself(
    client: FlaskClient, operator: FlaskClient, factory: Factory, field: str, value: object
) -> None:
    body = phone(factory.app(), **{field: value})
    assert_problem(client.post(REGISTER, json=body), 400, field)
    assert operator.get("/api/devices").get_json()["data"] == []


@pytest.mark.parametrize("field", ["uid", "appId", "language", "os"])
def test_what_a_device_must_say_of_itself(
    client: FlaskClient, factory: Factory, field: str
) -> None:
    body = phone(factory.app())
    del body[field]
    assert_problem(client.post(REGISTER, json=body), 400, field)


def test_the_longest_values_are_taken_as_they_are(
    client: FlaskClient, operator: FlaskClient, factory: Factory
) -> None:
    longest = {"uid": "ü" * 255, "language": "x" * 35, "click_id": "天" * 255}
    registered(client, phone(factory.app(), **longest))
    device = only_device(operator)
    assert {name: device[name] for name in longest} == longest


def test_devices_are_listed_by_app_and_os(operator: FlaskClient, factory: Factory) -> None:
    app, other = factory.app(), factory.app()
    ios = factory.device(app).id
    android = factory.device(app, DeviceOs.ANDROID).id
    elsewhere = factory.device(other).id

    def listed(query: str) -> list[int]:
        return [row["id"] for row in operator.get(f"/api/devices{query}").get_json()["data"]]

    assert listed("") == [ios, android, elsewhere]
    assert listed(f"?app_id={app.id}") == [ios, android]
    assert listed(f"?appId={app.id}") == [ios, android]
    assert listed("?os=ios") == [ios, elsewhere]
    assert listed(f"?app_id={app.id}&os=android") == [android]
    assert listed("?app_id=99") == []
    assert listed("?page=3&limit=1") == [elsewhere]


def test_one_device_is_shown_by_its_id(operator: FlaskClient, factory: Factory) -> None:
    device = factory.device()
    shown = operator.get(f"/api/devices/{device.id}").get_json()["data"]
    assert shown == operator.get("/api/devices").get_json()["data"][0]
    assert_problem(operator.get(f"/api/devices/{device.id + 1}"), 404)


def test_a_token_is_shown_once_and_kept_nowhere_in_clear(
    operator: FlaskClient, factory: Factory, buy: Buy
) -> None:
    device, receipt = factory.device(), factory.receipt()
    assert buy(device, receipt).status_code == 200
    pages = [f"/api/devices/{device.id}", "/api/devices", "/api/purchases", "/api/purchases/1"]
    pages += ["/api/callbacks", "/api/callbacks/1"]
    for page in pages:
        answer = operator.get(page)
        assert answer.status_code == 200
        assert device.token not in answer.get_data(as_text=True)
    tables = [table.name for table in db.metadata.sorted_tables]
    rows = " ".join(
        str(row)
        for table in tables
        for row in db.session.execute(text(f"SELECT {table}::text FROM {table}"))
    )
    assert receipt in rows, "this looks where the values are"
    assert device.token not in rows
    assert device.token.encode().hex() not in rows
    assert token_hash(device.token).hex() in rows


def test_a_device_that_registers_twice_at_once_is_one_device_with_one_token(
    app: Flask, client: FlaskClient, operator: FlaskClient, factory: Factory
) -> None:
    body = phone(factory.app())
    tokens = []
    together = threading.Barrier(4)

    def register() -> None:
        together.wait()
        answer = app.test_client().post(REGISTER, json=body)
        tokens.append(answer.get_json()["client-token"])

    threads = [threading.Thread(target=register) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    only_device(operator)
    assert [is_known(client, token) for token in tokens].count(True) == 1
