"""Access lasts as long as it was paid for or given; what comes after is told apart from it."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import text

from project.extensions import db
from simulator.client import SimulatorClient
from tests.api.problems import assert_problem
from tests.companies.conftest import NewPackage, NewShop
from tests.companies.shop import Run, Shop
from tests.companies.test_company_callbacks import heard, of_type, types
from tests.time_machine import Clock

TAKEN = datetime.fromisoformat("2027-04-05T21:30:00+00:00")
ENDS = datetime.fromisoformat("2027-05-05T21:30:00+00:00")
CHARGED = datetime.fromisoformat("2027-05-05T03:00:00+00:00")
RETURN_URL = "https://shop.example.com/thanks"
A_MINUTE = timedelta(minutes=1)

Buy = Callable[[Shop, int], None]


@pytest.fixture
def late(new_shop: NewShop, clock: Clock) -> Shop:
    """A shop that hears of everything, on a day at half past nine in the evening."""
    clock.set_to(TAKEN)
    shop = new_shop(hears=True)
    shop.log_in()
    shop.card()
    return shop


@pytest.fixture
def buy(operator: FlaskClient, simulator: SimulatorClient, clock: Clock, run: Run) -> Buy:
    """Have a shop confirm a payment that an operator began for it."""

    def bought(shop: Shop, package_id: int) -> None:
        order = {
            "customer": f"company:{shop.id}",
            "package_id": package_id,
            "return_url": RETURN_URL,
        }
        begun = operator.post("/api/payments", json=order).get_json()
        page = begun["confirmation_url"].removeprefix(simulator.base_url)
        assert simulator.call("GET", page).status == 302
        clock.advance(minutes=3)
        run("match-pending-payments-run", "--inline")

    return bought


def seen(shop: Shop) -> dict[str, Any]:
    """Return what the shop sees of its package, having logged in anew."""
    shop.log_in()
    check: dict[str, Any] = shop.get("/check")
    return check


def dates(check: dict[str, Any]) -> tuple[datetime, datetime]:
    start, end = check["start_date"], check["end_date"]
    return datetime.fromisoformat(start), datetime.fromisoformat(end)


def viewed(shop: Shop) -> dict[str, Any]:
    """Return the shop's row of the view; with several packages, the newest."""
    statement = text(
        "SELECT * FROM company_packages WHERE company_id = :id ORDER BY subscription_id DESC"
    )
    with db.engine.connect() as connection:
        return dict(connection.execute(statement, {"id": shop.id}).mappings().first() or {})


def same(check: dict[str, Any], row: dict[str, Any]) -> bool:
    """Tell whether a check and a row of the view say the same."""
    shown = (check["package"]["id"], check["state"], *dates(check), check["next_package_id"])
    return shown == (
        row["package_id"],
        row["state"],
        row["start_date"],
        row["end_date"],
        row["next_package_id"],
    )


@pytest.mark.parametrize(
    ("reason", "tries", "at_retry_end", "meanwhile"),
    [
        ("canceled:permission_revoked", 3, "expire", "past_due"),
        ("canceled:invalid_card_number", 3, "cancel", "canceled"),
        ("canceled:insufficient_funds", 1, "expire", "past_due"),
        ("canceled:insufficient_funds", 1, "cancel", "canceled"),
    ],
)
def test_the_last_refusal_takes_no_hour_that_was_given(
    late: Shop,
    new_package: NewPackage,
    clock: Clock,
    run: Run,
    reason: str,
    tries: int,
    at_retry_end: str,
    meanwhile: str,
) -> None:
    late.take(new_package(retry_attempts=tries, at_retry_end=at_retry_end))
    late.card(then=reason)
    clock.set_to(CHARGED)
    run("autopayments-run", "--inline")

    for moment in (CHARGED + A_MINUTE, ENDS - A_MINUTE):
        clock.set_to(moment)
        run("expire-subscriptions-run", "--inline")
        check = seen(late)
        assert (check["state"], check["company"]["status"]) == (meanwhile, 1)
        assert same(check, viewed(late))

    clock.set_to(ENDS + A_MINUTE)
    at_once = seen(late)
    assert at_once["state"] == "expired", "also before anybody has written it down"
    assert same(at_once, viewed(late))
    run("clock", "advance", "2m", "--run")
    check = seen(late)
    assert (check["state"], check["company"]["state"]) == ("expired", "passive")
    told = types(heard(late, run))
    assert told.count("company.passive") == told.count("package.expired") == 1
    assert of_type(heard(late, run), "payment.refused")["is_final"] is True


