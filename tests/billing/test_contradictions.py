"""What the provider says against what is recorded here, and what cannot be read at all."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from flask.testing import FlaskClient

from project.billing.jobs import charge_due, match_pending, match_successful
from project.billing.payments.webhooks import hear_notice
from project.billing.reconciliation import matching
from project.billing.reconciliation.repairs import Repairs
from simulator.client import SimulatorClient
from tests.billing.desk import Desk, close_to
from tests.billing.memory_provider import LOST_BEFORE_THE_WORK, MemoryProvider
from tests.time_machine import Clock

END = datetime(2027, 2, 15, 10, tzinfo=UTC)


def charged(desk: Desk, clock: Clock, *outcomes: str) -> int:
    """A subscription at YooKassa that has been charged once."""
    sub = desk.subscription(*outcomes)
    clock.set_to(END)
    charge_due()
    return sub


def at_end(desk: Desk, clock: Clock, memory: MemoryProvider) -> int:
    """A subscription at the provider in memory whose period is over."""
    sub = desk.subscription(provider="memory")
    move(clock, memory, END)
    return sub


def move(clock: Clock, memory: MemoryProvider, to: datetime) -> None:
    clock.set_to(to)
    memory.offset = to - datetime.now(UTC)


def tamper(desk: Desk, sub: int, **changes: Any) -> str:
    external_id = desk.payments(sub)[0].external_id
    assert external_id is not None
    desk.simulator.control("PATCH", f"/yookassa/payments/{external_id}", changes)
    return external_id


def notice_of(external_id: str) -> dict[str, Any]:
    return {"event": "payment.succeeded", "object": {"id": external_id}}


@pytest.mark.parametrize(
    ("here", "status", "kind"),
    [
        ("canceled:insufficient_funds", "succeeded", "paid_there_pending_here"),
        ("succeeded", "canceled", "paid_here_unpaid_there"),
    ],
)
def test_a_notice_that_contradicts_what_is_final_is_an_open_case(
    desk: Desk, clock: Clock, here: str, status: str, kind: str
) -> None:
    sub = charged(desk, clock, here)
    before = desk.states(sub)
    external_id = tamper(desk, sub, status=status)
    for _ in range(2):
        hear_notice("yookassa", notice_of(external_id))
    assert desk.states(sub) == before
    assert desk.cases() == [(kind, "open")]


@pytest.mark.parametrize("status", ["canceled", "pending"])
def test_paid_here_and_not_paid_there_is_found_by_the_comparison(
    desk: Desk, clock: Clock, status: str
) -> None:
    sub = charged(desk, clock)
    tamper(desk, sub, status=status)
    assert match_successful() == 1
    assert desk.states(sub) == ["succeeded"]
    assert desk.cases() == [("paid_here_unpaid_there", "open")]


def test_what_was_seen_in_the_listing_is_not_asked_for_by_id(desk: Desk, clock: Clock) -> None:
    for _ in range(3):
        desk.subscription()
    clock.set_to(END)
    charge_due()
    fault = desk.simulator.add_fault("/yookassa/v3/payments/*", status=500)
    assert match_successful() == 0
    [shown] = desk.simulator.control("GET", "/faults")["faults"]
    assert (shown["id"], shown["hits"]) == (fault, 0)


@pytest.mark.parametrize(
    "spoilt",
    [
        {"status": "half_done"},
        {"amount": {"value": "a lot", "currency": "RUB"}},
        {"created_at": "yesterday"},
        {"id": None},
    ],
    ids=str,
)
def test_a_payment_that_cannot_be_read_is_a_case_and_spoils_no_other(
    desk: Desk, clock: Clock, operator: FlaskClient, spoilt: dict[str, Any]
) -> None:
    order = {"amount": "990.00", "status": "succeeded"}
    metadata = {"customer": "external:c", "package_id": str(desk.package())}
    good = desk.simulator.control("POST", "/yookassa/payments", order | {"metadata": metadata})
    bad = desk.simulator.control("POST", "/yookassa/payments", order)
    listing = {"type": "list", "items": [bad | spoilt, good, "no payment at all"]}
    body = json.dumps(listing)
    for _ in range(2):
        with desk.trouble("/yookassa/v3/payments", body=body):
            match_successful()
    assert desk.states() == ["succeeded"]
    assert sorted(desk.cases()) == [
        ("paid_there_missing_here", "resolved"),
        ("unreadable_there", "open"),
        ("unreadable_there", "open"),
    ]
    path = "/api/reconciliation/cases?kind=unreadable_there"
    said = [case["evidence"]["there"]["said"] for case in operator.get(path).get_json()["data"]]
    assert '"no payment at all"' in said


def test_an_answer_about_ours_that_cannot_be_read_is_a_case(desk: Desk, clock: Clock) -> None:
    sub = charged(desk, clock, "pending")
    body = json.dumps({"id": desk.payments(sub)[0].external_id, "status": "half_done"})
    clock.advance(minutes=3)
    with desk.trouble("/yookassa/v3/payments/*", body=body):
        match_pending()
    assert desk.states(sub) == ["pending"]
    assert desk.cases() == [("unreadable_there", "open")]


def test_one_bad_payment_does_not_hold_up_its_page(
    desk: Desk, clock: Clock, memory: MemoryProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    move(clock, memory, clock.now())
    package = str(desk.package())
    for number in range(5):
        metadata = {"customer": f"external:c-{number}", "package_id": package}
        memory.add(99_000, "RUB", metadata, "succeeded")
    repair = Repairs._of_missing

    def break_off(self: Any, item: Any, *known: Any) -> Any:
        kind = repair(self, item, *known)
        if item.metadata["customer"] == "external:c-2":
            raise RuntimeError("a bug")
        return kind

    monkeypatch.setattr(Repairs, "_of_missing", break_off)
    end = clock.now()
    report = matching.reconcile(memory, end - timedelta(hours=1), end)
    assert (report.failed, len(desk.payments())) == (1, 4)
    monkeypatch.undo()
    assert matching.reconcile(memory, end - timedelta(hours=1), end).failed == 0
    assert desk.states() == ["succeeded"] * 5


def test_every_provider_with_books_is_compared_and_one_that_is_away_holds_up_no_other(
    desk: Desk, clock: Clock, memory: MemoryProvider
) -> None:
    move(clock, memory, clock.now())
    metadata = {"customer": "external:c", "package_id": str(desk.package())}
    memory.add(99_000, "RUB", metadata, "succeeded")
    with desk.trouble("/yookassa/v3/*", status=500):
        assert match_successful() == 1
    assert [payment.provider for payment in desk.payments()] == ["memory"]


def test_a_provider_without_a_listing_is_asked_by_our_id_only(
    desk: Desk, clock: Clock, memory: MemoryProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "has_listing", False)
    monkeypatch.setattr(memory, "page", None)
    sub = at_end(desk, clock, memory)
    memory.trouble.append(LOST_BEFORE_THE_WORK)
    charge_due()
    [payment] = desk.payments(sub)
    memory.books[str(payment.id)] = memory.books[
        memory.add(payment.amount, payment.currency, {}, "succeeded")
    ]
    assert match_successful() == 0
    move(clock, memory, END + timedelta(minutes=3))
    match_pending()
    assert desk.states(sub) == ["succeeded"]


def test_what_never_reached_the_provider_is_charged_anew_before_it_expires(
    desk: Desk, clock: Clock, memory: MemoryProvider
) -> None:
    sub = at_end(desk, clock, memory)
    memory.is_down = True
    charge_due()
    for hours in (12, 23):
        move(clock, memory, END + timedelta(hours=hours))
        match_pending()
        charge_due()
    memory.is_down = False
    move(clock, memory, END + timedelta(hours=25))
    match_pending()
    assert desk.states(sub) == ["expired"]
    assert desk.read(sub).state == "active"
    assert charge_due() == 1
    assert desk.states(sub) == ["expired", "succeeded"]
    assert close_to(desk.read(sub).ended_at, datetime(2027, 3, 15, 10, tzinfo=UTC))
    assert len(memory.paid()) == 1


def test_books_that_cannot_be_read_to_the_end_prove_nothing_absent(
    desk: Desk, clock: Clock, memory: MemoryProvider
) -> None:
    sub = at_end(desk, clock, memory)
    memory.trouble.append(LOST_BEFORE_THE_WORK)
    charge_due()
    memory.is_down = True
    move(clock, memory, END + timedelta(hours=30))
    match_pending()
    assert desk.states(sub) == ["pending"]


def test_payments_that_are_looked_for_together_are_one_reading(
    desk: Desk, clock: Clock, simulator: SimulatorClient
) -> None:
    for _ in range(20):
        desk.subscription()
    clock.set_to(END)
    with desk.trouble("/yookassa/v3/payments", drop="after"):
        charge_due()
    assert set(desk.states()) == {"pending"}
    clock.advance(minutes=3)
    fault = simulator.add_fault("/yookassa/v3/payments", delay_seconds=0.01)
    match_pending()
    shown = simulator.control("GET", "/faults")["faults"]
    assert [one["hits"] for one in shown if one["id"] == fault] == [1]
    assert set(desk.states()) == {"succeeded"}
