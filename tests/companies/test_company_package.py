"""A company's package: taken, looked at, renewed, changed at the period's end, canceled."""

from typing import Any

import pytest
from flask.testing import FlaskClient

from tests.api.problems import assert_problem
from tests.companies.conftest import NewPackage, NewShop
from tests.companies.shop import END, NEXT_END, START, Run, Shop, day
from tests.time_machine import Clock


def test_a_shop_takes_a_package_and_sees_start_and_end(shop: Shop, new_package: NewPackage) -> None:
    package_id = new_package()

    taken = shop.take(package_id)

    assert taken["package"]["id"] == package_id
    assert (day(taken["start_date"]), day(taken["end_date"])) == (START.date(), END.date())
    assert (taken["status"], taken["state"]) == ("success", "active")
    assert taken["takes_effect_at"] is None


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_check_shows_the_company_and_its_package(
    shop: Shop, new_package: NewPackage, method: str
) -> None:
    def check() -> dict[str, Any]:
        answer = shop.call(method, "/check")
        assert answer.status_code == 200
        shown: dict[str, Any] = answer.get_json()
        return shown

    company = shop.get("/me")["data"]
    booked = ("paid_until", "next_package_id", "next_package_at")
    nothing = dict.fromkeys(("package", "start_date", "end_date", "state", *booked))
    assert check() == {"status": "success", "company": company, **nothing}

    taken = shop.take(new_package())

    del taken["takes_effect_at"]
    assert check() == {"company": company, **taken}


def test_on_the_end_day_it_is_charged_and_renewed(
    shop: Shop, new_package: NewPackage, clock: Clock, run: Run
) -> None:
    shop.take(new_package())
    run("autopayments-run", "--inline")
    assert shop.get(f"/{shop.id}/payments")["data"] == []

    clock.set_to(END)
    run("autopayments-run", "--inline")

    check = shop.get("/check")
    assert (day(check["start_date"]), day(check["end_date"])) == (END.date(), NEXT_END.date())
    [payment] = shop.get(f"/{shop.id}/payments")["data"]
    assert payment["state"] == "succeeded"
    assert (payment["amount"], payment["currency"], payment["attempt"]) == (1000, "EUR", 1)
    assert payment["trigger"] == "subscription_cycle"
    assert payment["provider"] == "yookassa"
    assert payment["period_start"] == check["start_date"]
    assert payment["period_end"] == check["end_date"]
    assert payment["settled_at"] is not None


def test_the_running_package_cannot_be_taken_again(shop: Shop, new_package: NewPackage) -> None:
    package_id = new_package()
    shop.take(package_id)

    answer = shop.call("POST", "/packages", json={"package_id": package_id})

    assert_problem(answer, 409, "package_id")


def test_another_package_counts_from_the_periods_end(
    shop: Shop, new_package: NewPackage, clock: Clock, run: Run
) -> None:
    small = new_package()
    large = new_package(price=5000, period="year")
    shop.take(small)

    taken = shop.take(large)

    assert taken["package"]["id"] == large
    assert taken["takes_effect_at"] == taken["end_date"]
    assert shop.get("/check")["package"]["id"] == small
    clock.set_to(END)
    run("autopayments-run", "--inline")
    check = shop.get("/check")
    assert check["package"]["id"] == large
    assert day(check["end_date"]) == END.date().replace(year=2028)
    assert [one["amount"] for one in shop.get(f"/{shop.id}/payments")["data"]] == [5000]


def test_a_planned_change_can_be_taken_back(
    shop: Shop, new_package: NewPackage, clock: Clock, run: Run
) -> None:
    small, large = new_package(), new_package(price=5000)
    shop.take(small)
    shop.take(large)

    taken = shop.take(small)

    assert taken["takes_effect_at"] is None
    clock.set_to(END)
    run("autopayments-run", "--inline")
    assert shop.get("/check")["package"]["id"] == small


def test_a_package_that_is_not_there_or_not_sold(shop: Shop, new_package: NewPackage) -> None:
    inactive = new_package(status="inactive")

    missing = shop.call("POST", "/packages", json={"package_id": 999})
    assert_problem(missing, 404, "package_id")
    gone = shop.call("POST", "/packages", json={"package_id": inactive})
    assert_problem(gone, 400, "package_id")
    assert shop.get("/check")["package"] is None


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "package_id"),
        ({"package_id": 0}, "package_id"),
        ({"package_id": -1}, "package_id"),
        ({"package_id": "one"}, "package_id"),
        ({"package_id": True}, "package_id"),
        ({"package_id": 1.5}, "package_id"),
        ({"package_id": 2**63}, "package_id"),
        ({"package_id": 1, "company_id": "x"}, "company_id"),
        ({"package_id": 1, "price": 1}, "price"),
    ],
)
def test_what_names_no_package_is_refused(shop: Shop, body: dict[str, Any], field: str) -> None:
    assert_problem(shop.call("POST", "/packages", json=body), 400, field)


@pytest.mark.parametrize("path", ["/packages", "/packages/cancel", "/packages/pay"])
@pytest.mark.parametrize("whose", ["another's", "nobody's"])
def test_a_company_does_nothing_for_another(
    operator: FlaskClient,
    shop: Shop,
    new_shop: NewShop,
    new_package: NewPackage,
    path: str,
    whose: str,
) -> None:
    other = new_shop()
    package_id = new_package()
    company_id = {"another's": other.id, "nobody's": 999}[whose]
    body = {"company_id": company_id} | ({"package_id": package_id} if path == "/packages" else {})

    assert_problem(shop.call("POST", path, json=body), 403)
    assert operator.get("/api/subscriptions").get_json()["data"] == []
    assert operator.get("/api/payments").get_json()["data"] == []


