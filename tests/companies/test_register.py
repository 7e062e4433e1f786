"""A shop registers: once per email, with a password that is worth something."""

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import text

from project.companies.passwords import is_common
from project.extensions import db
from simulator.client import SimulatorClient
from tests.api.problems import assert_problem
from tests.companies.conftest import NewShop
from tests.companies.shop import PASSWORD, registration
from tests.conftest import ChangeSettings

PATH = "/api/companies/register"


def count_companies() -> int:
    return int(db.session.scalar(text("SELECT count(*) FROM companies")) or 0)


def test_a_shop_registers_and_may_look_at_itself(client: FlaskClient) -> None:
    answer = client.post(PATH, json=registration(click_id="click-1"))

    assert answer.status_code == 201
    told = answer.get_json()
    assert told.keys() == {"status", "token", "company_id"}
    assert told["status"] == "success"
    shown = client.get("/api/companies/me", headers={"Authorization": f"Bearer {told['token']}"})
    company = shown.get_json()["data"]
    created_at = company.pop("created_at")
    assert created_at.endswith("+00:00")
    assert company == {
        "id": told["company_id"],
        "site_url": "https://shop-1.example.com",
        "name": "Ada",
        "lastname": "Byron",
        "company_name": "Byron Looms 1",
        "email": "ada@shop-1.example.com",
        "status": 0,
        "state": "registered",
    }


def test_a_form_registers_too(client: FlaskClient) -> None:
    assert client.post(PATH, data=registration()).status_code == 201


def test_neither_the_password_nor_the_token_is_kept(new_shop: NewShop) -> None:
    shop = new_shop()

    rows = db.session.execute(
        text("SELECT c::text || t::text FROM companies c JOIN company_tokens t ON true")
    ).scalars()
    kept = " ".join(rows)
    assert "$argon2id$" in kept
    assert PASSWORD not in kept
    assert shop.token not in kept
    assert shop.token.removeprefix("co_") not in kept


@pytest.mark.parametrize(
    "email",
    [
        "ada@shop-1.example.com",
        "ADA@Shop-1.Example.COM",
        "  ada@shop-1.example.com ",
        "ada@shop-1.example.com\u200b",
        "a\u200dd\u00ada@shop-1.example.com",
        "\ufeffada@shop-1.example.com",
        "\uff41\uff44\uff41\uff20\uff53hop-1.example.com",
        "ada@shop-1.exampl\u034fe.com",
        "\U0001d41ada@shop-1.example.com",
    ],
)
def test_an_email_registers_once_however_it_is_written(
    client: FlaskClient, new_shop: NewShop, email: str
) -> None:
    new_shop()

    assert_problem(client.post(PATH, json=registration(2, email=email)), 409, "email")
    assert count_companies() == 1


@pytest.mark.parametrize(
    "email",
    ["\u0430da@shop-1.example.com", "ada@sho\u0440-1.example.com", "\u03b1da@shop.example.com"],
)
def test_an_email_of_several_scripts_is_refused(client: FlaskClient, email: str) -> None:
    assert_problem(client.post(PATH, json=registration(email=email)), 400, "email")


@pytest.mark.parametrize(
    "email", ["иван@почта.рф", "jos\u00e9@example.com", "stra\u00dfe@example.com"]
)
def test_an_email_of_one_script_registers_and_logs_in(client: FlaskClient, email: str) -> None:
    assert client.post(PATH, json=registration(email=email)).status_code == 201
    body = {"email": email.upper(), "password": PASSWORD}
    assert client.post("/api/companies/login", json=body).status_code == 200


@pytest.mark.parametrize(
    "password",
    [
        "",
        "short",
        "ninechars",
        "1234567890",
        "password12",
        "Password1!",
        "passwordpassword",
        "qwertyuiop",
        "aaaaaaaaaaaa",
        "abababababab",
        "x" * 201,
        "ada@shop-1.example.com",
        "BYRON LOOMS 1",
        "lone \ud800 surrogate",
        None,
        1234567890123,
        ["a quiet loom in spring"],
    ],
)
def test_a_weak_password_is_refused(client: FlaskClient, password: Any) -> None:
    body = registration() | {"password": password}

    assert_problem(client.post(PATH, json=body), 400, "password")
    assert count_companies() == 0


