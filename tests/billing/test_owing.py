"""Take, cancel, pay, gift, refusals and time in any order: all agree on what runs and is owed.

HYPOTHESIS_PROFILE=prove searches for long.
"""

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from flask import Flask
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import text

from project.billing.customers.service import existing_customer
from project.billing.payments import service as payments
from project.billing.payments.charging import Autopayment
from project.billing.subscription_state import standings
from project.billing.subscriptions.service import expire_ended, expire_some
from project.companies import packages as company_packages
from project.companies.service import register_company
from project.core import clock as product_clock
from project.core.db.transaction import transaction
from project.core.errors import AppError
from project.core.work import pump
from project.extensions import db
from tests.billing.conftest import START
from tests.billing.desk import Desk
from tests.billing.memory_provider import MemoryProvider

TABLES = (
    *("subscription_periods", "reconciliation_cases", "payments", "subscriptions"),
    *("given_sites", "company_tokens", "companies", "customers", "packages", "events"),
)
OUTCOMES = ("succeeded", "canceled:insufficient_funds", "canceled:card_expired")
PACKAGES: tuple[dict[str, Any], ...] = (
    {"period": "month"},
    {"period": "week", "price": 400, "retry_attempts": 2, "at_retry_end": "cancel"},
    {"period": "day", "price": 90, "retry_attempts": 1},
)
NOTHING_OWED, PAY_FIRST = "Nothing is owed", "Pay for the next period"


class _Undone(Exception):
    """Takes back what was only tried."""


