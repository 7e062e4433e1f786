"""The provider's notices: a hint to ask, never believed by themselves."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from flask.testing import FlaskClient

from project.billing.jobs import charge_due, expire_payments
from tests.billing.conftest import Told
from tests.billing.desk import Desk, call_provider, claim_charges, record_charges
from tests.time_machine import Clock

END = datetime(2027, 2, 15, 10, tzinfo=UTC)
Notify = Callable[..., int]


@pytest.fixture
def notify(client: FlaskClient) -> Notify:
    """Send a notice and return the status of its answer."""

    def send(external_id: Any, event: str = "payment.succeeded", **more: Any) -> int:
        body = {"type": "notification", "event": event, "object": {"id": external_id, **more}}
        return client.post("/api/payments/webhooks/yookassa", json=body).status_code

    return send


@pytest.fixture
def pending(desk: Desk, clock: Clock) -> int:
    """A subscription whose charge is pending at the provider."""
    sub = desk.subscription("pending")
    clock.set_to(END)
    charge_due()
    return sub


def settle(desk: Desk, sub: int, status: str, **why: str) -> str:
    external_id = str(desk.payments(sub)[0].external_id)
    path = f"/yookassa/payments/{external_id}/settle"
    desk.simulator.control("POST", path, {"status": status, **why})
    return external_id


def test_a_notice_of_a_success_renews(desk: Desk, pending: int, notify: Notify, told: Told) -> None:
    assert notify(settle(desk, pending, "succeeded")) == 200
    assert desk.states(pending) == ["succeeded"]
    assert told.types() == ["renewed"]


def test_a_notice_of_a_refusal_counts_it(desk: Desk, pending: int, notify: Notify) -> None:
    external_id = settle(desk, pending, "canceled", reason="insufficient_funds")
    assert notify(external_id, "payment.canceled") == 200
    assert desk.states(pending) == ["canceled"]
    assert (desk.read(pending).state, desk.read(pending).refusals) == ("past_due", 1)


def test_doubled_and_out_of_order_notices_change_nothing_that_is_final(
    desk: Desk, pending: int, notify: Notify, told: Told
) -> None:
    external_id = settle(desk, pending, "succeeded")
    for event in ("payment.canceled", "payment.succeeded", "payment.canceled", "payment.succeeded"):
        assert notify(external_id, event) == 200
    assert desk.states(pending) == ["succeeded"]
    assert told.types() == ["renewed"]
    assert len(told.settled) == 1


def test_a_notice_is_not_believed(desk: Desk, pending: int, notify: Notify) -> None:
    [payment] = desk.payments(pending)
    assert notify(payment.external_id, status="succeeded", paid=True) == 200
    assert desk.states(pending) == ["pending"]


@pytest.mark.parametrize(
    "forged",
    ["2cb6b1a0-000f-5000-8000-18db351245c7", "../payments", "a/b", "x" * 65, "", None, 5, [], "é"],
    ids=repr,
)
def test_a_forged_id_does_nothing(desk: Desk, pending: int, notify: Notify, forged: object) -> None:
    assert notify(forged) in (200, 400)
    assert desk.states(pending) == ["pending"]


@pytest.mark.parametrize("body", [{}, {"event": "payment.succeeded"}, {"object": {"id": "1"}}])
def test_what_is_no_notice_is_a_bad_request(client: FlaskClient, body: dict[str, Any]) -> None:
    assert client.post("/api/payments/webhooks/yookassa", json=body).status_code == 400


@pytest.mark.parametrize("fault", [{"status": 500}, {"drop": "before"}, {"body": "x"}])
def test_while_the_provider_is_down_it_is_asked_to_send_the_notice_again(
    desk: Desk, pending: int, notify: Notify, fault: dict[str, Any]
) -> None:
    external_id = settle(desk, pending, "succeeded")
    with desk.trouble("/yookassa/v3/*", **fault):
        assert notify(external_id) == 503
    assert desk.states(pending) == ["pending"]
    assert notify(external_id) == 200
    assert desk.states(pending) == ["succeeded"]


def test_a_late_notice_revives_an_expired_payment(
    desk: Desk, clock: Clock, pending: int, notify: Notify
) -> None:
    clock.advance(days=8)
    expire_payments()
    assert desk.states(pending) == ["expired"]
    assert notify(settle(desk, pending, "succeeded")) == 200
    assert desk.states(pending) == ["succeeded"]


def test_a_notice_before_the_answer_is_recorded_once(
    desk: Desk, clock: Clock, notify: Notify, told: Told
) -> None:
    sub = desk.subscription()
    clock.set_to(END)
    [attempt] = claim_charges()
    word = call_provider(attempt)
    assert notify(word.external_id) == 200
    assert desk.states(sub) == ["succeeded"]
    record_charges([(attempt, word)])
    assert told.types() == ["assigned", "renewed"]
    assert charge_due() == 0


def test_a_notice_of_somebody_elses_payment_is_left_to_reconciliation(
    desk: Desk, clock: Clock, notify: Notify
) -> None:
    order = {"amount": "5.00", "status": "succeeded"}
    added = desk.simulator.control("POST", "/yookassa/payments", order)
    assert notify(added["id"]) == 200
    assert (desk.payments(), desk.cases()) == ([], [])
