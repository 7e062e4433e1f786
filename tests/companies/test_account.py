"""A company and its own data: it sees itself and nobody else; operators see all."""

from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from simulator.client import SimulatorClient
from tests.api.problems import assert_problem
from tests.companies.conftest import NewShop
from tests.companies.shop import PASSWORD, Shop
from tests.conftest import API_KEY, ChangeSettings


def test_a_company_changes_what_it_says_of_itself(shop: Shop) -> None:
    changes = {
        "site_url": "https://looms.example.com",
        "name": "Augusta",
        "lastname": "King",
        "company_name": "King Looms",
        "email": "Augusta@Looms.example.com",
    }
    proven = changes | {"current_password": PASSWORD}

    answer = shop.call("PATCH", "/me", json=proven)

    assert answer.status_code == 200
    company = answer.get_json()["data"]
    assert company == shop.get("/me")["data"]
    wanted = changes | {"email": "augusta@looms.example.com"}
    assert {name: company[name] for name in changes} == wanted
    shop.email = wanted["email"]
    shop.log_in()


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "name"),
        ({"email": "no email"}, "email"),
        ({"email": None}, "email"),
        ({"password": "short"}, "password"),
        ({"password": "password12"}, "password"),
        ({"email": "someone@example.com", "password": "SOMEONE@example.com"}, "password"),
        ({"site_url": "x"}, "site_url"),
        ({"callback_url": "http://10.0.0.1/"}, "callback_url"),
        ({"state": "active"}, "state"),
        ({"status": 1}, "status"),
        ({"id": 2}, "id"),
    ],
)
def test_a_change_that_cannot_be_made_is_refused_whole(
    shop: Shop, change_settings: ChangeSettings, body: dict[str, Any], field: str
) -> None:
    change_settings(callback_allowed_networks=())
    before = shop.get("/me")

    assert_problem(shop.call("PATCH", "/me", json=body), 400, field)
    assert shop.get("/me") == before


def test_an_email_of_another_company_is_taken(shop: Shop, new_shop: NewShop) -> None:
    other = new_shop()

    body = {"email": other.email.upper(), "name": "Augusta", "current_password": PASSWORD}
    assert_problem(shop.call("PATCH", "/me", json=body), 409, "email")
    assert shop.get("/me")["data"]["name"] == "Ada"
    assert shop.call("PATCH", "/me", json={"email": shop.email}).status_code == 200


def test_a_new_password_ends_every_login(client: FlaskClient, shop: Shop) -> None:
    before = shop.token
    shop.log_in()

    new = "another loom, quieter still"
    body = {"password": new, "current_password": PASSWORD}
    assert shop.call("PATCH", "/me", json=body).status_code == 200

    for token in (before, shop.token):
        shop.token = token
        assert_problem(shop.call("GET", "/me"), 401)
    old = {"email": shop.email, "password": PASSWORD}
    assert_problem(client.post("/api/companies/login", json=old), 401)
    shop.log_in(new)


@pytest.mark.parametrize(
    "change", [{"password": "another loom, quieter still"}, {"email": "thief@example.com"}]
)
def test_a_stolen_token_is_not_the_account(
    client: FlaskClient, shop: Shop, change: dict[str, str]
) -> None:
    before = shop.get("/me")

    assert_problem(shop.call("PATCH", "/me", json=change), 400, "current_password")
    guessed = change | {"current_password": "a loud loom in autumn"}
    assert_problem(shop.call("PATCH", "/me", json=guessed), 403, "current_password")

    assert shop.get("/me") == before
    body = {"email": shop.email, "password": PASSWORD}
    assert client.post("/api/companies/login", json=body).status_code == 200


def test_guesses_at_the_present_password_are_limited(
    shop: Shop, change_settings: ChangeSettings
) -> None:
    change_settings(login_rate_limit="3/hour")
    guess = {"email": "thief@example.com", "current_password": "a loud loom in autumn"}

    statuses = [shop.call("PATCH", "/me", json=guess).status_code for _ in range(4)]

    assert statuses == [403, 403, 403, 429]
    assert shop.call("PATCH", "/me", json={"name": "Augusta"}).status_code == 200


def test_a_new_email_ends_every_other_login(shop: Shop) -> None:
    other = shop.token
    shop.log_in()

    body = {"email": "ada@looms.example.com", "current_password": PASSWORD}
    assert shop.call("PATCH", "/me", json=body).status_code == 200

    assert shop.call("GET", "/me").status_code == 200
    shop.token = other
    assert_problem(shop.call("GET", "/me"), 401)


def test_the_present_password_alone_changes_nothing(shop: Shop) -> None:
    body = {"current_password": PASSWORD}
    assert_problem(shop.call("PATCH", "/me", json=body), 400, "name")


