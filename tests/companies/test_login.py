"""Logging in and out: the same answer for every wrong guess, and not many guesses."""

import time
from functools import partial
from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import text

from project.companies import passwords
from project.extensions import db, redis_client
from tests.api.problems import assert_problem
from tests.companies.conftest import NewShop
from tests.companies.shop import PASSWORD, Shop
from tests.conftest import REAL_HASHER, ChangeSettings
from tests.time_machine import Clock

PATH = "/api/companies/login"
WRONG = "not the password of anybody"


def test_the_first_login_makes_the_company_active(client: FlaskClient, new_shop: NewShop) -> None:
    shop = new_shop()
    assert shop.get("/me")["data"]["status"] == 0

    answer = client.post(PATH, json={"email": shop.email, "password": PASSWORD})

    told = answer.get_json()
    assert answer.status_code == 200
    assert told.keys() == {"status", "token", "company_id"}
    assert told["company_id"] == shop.id
    company = shop.get("/me")["data"]
    assert (company["status"], company["state"]) == (1, "active")


def test_the_email_may_be_written_in_any_case(client: FlaskClient, shop: Shop) -> None:
    body = {"email": f" {shop.email.upper()}", "password": PASSWORD}

    assert client.post(PATH, json=body).status_code == 200


def test_a_wrong_password_and_an_unknown_email_get_the_same_answer(
    client: FlaskClient, shop: Shop
) -> None:
    wrong = client.post(PATH, json={"email": shop.email, "password": WRONG})
    unknown = client.post(PATH, json={"email": "nobody@example.com", "password": WRONG})

    answers = [assert_problem(one, 401) for one in (wrong, unknown)]
    for answer in answers:
        del answer["request_id"]
    assert answers[0] == answers[1]


def test_an_unknown_email_takes_as_long_as_a_wrong_password(
    client: FlaskClient, new_shop: NewShop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(passwords, "_hasher", REAL_HASHER)
    shop = new_shop()

    def fastest(email: str) -> float:
        seconds = []
        for _ in range(5):
            # Of the processor, not of the clock, which others who work on the machine stretch.
            begun = time.process_time()
            client.post(PATH, json={"email": email, "password": WRONG})
            seconds.append(time.process_time() - begun)
        return min(seconds)

    known, unknown = fastest(shop.email), fastest("nobody@example.com")

    assert 0.6 < unknown / known < 1.7


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "email"),
        ({"email": "ada@shop-1.example.com"}, "password"),
        ({"email": "no email", "password": WRONG}, "email"),
        ({"email": "ada@shop-1.example.com", "password": ""}, "password"),
        ({"email": "ada@shop-1.example.com", "password": "x" * 201}, "password"),
        ({"email": "ada@shop-1.example.com", "password": "\ud800"}, "password"),
        ({"email": "\ud800", "password": WRONG}, "email"),
        ({"email": {"$ne": ""}, "password": WRONG}, "email"),
        ({"email": "ada@shop-1.example.com", "password": WRONG, "remember": True}, "remember"),
    ],
)
def test_what_is_no_login_is_refused(client: FlaskClient, body: Any, field: str) -> None:
    assert_problem(client.post(PATH, json=body), 400, field)


def test_logins_are_limited_per_address(
    client: FlaskClient, shop: Shop, change_settings: ChangeSettings
) -> None:
    change_settings(login_rate_limit="3/hour")
    address = {"REMOTE_ADDR": "203.0.113.7"}
    for number in range(3):
        body = {"email": f"guess-{number}@example.com", "password": WRONG}
        assert client.post(PATH, json=body, environ_base=address).status_code == 401

    body = {"email": "guess-4@example.com", "password": WRONG}
    answer = client.post(PATH, json=body, environ_base=address)

    assert_problem(answer, 429)
    assert int(answer.headers["Retry-After"]) > 0


def test_logins_are_limited_per_account_from_wherever_they_come(
    client: FlaskClient, shop: Shop, change_settings: ChangeSettings
) -> None:
    change_settings(login_rate_limit="3/hour")
    spellings = [shop.email, shop.email.upper(), f" {shop.email} ", shop.email]
    statuses = [
        client.post(
            PATH,
            json={"email": email, "password": WRONG},
            environ_base={"REMOTE_ADDR": f"203.0.113.{number}"},
        ).status_code
        for number, email in enumerate(spellings, 1)
    ]

    assert statuses == [401, 401, 401, 429]
    other = {"email": "nobody@example.com", "password": WRONG}
    address = {"REMOTE_ADDR": "203.0.113.9"}
    assert client.post(PATH, json=other, environ_base=address).status_code == 401


def status_of(client: FlaskClient, email: str, password: str, address: str) -> int:
    """Log in from an address and return the status of the answer."""
    body = {"email": email, "password": password}
    return client.post(PATH, json=body, environ_base={"REMOTE_ADDR": address}).status_code


