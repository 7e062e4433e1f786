"""Packages: anybody reads them, operators make and change them."""

from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from project.core.db.transaction import transaction
from project.weather.billing_sync import plan_packages
from simulator.client import SimulatorClient
from tests.api.problems import assert_problem
from tests.companies.conftest import NewPackage
from tests.companies.shop import Run, Shop

PATH = "/api/packages"


def test_a_package_is_monthly_in_euros_unless_it_says_otherwise(
    operator: FlaskClient, client: FlaskClient
) -> None:
    answer = operator.post(PATH, json={"name": "Monthly", "price": 1000})

    assert answer.status_code == 201
    package = answer.get_json()["data"]
    assert client.get(PATH).get_json()["data"] == [package]
    del package["created_at"]
    assert package == {
        "id": 1,
        "name": "Monthly",
        "price": 1000,
        "currency": "EUR",
        "period": "month",
        "period_count": 1,
        "status": "active",
        "retry_attempts": 3,
        "retry_interval_seconds": 86_400,
        "at_retry_end": "expire",
        "audience": "companies",
    }


def test_a_form_makes_a_package_too(operator: FlaskClient) -> None:
    form = {"name": "Weekly", "price": "700", "period": "week", "period_count": "2"}

    package = operator.post(PATH, data=form).get_json()["data"]

    assert (package["price"], package["period_count"]) == (700, 2)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("price", -1),
        ("price", 0),
        ("price", 9.99),
        ("price", 10.0),
        ("price", True),
        ("price", "9.99"),
        ("price", "ten"),
        ("price", "-5"),
        ("price", None),
        ("price", 10**12 + 1),
        ("price", 10**30),
        ("price", [1000]),
        ("currency", "XXX"),
        ("currency", "eur"),
        ("currency", ""),
        ("currency", 978),
        ("period", "fortnight"),
        ("period", "MONTH"),
        ("period", ""),
        ("period_count", 0),
        ("period_count", -1),
        ("period_count", 367),
        ("period_count", 1.5),
        ("period_count", True),
        ("status", "gone"),
        ("retry_attempts", 0),
        ("retry_interval_seconds", 1),
        ("at_retry_end", "forgive"),
        ("name", ""),
        ("name", "x" * 129),
        ("name", "two\nlines"),
        ("id", 7),
    ],
)
def test_a_field_that_cannot_be_used_is_named(
    operator: FlaskClient, new_package: NewPackage, field: str, value: Any
) -> None:
    package_id = new_package()
    before = operator.get(PATH).get_json()

    body = {"name": "Monthly", "price": 1000} | {field: value}
    assert_problem(operator.post(PATH, json=body), 400, field)
    assert_problem(operator.patch(f"{PATH}/{package_id}", json={field: value}), 400, field)
    assert operator.get(PATH).get_json() == before


@pytest.mark.parametrize("field", ["name", "price"])
def test_a_field_that_is_missing_is_named(operator: FlaskClient, field: str) -> None:
    body: dict[str, Any] = {"name": "Monthly", "price": 1000}
    del body[field]

    assert_problem(operator.post(PATH, json=body), 400, field)


def test_a_package_changes_only_what_is_given(
    operator: FlaskClient, new_package: NewPackage
) -> None:
    package_id = new_package()
    before = operator.get(PATH).get_json()["data"][0]

    changed = operator.patch(f"{PATH}/{package_id}", json={"price": 1200, "status": "inactive"})

    assert changed.get_json()["data"] == before | {"price": 1200, "status": "inactive"}
    assert_problem(operator.patch(f"{PATH}/{package_id}", json={}), 400)
    assert_problem(operator.patch(f"{PATH}/999", json={"price": 1200}), 404)


def test_a_name_is_taken_once(operator: FlaskClient, new_package: NewPackage) -> None:
    new_package(name="Monthly")
    other = new_package(name="Yearly")

    assert_problem(operator.post(PATH, json={"name": "Monthly", "price": 1}), 409, "name")
    assert_problem(operator.patch(f"{PATH}/{other}", json={"name": "Monthly"}), 409, "name")
    assert operator.patch(f"{PATH}/{other}", json={"name": "Yearly"}).status_code == 200


def test_one_key_makes_one_package(operator: FlaskClient) -> None:
    key = {"Idempotency-Key": "package-1"}
    body = {"name": "Monthly", "price": 1000}

    first = operator.post(PATH, json=body, headers=key).get_json()

    assert operator.post(PATH, json=body, headers=key).get_json() == first
    assert_problem(operator.post(PATH, json=body | {"price": 1}, headers=key), 409)
    assert operator.get(PATH).get_json()["pagination"]["total"] == 1


def test_packages_are_listed_by_status(client: FlaskClient, new_package: NewPackage) -> None:
    sold, gone = new_package(), new_package(status="inactive")

    def listed(query: str) -> list[int]:
        return [one["id"] for one in client.get(PATH + query).get_json()["data"]]

    assert listed("") == [sold, gone]
    assert listed("?status=active") == [sold]
    assert listed("?status=inactive") == [gone]
    assert listed("?limit=1&page=2") == [gone]
    assert_problem(client.get(f"{PATH}?status=dear"), 400, "status")


def test_only_operators_make_and_change_packages(
    client: FlaskClient, new_package: NewPackage
) -> None:
    package_id = new_package()

    assert_problem(client.post(PATH, json={"name": "Monthly", "price": 1}), 401)
    assert_problem(client.patch(f"{PATH}/{package_id}", json={"price": 1}), 401)


