"""Anything in any order: whatever befalls the engine, nobody pays twice and nothing is lost.

HYPOTHESIS_PROFILE=prove searches for long.
"""

from collections import Counter
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

from flask import Flask
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import text

from project.billing.models import Customer, Payment
from project.billing.payments.charging import Autopayment
from project.billing.payments.inquiry import ExpiringInquiry, PendingInquiry
from project.billing.payments.webhooks import hear_notice
from project.billing.reconciliation import matching
from project.billing.states import COUNTED_TRIGGERS
from project.billing.subscriptions.service import expire_some
from project.core.db.transaction import transaction
from project.core.errors import AppError, Conflict
from project.core.work import pump
from project.extensions import db
from tests.billing.conftest import START, StandingTime, Told
from tests.billing.desk import (
    Desk,
    call_provider,
    claim_charges,
    end_leases,
    record_charges,
)
from tests.billing.memory_provider import (
    LOST_AFTER_THE_WORK,
    LOST_BEFORE_THE_WORK,
    MemoryProvider,
)

TABLES = ("reconciliation_cases", "payments", "subscriptions", "customers", "packages", "events")
OUTCOMES = [
    "succeeded",
    "canceled:insufficient_funds",
    "canceled:card_expired",
    "pending",
]
TROUBLES = [None, LOST_AFTER_THE_WORK, LOST_BEFORE_THE_WORK]
RECKONED = timedelta(days=4000)
A_SECOND = timedelta(seconds=1)
customer_numbers = st.integers(0, 7)


