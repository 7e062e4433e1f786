"""Money that is given back at the provider is a case here, and what is told of a payment."""

import itertools
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import text

from project.extensions import db
from simulator.client import SimulatorClient
from tests.companies.conftest import NewPackage
from tests.companies.shop import END, Run, Shop
from tests.time_machine import Clock

Refund = Callable[..., None]
NOTICES = "/api/payments/webhooks/yookassa"
HEARD = ("notice", "reconciliation")


@pytest.fixture
def paid(shop: Shop, new_package: NewPackage, clock: Clock, run: Run) -> dict[str, Any]:
    """A payment of 45.00 that a shop made a while ago."""
    shop.take(new_package(price=4500, currency="RUB"))
    clock.set_to(END)
    run("autopayments-run", "--inline")
    [payment] = shop.get(f"/{shop.id}/payments")["data"]
    assert payment["refunded_amount"] == 0
    clock.advance(days=9)
    return dict(payment)


@pytest.fixture
def refund(
    simulator: SimulatorClient, client: FlaskClient, paid: dict[str, Any], run: Run
) -> Refund:
    """Give money back at the provider, and let it be heard of in one way or the other."""

    def given_back(amount: str | None, heard: str) -> None:
        order = {"notify": False} | ({"amount": amount} if amount else {})
        there = paid["external_id"]
        simulator.control("POST", f"/yookassa/payments/{there}/refund", order)
        if heard == "notice":
            told = {"id": "2f-1", "payment_id": there, "status": "succeeded"}
            notice = {"event": "refund.succeeded", "object": told}
            for _ in range(2):
                assert client.post(NOTICES, json=notice).status_code == 200
        else:
            run("reconcile", "--since", "30d")
            run("reconcile", "--since", "30d")

    return given_back


def cases(operator: FlaskClient) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = operator.get("/api/reconciliation/cases").get_json()["data"]
    return found


@pytest.mark.parametrize("heard", list(itertools.product(HEARD, HEARD)))
def test_parts_that_are_given_back_are_one_case_of_all_of_them(
    operator: FlaskClient, refund: Refund, paid: dict[str, Any], heard: Sequence[str]
) -> None:
    refund("12.50", heard[0])

    [case] = cases(operator)
    assert (case["kind"], case["state"]) == ("refunded_there", "open")
    assert (case["payment_id"], case["external_id"]) == (paid["id"], paid["external_id"])
    there = case["evidence"]["there"]
    assert (there["amount"], there["refunded_amount"]) == ("45.00", "12.50")
    path = f"/api/reconciliation/cases/{case['id']}/resolve"
    assert operator.post(path, json={"note": "Agreed."}).status_code == 200

    refund(None, heard[1])

    [case] = cases(operator)
    assert case["state"] == "open", "more was given back than people have seen"
    assert case["evidence"]["there"]["refunded_amount"] == "45.00"
    shown = operator.get(f"/api/payments/{paid['id']}").get_json()["data"]
    assert (shown["state"], shown["refunded_amount"]) == ("succeeded", 4500)
    with db.engine.connect() as connection:
        statement = text("SELECT sum(amount - refunded_amount) FROM company_payments")
        assert connection.scalar(statement) == 0


def test_a_refund_that_is_known_is_no_news(
    operator: FlaskClient,
    refund: Refund,
    simulator: SimulatorClient,
    paid: dict[str, Any],
    run: Run,
) -> None:
    refund("1.00", "notice")
    [case] = cases(operator)
    operator.post(f"/api/reconciliation/cases/{case['id']}/resolve", json={"note": "Seen."})

    report = run("reconcile", "--since", "30d")

    assert "cases: none" in report
    [kept] = cases(operator)
    assert (kept["state"], kept["note"]) == ("resolved", "Seen.")


def test_the_providers_own_notice_of_a_refund_is_heard(
    operator: FlaskClient, simulator: SimulatorClient, api_url: str, paid: dict[str, Any]
) -> None:
    simulator.control("PUT", "/yookassa/settings", {"webhook_url": api_url + NOTICES})

    there = paid["external_id"]
    simulator.control("POST", f"/yookassa/payments/{there}/refund", {"amount": "44.99"})

    deadline = time.monotonic() + 10
    while not cases(operator):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    webhooks = simulator.control("GET", "/yookassa/settings")["webhooks"]
    assert webhooks["failed"] == 0


@pytest.mark.parametrize(
    "notice",
    [
        {"event": "payment_method.active", "object": {"id": "2f-1"}},
        {"event": "payout.succeeded", "object": {"id": "po-1"}},
        {"event": "deal.closed", "object": {"id": "dl-1"}},
        {"event": "payment.waiting_for_capture", "object": {"id": "2f-2"}},
        {"event": "refund.succeeded", "object": {"id": "2f-1", "payment_id": "2f-3"}},
    ],
)
def test_notices_that_say_nothing_of_ours_are_confirmed(
    client: FlaskClient, operator: FlaskClient, notice: dict[str, Any]
) -> None:
    assert client.post(NOTICES, json=notice).status_code == 200
    assert cases(operator) == []


class TestGivenUp:
    """A period that was charged on the day and canceled before it began."""

    @pytest.fixture
    def charged(self, shop: Shop, new_package: NewPackage, clock: Clock, run: Run) -> Shop:
        shop.take(new_package())
        clock.set_to(END - timedelta(hours=9))
        run("autopayments-run", "--inline")
        shop.log_in()
        return shop

    def test_it_is_a_case_for_people_until_it_is_taken_again(
        self, operator: FlaskClient, charged: Shop
    ) -> None:
        [payment] = charged.get(f"/{charged.id}/payments")["data"]
        for _ in range(2):
            charged.call("POST", "/packages/cancel", json={})
        [case] = cases(operator)
        assert (case["kind"], case["payment_id"]) == ("given_up", payment["id"])
        assert (case["state"], "before it began" in case["action"]) == ("open", True)

        charged.take(charged.get("/check")["package"]["id"])
        assert [one["state"] for one in cases(operator)] == ["resolved"]
        charged.call("POST", "/packages/cancel", json={})
        assert [one["state"] for one in cases(operator)] == ["open"]

    def test_one_that_has_begun_is_none(
        self, operator: FlaskClient, charged: Shop, clock: Clock
    ) -> None:
        clock.set_to(END)

        charged.call("POST", "/packages/cancel", json={})

        assert cases(operator) == []
