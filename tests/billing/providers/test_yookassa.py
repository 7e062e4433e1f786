"""YooKassa's adapter when the answer is bad, late or missing: it never guesses."""

import json
import time
from datetime import timedelta
from typing import Any

import pytest
from yookassa.domain.models.currency import Currency

from project.billing.providers import listing
from project.billing.providers.base import (
    Page,
    ProviderPayment,
    ProviderStatus,
    Rejected,
    Unknown,
    Unreadable,
)
from project.billing.providers.listing import BooksUnreadable
from project.billing.providers.yookassa import CURRENCIES, HARD_REASONS, YooKassa, read_payment
from simulator.client import SimulatorClient
from tests.billing.providers.conftest import ask, charge, yookassa
from tests.processes import free_port
from tests.time_machine import Clock

PAYMENTS = "/yookassa/v3/payments*"
DEADLINE_SECONDS = 0.5
LATE_SECONDS = 0.8
FAULTS: dict[str, dict[str, Any]] = {
    "500": {"status": 500},
    "503": {"status": 503},
    "429": {"status": 429},
    "409": {"status": 409},
    "201": {"status": 201, "body": "created"},
    "202": {"status": 202},
    "204": {"status": 204},
    "302": {"status": 302, "headers": {"Location": "http://127.0.0.1:1/"}},
    "late": {"delay_seconds": LATE_SECONDS},
    "dropped before the work": {"drop": "before"},
    "dropped after the work": {"drop": "after"},
    "not JSON": {"body": "<html>Maintenance</html>"},
    "cut off": {"body": '{"id": "1", "status": "succee'},
    "a list": {"body": "[]"},
    "null": {"body": "null"},
    "empty": {"body": ""},
    "empty object": {"body": "{}"},
    "deep": {"body": "[" * 5000},
    "too large": {"body_bytes": 5_000_000},
}


def payment(**changes: Any) -> dict[str, Any]:
    """What YooKassa sends of a payment that succeeded."""
    return {
        "id": "2d3f0a10-000f-5000-8000-1a2b3c4d5e6f",
        "status": "succeeded",
        "amount": {"value": "990.00", "currency": "RUB"},
        "created_at": "2027-01-15T10:00:00.000Z",
        "paid": True,
        "metadata": {"payment_id": "x"},
    } | changes


def repair(simulator: SimulatorClient, fault: dict[str, Any]) -> None:
    """Take the faults away, and let what is late come, so that it is not late for another test."""
    simulator.control("DELETE", "/faults")
    if "delay_seconds" in fault:
        time.sleep(LATE_SECONDS - DEADLINE_SECONDS + 0.2)


@pytest.fixture
def provider(simulator: SimulatorClient, clock: Clock) -> YooKassa:
    return yookassa(simulator, deadline=DEADLINE_SECONDS)


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_an_answer_that_says_nothing_is_unknown_and_asking_again_tells(
    provider: YooKassa, simulator: SimulatorClient, fault: dict[str, Any]
) -> None:
    simulator.control("PUT", "/yookassa/methods/card-1", {"then": "succeeded"})
    simulator.add_fault(PAYMENTS, **fault)
    wanted = charge()
    assert isinstance(ask(provider.create(wanted)), Unknown)
    repair(simulator, fault)
    made = ask(provider.create(wanted))
    assert made.status is ProviderStatus.SUCCEEDED
    simulator.add_fault(PAYMENTS, **fault)
    assert isinstance(ask(provider.get(made.external_id)), Unknown)
    repair(simulator, fault)
    assert ask(provider.get(made.external_id)) == made
    summary = simulator.control("GET", "/yookassa/summary")
    assert summary["succeeded_by_payment_id"] == {str(wanted.payment_id): 1}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_books_whose_page_does_not_come_are_not_taken_for_the_whole(
    provider: YooKassa,
    simulator: SimulatorClient,
    clock: Clock,
    fault: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    added = [{"amount": "1.00", "status": "succeeded"} for _ in range(120)]
    simulator.control("POST", "/yookassa/payments", added)
    now = clock.now()
    first_page = provider.page

    async def page_then_trouble(**of: Any) -> Page | Unknown:
        page = await first_page(**of)
        simulator.add_fault(PAYMENTS, **fault)
        return page

    monkeypatch.setattr(provider, "page", page_then_trouble)

    async def read() -> list[Page]:
        reading = listing.pages(provider, now - timedelta(1), now + timedelta(1))
        return [page async for page in reading]

    with pytest.raises(BooksUnreadable):
        ask(read())
    repair(simulator, fault)


@pytest.mark.parametrize(
    ("status", "is_for_people"),
    [
        (200, True),
        (201, True),
        (202, False),
        (204, True),
        (299, True),
        (302, False),
        (408, False),
        (500, False),
    ],
)
def test_an_answer_for_good_that_nobody_can_read_is_told_from_one_for_now(
    provider: YooKassa, simulator: SimulatorClient, status: int, is_for_people: bool
) -> None:
    simulator.add_fault(PAYMENTS, status=status, body="" if status == 204 else "?")

    assert isinstance(ask(provider.create(charge())), Unreadable) is is_for_people


def test_a_provider_that_nobody_reaches_is_unknown(clock: Clock) -> None:
    away = YooKassa(f"http://127.0.0.1:{free_port()}", "shop", "key", deadline_seconds=1)
    assert isinstance(ask(away.create(charge())), Unknown)
    assert isinstance(ask(away.get("1")), Unknown)


def test_wrong_credentials_are_a_request_that_was_not_taken(
    simulator: SimulatorClient, clock: Clock
) -> None:
    nobody = yookassa(simulator, secret="")
    answer = ask(nobody.create(charge()))
    assert isinstance(answer, Rejected)
    assert "401" in answer.reason
    assert isinstance(ask(nobody.get("1")), Unknown)
    assert simulator.control("GET", "/yookassa/payments")["count"] == 0


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 415])
def test_a_refused_request_is_no_refusal_of_the_card(
    provider: YooKassa, simulator: SimulatorClient, status: int
) -> None:
    body = json.dumps({"type": "error", "code": "no", "description": "Not like this"})
    simulator.add_fault(PAYMENTS, status=status, body=body, times=1)
    answer = ask(provider.create(charge()))
    assert isinstance(answer, Rejected)
    assert str(status) in answer.reason
    assert "Not like this" in answer.reason


