"""Devices: registered as often as they like, known by the newest client-token."""

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import text
from standardwebhooks import Webhook

from project.core.secrets import token_hash
from project.extensions import db
from project.mobile.devices.service import MAX_NEW_TOKENS
from project.mobile.states import DeviceOs
from tests.api.problems import assert_problem
from tests.factories import Factory, MadeApp
from tests.mobile.conftest import Buy
from tests.time_machine import Clock

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
    assert is_known(client, new)
    assert not is_known(client, old)
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
    longest = {"uid": "ü" * 255, "language": "x" * 35, "click_id": "天" * 2048}
    registered(client, phone(factory.app(), **longest))
    device = only_device(operator)
    assert {name: device[name] for name in longest} == longest


@pytest.mark.parametrize("value", ["x" * 2049, "", "two\nlines", "half \ud83d", 7, ["c"], None])
def test_a_click_id_that_does_not_fit_stops_no_device(
    client: FlaskClient, operator: FlaskClient, factory: Factory, value: object
) -> None:
    registered(client, phone(factory.app(), click_id=value))
    assert only_device(operator)["click_id"] is None


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


def test_a_device_that_registers_twice_at_once_is_one_device_with_one_token_in_the_end(
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
    assert is_known(client, tokens[-1]) or is_known(client, tokens[0])
    for token in tokens:
        is_known(client, token)
    assert [is_known(client, token) for token in tokens].count(True) == 1


class TestNewTokens:
    """A token that was given ends the older ones when it is used, not before."""

    @pytest.mark.parametrize("use", ["check", "purchase"])
    def test_the_old_one_is_good_until_the_new_one_is_used(
        self, client: FlaskClient, factory: Factory, use: str
    ) -> None:
        body = phone(factory.app())
        old = registered(client, body)
        new = registered(client, body)
        assert is_known(client, old)
        assert is_known(client, old)

        if use == "check":
            assert is_known(client, new)
        else:
            purchase = {"client-token": new, "receipt": factory.receipt()}
            assert client.post("/api/purchase", json=purchase).status_code == 200

        assert not is_known(client, old)
        assert is_known(client, new)

    def test_whoever_knows_a_uid_ends_nobodys_token_by_registering(
        self, client: FlaskClient, factory: Factory
    ) -> None:
        body = phone(factory.app())
        owner = registered(client, body)
        given = [registered(client, body) for _ in range(MAX_NEW_TOKENS + 3)]

        assert is_known(client, owner)
        assert not is_known(client, given[0]), "only some wait to be used"
        assert is_known(client, given[-1])

    def test_one_given_later_is_good_after_one_given_before_was_used(
        self, client: FlaskClient, factory: Factory
    ) -> None:
        body = phone(factory.app())
        first, second, third = (registered(client, body) for _ in range(3))

        assert is_known(client, second)
        assert not is_known(client, first)
        assert is_known(client, third)
        assert not is_known(client, second)

    def test_used_for_the_first_time_by_many_at_once_it_is_good_for_all(
        self, app: Flask, client: FlaskClient, factory: Factory
    ) -> None:
        body = phone(factory.app())
        registered(client, body)
        new = registered(client, body)
        together = threading.Barrier(4)

        def check(_number: int) -> bool:
            together.wait()
            return is_known(app.test_client(), new)

        with ThreadPoolExecutor(4) as pool:
            assert list(pool.map(check, range(4))) == [True] * 4

    def test_no_new_token_is_kept_in_clear(self, client: FlaskClient, factory: Factory) -> None:
        body = phone(factory.app())
        registered(client, body)
        new = registered(client, body)

        kept = db.session.scalar(text("SELECT string_agg(t::text, ' ') FROM device_new_tokens t"))

        assert new not in str(kept)
        assert token_hash(new).hex() in str(kept)


class TestProof:
    """An app may ask a known device for a proof."""

    @pytest.fixture
    def made(self, operator: FlaskClient, factory: Factory) -> MadeApp:
        app = factory.app()
        answer = operator.patch(f"/api/apps/{app.id}", json={"require_proof": True})
        assert answer.get_json()["data"]["require_proof"] is True
        return app

    def signed(self, app: MadeApp, uid: str = "phone-1", age_seconds: int = 0) -> str:
        moment = datetime.now(UTC) - timedelta(seconds=age_seconds)
        signature = Webhook(app.secret).sign(uid, moment, "devices/register")
        return f"{int(moment.timestamp())},{signature}"

    def test_an_app_says_so_when_it_is_made(self, operator: FlaskClient) -> None:
        body = {"name": "Bank", "endpoint": "http://127.0.0.1:9/", "require_proof": True}
        made = operator.post("/api/apps", json=body)

        assert (made.status_code, made.get_json()["data"]["require_proof"]) == (201, True)
        again = {**body, "require_proof": False}
        assert_problem(operator.post("/api/apps", json=again), 409, "require_proof")
        del again["require_proof"]
        assert operator.post("/api/apps", json=again).status_code == 200
        listed = operator.get("/api/apps").get_json()["data"]
        assert [app["require_proof"] for app in listed] == [True]

    def test_who_only_knows_the_uid_gets_no_token_and_changes_nothing(
        self, client: FlaskClient, operator: FlaskClient, made: MadeApp
    ) -> None:
        owner = registered(client, phone(made))

        taken = phone(made, os="android", language="xx", click_id="theirs")
        assert_problem(client.post(REGISTER, json=taken), 401, "client-token")

        assert is_known(client, owner)
        device = only_device(operator)
        assert (device["os"], device["language"], device["click_id"]) == ("ios", "en", None)

    @pytest.mark.parametrize("where", ["client-token", "client_token", "header"])
    def test_the_devices_own_token_is_a_proof(
        self, client: FlaskClient, made: MadeApp, where: str
    ) -> None:
        owner = registered(client, phone(made))
        headers = {"X-Client-Token": owner} if where == "header" else {}
        body = phone(made) | ({} if where == "header" else {where: owner})

        answer = client.post(REGISTER, json=body, headers=headers)

        assert answer.status_code == 200
        assert is_known(client, answer.get_json()["client-token"])
        assert not is_known(client, owner)
        assert_problem(client.post(REGISTER, json=body, headers=headers), 401, "client-token")

    def test_a_token_whose_use_is_to_come_is_a_proof_too(
        self, client: FlaskClient, made: MadeApp
    ) -> None:
        owner = registered(client, phone(made))
        waiting = registered(client, phone(made, **{"client-token": owner}))

        registered(client, phone(made, **{"client-token": waiting}))

        assert is_known(client, owner)

    def test_another_devices_token_is_none(
        self, client: FlaskClient, factory: Factory, made: MadeApp
    ) -> None:
        registered(client, phone(made))
        for token in (factory.device(made).token, factory.device().token, "ct_nobody", "\ud83d"):
            stolen = phone(made, **{"client-token": token})
            assert_problem(client.post(REGISTER, json=stolen), 401, "client-token")

    def test_the_apps_back_end_may_sign_for_a_device_that_lost_its_token(
        self, client: FlaskClient, operator: FlaskClient, made: MadeApp
    ) -> None:
        registered(client, phone(made))

        new = registered(client, phone(made, os="android", proof=self.signed(made)))

        assert is_known(client, new)
        assert only_device(operator)["os"] == "android"

    def test_a_proof_holds_while_the_old_secret_signs_along(
        self, client: FlaskClient, operator: FlaskClient, made: MadeApp, clock: Clock
    ) -> None:
        registered(client, phone(made))
        assert operator.post(f"/api/apps/{made.id}/secret").status_code == 201

        registered(client, phone(made, proof=self.signed(made)))
        clock.advance(hours=25)

        late = phone(made, proof=self.signed(made))
        assert_problem(client.post(REGISTER, json=late), 401)

    def test_what_is_no_proof(self, client: FlaskClient, factory: Factory, made: MadeApp) -> None:
        registered(client, phone(made))
        good = self.signed(made)
        moment, _, signature = good.partition(",")
        for proof in (
            self.signed(made, uid="phone-2"),
            self.signed(factory.app()),
            self.signed(made, age_seconds=400),
            self.signed(made, age_seconds=-400),
            f"{int(moment) + 1},{signature}",
            signature,
            f"{moment},",
            f"{moment},v1,",
            f"{moment},v1,é",
            f"{moment},\ud83d",
            f"{'9' * 30},{signature}",
            ",",
            "x",
        ):
            assert_problem(client.post(REGISTER, json=phone(made, proof=proof)), 401)

    def test_a_new_device_needs_none(self, client: FlaskClient, made: MadeApp) -> None:
        assert is_known(client, registered(client, phone(made)))
        assert is_known(client, registered(client, phone(made, uid="phone-2")))
