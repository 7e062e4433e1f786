"""The secret that signs a company's callbacks, made anew."""

from flask.testing import FlaskClient
from standardwebhooks import Webhook

from tests.api.problems import assert_problem
from tests.companies.conftest import NewShop
from tests.companies.shop import Run, Shop

PATH = "/api/companies/secret"


def deliver(shop: Shop, run: Run) -> None:
    """Change something, so that the shop hears of it."""
    assert shop.call("PATCH", "/me", json={"name": "Augusta"}).status_code == 200
    run("callbacks-run", "--inline")


def test_old_and_new_secret_both_sign_for_a_day(new_shop: NewShop, run: Run) -> None:
    shop = new_shop(hears=True)
    answer = shop.call("POST", "/secret", json={})
    assert answer.status_code == 201
    made = answer.get_json()["data"]
    assert made["id"] == shop.id
    assert made["callback_secret"] != shop.secret

    deliver(shop, run)

    message = shop.messages()[-1]
    for secret in (made["callback_secret"], shop.secret):
        assert secret is not None
        Webhook(secret).verify(message["body"], message["headers"])


def test_an_operator_makes_one_for_a_company(operator: FlaskClient, new_shop: NewShop) -> None:
    shop = new_shop(hears=True)
    assert_problem(operator.post(PATH, json={}), 400, "company_id")
    assert operator.post(PATH, json={"company_id": shop.id}).status_code == 201


def test_without_a_callback_url_there_is_none(shop: Shop) -> None:
    problem = assert_problem(shop.call("POST", "/secret", json={}), 404)
    assert "callback URL" in problem["detail"]


def test_a_company_makes_none_for_another(new_shop: NewShop, client: FlaskClient) -> None:
    shop, other = new_shop(hears=True), new_shop(hears=True)
    assert_problem(shop.call("POST", "/secret", json={"company_id": other.id}), 403)
    assert_problem(client.post(PATH, json={}), 401)


def test_one_key_makes_one_secret(new_shop: NewShop) -> None:
    shop = new_shop(hears=True)
    key = {"Idempotency-Key": "secret-1"}
    first, again = (shop.call("POST", "/secret", json={}, headers=key) for _ in range(2))
    assert first.get_json() == again.get_json()