def test_a_company_may_name_itself(shop: Shop, new_package: NewPackage) -> None:
    body = {"company_id": shop.id, "package_id": new_package()}

    assert shop.call("POST", "/packages", json=body).status_code == 201


def test_an_operator_says_for_whom(
    operator: FlaskClient, shop: Shop, new_package: NewPackage
) -> None:
    body = {"package_id": new_package()}

    assert_problem(operator.post("/api/companies/packages", json=body), 400, "company_id")
    missing = operator.post("/api/companies/packages", json=body | {"company_id": 999})
    assert_problem(missing, 404)
    given = operator.post("/api/companies/packages", json=body | {"company_id": shop.id})
    assert given.status_code == 201
    assert shop.get("/check")["package"]["id"] == body["package_id"]


def test_one_key_takes_a_package_once(shop: Shop, new_package: NewPackage) -> None:
    first, other = new_package(), new_package()
    key = {"Idempotency-Key": "take-1"}

    def take(package_id: int) -> Any:
        return shop.call("POST", "/packages", json={"package_id": package_id}, headers=key)

    assert take(first).status_code == 201
    assert take(first).status_code == 201, "the first answer once more, and no 409"
    assert_problem(take(other), 409)


def test_a_canceled_package_runs_to_its_end_and_is_not_charged(
    shop: Shop, new_package: NewPackage, clock: Clock, run: Run
) -> None:
    shop.take(new_package())

    canceled = shop.call("POST", "/packages/cancel", json={}).get_json()

    assert (canceled["state"], day(canceled["end_date"])) == ("canceled", END.date())
    again = shop.call("POST", "/packages/cancel", json={})
    assert again.status_code == 200, "canceling twice is harmless"
    clock.set_to(END)
    run("autopayments-run", "--inline")
    run("expire-subscriptions-run", "--inline")
    assert shop.get("/check")["state"] == "expired"
    assert shop.get(f"/{shop.id}/payments")["data"] == []
    assert shop.get("/me")["data"]["state"] == "active"


def test_a_canceled_package_may_be_taken_again_before_its_end(
    shop: Shop, new_package: NewPackage, clock: Clock, run: Run
) -> None:
    package_id = new_package()
    shop.take(package_id)
    shop.call("POST", "/packages/cancel", json={})

    taken = shop.take(package_id)

    assert (taken["state"], day(taken["end_date"])) == ("active", END.date())
    clock.set_to(END)
    run("autopayments-run", "--inline")
    assert day(shop.get("/check")["end_date"]) == NEXT_END.date()


def test_without_a_package_there_is_nothing_to_cancel(shop: Shop) -> None:
    assert_problem(shop.call("POST", "/packages/cancel", json={}), 404)


def test_three_refusals_make_the_shop_passive(
    shop: Shop, new_package: NewPackage, clock: Clock, run: Run
) -> None:
    shop.card(then="canceled")
    shop.take(new_package())
    clock.set_to(END)
    seen = []
    for _ in range(3):
        run("autopayments-run", "--inline")
        run("autopayments-run", "--inline")
        check = shop.get("/check")
        seen.append((check["company"]["state"], check["company"]["status"], check["state"]))
        clock.advance(days=1)
        shop.log_in()

    assert seen == [
        ("active", 1, "past_due"),
        ("active", 1, "past_due"),
        ("passive", 0, "expired"),
    ]
    payments = shop.get(f"/{shop.id}/payments")["data"]
    assert [one["attempt"] for one in payments] == [3, 2, 1]
    assert {one["reason"] for one in payments} == {"insufficient_funds"}
    assert [one["trigger"] for one in payments] == [
        "retry_dunning",
        "retry_dunning",
        "subscription_cycle",
    ]
    run("autopayments-run", "--inline")
    assert len(shop.get(f"/{shop.id}/payments")["data"]) == 3


def test_a_login_does_not_make_a_passive_shop_active(passive: Shop) -> None:
    passive.log_in()

    assert passive.get("/me")["data"]["state"] == "passive"


def test_a_passive_shop_pays_before_it_takes_another_package(
    operator: FlaskClient, passive: Shop, new_package: NewPackage
) -> None:
    body = {"package_id": new_package()}

    assert_problem(passive.call("POST", "/packages", json=body), 409)

    given = operator.post("/api/companies/packages", json=body | {"company_id": passive.id})
    assert given.status_code == 201, "an operator may give what they like"


def test_a_first_period_is_given_once(
    shop: Shop, new_package: NewPackage, operator: FlaskClient, clock: Clock, run: Run
) -> None:
    package_id = new_package()
    shop.take(package_id)
    shop.call("POST", "/packages/cancel", json={})
    clock.set_to(END)
    run("expire-subscriptions-run", "--inline")

    for wanted in (package_id, new_package()):
        problem = assert_problem(shop.call("POST", "/packages", json={"package_id": wanted}), 409)
        assert "pay" in problem["detail"].lower()

    assert shop.pay().status_code == 200
    check = shop.get("/check")
    assert (check["state"], day(check["start_date"])) == ("active", END.date())


def test_an_operator_may_give_another_first_period(
    shop: Shop, new_package: NewPackage, operator: FlaskClient, clock: Clock, run: Run
) -> None:
    package_id = new_package()
    shop.take(package_id)
    shop.call("POST", "/packages/cancel", json={})
    clock.set_to(END)
    run("expire-subscriptions-run", "--inline")

    body = {"company_id": shop.id, "package_id": package_id}
    assert operator.post("/api/companies/packages", json=body).status_code == 201
    assert shop.get("/check")["state"] == "active"
