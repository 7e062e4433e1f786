"""Paying what is owed, now: the way back from passive, outside of the retries' count."""

import pytest
from flask.testing import FlaskClient

from simulator.client import SimulatorClient
from tests.api.problems import assert_problem
from tests.companies.conftest import NewPackage
from tests.companies.shop import END, Run, Shop, day
from tests.conftest import ChangeSettings
from tests.time_machine import Clock


@pytest.fixture
def past_due(shop: Shop, new_package: NewPackage, clock: Clock, run: Run) -> Shop:
    """A shop whose first charge was refused."""
    shop.card("canceled")
    shop.take(new_package())
    clock.set_to(END)
    run("autopayments-run", "--inline")
    assert shop.get("/check")["state"] == "past_due"
    return shop


def test_without_a_package_there_is_nothing_to_pay_for(shop: Shop) -> None:
    assert_problem(shop.pay(), 404)


def test_nothing_is_owed_for_a_period_that_is_given(shop: Shop, new_package: NewPackage) -> None:
    shop.take(new_package())

    assert_problem(shop.pay(), 409)
    assert shop.get(f"/{shop.id}/payments")["data"] == []


def test_what_is_past_due_is_paid(past_due: Shop) -> None:
    answer = past_due.pay()

    assert answer.status_code == 200
    payment = answer.get_json()["data"]
    assert (payment["state"], payment["trigger"]) == ("succeeded", "retry_customer")
    check = past_due.get("/check")
    assert (check["state"], day(check["start_date"])) == ("active", END.date())
    assert_problem(past_due.pay(), 409)


def test_a_passive_shop_pays_itself_back_in(passive: Shop, clock: Clock) -> None:
    passive.card()

    assert passive.pay().status_code == 200

    company = passive.get("/me")["data"]
    assert (company["state"], company["status"]) == ("active", 1)
    check = passive.get("/check")
    assert check["state"] == "active"
    assert check["start_date"][:10] == clock.now().isoformat()[:10], "it pays for what is to come"


def test_a_refusal_is_told_and_uses_up_no_retry(past_due: Shop, clock: Clock, run: Run) -> None:
    past_due.card("canceled", "canceled")

    problem = assert_problem(past_due.pay(), 402, "payment")

    assert "insufficient_funds" in problem["detail"]
    assert past_due.get("/check")["state"] == "past_due"
    clock.advance(days=1)
    run("autopayments-run", "--inline")
    assert past_due.get("/check")["company"]["state"] == "active"
    attempts = [
        (one["trigger"], one["attempt"])
        for one in past_due.get(f"/{past_due.id}/payments")["data"]
        if one["trigger"] != "retry_customer"
    ]
    assert attempts == [("retry_dunning", 2), ("subscription_cycle", 1)]


def test_a_provider_that_does_not_answer_leaves_it_open(
    past_due: Shop, simulator: SimulatorClient, clock: Clock, run: Run
) -> None:
    fault = simulator.add_fault("/yookassa/v3/payments", drop="after")

    answer = past_due.pay()

    assert answer.status_code == 202
    assert answer.get_json()["data"]["state"] == "pending"
    assert_problem(past_due.pay(), 409)
    simulator.control("DELETE", f"/faults/{fault}")
    clock.advance(minutes=5)
    run("match-pending-payments-run", "--inline")
    assert past_due.get("/check")["state"] == "active"
    payments = past_due.get(f"/{past_due.id}/payments")["data"]
    assert [one["state"] for one in payments] == ["succeeded", "canceled"]


def test_an_unreachable_provider_leaves_it_open(
    past_due: Shop, change_settings: ChangeSettings
) -> None:
    change_settings(yookassa_url="http://127.0.0.1:9")

    assert past_due.pay().status_code == 202


def test_an_operator_charges_for_a_company(operator: FlaskClient, past_due: Shop) -> None:
    path = "/api/companies/packages/pay"
    assert_problem(operator.post(path, json={}), 400, "company_id")

    answer = operator.post(path, json={"company_id": past_due.id})

    assert answer.status_code == 200
    assert answer.get_json()["data"]["trigger"] == "retry_admin"


def test_one_key_pays_once(past_due: Shop) -> None:
    key = {"Idempotency-Key": "pay-1"}

    first = past_due.pay(headers=key)
    again = past_due.pay(headers=key)

    assert (first.status_code, again.status_code) == (200, 200)
    assert again.get_json() == first.get_json()
    assert len(past_due.get(f"/{past_due.id}/payments")["data"]) == 2
    other = past_due.call("POST", "/packages/pay", json={"company_id": past_due.id}, headers=key)
    assert_problem(other, 409)


def test_a_refused_charge_is_answered_again_under_its_key_and_drawn_once(past_due: Shop) -> None:
    past_due.card("canceled", then="succeeded")
    key = {"Idempotency-Key": "pay-2"}

    first = past_due.pay(headers=key)
    past_due.log_in()
    again = past_due.pay(headers=key)

    assert_problem(first, 402, "payment")
    assert_problem(again, 402, "payment")
    assert again.headers["Idempotency-Replayed"] == "true"
    assert len(past_due.get(f"/{past_due.id}/payments")["data"]) == 2
    assert past_due.pay(headers={"Idempotency-Key": "pay-3"}).status_code == 200
