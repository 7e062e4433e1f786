"""Reconciliation: each difference is a case, repaired where nothing has to be guessed."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from flask import Flask
from flask.testing import FlaskClient

from project.billing.jobs import charge_due, match_pending, match_successful
from project.billing.models import Payment, Subscription
from project.billing.payments.settlement import apply
from project.billing.providers.listing import BooksUnreadable
from project.billing.providers.registry import provider_named
from project.billing.reconciliation import matching
from project.core import clock as product_clock
from project.core.db.transaction import transaction
from project.core.net import http_client
from tests.billing.desk import PRICE, Desk, close_to
from tests.billing.memory_provider import MemoryProvider
from tests.time_machine import Clock

END = datetime(2027, 2, 15, 10, tzinfo=UTC)
Add = Callable[..., str]


@pytest.fixture
def add(desk: Desk) -> Add:
    """Put a payment into the provider's books that we know nothing of."""

    def put(package_id: int | str, customer: str = "external:stranger", **changes: Any) -> str:
        metadata = {"package_id": str(package_id), "customer": customer} | changes.pop("more", {})
        order = {"amount": "990.00", "status": "succeeded", "metadata": metadata} | changes
        added: dict[str, str] = desk.simulator.control("POST", "/yookassa/payments", order)
        return added["id"]

    return put


def charged(desk: Desk, clock: Clock, *outcomes: str) -> int:
    """A subscription that has been charged once."""
    sub = desk.subscription(*outcomes)
    clock.set_to(END)
    charge_due()
    return sub


def tamper(desk: Desk, sub: int, **changes: Any) -> None:
    path = f"/yookassa/payments/{desk.payments(sub)[0].external_id}"
    desk.simulator.control("PATCH", path, changes)


def test_books_that_agree_make_no_case(desk: Desk, clock: Clock) -> None:
    charged(desk, clock, "succeeded")
    charged(desk, clock, "canceled:insufficient_funds")
    charged(desk, clock, "pending")
    assert match_successful() == 0
    assert desk.cases() == []


def test_paid_there_and_pending_here_is_recorded(desk: Desk, clock: Clock) -> None:
    sub = desk.subscription()
    clock.set_to(END)
    with desk.trouble("/yookassa/v3/payments", drop="after"):
        charge_due()
    assert match_successful() == 1
    assert desk.states(sub) == ["succeeded"]
    assert close_to(desk.read(sub).ended_at, datetime(2027, 3, 15, 10, tzinfo=UTC))
    assert desk.cases() == [("paid_there_pending_here", "resolved")]
    assert match_successful() == 0
    assert len(desk.cases()) == 1


def test_paid_there_and_missing_here_is_made_from_its_metadata(
    desk: Desk, clock: Clock, add: Add
) -> None:
    external_id = add(desk.package(), more={"payment_id": str(uuid4())})
    assert match_successful() == 1
    [payment] = desk.payments()
    assert (payment.state, payment.amount, payment.external_id) == (
        "succeeded",
        PRICE,
        external_id,
    )
    assert payment.subscription_id is not None
    made = desk.read(payment.subscription_id)
    assert (made.state, made.current_period_start, made.ended_at) == (
        "active",
        payment.period_start,
        payment.period_end,
    )
    assert desk.cases() == [("paid_there_missing_here", "resolved")]
    assert match_successful() == 0
    assert (len(desk.payments()), len(desk.cases())) == (1, 1)


def test_a_missing_payment_of_a_known_customer_prolongs_what_runs(
    desk: Desk, clock: Clock, add: Add
) -> None:
    customer, package = desk.customer(), desk.package()
    sub = desk.give(customer, package)
    add(package, f"external:{customer.reference}")
    add(package, f"external:{customer.reference}")
    assert match_successful() == 2
    first, second = sorted(desk.payments(sub), key=lambda one: one.period_start or END)
    assert close_to(first.period_start, END)
    assert first.period_end == second.period_start
    assert desk.read(sub).ended_at == second.period_end