def test_a_short_period_is_given_in_full(
    late: Shop, new_package: NewPackage, clock: Clock, run: Run
) -> None:
    late.take(new_package(period="day"))
    late.card(then="canceled:card_expired")
    clock.advance(hours=6)
    run("autopayments-run", "--inline")
    clock.set_to(TAKEN + timedelta(hours=23, minutes=58))

    assert seen(late)["company"]["status"] == 1
    clock.advance(minutes=1)
    run("clock", "advance", "5m", "--run")
    assert seen(late)["company"]["status"] == 0


def test_a_renewal_is_shown_when_its_period_begins(
    late: Shop, new_package: NewPackage, clock: Clock, run: Run
) -> None:
    package_id = new_package()
    late.take(package_id)
    clock.set_to(CHARGED)
    run("autopayments-run", "--inline")

    before = seen(late)
    assert dates(before)[1] - ENDS < A_MINUTE
    assert before["paid_until"][:10] == "2027-06-05"
    assert same(before, viewed(late))

    clock.set_to(ENDS + A_MINUTE)
    after = seen(late)
    assert dates(after)[0] == dates(before)[1]
    assert after["end_date"] == after["paid_until"]
    assert same(after, viewed(late))


def test_another_package_is_shown_from_when_it_takes_effect(
    late: Shop, new_package: NewPackage, operator: FlaskClient, clock: Clock, run: Run
) -> None:
    small, large = new_package(), new_package(price=7000, period="year")
    late.take(small)
    taken = late.take(large)
    clock.set_to(CHARGED)
    run("autopayments-run", "--inline")

    check = seen(late)
    assert (check["package"]["id"], check["next_package_id"]) == (small, large)
    assert check["next_package_at"] == taken["takes_effect_at"] == check["end_date"]
    path = "/api/subscriptions"
    [listed] = operator.get(f"{path}?package_id={small}").get_json()["data"]
    assert (listed["package_id"], listed["next_package_id"]) == (small, large)
    assert listed["current_period_end"] == check["end_date"]
    assert operator.get(f"{path}?package_id={large}").get_json()["data"] == []

    clock.set_to(ENDS + A_MINUTE)
    check = seen(late)
    assert (check["package"]["id"], check["next_package_id"]) == (large, None)
    assert check["start_date"] == taken["takes_effect_at"]
    assert same(check, viewed(late))
    shown = operator.get(f"{path}/{listed['id']}").get_json()["data"]
    assert (shown["package_id"], shown["current_period_start"]) == (large, check["start_date"])


def test_periods_bought_ahead_begin_one_after_the_other(
    late: Shop, new_package: NewPackage, buy: Buy, clock: Clock, run: Run
) -> None:
    small, large = new_package(), new_package(price=9000, period="week")
    late.take(small)
    buy(late, small)
    buy(late, large)
    buy(late, large)

    expected = [
        ("2027-04-20", small, "2027-05-05", large),
        ("2027-05-20", small, "2027-06-05", large),
        ("2027-06-08", large, "2027-06-12", None),
        ("2027-06-15", large, "2027-06-19", None),
    ]
    for on, package_id, ends_on, next_id in expected:
        clock.set_to(datetime.fromisoformat(f"{on}T12:00:00+00:00"))
        check = seen(late)
        assert check["package"]["id"] == package_id, on
        assert check["end_date"][:10] == ends_on, on
        assert check["next_package_id"] == next_id, on
        assert check["paid_until"][:10] == "2027-06-19"
        start, end = dates(check)
        assert start <= clock.now() < end
        assert same(check, viewed(late))
    assert len(late.get(f"/{late.id}/payments")["data"]) == 3, "nothing was charged meanwhile"


