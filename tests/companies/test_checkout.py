"""A company pays by itself: it confirms a payment at the provider, where its card is saved."""

from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import text

from project.core.db.transaction import transaction
from project.extensions import db
from simulator.client import SimulatorClient
from tests.api.problems import assert_problem
from tests.companies.conftest import NewPackage, NewShop
from tests.companies.shop import END, NEXT_END, Run, Shop, day
from tests.time_machine import Clock

BACK = "https://shop.example.com/paid"


@pytest.fixture
def cardless(new_shop: NewShop) -> Shop:
    """A shop as it is in production: nothing is saved that could be charged."""
    shop = new_shop()
    with transaction():
        db.session.execute(text("UPDATE customers SET payment_method_id = NULL"))
    shop.log_in()
    return shop


def begun(shop: Shop, **body: Any) -> dict[str, Any]:
    answer = shop.call("POST", "/packages/checkout", json={"return_url": BACK} | body)
    assert answer.status_code == 201, answer.get_json()
    told: dict[str, Any] = answer.get_json()
    assert told.keys() == {"status", "payment_id", "state", "confirmation_url"}
    return told


def confirm(simulator: SimulatorClient, told: dict[str, Any], clock: Clock, run: Run) -> None:
    page = told["confirmation_url"].removeprefix(simulator.base_url)
    answer = simulator.call("GET", page)
    assert (answer.status, answer.headers["Location"]) == (302, BACK)
    clock.advance(minutes=3)
    run("match-pending-payments-run", "--inline")


def payments(shop: Shop) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = shop.get(f"/{shop.id}/payments")["data"]
    return found


@pytest.mark.parametrize("tries", [1, 3])
def test_a_shop_without_a_card_pays_itself_back_in_and_renews_then(
    cardless: Shop,
    new_package: NewPackage,
    simulator: SimulatorClient,
    clock: Clock,
    run: Run,
    tries: int,
) -> None:
    # The card that is saved by paying has no script of its own.
    simulator.control("PUT", "/yookassa/settings", {"default": "succeeded"})
    package_id = new_package()
    cardless.take(package_id)
    clock.set_to(END)
    for _ in range(tries):
        run("autopayments-run", "--inline")
        clock.advance(days=1)
    cardless.log_in()
    problem = assert_problem(cardless.pay(), 402, "payment")
    assert "checkout" in problem["detail"]

    confirm(simulator, begun(cardless), clock, run)

    check = cardless.get("/check")
    assert (check["state"], check["company"]["status"]) == ("active", 1)
    assert check["package"]["id"] == package_id
    assert_problem(cardless.pay(), 409)
    clock.advance(days=31)
    run("autopayments-run", "--inline")
    cardless.log_in()
    assert payments(cardless)[0]["trigger"] == "subscription_cycle"
    assert payments(cardless)[0]["state"] == "succeeded"


def test_a_card_may_be_saved_before_anything_is_owed(
    cardless: Shop, new_package: NewPackage, simulator: SimulatorClient, clock: Clock, run: Run
) -> None:
    cardless.take(new_package())

    confirm(simulator, begun(cardless), clock, run)

    check = cardless.get("/check")
    assert day(check["end_date"]) == END.date(), "what was given runs first"
    assert day(check["paid_until"]) == NEXT_END.date()


def test_a_shop_buys_its_first_package(
    cardless: Shop, new_package: NewPackage, simulator: SimulatorClient, clock: Clock, run: Run
) -> None:
    answer = cardless.call("POST", "/packages/checkout", json={"return_url": BACK})
    assert_problem(answer, 404)
    package_id = new_package(price=2500)

    confirm(simulator, begun(cardless, package_id=package_id), clock, run)

    assert cardless.get("/check")["package"]["id"] == package_id
    assert [one["amount"] for one in payments(cardless)] == [2500]


def test_two_clicks_are_one_payment(
    cardless: Shop, new_package: NewPackage, simulator: SimulatorClient, clock: Clock, run: Run
) -> None:
    package_id = new_package()
    first = begun(cardless, package_id=package_id)

    assert begun(cardless, package_id=package_id) == first

    confirm(simulator, first, clock, run)
    again = begun(cardless)
    assert again["payment_id"] != first["payment_id"], "the one before is paid"


def test_one_that_the_provider_has_ended_is_begun_anew(
    cardless: Shop, new_package: NewPackage, simulator: SimulatorClient
) -> None:
    package_id = new_package()
    first = begun(cardless, package_id=package_id)
    there = payments(cardless)[0]["external_id"]
    ended = {"status": "canceled", "reason": "expired_on_confirmation"}
    simulator.control("POST", f"/yookassa/payments/{there}/settle", ended)

    second = begun(cardless, package_id=package_id)

    assert second["payment_id"] != first["payment_id"]
    assert second["state"] == "pending"
    assert cardless.get("/check")["package"] is None


def test_a_provider_without_recurring_payments_still_takes_one(
    cardless: Shop, new_package: NewPackage, simulator: SimulatorClient, clock: Clock, run: Run
) -> None:
    simulator.add_fault("/yookassa/v3/payments", status=403, times=1)

    confirm(simulator, begun(cardless, package_id=new_package()), clock, run)

    assert cardless.get("/check")["state"] == "active"
    with db.engine.connect() as connection:
        saved = connection.scalar(text("SELECT payment_method_id FROM customers"))
    assert saved is None


def test_what_the_provider_does_not_take_is_a_problem(
    cardless: Shop, new_package: NewPackage, simulator: SimulatorClient
) -> None:
    simulator.add_fault("/yookassa/v3/payments", status=403)

    body = {"package_id": new_package(), "return_url": BACK}
    answer = cardless.call("POST", "/packages/checkout", json=body)

    assert "403" in assert_problem(answer, 402, "payment_id")["detail"]


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        ({"package_id": 999, "return_url": BACK}, 404, "package_id"),
        ({"return_url": "javascript:alert(1)"}, 400, "return_url"),
        ({}, 400, "return_url"),
        ({"return_url": BACK, "amount": 1}, 400, "amount"),
        ({"return_url": BACK, "company_id": 999}, 403, None),
    ],
)
def test_what_cannot_be_paid_for_is_refused(
    cardless: Shop, operator: FlaskClient, body: dict[str, Any], status: int, field: str | None
) -> None:
    answer = cardless.call("POST", "/packages/checkout", json=body)

    assert_problem(answer, status, *([field] if field else []))
    assert operator.get("/api/payments").get_json()["data"] == []