def test_an_expired_subscription_of_the_customer_does_not_hide_the_one_that_runs(
    desk: Desk, add: Add
) -> None:
    customer, package = desk.customer(), desk.package()
    sub = desk.give(customer, package)
    provider, now = provider_named("yookassa"), product_clock.now()
    words = []
    with transaction() as session:
        expired = Subscription(
            customer_id=customer.id,
            package_id=package,
            state="expired",
            anchor_at=END - timedelta(days=62),
            current_period_start=END - timedelta(days=62),
            ended_at=END - timedelta(days=31),
            created_at=END - timedelta(days=62),
        )
        session.add(expired)
        session.flush()
        assert expired.id > sub
        for subscription_id in (expired.id, None):
            external_id = add(package, f"external:{customer.reference}")
            payment = Payment(
                id=uuid4(),
                customer_id=customer.id,
                package_id=package,
                subscription_id=subscription_id,
                state="pending",
                trigger="purchase",
                attempt=1,
                amount=PRICE,
                currency="RUB",
                provider=provider.name,
                external_id=external_id,
                created_at=now,
                due_at=now,
            )
            session.add(payment)
            words.append((payment.id, http_client.start(provider.get(external_id)).result()))

    with transaction():
        apply(words)

    assert [payment.subscription_id for payment in desk.payments()] == [sub, sub]
    assert desk.states() == ["succeeded", "succeeded"]


@pytest.mark.parametrize(
    "metadata",
    [
        {},
        {"package_id": "1"},
        {"customer": "external:x"},
        {"package_id": "987654321", "customer": "external:x"},
        {"package_id": "9" * 40, "customer": "external:x"},
        {"package_id": "-1", "customer": "external:x"},
        {"package_id": "one", "customer": "external:x"},
        {"package_id": "", "customer": ""},
        {"package_id": "1", "customer": "company:12345"},
        {"package_id": "1", "customer": "company:x"},
        {"package_id": "1", "customer": "martian:1"},
        {"package_id": "1", "customer": "external:"},
        {"package_id": "1", "customer": "x" * 300},
    ],
    ids=str,
)
def test_metadata_that_name_nothing_of_ours_leave_an_open_case(
    desk: Desk, clock: Clock, metadata: dict[str, str]
) -> None:
    assert desk.package() == 1
    order = {"amount": "990.00", "status": "succeeded", "metadata": metadata}
    desk.simulator.control("POST", "/yookassa/payments", order)
    assert match_successful() == 1
    assert desk.payments() == []
    assert desk.cases() == [("paid_there_missing_here", "open")]
    match_successful()
    assert len(desk.cases()) == 1


def test_another_amount_for_a_missing_payment_is_left_to_people(
    desk: Desk, clock: Clock, add: Add
) -> None:
    add(desk.package(), amount="989.99")
    add(desk.package(), currency="USD")
    match_successful()
    assert desk.payments() == []
    assert desk.cases() == [("amount_differs", "open")] * 2


@pytest.mark.parametrize("changes", [{"amount": "1.00"}, {"currency": "EUR"}], ids=str)
def test_another_amount_than_ours_is_left_to_people(
    desk: Desk, clock: Clock, changes: dict[str, str]
) -> None:
    sub = charged(desk, clock, "pending")
    tamper(desk, sub, status="succeeded", **changes)
    match_successful()
    clock.advance(minutes=5)
    match_pending()
    assert desk.states(sub) == ["pending"]
    assert desk.cases() == [("amount_differs", "open")]
    clock.advance(hours=2)
    assert (charge_due(), charge_due()) == (1, 0), "it is not asked after without a pause"
    assert desk.states(sub) == ["pending"]


def test_an_amount_that_changed_after_it_was_recorded_is_a_case(desk: Desk, clock: Clock) -> None:
    sub = charged(desk, clock)
    tamper(desk, sub, amount="1.00")
    for _ in range(2):
        match_successful()
    assert desk.states(sub) == ["succeeded"]
    assert desk.cases() == [("amount_differs", "open")]


def test_paid_here_and_unknown_there_is_left_to_people(desk: Desk, clock: Clock) -> None:
    sub = charged(desk, clock)
    external_id = desk.payments(sub)[0].external_id
    desk.simulator.control("DELETE", f"/yookassa/payments/{external_id}")
    for _ in range(2):
        match_successful()
    assert desk.states(sub) == ["succeeded"]
    assert desk.cases() == [("paid_here_unknown_there", "open")]