def test_callbacks_name_the_period_that_runs_and_the_one_that_was_paid(
    late: Shop, new_package: NewPackage, clock: Clock, run: Run
) -> None:
    small, large = new_package(), new_package(price=7000)
    late.take(small)
    late.take(large)
    clock.set_to(CHARGED)
    run("autopayments-run", "--inline")
    late.log_in()
    late.call("POST", "/packages/cancel", json={})

    bodies = heard(late, run)

    renewed = of_type(bodies, "package.renewed")
    assert (renewed["package_id"], renewed["start_date"][:10]) == (large, "2027-05-05")
    canceled = of_type(bodies, "package.canceled")
    assert (canceled["package_id"], canceled["next_package_id"]) == (small, large)
    assert canceled["end_date"] == renewed["start_date"]
    assert canceled["paid_until"] == renewed["end_date"]


def test_a_canceled_package_is_over_at_its_end(
    late: Shop, new_package: NewPackage, clock: Clock, run: Run
) -> None:
    late.take(new_package())
    late.call("POST", "/packages/cancel", json={})
    clock.set_to(ENDS + A_MINUTE)

    assert seen(late)["state"] == viewed(late)["state"] == "expired"
    assert_problem(late.call("POST", "/packages/cancel", json={}), 404)
    run("clock", "advance", "2m", "--run")
    assert seen(late)["company"]["state"] == "active"
    assert types(heard(late, run)).count("package.expired") == 1


def test_nobody_is_charged_at_once_for_coming_back_before_the_next_try(
    late: Shop, new_package: NewPackage, clock: Clock, run: Run
) -> None:
    package_id = new_package()
    late.take(package_id)
    late.card(then="canceled")
    clock.set_to(CHARGED)
    run("autopayments-run", "--inline")
    late.log_in()
    for _ in range(3):
        assert late.call("POST", "/packages/cancel", json={}).status_code == 200
        assert late.take(package_id)["state"] == "past_due"
        run("autopayments-run", "--inline")
        run("match-pending-payments-run", "--inline")

    assert len(late.get(f"/{late.id}/payments")["data"]) == 1
    clock.set_to(CHARGED + timedelta(days=1))
    run("autopayments-run", "--inline")
    late.log_in()
    attempts = [one["attempt"] for one in late.get(f"/{late.id}/payments")["data"]]
    assert attempts == [2, 1]


def test_a_gift_makes_a_passive_company_active(
    passive: Shop, operator: FlaskClient, new_package: NewPackage
) -> None:
    body = {"company_id": passive.id, "package_id": new_package()}

    assert operator.post("/api/companies/packages", json=body).status_code == 201

    check = passive.get("/check")
    assert (check["state"], check["company"]["state"]) == ("active", "active")
    assert passive.take(new_package())["takes_effect_at"] == check["end_date"]


def test_what_is_over_may_be_paid_before_anybody_else_has_looked(
    late: Shop, new_package: NewPackage, clock: Clock
) -> None:
    package_id = new_package()
    late.take(package_id)
    problem = assert_problem(late.pay(), 409)
    assert "paid for" not in problem["detail"], "it was given"
    late.call("POST", "/packages/cancel", json={})
    clock.set_to(ENDS + A_MINUTE)
    late.log_in()

    assert_problem(late.call("POST", "/packages", json={"package_id": package_id}), 409)
    assert late.pay().status_code == 200
    check = seen(late)
    start, end = dates(check)
    assert check["state"] == "active"
    assert start <= clock.now() < end
