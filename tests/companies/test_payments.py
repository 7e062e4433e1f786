"""Payments, subscriptions and cases as operators see them; a purchase confirmed by a person."""

import time
from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from flask.testing import FlaskClient

from simulator.client import SimulatorClient
from tests.api.problems import assert_problem
from tests.companies.conftest import NewPackage, NewShop
from tests.companies.shop import END, START, Run, Shop, day
from tests.time_machine import Clock

RETURN_URL = "https://shop.example.com/thanks"
Ids = Callable[[str], list[Any]]


@pytest.fixture
def ids(operator: FlaskClient) -> Ids:
    """List the ids under a path."""

    def listed(path: str) -> list[Any]:
        answer = operator.get(f"/api{path}")
        assert answer.status_code == 200, answer.get_json()
        return [one["id"] for one in answer.get_json()["data"]]

    return listed


@pytest.fixture
def two_shops(
    shop: Shop, new_shop: NewShop, new_package: NewPackage, clock: Clock, run: Run
) -> tuple[Shop, Shop]:
    """Two shops after a charge each, one good and one refused."""
    other = new_shop()
    other.log_in()
    other.card("canceled")
    for one in (shop, other):
        one.take(new_package())
    clock.set_to(END)
    run("autopayments-run", "--inline")
    return shop, other


class TestLists:
    def test_payments_are_filtered(
        self, operator: FlaskClient, ids: Ids, two_shops: tuple[Shop, Shop]
    ) -> None:
        good, bad = two_shops
        [paid] = [one["id"] for one in good.get(f"/{good.id}/payments")["data"]]
        [refused] = [one["id"] for one in bad.get(f"/{bad.id}/payments")["data"]]

        assert set(ids("/payments")) == {paid, refused}
        assert ids("/payments?state=succeeded") == [paid]
        assert ids("/payments?state=canceled") == [refused]
        assert ids("/payments?state=pending") == []
        payment = operator.get(f"/api/payments/{paid}").get_json()["data"]
        assert ids(f"/payments?customer_id={payment['customer_id']}") == [paid]
        assert ids(f"/payments?subscription_id={payment['subscription_id']}") == [paid]
        assert len(ids(f"/payments?since={START.isoformat()}")) == 2
        assert ids("/payments?since=2027-03-01T00:00:00Z") == []
        assert len(ids("/payments?limit=1")) == 1

    def test_subscriptions_are_filtered_and_shown_with_their_payments(
        self, operator: FlaskClient, ids: Ids, two_shops: tuple[Shop, Shop]
    ) -> None:
        good, bad = two_shops
        second, first = ids("/subscriptions")

        assert ids("/subscriptions?state=active") == [first]
        assert ids("/subscriptions?state=past_due") == [second]
        package_id = good.get("/check")["package"]["id"]
        assert ids(f"/subscriptions?package_id={package_id}") == [first]
        assert ids("/subscriptions?ended_before=2027-03-01T00:00:00Z") == [second]
        shown = operator.get(f"/api/subscriptions/{second}").get_json()["data"]
        assert ids(f"/subscriptions?customer_id={shown['customer_id']}") == [second]
        assert (shown["state"], shown["refusals"]) == ("past_due", 1)
        assert shown["next_charge_at"] == "2027-03-01T00:00:00+00:00"
        assert shown["payments"] == bad.get(f"/{bad.id}/payments")["data"]

    @pytest.mark.parametrize(
        ("path", "field"),
        [
            ("/payments?state=paid", "state"),
            ("/payments?customer_id=0", "customer_id"),
            ("/payments?since=yesterday", "since"),
            ("/payments?since=2027-01-01T00:00:00", "since"),
            ("/payments?company=1", "company"),
            ("/subscriptions?state=passive", "state"),
            ("/subscriptions?package_id=x", "package_id"),
            ("/subscriptions?ended_before=soon", "ended_before"),
            ("/reconciliation/cases?kind=odd", "kind"),
            ("/reconciliation/cases?state=closed", "state"),
        ],
    )
    def test_a_filter_that_cannot_be_used_is_refused(
        self, operator: FlaskClient, path: str, field: str
    ) -> None:
        assert_problem(operator.get(f"/api{path}"), 400, field)

    @pytest.mark.parametrize(
        "path", [f"/payments/{UUID(int=7)}", "/payments/1", "/subscriptions/1", "/subscriptions/x"]
    )
    def test_what_is_not_there_is_not_found(self, operator: FlaskClient, path: str) -> None:
        assert_problem(operator.get(f"/api{path}"), 404)

    @pytest.mark.parametrize(
        "path", ["/payments", "/subscriptions", "/reconciliation/cases", f"/payments/{UUID(int=7)}"]
    )
    def test_only_operators_see_them(self, client: FlaskClient, path: str) -> None:
        assert_problem(client.get(f"/api{path}"), 401)