def test_what_yookassa_would_not_take_is_rejected_with_its_reason(provider: YooKassa) -> None:
    answer = ask(provider.create(charge(amount=10**15)))
    assert isinstance(answer, Rejected)
    assert "Amount" in answer.reason


def test_the_same_key_with_another_body_is_not_a_second_payment(
    provider: YooKassa, simulator: SimulatorClient
) -> None:
    simulator.control("PUT", "/yookassa/methods/card-1", {"then": "succeeded"})
    first = charge()
    ask(provider.create(first))
    again = ask(provider.create(charge(payment_id=first.payment_id, amount=1)))
    assert isinstance(again, Rejected)
    assert simulator.control("GET", "/yookassa/payments")["count"] == 1


@pytest.mark.parametrize("reason", sorted(HARD_REASONS))
def test_hard_reasons_are_told_as_hard(
    provider: YooKassa, simulator: SimulatorClient, reason: str
) -> None:
    order = {"outcomes": [f"canceled:{reason}"]}
    simulator.control("PUT", "/yookassa/methods/card-1", order)
    made = ask(provider.create(charge()))
    assert (made.reason, made.is_hard) == (reason, True)


@pytest.mark.parametrize(
    "changes",
    [
        {"status": "refund_pending"},
        {"status": None},
        {"status": 7},
        {"id": None},
        {"id": 5},
        {"id": ""},
        {"amount": None},
        {"amount": "990.00"},
        {"amount": {"value": "990.00"}},
        {"amount": {"value": "a lot", "currency": "RUB"}},
        {"amount": {"value": "NaN", "currency": "RUB"}},
        {"amount": {"value": "1e1000000", "currency": "RUB"}},
        {"amount": {"value": "9e99999", "currency": "RUB"}},
        {"amount": {"value": "990.001", "currency": "RUB"}},
        {"amount": {"value": 990, "currency": "RUB"}},
        {"amount": {"value": None, "currency": None}},
        {"created_at": None},
        {"created_at": "yesterday"},
        {"created_at": 1},
        {"metadata": "payment"},
        {"metadata": ["payment"]},
        {"cancellation_details": "no"},
    ],
    ids=str,
)
def test_a_payment_that_cannot_be_read_is_unknown(changes: dict[str, Any]) -> None:
    assert isinstance(read_payment(payment()), ProviderPayment)
    assert isinstance(read_payment(payment(**changes)), Unknown)


@pytest.mark.parametrize("said", [None, 1, "payment", [], [[]], True, {}], ids=str)
def test_what_is_no_payment_at_all_is_unknown(said: Any) -> None:
    assert isinstance(read_payment(said), Unknown)


def test_characters_that_no_database_keeps_do_not_come_in() -> None:
    read = read_payment(payment(metadata={"customer": "a\0b"}))
    assert isinstance(read, ProviderPayment)
    assert "\0" not in read.metadata["customer"]


def test_one_unreadable_payment_does_not_spoil_its_page(
    provider: YooKassa, simulator: SimulatorClient, clock: Clock
) -> None:
    items = [payment(), payment(status="refund_pending"), payment(id="another"), 7]
    simulator.add_fault(PAYMENTS, body=json.dumps({"items": items}), times=1)
    page = ask(provider.page(created_from=clock.now(), created_before=clock.now()))
    assert [item.external_id for item in page.items] == [payment()["id"], "another"]
    assert len(page.unreadable) == 2


@pytest.mark.parametrize("cursor", ["", 5, None, {}, []])
def test_a_cursor_that_is_none_ends_the_list(
    provider: YooKassa, simulator: SimulatorClient, clock: Clock, cursor: Any
) -> None:
    body = json.dumps({"items": [], "next_cursor": cursor})
    simulator.add_fault(PAYMENTS, body=body, times=1)
    page = ask(provider.page(created_from=clock.now(), created_before=clock.now()))
    assert page == Page([], [], None)


@pytest.mark.parametrize("items", [None, {}, "x", 5])
def test_a_list_without_items_is_unknown(
    provider: YooKassa, simulator: SimulatorClient, clock: Clock, items: Any
) -> None:
    simulator.add_fault(PAYMENTS, body=json.dumps({"items": items}), times=1)
    page = ask(provider.page(created_from=clock.now(), created_before=clock.now()))
    assert isinstance(page, Unknown)


def test_the_currencies_are_those_of_the_sdk() -> None:
    assert {name for name in vars(Currency) if name.isupper()} == CURRENCIES