class TestSetPassword:
    """An operator gives a company that has lost its password another one."""

    NEW = "another loom, quieter still"

    def run(self, app: Flask, *arguments: str, typed: str | None = None) -> Any:
        command = ["company", "set-password", *arguments]
        return app.test_cli_runner().invoke(args=command, input=typed)

    def test_one_that_is_typed_in(self, app: Flask, shop: Shop) -> None:
        result = self.run(app, shop.email.upper(), typed=f"{self.NEW}\n{self.NEW}\n")

        assert result.exit_code == 0, result.output
        assert self.NEW not in result.output
        assert_problem(shop.call("GET", "/me"), 401)
        shop.log_in(self.NEW)

    def test_one_that_is_made(self, app: Flask, shop: Shop) -> None:
        result = self.run(app, shop.email, "--generate")

        assert result.exit_code == 0
        shop.log_in(result.stdout.strip())

    def test_one_that_is_too_weak(self, app: Flask, shop: Shop) -> None:
        result = self.run(app, shop.email, typed="short\nshort\n")

        assert result.exit_code == 1
        assert "at least 10 characters" in result.output
        shop.log_in()

    def test_a_company_that_there_is_not(self, app: Flask) -> None:
        result = self.run(app, "nobody@example.com", "--generate")

        assert result.exit_code == 1
        assert "There is no company" in result.output


def test_a_callback_url_may_come_later_and_shows_its_secret_once(
    shop: Shop, simulator: SimulatorClient
) -> None:
    path = f"{simulator.base_url}/inbox"

    first = shop.call("PATCH", "/me", json={"callback_url": f"{path}/one"}).get_json()
    second = shop.call("PATCH", "/me", json={"callback_url": f"{path}/two"}).get_json()

    assert first["callback_secret"].startswith("whsec_")
    assert "callback_secret" not in second


def test_an_operator_lists_companies_newest_first(
    operator: FlaskClient, shop: Shop, new_shop: NewShop
) -> None:
    other = new_shop()

    listed = operator.get("/api/companies").get_json()

    assert [one["id"] for one in listed["data"]] == [other.id, shop.id]
    assert listed["pagination"]["total"] == 2
    active = operator.get("/api/companies?state=active").get_json()["data"]
    assert [one["id"] for one in active] == [shop.id]
    second = operator.get("/api/companies?limit=1&page=2").get_json()["data"]
    assert [one["id"] for one in second] == [shop.id]
    assert "password" not in str(listed)


@pytest.mark.parametrize("query", ["state=happy", "page=0", "limit=1001", "status=1"])
def test_a_filter_that_cannot_be_used_is_refused(operator: FlaskClient, query: str) -> None:
    assert_problem(operator.get(f"/api/companies?{query}"), 400, query.partition("=")[0])


def test_a_company_does_not_list_companies(shop: Shop) -> None:
    assert_problem(shop.call("GET", ""), 401)


def test_a_company_sees_itself_and_nobody_else(
    operator: FlaskClient, shop: Shop, new_shop: NewShop
) -> None:
    other = new_shop()

    assert shop.get(f"/{shop.id}")["data"] == shop.get("/me")["data"]
    foreign = assert_problem(shop.call("GET", f"/{other.id}"), 404)
    missing = assert_problem(shop.call("GET", "/999"), 404)
    assert foreign["detail"].replace(str(other.id), "999") == missing["detail"]
    assert_problem(shop.call("GET", f"/{other.id}/payments"), 404)
    for one in (shop, other):
        assert operator.get(f"/api/companies/{one.id}").get_json()["data"]["id"] == one.id
    assert_problem(operator.get("/api/companies/999"), 404)
    assert_problem(operator.get("/api/companies/999/payments"), 404)


@pytest.mark.parametrize(
    "path", ["/me", "/check", "/1", "/1/payments", "/packages/pay", "/packages/cancel"]
)
def test_without_a_credential_nothing_is_shown(client: FlaskClient, path: str) -> None:
    method = "POST" if "packages" in path else "GET"
    assert_problem(client.open(f"/api/companies{path}", method=method), 401)


def test_an_operators_key_is_no_companys_token(client: FlaskClient, shop: Shop) -> None:
    headers = {"Authorization": f"Bearer {API_KEY}"}

    for path in ("/api/companies/me", "/api/companies/check"):
        assert_problem(client.get(path, headers=headers), 401)


def test_a_companys_token_is_no_operators_key(client: FlaskClient, shop: Shop) -> None:
    headers = {"Authorization": f"Bearer {shop.token}"}

    for path in ("/api/payments", "/api/subscriptions", "/api/reconciliation/cases", "/api/apps"):
        assert_problem(client.get(path, headers=headers), 401)
    assert_problem(client.post("/api/packages", json={}, headers=headers), 401)