class TestPurchase:
    """POST /api/payments: a person confirms the first payment at the provider."""

    @pytest.fixture
    def begin(self, operator: FlaskClient, clock: Clock) -> Callable[..., dict[str, Any]]:
        def begun(package_id: int, **changes: Any) -> dict[str, Any]:
            body = {"customer": "shopper-1", "package_id": package_id, "return_url": RETURN_URL}
            answer = operator.post("/api/payments", json=body | changes)
            assert answer.status_code == 201, answer.get_json()
            told: dict[str, Any] = answer.get_json()
            return told

        return begun

    def confirm(self, simulator: SimulatorClient, told: dict[str, Any]) -> None:
        page = told["confirmation_url"].removeprefix(simulator.base_url)
        answer = simulator.call("GET", page)
        assert (answer.status, answer.headers["Location"]) == (302, RETURN_URL)

    def test_after_the_notice_it_is_paid_and_renews_by_itself(
        self,
        operator: FlaskClient,
        simulator: SimulatorClient,
        api_url: str,
        begin: Callable[..., dict[str, Any]],
        new_package: NewPackage,
        clock: Clock,
        run: Run,
    ) -> None:
        webhook = {"webhook_url": f"{api_url}/api/payments/webhooks/yookassa", "webhook_times": 2}
        simulator.control("PUT", "/yookassa/settings", webhook | {"default": "succeeded"})

        told = begin(new_package())

        assert told.keys() == {"status", "payment_id", "state", "confirmation_url"}
        assert told["state"] == "pending"
        self.confirm(simulator, told)
        path = f"/api/payments/{told['payment_id']}"
        deadline = time.monotonic() + 10
        while (payment := operator.get(path).get_json()["data"])["state"] == "pending":
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert (payment["state"], payment["trigger"]) == ("succeeded", "purchase")
        assert day(payment["period_end"]) == END.date()

        clock.set_to(END)
        run("autopayments-run", "--inline")
        path = f"/api/subscriptions/{payment['subscription_id']}"
        subscription = operator.get(path).get_json()["data"]
        assert [one["state"] for one in subscription["payments"]] == ["succeeded", "succeeded"]
        assert subscription["current_period_start"] == payment["period_end"]

    def test_without_a_notice_it_is_asked_for(
        self,
        operator: FlaskClient,
        simulator: SimulatorClient,
        begin: Callable[..., dict[str, Any]],
        new_package: NewPackage,
        clock: Clock,
        run: Run,
    ) -> None:
        told = begin(new_package(), customer="external:shopper-2")
        self.confirm(simulator, told)
        clock.advance(minutes=3)

        run("match-pending-payments-run", "--inline")

        payment = operator.get(f"/api/payments/{told['payment_id']}").get_json()["data"]
        assert payment["state"] == "succeeded"
        assert payment["subscription_id"] is not None

    def test_one_that_nobody_confirms_expires(
        self,
        operator: FlaskClient,
        begin: Callable[..., dict[str, Any]],
        new_package: NewPackage,
        clock: Clock,
        run: Run,
    ) -> None:
        told = begin(new_package())
        clock.advance(days=7, hours=1)

        run("expire-payments-run", "--inline")

        payment = operator.get(f"/api/payments/{told['payment_id']}").get_json()["data"]
        assert payment["state"] == "expired"
        assert operator.get("/api/subscriptions").get_json()["data"] == []

    def test_a_company_may_be_the_customer(
        self,
        simulator: SimulatorClient,
        begin: Callable[..., dict[str, Any]],
        shop: Shop,
        new_package: NewPackage,
        clock: Clock,
        run: Run,
    ) -> None:
        self.confirm(simulator, begin(new_package(), customer=f"company:{shop.id}"))
        clock.advance(minutes=3)

        run("match-pending-payments-run", "--inline")

        assert shop.get("/check")["state"] == "active"
        assert [one["trigger"] for one in shop.get(f"/{shop.id}/payments")["data"]] == ["purchase"]

    @pytest.mark.parametrize(
        ("changes", "status", "field"),
        [
            ({"customer": ""}, 400, "customer"),
            ({"customer": "company:999"}, 400, "customer"),
            ({"customer": "robot:1"}, 400, "customer"),
            ({"customer": "external:"}, 400, "customer"),
            ({"customer": "x" * 300}, 400, "customer"),
            ({"package_id": 999}, 404, "package_id"),
            ({"package_id": 0}, 400, "package_id"),
            ({"return_url": "shop"}, 400, "return_url"),
            ({"return_url": "javascript:alert(1)"}, 400, "return_url"),
            ({"return_url": "https://x.example\r\nSet-Cookie: a=b"}, 400, "return_url"),
            ({"amount": 1}, 400, "amount"),
        ],
    )
    def test_what_cannot_be_bought_is_refused_and_leaves_nothing(
        self,
        operator: FlaskClient,
        new_package: NewPackage,
        changes: dict[str, Any],
        status: int,
        field: str,
    ) -> None:
        body = {"customer": "shopper", "package_id": new_package(), "return_url": RETURN_URL}

        assert_problem(operator.post("/api/payments", json=body | changes), status, field)
        assert operator.get("/api/payments").get_json()["data"] == []

    @pytest.mark.parametrize("status", [400, 401])
    def test_what_was_not_taken_is_begun_by_the_same_request_once_that_is_mended(
        self,
        operator: FlaskClient,
        new_package: NewPackage,
        simulator: SimulatorClient,
        status: int,
    ) -> None:
        simulator.add_fault("/yookassa/v3/payments", status=status, times=1)
        body = {"customer": "shopper", "package_id": new_package(), "return_url": RETURN_URL}
        key = {"Idempotency-Key": "order-17"}
        assert_problem(operator.post("/api/payments", json=body, headers=key), 402, "payment_id")

        begun = [operator.post("/api/payments", json=body, headers=key) for _ in range(2)]

        assert [answer.status_code for answer in begun] == [201, 201]
        first, again = (answer.get_json()["payment_id"] for answer in begun)
        assert first == again

    def test_what_the_provider_does_not_take_is_a_problem_and_is_kept(
        self, operator: FlaskClient, new_package: NewPackage, simulator: SimulatorClient
    ) -> None:
        simulator.add_fault("/yookassa/v3/payments", status=400, times=1)
        body = {"customer": "shopper", "package_id": new_package(), "return_url": RETURN_URL}

        problem = assert_problem(operator.post("/api/payments", json=body), 402, "payment_id")

        [payment] = operator.get("/api/payments").get_json()["data"]
        assert problem["errors"]["payment_id"] == [payment["id"]]
        assert (payment["state"], "400" in payment["reason"]) == ("canceled", True)
        shown = operator.get(f"/api/payments/{payment['id']}")
        assert shown.get_json()["data"]["state"] == "canceled"
        assert operator.post("/api/payments", json=body).status_code == 201

    def test_an_inactive_package_is_not_sold(
        self, operator: FlaskClient, new_package: NewPackage
    ) -> None:
        package_id = new_package(status="inactive")
        body = {"customer": "shopper", "package_id": package_id, "return_url": RETURN_URL}

        assert_problem(operator.post("/api/payments", json=body), 400, "package_id")

    @pytest.mark.parametrize(
        "notice",
        [
            {},
            {"event": "payment.succeeded"},
            {"event": "payment.succeeded", "object": {"id": ""}},
            {"event": "payment.succeeded", "object": {"id": 7}},
            {"event": "payment.succeeded", "object": {"id": "../../me"}},
            {"event": "refund.succeeded", "object": {"id": "2d"}},
            {"event": "payment.succeeded", "object": "2d"},
        ],
    )
    def test_what_is_no_notice_is_refused(self, client: FlaskClient, notice: Any) -> None:
        assert_problem(client.post("/api/payments/webhooks/yookassa", json=notice), 400)

    def test_a_forged_notice_changes_nothing(
        self,
        client: FlaskClient,
        operator: FlaskClient,
        begin: Callable[..., dict[str, Any]],
        new_package: NewPackage,
    ) -> None:
        told = begin(new_package())
        path = f"/api/payments/{told['payment_id']}"
        payment = operator.get(path).get_json()["data"]
        for external_id in (payment["external_id"], str(UUID(int=8))):
            forged = {
                "event": "payment.succeeded",
                "object": {"id": external_id, "status": "succeeded"},
            }
            answer = client.post("/api/payments/webhooks/yookassa", json=forged)
            assert answer.status_code == 200

        assert operator.get(path).get_json()["data"]["state"] == "pending"