@pytest.mark.parametrize("password", [PASSWORD, "tr0ub4dor&3xk", "пароль из слов", "x7" * 5 + "Qz"])
def test_a_good_password_is_taken(client: FlaskClient, password: str) -> None:
    assert not is_common(password)
    assert client.post(PATH, json=registration(password=password)).status_code == 201


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("email", "no email"),
        ("email", "a@b"),
        ("email", "ada@example.com\x00"),
        ("email", "a" * 250 + "@example.com"),
        ("email", "\ud800@example.com"),
        ("email", 7),
        ("site_url", "shop"),
        ("site_url", "javascript:alert(1)"),
        ("site_url", "ftp://shop.example.com"),
        ("name", ""),
        ("name", "x" * 201),
        ("lastname", "two\nlines"),
        ("company_name", None),
        ("status", 1),
        ("state", "active"),
        ("customer_id", 1),
    ],
)
def test_a_field_that_cannot_be_used_is_named(client: FlaskClient, field: str, value: Any) -> None:
    body = registration() | {field: value}

    assert_problem(client.post(PATH, json=body), 400, field)
    assert count_companies() == 0


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        ("x" * 2048, True),
        ("天" * 2048, True),
        ("x" * 2049, False),
        ("", False),
        ("a\tb", False),
        (7, False),
        ({}, False),
        (None, False),
    ],
)
def test_a_click_id_stops_no_registration(client: FlaskClient, value: Any, kept: bool) -> None:
    assert client.post(PATH, json=registration() | {"click_id": value}).status_code == 201
    found = db.session.scalar(text("SELECT click_id FROM companies"))
    assert found == (value if kept else None)


@pytest.mark.parametrize(
    "field", ["site_url", "name", "lastname", "company_name", "email", "password"]
)
def test_a_field_that_is_missing_is_named(client: FlaskClient, field: str) -> None:
    assert_problem(client.post(PATH, json=registration(**{field: None})), 400, field)


@pytest.mark.parametrize(
    "url",
    [
        "http://10.0.0.1/hook",
        "http://169.254.169.254/latest/meta-data",
        "http://[::1]:8000/",
        "http://2130706433/",
        "http://localhost:9/",
        "http://user:secret@example.com/",
        "file:///etc/passwd",
        "nonsense",
    ],
)
def test_callbacks_do_not_go_into_forbidden_networks(
    client: FlaskClient, change_settings: ChangeSettings, url: str
) -> None:
    change_settings(callback_allowed_networks=())

    assert_problem(client.post(PATH, json=registration(callback_url=url)), 400, "callback_url")
    assert count_companies() == 0


def test_with_a_callback_url_the_signing_secret_is_shown_once(
    client: FlaskClient, simulator: SimulatorClient
) -> None:
    body = registration(callback_url=f"{simulator.base_url}/inbox/looms")

    told = client.post(PATH, json=body).get_json()

    assert told["callback_secret"].startswith("whsec_")
    headers = {"Authorization": f"Bearer {told['token']}"}
    assert "whsec_" not in client.get("/api/companies/me", headers=headers).get_data(as_text=True)


def test_registering_again_with_one_key_gets_the_first_answer(client: FlaskClient) -> None:
    key = {"Idempotency-Key": "registration-1"}
    first = client.post(PATH, json=registration(), headers=key)
    again = client.post(PATH, json=registration(), headers=key)

    assert (first.status_code, again.status_code) == (201, 201)
    assert again.get_json() == first.get_json()
    assert again.headers["Idempotency-Replayed"] == "true"
    assert_problem(client.post(PATH, json=registration(2), headers=key), 409)
    assert count_companies() == 1


def test_registrations_are_limited_per_address(
    client: FlaskClient, change_settings: ChangeSettings
) -> None:
    change_settings(register_rate_limit="2/hour")
    for number in (1, 2):
        assert client.post(PATH, json=registration(number)).status_code == 201

    answer = client.post(PATH, json=registration(3))

    assert_problem(answer, 429)
    assert int(answer.headers["Retry-After"]) > 0
    elsewhere = {"REMOTE_ADDR": "203.0.113.7"}
    assert client.post(PATH, json=registration(3), environ_base=elsewhere).status_code == 201


def test_a_registration_sent_several_times_at_once_is_one(app: Flask) -> None:
    together = threading.Barrier(6)

    def register(_number: int) -> Any:
        together.wait()
        headers = {"Idempotency-Key": "registration-2"}
        return app.test_client().post(PATH, json=registration(), headers=headers)

    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(register, range(6)))

    assert [answer.status_code for answer in answers] == [201] * 6
    assert len({answer.get_json()["token"] for answer in answers}) == 1
    assert count_companies() == 1