def test_guesses_from_elsewhere_lock_the_guesser_out_and_not_the_owner(
    client: FlaskClient, new_shop: NewShop, change_settings: ChangeSettings
) -> None:
    shop = new_shop()
    change_settings(login_rate_limit="3/hour")
    log_in = partial(status_of, client, shop.email)

    guesses = [log_in(WRONG, f"203.0.113.{number}") for number in range(1, 7)]
    assert guesses == [401, 401, 401, 429, 429, 429]

    assert log_in(PASSWORD, "127.0.0.1") == 200, "where it has registered"
    assert log_in(WRONG, "127.0.0.1") == 401
    assert log_in(WRONG, "127.0.0.1") == 401
    assert log_in(PASSWORD, "127.0.0.1") == 429, "an address has its own limit"
    assert log_in(PASSWORD, "203.0.113.99") == 200, "a fresh address"
    assert log_in(PASSWORD, "203.0.113.99") == 200, "is known from then on"


def test_a_fresh_address_has_one_try_while_an_account_is_guessed_at(
    client: FlaskClient, new_shop: NewShop, change_settings: ChangeSettings
) -> None:
    shop = new_shop()
    change_settings(login_rate_limit="3/hour")
    log_in = partial(status_of, client, shop.email)

    for number in range(1, 4):
        assert log_in(WRONG, f"203.0.113.{number}") == 401

    assert log_in(WRONG, "2001:db8:7::1") == 429
    assert log_in(PASSWORD, "2001:db8:7::2") == 429, "the same network has tried"
    assert status_of(client, "nobody@example.com", WRONG, "2001:db8:7::3") == 401
    assert log_in(PASSWORD, "198.51.100.1") == 200


def test_guesses_are_answered_while_redis_is_away(
    client: FlaskClient, shop: Shop, redis_away: None
) -> None:
    guess = {"email": shop.email, "password": WRONG}
    address = {"REMOTE_ADDR": "203.0.113.7"}
    assert client.post(PATH, json=guess, environ_base=address).status_code == 401
    right = guess | {"password": PASSWORD}
    assert client.post(PATH, json=right, environ_base=address).status_code == 200


@pytest.mark.parametrize(
    ("known", "same"),
    [("2001:db8:1:2::1", "2001:db8:1:2:ffff::9"), ("198.51.100.7", "::ffff:198.51.100.7")],
)
def test_an_owner_is_known_where_it_has_logged_in(
    client: FlaskClient, shop: Shop, change_settings: ChangeSettings, known: str, same: str
) -> None:
    body = {"email": shop.email, "password": PASSWORD}
    assert client.post(PATH, json=body, environ_base={"REMOTE_ADDR": known}).status_code == 200
    change_settings(login_rate_limit="2/hour")
    for number in (1, 2):
        guess = body | {"password": WRONG}
        address = {"REMOTE_ADDR": f"203.0.113.{number}"}
        assert client.post(PATH, json=guess, environ_base=address).status_code == 401

    assert client.post(PATH, json=body, environ_base={"REMOTE_ADDR": same}).status_code == 200


@pytest.mark.parametrize(
    ("content", "status"),
    [(b"{", 400), (b"[]", 400), (b'{"email": "\\ud800", "password": "x"}', 400), (b"\xff", 400)],
)
def test_a_broken_body_does_not_take_the_limits_out_of_redis(
    client: FlaskClient, shop: Shop, content: bytes, status: int
) -> None:
    broken = client.post(PATH, data=content, content_type="application/json")
    assert_problem(broken, status)

    guess = {"email": shop.email, "password": WRONG}
    client.post(PATH, json=guess, environ_base={"REMOTE_ADDR": "203.0.113.7"})

    assert redis_client().keys("*account:*")


def test_a_token_that_was_logged_out_is_dead(client: FlaskClient, shop: Shop) -> None:
    first = shop.token
    shop.log_in()

    assert shop.call("POST", "/logout").status_code == 200

    assert_problem(shop.call("GET", "/me"), 401)
    assert_problem(shop.call("POST", "/logout"), 401)
    shop.token = first
    assert shop.call("GET", "/me").status_code == 200, "the other login goes on"


def test_a_token_lives_for_thirty_days(shop: Shop, clock: Clock) -> None:
    clock.advance(days=29, hours=23)
    assert shop.call("GET", "/me").status_code == 200
    clock.advance(hours=2)

    assert_problem(shop.call("GET", "/me"), 401)

    shop.log_in()
    assert shop.call("GET", "/me").status_code == 200
    kept = db.session.scalar(text("SELECT count(*) FROM company_tokens"))
    assert kept == 1, "ended logins are forgotten"


@pytest.mark.parametrize("token", ["co_unknown", "co_", "co_" + "x" * 5000, "nonsense"])
def test_an_unknown_token_opens_nothing(shop: Shop, token: str) -> None:
    shop.token = token

    for method, path in (("GET", "/me"), ("GET", "/check"), ("POST", "/packages/pay")):
        assert_problem(shop.call(method, path), 401)


def test_the_hash_of_nobody_costs_what_a_new_hash_does() -> None:
    assert not REAL_HASHER.check_needs_rehash(passwords._DUMMY_HASH)
    assert not passwords.is_password("nobody has this password", None)