class Owing(RuleBasedStateMachine):
    """One company, three packages, a card, an operator, and a clock that goes forward."""

    moment = START

    def __init__(self, desk: Desk, memory: MemoryProvider) -> None:
        super().__init__()
        self.memory = memory
        memory.__init__()  # type: ignore[misc]
        Owing.moment = START + timedelta(hours=11, minutes=40)
        with transaction():
            for table in TABLES:
                db.session.execute(text(f"DELETE FROM {table}"))
        self.packages = [desk.package(**changes) for changes in PACKAGES]
        values = {
            "site_url": "https://loom.example",
            "name": "Ada",
            "lastname": "Byron",
            "company_name": "Looms",
            "email": "ada@loom.example",
        }
        with transaction():
            company, _, _ = register_company(values, "a quiet loom in spring")
            company.state = "active"
            customer = existing_customer(company.customer_id)
            customer.provider = memory.name
            db.session.flush()
            self.company_id, self.customer_id = company.id, customer.id
            self.card = customer.payment_method_id or ""

    # --- What people do ---

    @rule(which=st.integers(0, 2), by_operator=st.booleans())
    def take(self, which: int, by_operator: bool) -> None:
        self._try(lambda: self._take(which, by_operator=by_operator))

    def _take(self, which: int, *, by_operator: bool = False) -> None:
        company_packages.assign(self.company_id, self.packages[which], by_operator=by_operator)

    @rule()
    def cancel(self) -> None:
        self._try(lambda: company_packages.cancel(self.company_id))

    def _try(self, act: Callable[[], object]) -> None:
        try:
            with transaction():
                act()
        except AppError:
            pass

    @rule(outcome=st.sampled_from(OUTCOMES))
    def pay(self, outcome: str) -> None:
        self.memory.default = outcome
        try:
            company_packages.pay(self.company_id, by_operator=False)
        except AppError:
            return
        assert self._company_state() == "active", "whoever has paid is served"

    @rule(which=st.integers(0, 2))
    def buy(self, which: int) -> None:
        with transaction():
            customer = existing_customer(self.customer_id)
            attempt = payments.begin_purchase(customer, self.packages[which], "https://x.example/")
        begun = payments.draw_now(attempt)
        self.memory.settle(str(begun.external_id), "succeeded")
        payments.draw_now(type(attempt)(begun, "", attempt.installation, attempt.claim_id))

    # --- What time brings ---

    @rule(outcome=st.sampled_from(OUTCOMES))
    def charge(self, outcome: str) -> None:
        self.memory.default = outcome
        pump.run(Autopayment())

    @rule(minutes=st.sampled_from([1, 20, 239, 1440, 4000, 20_000]))
    def time_goes_by(self, minutes: int) -> None:
        Owing.moment += timedelta(minutes=minutes)

    @rule(outcome=st.sampled_from(OUTCOMES), before=st.booleans())
    def a_charge_falls_due(self, outcome: str, before: bool) -> None:
        """Go to the next charge, and to the end of what runs or the hours before it."""
        with transaction() as session:
            due_at = session.execute(text("SELECT min(due_at) FROM subscriptions")).scalar()
        if due_at is not None:
            Owing.moment = max(Owing.moment, due_at)
            self.charge(outcome)
        if not before:
            Owing.moment += timedelta(days=1)

    @rule(nightly=st.booleans())
    def expire(self, nightly: bool) -> None:
        with transaction():
            while (expire_some if nightly else expire_ended)():
                pass
        running = self._rows("SELECT * FROM subscriptions WHERE state IN ('canceled', 'past_due')")
        assert all(one.due_at is not None or one.ended_at > Owing.moment for one in running)

    # --- What always holds ---

    def _rows(self, statement: str) -> list[Any]:
        with transaction() as session:
            return list(session.execute(text(statement)))

    def _company_state(self) -> str:
        [row] = self._rows("SELECT state FROM companies")
        return str(row.state)

    def _refusal_of(self, act: Callable[[], object]) -> str | None:
        """Return in what words something is refused now; None if it is not."""
        try:
            with transaction():
                act()
                raise _Undone
        except _Undone:
            return None
        except AppError as error:
            return error.detail

    def _refusals(self) -> tuple[str | None, str | None]:
        def pay() -> None:
            payments.begin_retry(existing_customer(self.customer_id), payments.Trigger.RETRY_ADMIN)

        taken = [self._refusal_of(lambda which=which: self._take(which)) for which in range(3)]
        least = next((one for one in taken if one is None or PAY_FIRST in one), taken[0])
        return self._refusal_of(pay), least

    @invariant()
    def nobody_is_sent_from_one_to_the_other(self) -> None:
        paying, taking = self._refusals()
        if taking is not None and PAY_FIRST in taking:
            assert paying is None or NOTHING_OWED not in paying
        if self._company_state() == "passive":
            assert paying is None, "there is a way back"
        if paying is not None and NOTHING_OWED in paying:
            assert self._period_now() is not None, "what is not owed is given or paid for"

    @invariant()
    def take_and_pay_answer_by_what_is_owed(self) -> None:
        """Compare with the table of docs/billing.md, row by row."""
        [row] = self._rows("SELECT * FROM subscriptions ORDER BY id DESC LIMIT 1") or [None]
        if row is None:
            return
        paying, taking = self._refusals()
        is_over = row.ended_at <= Owing.moment
        may_pay = is_over or row.state == "past_due" or row.exhausted_at is not None
        must_pay_first = may_pay and row.due_at is None
        assert (paying is None) == may_pay, paying
        assert (taking is not None and PAY_FIRST in taking) == must_pay_first, taking
        if row.state == "past_due" and row.due_at is not None:
            assert row.due_at > row.refused_at, "it is not tried again at once"

    @invariant()
    def what_is_shown_is_what_was_given_for_now(self) -> None:
        with transaction() as session:
            ids = session.execute(text("SELECT max(id) FROM subscriptions")).scalar()
            shown = standings([ids], Owing.moment)[ids] if ids else None
        given = self._period_now()
        if given is None:
            assert shown is None or shown.period_end <= Owing.moment
            assert shown is None or shown.state != "canceled"
            return
        assert shown is not None
        assert (shown.package_id, shown.period_start) == (given.package_id, given.period_start)
        assert shown.period_start <= Owing.moment < shown.period_end <= shown.paid_until
        assert shown.state in ("active", "past_due", "canceled")
        assert self._company_state() != "passive", "no hour that was given is taken away"

    def _period_now(self) -> Any:
        found = [
            one
            for one in self._rows("SELECT * FROM subscription_periods")
            if one.period_start <= Owing.moment < one.period_end
        ]
        assert len(found) <= 1
        return found[0] if found else None

    @invariant()
    def periods_follow_each_other_and_each_payment_has_one(self) -> None:
        periods = self._rows("SELECT * FROM subscription_periods ORDER BY period_start")
        for one, following in pairwise(periods):
            assert one.period_end <= following.period_start
        paid = self._rows("SELECT id, period_start FROM payments WHERE state = 'succeeded'")
        given = {one.payment_id: one.period_start for one in periods if one.payment_id}
        assert given == {one.id: one.period_start for one in paid}