class TestCases:
    @pytest.fixture
    def case(
        self, operator: FlaskClient, simulator: SimulatorClient, clock: Clock, run: Run
    ) -> dict[str, Any]:
        """A payment at the provider that names nothing of ours."""
        added = {"amount": "10.00", "status": "succeeded"}
        simulator.control("POST", "/yookassa/payments", added)
        clock.advance(minutes=1)
        run("reconcile", "--since", "1h")
        run("reconcile", "--since", "1h")
        [found] = operator.get("/api/reconciliation/cases").get_json()["data"]
        shown: dict[str, Any] = found
        return shown

    def test_a_difference_is_one_open_case_with_its_evidence(self, case: dict[str, Any]) -> None:
        assert (case["kind"], case["state"]) == ("paid_there_missing_here", "open")
        assert case["payment_id"] is None
        assert case["evidence"]["here"] is None
        assert case["evidence"]["there"]["amount"] == "10.00"
        assert case["evidence"]["there"]["external_id"] == case["external_id"]
        assert case["resolved_at"] is None

    def test_a_case_is_resolved_with_a_note(
        self, operator: FlaskClient, ids: Ids, case: dict[str, Any]
    ) -> None:
        path = f"/api/reconciliation/cases/{case['id']}/resolve"

        resolved = operator.post(path, json={"note": "Paid back by hand."}).get_json()["data"]

        assert (resolved["state"], resolved["note"]) == ("resolved", "Paid back by hand.")
        assert resolved["resolved_at"] is not None
        assert ids("/reconciliation/cases?state=open") == []
        assert ids("/reconciliation/cases?state=resolved") == [case["id"]]
        assert ids("/reconciliation/cases?kind=paid_there_missing_here") == [case["id"]]
        assert ids("/reconciliation/cases?kind=amount_differs") == []

    def test_a_case_is_not_resolved_in_silence(
        self, operator: FlaskClient, ids: Ids, case: dict[str, Any]
    ) -> None:
        path = f"/api/reconciliation/cases/{case['id']}/resolve"

        for body in ({}, {"note": ""}, {"note": None}, {"note": "x" * 2001}):
            assert_problem(operator.post(path, json=body), 400, "note")
        assert_problem(operator.post(path, json={"note": "x", "state": "open"}), 400, "state")
        missing = operator.post("/api/reconciliation/cases/999/resolve", json={"note": "x"})
        assert_problem(missing, 404)
        assert ids("/reconciliation/cases?state=open") == [case["id"]]