def test_refused_here_and_paid_there_is_an_open_case(desk: Desk, clock: Clock) -> None:
    sub = charged(desk, clock, "canceled:insufficient_funds")
    tamper(desk, sub, status="succeeded")
    for _ in range(2):
        match_successful()
    assert desk.states(sub) == ["canceled"]
    assert desk.cases() == [("paid_there_pending_here", "open")]


def test_a_second_payment_there_under_our_id_is_an_open_case(
    desk: Desk, clock: Clock, add: Add
) -> None:
    sub = charged(desk, clock)
    [payment] = desk.payments(sub)
    for written in (str(payment.id), str(payment.id).upper()):
        add(payment.package_id, more={"payment_id": written})
    add(payment.package_id, "external:another")
    for _ in range(2):
        match_successful()
    assert len(desk.payments(sub)) == 1
    assert len(desk.payments()) == 2, "what came before it did not hold up the next"
    kind = "paid_there_missing_here"
    assert sorted(desk.cases()) == [(kind, "open"), (kind, "open"), (kind, "resolved")]


def test_characters_that_cannot_be_stored_hold_up_nothing(
    desk: Desk, clock: Clock, add: Add
) -> None:
    package = desk.package()
    add(package, "external:a\0b")
    add(package, "external:c")
    assert match_successful() == 2
    assert desk.states() == ["succeeded"] * 2


def test_a_long_time_of_many_pages_is_read_to_its_end(app: Flask, desk: Desk, clock: Clock) -> None:
    package = desk.package()
    now = clock.now()
    orders = [
        {
            "amount": "990.00",
            "status": "succeeded" if number % 5 else "canceled",
            "created_at": (now - timedelta(hours=number)).isoformat(),
            "metadata": {"package_id": str(package), "customer": f"external:customer-{number}"},
        }
        for number in range(150)
    ]
    desk.simulator.control("POST", "/yookassa/payments", orders)
    for found in ("paid_there_missing_here", "none"):
        ran = app.test_cli_runner().invoke(args=["reconcile", "--since", "30d"])
        assert ran.exit_code == 0, ran.output
        assert "120 payments read" in ran.output
        assert found in ran.output
    assert desk.states() == ["succeeded"] * 120
    assert desk.cases() == [("paid_there_missing_here", "resolved")] * 120


def test_what_is_older_than_the_window_waits_for_a_longer_range(
    desk: Desk, clock: Clock, add: Add
) -> None:
    add(desk.package(), created_at=(clock.now() - timedelta(hours=2)).isoformat())
    assert match_successful() == 0
    end = clock.now()
    provider = provider_named("yookassa")
    assert matching.reconcile(provider, end - timedelta(hours=3), end).cases.total() == 1


def test_books_that_break_off_are_read_again_by_the_next_run(
    desk: Desk, clock: Clock, add: Add
) -> None:
    add(desk.package())
    with desk.trouble("/yookassa/v3/*", status=500):
        assert match_successful() == 0
        with pytest.raises(BooksUnreadable):
            matching.reconcile(provider_named("yookassa"), clock.now(), clock.now())
    assert desk.cases() == []
    assert match_successful() == 1


def test_a_case_is_listed_and_closed_by_an_operator(
    desk: Desk, clock: Clock, operator: FlaskClient
) -> None:
    order = {"amount": "5.00", "status": "succeeded"}
    external_id = desk.simulator.control("POST", "/yookassa/payments", order)["id"]
    match_successful()
    listed = operator.get("/api/reconciliation/cases?state=open").get_json()["data"]
    [case] = listed
    assert (case["kind"], case["external_id"]) == ("paid_there_missing_here", external_id)
    assert case["evidence"]["there"]["amount"] == "5.00"
    path = f"/api/reconciliation/cases/{case['id']}/resolve"
    assert operator.post(path, json={"note": "Paid back"}).status_code == 200
    match_successful()
    assert desk.cases() == [("paid_there_missing_here", "resolved")]


def test_cases_of_another_provider_carry_its_name(
    desk: Desk, clock: Clock, memory: MemoryProvider, operator: FlaskClient
) -> None:
    memory.offset = clock.now() - datetime.now(UTC)
    memory.add(5_00, "RUB", {}, "succeeded")
    end = clock.now()
    matching.reconcile(memory, end - timedelta(hours=1), end)
    [case] = operator.get("/api/reconciliation/cases").get_json()["data"]
    assert case["provider"] == "memory"