@pytest.mark.parametrize(
    ("attempts", "interval"), [(4, 86_400), (3, 129_600), (100, 3600), (2, 90 * 86_400)]
)
def test_tries_must_come_before_the_expiry(
    operator: FlaskClient, new_package: NewPackage, attempts: int, interval: int
) -> None:
    tries = {"retry_attempts": attempts, "retry_interval_seconds": interval}
    made = operator.post("/api/packages", json={"name": "Too long", "price": 1000, **tries})
    assert_problem(made, 400, "retry_attempts")

    package_id = new_package()
    changed = operator.patch(f"/api/packages/{package_id}", json=tries)
    assert_problem(changed, 400, "retry_attempts")
    [kept] = operator.get("/api/packages").get_json()["data"]
    assert (kept["retry_attempts"], kept["retry_interval_seconds"]) == (3, 86_400)


def test_many_tries_soon_after_each_other_are_fine(new_package: NewPackage) -> None:
    assert new_package(retry_attempts=72, retry_interval_seconds=3600)
    assert new_package(retry_attempts=1, retry_interval_seconds=90 * 86_400)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"price": 1000, "currency": "JPY"}, "currency"),
        ({"price": 1234, "currency": "BHD"}, "currency"),
        ({"price": 10**12, "currency": "RUB"}, "price"),
    ],
)
def test_what_the_provider_cannot_draw_is_not_sold(
    operator: FlaskClient, new_package: NewPackage, body: dict[str, Any], field: str
) -> None:
    package_id = new_package()

    problem = assert_problem(operator.post(PATH, json={"name": "Dear"} | body), 400, field)
    assert "yookassa" in problem["detail"]
    assert_problem(operator.patch(f"{PATH}/{package_id}", json=body), 400, field)
    [kept] = operator.get(PATH).get_json()["data"]
    assert (kept["price"], kept["currency"]) == (1000, "EUR")


@pytest.mark.parametrize("change", [{"period": "year"}, {"period_count": 6}, {"currency": "TRY"}])
@pytest.mark.parametrize("how", ["has it", "is to have it", "was to pay for it"])
def test_what_somebody_agreed_to_stays(
    operator: FlaskClient, shop: Shop, new_package: NewPackage, change: dict[str, Any], how: str
) -> None:
    package_id = new_package()
    path = f"{PATH}/{package_id}"
    if how == "is to have it":
        shop.take(new_package())
    if how == "was to pay for it":
        order = {"customer": "x", "package_id": package_id, "return_url": "https://x.example/"}
        assert operator.post("/api/payments", json=order).status_code == 201
    else:
        shop.take(package_id)

    problem = assert_problem(operator.patch(path, json=change), 409, next(iter(change)))

    assert "new package" in problem["detail"]
    same = {"period": "month", "period_count": 1, "currency": "EUR", "price": 1500}
    changed = operator.patch(path, json=same | {"status": "inactive"})
    assert changed.status_code == 200, "what is the same is no change"


def test_what_nobody_has_may_be_changed(operator: FlaskClient, new_package: NewPackage) -> None:
    change = {"period": "week", "period_count": 2, "currency": "RUB"}

    changed = operator.patch(f"{PATH}/{new_package()}", json=change).get_json()["data"]

    assert {name: changed[name] for name in change} == change


class TestInternal:
    """Packages that settings describe, such as those of the forecast SMS."""

    @pytest.fixture
    def internal(self, app: Flask) -> int:
        with transaction():
            return plan_packages()["weekly"]

    def test_only_operators_see_them(
        self, client: FlaskClient, operator: FlaskClient, shop: Shop, internal: int
    ) -> None:
        bearer = {"Authorization": f"Bearer {shop.token}"}
        assert client.get(PATH).get_json()["data"] == []
        assert client.get(PATH, headers=bearer).get_json()["data"] == []
        listed = operator.get(PATH).get_json()["data"]
        assert {one["audience"] for one in listed} == {"internal"}
        assert internal in [one["id"] for one in listed]

    def test_nobody_takes_or_buys_them(
        self, operator: FlaskClient, shop: Shop, internal: int
    ) -> None:
        taken = shop.call("POST", "/packages", json={"package_id": internal})
        assert_problem(taken, 404, "package_id")
        given = {"company_id": shop.id, "package_id": internal}
        assert_problem(operator.post("/api/companies/packages", json=given), 404, "package_id")
        order = {
            "customer": f"company:{shop.id}",
            "package_id": internal,
            "return_url": "https://shop.example/",
        }
        assert_problem(operator.post("/api/payments", json=order), 404, "package_id")

    @pytest.mark.parametrize("change", [{"period": "year"}, {"price": 1}, {"status": "inactive"}])
    def test_nobody_changes_them(
        self, operator: FlaskClient, internal: int, change: dict[str, Any]
    ) -> None:
        before = operator.get(PATH).get_json()["data"]

        problem = assert_problem(operator.patch(f"{PATH}/{internal}", json=change), 403)

        assert "settings" in problem["detail"]
        assert operator.get(PATH).get_json()["data"] == before

    def test_money_at_the_provider_gives_nobody_one(
        self, simulator: SimulatorClient, operator: FlaskClient, shop: Shop, internal: int, run: Run
    ) -> None:
        price = next(
            one["price"] for one in operator.get(PATH).get_json()["data"] if one["id"] == internal
        )
        forged = {
            "amount": f"{price / 100:.2f}",
            "currency": "RUB",
            "status": "succeeded",
            "metadata": {"customer": f"company:{shop.id}", "package_id": str(internal)},
        }
        simulator.control("POST", "/yookassa/payments", forged)

        run("match-successful-payments-run", "--inline")

        assert shop.get("/check")["package"] is None
        [case] = operator.get("/api/reconciliation/cases").get_json()["data"]
        assert (case["kind"], case["state"]) == ("paid_there_missing_here", "open")