CHECKS: tuple[Callable[[Owing], None], ...] = (
    Owing.nobody_is_sent_from_one_to_the_other,
    Owing.take_and_pay_answer_by_what_is_owed,
    Owing.what_is_shown_is_what_was_given_for_now,
    Owing.periods_follow_each_other_and_each_payment_has_one,
)
REFUSED, REFUSED_FOR_GOOD = "canceled:insufficient_funds", "canceled:card_expired"
Step = Callable[[Owing], None]


def _falls_due(outcome: str, *, before: bool) -> Step:
    return lambda machine: machine.a_charge_falls_due(outcome, before)


def _take(which: int, *, by_operator: bool = False) -> Step:
    return lambda machine: machine.take(which, by_operator)


def _pay(outcome: str) -> Step:
    return lambda machine: machine.pay(outcome)


def _a_day_goes_by(machine: Owing) -> None:
    machine.time_goes_by(1440)
    machine.expire(False)


HISTORIES: dict[str, tuple[Step, ...]] = {
    "refused for good before the end, and paid after it": (
        *(_take(0), _falls_due(REFUSED_FOR_GOOD, before=True), _take(2)),
        *(lambda machine: machine.expire(True), _a_day_goes_by, _take(1), _pay("succeeded")),
    ),
    "canceled at the last refusal, and paid before the end": (
        *(_take(1), _falls_due(REFUSED, before=True), Owing.cancel, _take(1)),
        *(_falls_due(REFUSED, before=True), _pay(REFUSED_FOR_GOOD), _pay("succeeded")),
    ),
    "gone and come back between two tries": (
        *(_take(0), _falls_due(REFUSED, before=True), Owing.cancel, _take(0)),
        *(lambda machine: machine.charge("succeeded"), _a_day_goes_by, _take(2)),
    ),
    "passive, and given a package by an operator": (
        *(_take(2), _falls_due(REFUSED, before=False), _a_day_goes_by),
        *(_take(0, by_operator=True), Owing.cancel, _falls_due("succeeded", before=False)),
    ),
}


@pytest.fixture
def machine(
    app: Flask, desk: Desk, memory: MemoryProvider, standing_still: None
) -> Iterator[Owing]:
    """A machine that is driven by hand."""
    with app.app_context():
        yield Owing(desk, memory)


@pytest.fixture
def standing_still(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the product, and the provider in memory, go by the machine's moment."""

    def now(*_: object) -> datetime:
        return Owing.moment

    monkeypatch.setattr(product_clock, "now", now)
    monkeypatch.setattr(MemoryProvider, "now", now)


@pytest.mark.parametrize("history", HISTORIES)
def test_known_histories_agree_step_by_step(machine: Owing, history: str) -> None:
    for step in HISTORIES[history]:
        step(machine)
        for check in CHECKS:
            check(machine)


def test_all_actions_agree_on_what_runs_and_what_is_owed(
    app: Flask,
    desk: Desk,
    memory: MemoryProvider,
    profile: settings,
    standing_still: None,
) -> None:
    # Every step asks the company what it may do; a few short histories take long enough.
    short = settings(profile, max_examples=profile.max_examples // 3, stateful_step_count=12)
    wanted = profile if profile.max_examples > 100 else short
    with app.app_context():
        run_state_machine_as_test(lambda: Owing(desk, memory), settings=wanted)
