"""What people decide about a case, and what a later try, link or notice keeps to."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import text

from project.billing.jobs import (
    charge_due,
    expire_payments,
    expire_subscriptions,
    match_pending,
    match_successful,
)
from project.billing.providers.base import NotThere, Unreadable
from project.billing.providers.yookassa import read_payment
from project.core.db.transaction import transaction
from project.core.errors import ServiceUnavailable
from tests.billing.conftest import Told
from tests.billing.desk import PRICE, Desk, close_to
from tests.billing.memory_provider import MemoryProvider
from tests.time_machine import Clock

END = datetime(2027, 2, 15, 10, tzinfo=UTC)
REFUSED = "canceled:insufficient_funds"
CREATE = "/yookassa/v3/payments"


def decide(operator: FlaskClient, decision: str) -> int:
    [case] = operator.get("/api/reconciliation/cases?state=open").get_json()["data"]
    path = f"/api/reconciliation/cases/{case['id']}/resolve"
    return operator.post(path, json={"note": "Looked at", "decision": decision}).status_code


def test_another_amount_may_be_accepted_and_is_then_what_was_paid(
    desk: Desk, clock: Clock, operator: FlaskClient
) -> None:
    sub = desk.subscription("pending")
    clock.set_to(END)
    charge_due()
    path = f"/yookassa/payments/{desk.payments(sub)[0].external_id}"
    desk.simulator.control("PATCH", path, {"status": "succeeded", "amount": "891.00"})
    clock.advance(days=8)
    match_successful()
    match_pending()
    expire_payments()
    expire_subscriptions()
    assert (desk.states(sub), desk.read(sub).state) == (["pending"], "active")

    assert decide(operator, "accept") == 200

    [payment] = desk.payments(sub)
    assert (payment.state, payment.amount) == ("succeeded", 89_100)
    assert close_to(desk.read(sub).ended_at, datetime(2027, 3, 15, 10, tzinfo=UTC))
    match_successful()
    assert [state for _, state in desk.cases()] == ["resolved"]


@pytest.mark.parametrize(("decision", "states"), [("accept", ["succeeded"]), ("drop", ["expired"])])
def test_an_answer_that_nobody_can_read_is_decided_by_people_for_all_who_got_it(
    desk: Desk,
    clock: Clock,
    memory: MemoryProvider,
    operator: FlaskClient,
    decision: str,
    states: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[Any] = []

    async def answer(charge: Any) -> Unreadable:
        asked.append(charge.payment_id)
        return Unreadable("says done", None, '{"state": "done"}')

    async def nowhere(_external_id: str) -> NotThere:
        return NotThere()

    monkeypatch.setattr(memory, "has_listing", False)
    monkeypatch.setattr(memory, "create", answer)
    monkeypatch.setattr(memory, "get", nowhere)
    subs = [desk.subscription(provider="memory") for _ in range(2)]
    clock.set_to(END)
    for _ in range(40):
        charge_due()
        match_pending()
        expire_payments()
        expire_subscriptions()
        clock.advance(hours=6)
    assert len(asked) == len(subs), "such a request is never sent again"
    assert [desk.states(sub) for sub in subs] == [["pending"]] * 2
    assert {desk.read(sub).state for sub in subs} == {"active"}
    assert desk.cases() == [("unreadable_there", "open")]

    assert decide(operator, decision) == 200

    assert [desk.states(sub) for sub in subs] == [states] * 2


def test_a_case_without_a_payment_cannot_be_decided(
    desk: Desk, clock: Clock, operator: FlaskClient
) -> None:
    desk.simulator.control("POST", "/yookassa/payments", {"amount": "5.00", "status": "succeeded"})
    match_successful()
    assert decide(operator, "accept") == 409
    assert decide(operator, "perhaps") == 400


def test_a_later_try_of_a_period_draws_what_the_first_one_did(desk: Desk, clock: Clock) -> None:
    package = desk.package()
    sub = desk.subscription(REFUSED, REFUSED, package_id=package)
    clock.set_to(END)
    charge_due()
    with transaction() as session:
        session.execute(text("UPDATE packages SET price = price * 2, name = 'Dearer'"))
    assert desk.pay_now(sub).amount == PRICE
    clock.advance(days=1)
    charge_due()
    clock.set_to(datetime(2027, 3, 15, 10, tzinfo=UTC))
    charge_due()

    assert [payment.amount for payment in desk.payments(sub)] == [PRICE] * 3 + [2 * PRICE]
    names = [payment.description for payment in desk.payments(sub)]
    assert len(set(names[:3])) == 1
    assert names[3] == "Dearer"


def test_a_reason_that_is_newer_than_the_sdk_is_kept_as_it_was_said() -> None:
    said = {
        "id": "2f0c0ffe-000f-5000-8000-1db9e1f2a3b4",
        "status": "canceled",
        "paid": False,
        "amount": {"value": "10.00", "currency": "RUB"},
        "created_at": "2027-02-15T03:00:00.000Z",
        "cancellation_details": {"party": "issuer", "reason": "account_frozen_by_court"},
    }
    payment: Any = read_payment(said)
    assert (payment.reason, payment.is_hard) == ("account_frozen_by_court", False)


def begin(operator: FlaskClient, package: int, customer: str = "buyer-1") -> dict[str, Any]:
    body = {"customer": customer, "package_id": package, "return_url": "https://shop.example/"}
    answer = operator.post("/api/payments", json=body)
    assert answer.status_code == 201
    found: dict[str, Any] = answer.get_json()
    return found


def test_two_clicks_are_one_link(desk: Desk, clock: Clock, operator: FlaskClient) -> None:
    package, other = desk.package(), desk.package()
    first = begin(operator, package)
    clock.advance(minutes=20)
    assert begin(operator, package) == first
    assert begin(operator, other)["payment_id"] != first["payment_id"]
    assert begin(operator, package, "buyer-2")["payment_id"] != first["payment_id"]


def test_a_link_that_has_run_out_is_followed_by_another(
    desk: Desk, clock: Clock, operator: FlaskClient
) -> None:
    package = desk.package()
    first = begin(operator, package)
    [payment] = desk.payments()
    path = f"/yookassa/payments/{payment.external_id}/settle"
    order = {"status": "canceled", "reason": "expired_on_confirmation"}
    desk.simulator.control("POST", path, order)

    second = begin(operator, package)

    assert second["payment_id"] != first["payment_id"]
    assert second["confirmation_url"] != first["confirmation_url"]
    assert sorted(desk.states()) == ["canceled", "pending"]


def test_a_link_that_nobody_has_confirmed_is_in_nobodys_way(desk: Desk, clock: Clock) -> None:
    package = desk.package()
    customer = desk.customer(REFUSED)
    sub = desk.give(customer, package)
    clock.set_to(END)
    charge_due()
    desk.purchase(customer, package)
    assert desk.pay_now(sub).state == "succeeded"


def test_what_is_owed_is_not_called_refused_when_nothing_was_asked_of_the_card(
    desk: Desk, clock: Clock, told: Told
) -> None:
    sub = desk.subscription(REFUSED)
    clock.set_to(END)
    charge_due()
    body = json.dumps({"type": "error", "code": "forbidden", "description": "No recurring"})
    with desk.trouble(CREATE, status=403, body=body), pytest.raises(ServiceUnavailable):
        desk.pay_now(sub)
    assert len(told.settled) == 1
    assert desk.cases() == [("not_taken", "open")]
    assert desk.pay_now(sub).state == "succeeded"


def test_a_refused_payment_by_hand_says_that_another_try_follows(
    desk: Desk, clock: Clock, told: Told
) -> None:
    sub = desk.subscription(REFUSED, REFUSED)
    clock.set_to(END)
    charge_due()
    desk.pay_now(sub)
    assert [one.is_final for one in told.settled] == [False, False]


def test_what_was_paid_long_after_it_was_begun_is_found_though_its_notice_was_lost(
    desk: Desk, clock: Clock, operator: FlaskClient
) -> None:
    begin(operator, desk.package())
    [payment] = desk.payments()
    clock.advance(days=9)
    expire_payments()
    assert desk.states() == ["expired"]
    clock.advance(days=3)
    path = f"/yookassa/payments/{payment.external_id}/settle"
    desk.simulator.control("POST", path, {"status": "succeeded"})
    clock.advance(minutes=10)

    match_successful()

    assert desk.states() == ["succeeded"]
    assert match_successful() == 0


def test_a_provider_that_answers_something_else_with_404_has_denied_nothing(
    desk: Desk, clock: Clock
) -> None:
    sub = desk.subscription("pending")
    clock.set_to(END)
    charge_due()
    clock.advance(days=8)
    with desk.trouble("/yookassa/v3/*", status=404, body="<h1>Not Found</h1>"):
        expire_payments()
    assert desk.states(sub) == ["pending"]
    assert clock.now() - END > timedelta(days=7)