class Billing(RuleBasedStateMachine):
    """The engine over Postgres, a provider in memory, and a clock that only goes forward."""

    attempts = Bundle("attempts")
    answered = Bundle("answered")

    def __init__(self, desk: Desk, memory: MemoryProvider, told: Told, clock: StandingTime) -> None:
        super().__init__()
        self.desk = desk
        self.memory = memory
        self.told = told
        self.clock = clock
        told.changes.clear()
        told.settled.clear()
        memory.__init__()  # type: ignore[misc]
        with transaction():
            for table in TABLES:
                db.session.execute(text(f"DELETE FROM {table}"))
        self._set_clock(START)
        self.packages = [
            desk.package(),
            desk.package(price=500, period="week", retry_attempts=2),
            desk.package(price=7_000, at_retry_end="cancel", retry_attempts=1),
        ]
        self.customers: list[Customer] = []
        self.prices: Counter[str] = Counter()
        for package in (0, 1):
            self.new_customer(package, has_method=True)

    def _set_clock(self, moment: datetime) -> None:
        self.clock.moment = moment

    def _customer(self, number: int) -> Customer:
        return self.customers[number % len(self.customers)]

    # --- What customers do ---

    @rule(package=st.integers(0, 2), has_method=st.booleans())
    def new_customer(self, package: int, has_method: bool) -> None:
        if len(self.customers) < 4:
            customer = self.desk.customer(method=has_method, provider="memory")
            self.customers.append(customer)
            self.desk.give(customer, self.packages[package])

    @rule(number=customer_numbers, package=st.integers(0, 2))
    def take_package(self, number: int, package: int) -> None:
        try:
            self.desk.give(self._customer(number), self.packages[package])
        except Conflict:
            db.session.rollback()

    @rule(number=customer_numbers)
    def cancel(self, number: int) -> None:
        sub = self._newest_subscription(number)
        try:
            self.desk.cancel(sub)
        except AppError:
            db.session.rollback()

    @rule(number=customer_numbers)
    def pay_now(self, number: int) -> None:
        try:
            self.desk.pay_now(self._newest_subscription(number))
        except AppError:
            db.session.rollback()

    @rule(number=customer_numbers, package=st.integers(0, 2))
    def purchase(self, number: int, package: int) -> None:
        self.desk.purchase(self._customer(number), self.packages[package])

    def _newest_subscription(self, number: int) -> int:
        with transaction() as session:
            found = session.execute(
                text("SELECT max(id) FROM subscriptions WHERE customer_id = :id"),
                {"id": self._customer(number).id},
            )
            return int(found.scalar_one())

    # --- What the provider does ---

    @rule(number=customer_numbers, outcomes=st.lists(st.sampled_from(OUTCOMES), max_size=4))
    def script(self, number: int, outcomes: list[str]) -> None:
        customer = self._customer(number)
        if customer.payment_method_id is not None:
            self.memory.scripts[customer.payment_method_id].extend(outcomes)

    @rule(troubles=st.lists(st.sampled_from(TROUBLES), min_size=1, max_size=3))
    def order_trouble(self, troubles: list[str | None]) -> None:
        self.memory.trouble.extend(troubles)

    @rule(hours=st.integers(0, 90))
    def outage(self, hours: int) -> None:
        """Every job runs, and none of them hears from the provider."""
        self.memory.is_down = True
        for by in (0, hours):
            self._set_clock(self.clock.now() + timedelta(hours=by))
            self.charge()
            self.match_pending()
            self.expire_payments()
        self.memory.is_down = False

    @rule(which=st.integers(0, 50), outcome=st.sampled_from(OUTCOMES[:3]), is_told=st.booleans())
    def settle_pending(self, which: int, outcome: str, is_told: bool) -> None:
        pending = [one for one in self.memory.books.values() if one.status == "pending"]
        if pending:
            external_id = pending[which % len(pending)].external_id
            self.memory.settle(external_id, outcome)
            if is_told and not self.memory.is_down:
                hear_notice("memory", {"event": "payment.succeeded", "object": {"id": external_id}})

    @rule(which=st.lists(st.integers(0, 50), min_size=1, max_size=3), doubled=st.booleans())
    def notices(self, which: list[int], doubled: bool) -> None:
        ids = list(self.memory.books)
        for number in which * (1 + doubled):
            if ids:
                notice = {"event": "payment.canceled", "object": {"id": ids[number % len(ids)]}}
                try:
                    hear_notice("memory", notice)
                except AppError:
                    assert self.memory.is_down

    # --- What workers do ---

    @rule()
    def charge(self) -> None:
        pump.run(Autopayment())
        self._again_is_nothing(lambda: pump.run(Autopayment()))

    @rule(target=attempts, limit=st.integers(1, 3))
    def claim(self, limit: int) -> Any:
        return multiple(*claim_charges(limit))

    @rule(target=answered, attempt=consumes(attempts))
    def call(self, attempt: Any) -> Any:
        return (attempt, call_provider(attempt))

    @rule(result=answered)
    def record(self, result: Any) -> None:
        record_charges([result])

    @rule()
    def lose_the_dead(self) -> None:
        end_leases()

    @rule()
    def match_pending(self) -> None:
        pump.run(PendingInquiry())
        self._again_is_nothing(lambda: pump.run(PendingInquiry()))

    @rule()
    def expire_payments(self) -> None:
        pump.run(ExpiringInquiry())
        if not self.memory.is_down:
            self._again_is_nothing(lambda: pump.run(ExpiringInquiry()))

    @rule()
    def expire_subscriptions(self) -> None:
        self._expire()
        self._again_is_nothing(self._expire)

    def _expire(self) -> None:
        with transaction():
            while expire_some():
                pass

    @rule()
    def match_successful(self) -> None:
        if not self.memory.is_down:
            self._reconcile()
            self._again_is_nothing(self._reconcile)

    def _reconcile(self) -> None:
        now = self.clock.now()
        matching.reconcile(self.memory, now - RECKONED, now + A_SECOND)

    def _again_is_nothing(self, job: Any) -> None:
        before = self._everything()
        job()
        assert self._everything() == before

    def _everything(self) -> list[Any]:
        with transaction() as session:
            return [
                session.execute(text(f"SELECT * FROM {table} ORDER BY id")).all()
                for table in ("payments", "subscriptions", "reconciliation_cases")
            ]

    # --- Time ---

    @rule(hours=st.integers(1, 23))
    def hours_go_by(self, hours: int) -> None:
        self._set_clock(self.clock.now() + timedelta(hours=hours))

    @rule(
        hours=st.integers(0, 12),
        outcome=st.sampled_from(OUTCOMES),
        troubles=st.lists(st.sampled_from(TROUBLES), max_size=2),
    )
    def the_next_charge_comes_due(self, hours: int, outcome: str, troubles: list[Any]) -> None:
        """Without this most runs would be over before anything is to be paid."""
        with transaction() as session:
            due_at = session.execute(text("SELECT min(due_at) FROM subscriptions")).scalar()
        if due_at is not None and due_at > self.clock.now():
            self._set_clock(due_at + timedelta(hours=hours))
        for customer in self.customers:
            if customer.payment_method_id is not None:
                self.memory.scripts[customer.payment_method_id].appendleft(outcome)
        self.memory.trouble.extendleft(troubles)
        self.charge()

    @rule(outcome=st.sampled_from(["pending", "succeeded"]), which=st.integers(0, 50))
    def a_yes_that_comes_too_late(self, outcome: str, which: int) -> None:
        """Nobody hears of it until the payment and its subscription have expired."""
        self.the_next_charge_comes_due(1, outcome, [LOST_AFTER_THE_WORK] * 4)
        self.memory.is_down = True
        self.a_week_without_an_answer()
        self.memory.is_down = False
        self.pay_now(which)
        self.settle_pending(which, "succeeded", is_told=True)

    @rule()
    def a_week_without_an_answer(self) -> None:
        """What is pending expires, and so does what was to be paid by it."""
        self._set_clock(self.clock.now() + timedelta(days=8))
        self.expire_payments()
        self.expire_subscriptions()

    @rule(days=st.integers(1, 40), is_charged=st.booleans())
    def days_go_by(self, days: int, is_charged: bool) -> None:
        self._set_clock(self.clock.now() + timedelta(days=days))
        if is_charged:
            self.charge()

    # --- What always holds ---

    def _payments(self, state: str) -> list[Any]:
        with transaction() as session:
            statement = text(
                "SELECT p.*, s.ended_at FROM payments p LEFT JOIN subscriptions s"
                " ON s.id = p.subscription_id WHERE p.state = :state ORDER BY p.period_start, p.id"
            )
            return list(session.execute(statement, {"state": state}))

    @invariant()
    def nobody_pays_twice(self) -> None:
        there = Counter(one.metadata["payment_id"] for one in self.memory.paid())
        assert all(count == 1 for count in there.values())

    @invariant()
    def what_succeeded_here_was_paid_there_for_periods_that_follow_each_other(self) -> None:
        there = {one.external_id: one.amount for one in self.memory.paid()}
        paid: dict[int, list[Any]] = {}
        for payment in self._payments("succeeded"):
            assert there[payment.external_id] == payment.amount
            assert payment.subscription_id is not None
            paid.setdefault(payment.subscription_id, []).append(payment)
        for payments in paid.values():
            for one, following in pairwise(payments):
                assert one.period_start < one.period_end <= following.period_start
            assert payments[-1].ended_at == payments[-1].period_end

    @invariant()
    def one_payment_is_under_way_for_a_subscription(self) -> None:
        pending = Counter(one.subscription_id for one in self._payments("pending"))
        pending.pop(None, None)
        assert all(count == 1 for count in pending.values())

    @invariant()
    def what_is_exhausted_had_its_tries(self) -> None:
        refused = [one for one in self.told.settled if one.state == "canceled"]
        for change in self.told.changes:
            if change.type == "exhausted":
                last = [
                    one
                    for one in refused
                    if one.subscription_id == change.subscription_id
                    and one.occurred_at == change.occurred_at
                    and one.trigger in COUNTED_TRIGGERS
                ]
                assert [one.is_final for one in last] == [True]
                assert last[0].reason == "card_expired" or last[0].attempt >= self._tries(last[0])

    def _tries(self, settled: Any) -> int:
        with transaction() as session:
            package = session.get_one(Payment, settled.payment_id).package_id
        return {self.packages[0]: 3, self.packages[1]: 2, self.packages[2]: 1}[package]

    def teardown(self) -> None:
        """When all is repaired and reconciled, both books say the same."""
        self.memory.is_down = False
        self.memory.trouble.clear()
        end_leases()
        self._reconcile()
        there = {one.external_id: one.amount for one in self.memory.paid()}
        here = {
            one.external_id: one.amount for one in self.desk.payments() if one.state == "succeeded"
        }
        assert here == there
        assert all(state == "resolved" for _, state in self.desk.cases())
        self._again_is_nothing(self._reconcile)
        self.what_succeeded_here_was_paid_there_for_periods_that_follow_each_other()
        self._same_sums()

    def _same_sums(self) -> None:
        there: Counter[str] = Counter()
        for one in self.memory.paid():
            there[one.metadata["customer"]] += one.amount
        names = {one.id: f"external:{one.reference}" for one in self.customers}
        here: Counter[str] = Counter()
        for payment in self._payments("succeeded"):
            here[names[payment.customer_id]] += payment.amount
        assert here == there


def test_nothing_is_doubled_or_lost_whatever_happens(
    app: Flask,
    desk: Desk,
    memory: MemoryProvider,
    told: Told,
    profile: settings,
    standing_time: StandingTime,
) -> None:
    run_state_machine_as_test(lambda: Billing(desk, memory, told, standing_time), settings=profile)
