"""Outages of any part over any order of the periodic work, and restores of what was: all pay once.

HYPOTHESIS_PROFILE=prove searches for long.
"""

import json
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from flask import Flask
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import text

from project.billing import installation
from project.billing.payments.charging import Autopayment, LateAutopayment
from project.billing.payments.inquiry import ExpiringInquiry, PendingInquiry
from project.billing.providers.base import Charge, Rejected, Unknown, Unreadable
from project.billing.providers.listing import BooksUnreadable
from project.billing.providers.registry import register_provider
from project.billing.reconciliation import matching
from project.billing.reconciliation.restore import read_books
from project.billing.subscriptions.service import expire_ended, expire_some
from project.core.db.transaction import transaction
from project.core.work import pump
from project.extensions import db
from tests.billing.conftest import START, StandingTime, Told
from tests.billing.desk import Desk, claim_charges, end_leases
from tests.billing.memory_provider import MemoryProvider
from tests.billing.test_machine import TABLES

# What a restore puts back, in the order in which rows may be deleted.
PUT_BACK = ("subscription_periods", "reconciliation_cases", "payments", "subscriptions")
KINDS = ("away", "not taken", "unreadable", "answers lost")


class TroubledProvider(MemoryProvider):
    """A provider in memory that can be away, refuse our requests, or answer what nobody reads."""

    kind: str | None = None

    async def create(self, charge: Charge) -> Any:
        """Draw money, as far as the trouble lets it."""
        if self.kind == "not taken":
            return Rejected("answered 403: no recurring payments")
        made = await super().create(charge)
        if self.kind == "unreadable":
            return Unreadable("answered a page", None, "<html>")
        return Unknown("no answer") if self.kind == "answers lost" else made

    def befall(self, kind: str | None) -> None:
        """Let a trouble begin, or end."""
        self.kind = kind
        self.is_down = kind == "away"


class Outages(RuleBasedStateMachine):
    """Customers whose cards always pay, some after one refusal; nothing else may end them."""

    def __init__(
        self, desk: Desk, provider: TroubledProvider, told: Told, time: StandingTime
    ) -> None:
        super().__init__()
        self.desk, self.provider, self.told, self.time = desk, provider, told, time
        told.changes.clear()
        told.settled.clear()
        provider.__init__()  # type: ignore[misc]
        provider.befall(None)
        time.moment = START
        with transaction():
            for table in ("subscription_periods", *TABLES, "installation"):
                db.session.execute(text(f"DELETE FROM {table}"))
        with transaction():
            assert installation.hold() is None
        self.jobs: list[Callable[[], object]] = [
            self._charge,
            self._expire,
            lambda: pump.run(PendingInquiry()),
            lambda: pump.run(ExpiringInquiry()),
            self._reconcile,
            lambda: pump.run(LateAutopayment()),
        ]
        self.subs: list[int] = []
        packages = [desk.package(), desk.package(period="week"), desk.package(period="day")]
        for number, package in enumerate(packages):
            customer = desk.customer(provider="memory")
            if number == 1:
                provider.scripts[customer.payment_method_id or ""].append(
                    "canceled:insufficient_funds"
                )
            self.subs.append(desk.give(customer, package))
        self.backup = self._dump()

    def _charge(self) -> None:
        read_books()
        pump.run(Autopayment())

    def _expire(self) -> None:
        with transaction():
            while expire_some() + expire_ended():
                pass

    def _reconcile(self) -> None:
        read_books()
        now = self.time.now()
        try:
            matching.reconcile(self.provider, now - timedelta(hours=1), now)
        except BooksUnreadable:
            assert self.provider.is_down

    @rule(order=st.permutations(range(6)), hours=st.integers(1, 30))
    def periodic_work(self, order: list[int], hours: int) -> None:
        for number in order:
            self.jobs[number]()
        self.time.moment += timedelta(hours=hours)

    @rule(days=st.integers(1, 9))
    def nobody_of_us_is_there(self, days: int) -> None:
        self.time.moment += timedelta(days=days)

    @rule(kind=st.sampled_from([None, *KINDS]))
    def the_provider_has_trouble(self, kind: str | None) -> None:
        self.provider.befall(kind)

    @rule()
    def a_worker_dies_before_it_calls(self) -> None:
        claim_charges(2)
        end_leases()

    @rule()
    def a_backup_is_made(self) -> None:
        self.backup = self._dump()

    @precondition(lambda self: self.provider.books)
    @rule()
    def the_backup_is_put_back(self) -> None:
        with transaction() as session:
            for table in PUT_BACK:
                session.execute(text(f"DELETE FROM {table}"))
            for table in reversed(PUT_BACK):
                rows = text(
                    f"INSERT INTO {table} SELECT * FROM json_populate_recordset(NULL::{table}, :it)"
                )
                session.execute(rows, {"it": json.dumps(self.backup[table])})
            session.execute(text("UPDATE installation SET timeline = '00000000'"))
        self.told.changes.clear()

    def _dump(self) -> dict[str, list[Any]]:
        with transaction() as session:
            return {
                table: session.scalar(
                    text(f"SELECT coalesce(json_agg(t), '[]'::json) FROM {table} t")
                )
                for table in PUT_BACK
            }

    @invariant()
    def nobody_pays_twice_for_a_period(self) -> None:
        paid = Counter(
            (one.metadata["customer"], one.metadata["period_start"]) for one in self.provider.paid()
        )
        assert all(count == 1 for count in paid.values()), paid

    @invariant()
    def nobody_is_ended(self) -> None:
        assert {change.type for change in self.told.changes} <= {"renewed", "past_due", "assigned"}
        assert {self.desk.read(sub).state for sub in self.subs} <= {"active", "past_due"}

    def teardown(self) -> None:
        """When all is well again, everybody has paid within three days, and is served."""
        self.provider.befall(None)
        end_leases()
        for _ in range(9):
            for job in self.jobs:
                job()
            self.time.moment += timedelta(hours=8)
        for job in self.jobs:
            job()
        self.nobody_pays_twice_for_a_period()
        self.nobody_is_ended()
        now = self.time.now()
        for sub in self.subs:
            found = self.desk.read(sub)
            assert (found.state, found.ended_at > now) == ("active", True), found.due_at


def test_outages_and_restores_cost_time_and_nobody(
    app: Flask,
    desk: Desk,
    memory: MemoryProvider,
    told: Told,
    profile: settings,
    standing_time: StandingTime,
) -> None:
    provider = TroubledProvider()
    register_provider(provider)
    bounded = settings(profile, max_examples=min(profile.max_examples, 6), stateful_step_count=16)
    wanted = profile if profile.max_examples > 100 else bounded
    run_state_machine_as_test(lambda: Outages(desk, provider, told, standing_time), settings=wanted)
