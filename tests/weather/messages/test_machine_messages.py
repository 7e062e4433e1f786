"""Whatever happens in whatever order: one message a day at most, never unpaid, never after STOP.

Days pass, the carrier refuses, hangs and loses answers, gateways do, workers die between any two
steps, receipts come doubled and out of order, people leave, come back and say STOP.
"""

from collections import Counter, defaultdict
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from flask import Flask
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import delete, select

from project.billing.models import Payment
from project.billing.payments.charging import PromptAutopayment
from project.billing.queries import is_paid
from project.billing.subscriptions.service import expire_some
from project.core import clock as product_clock
from project.core.db.transaction import transaction
from project.core.net import http_client
from project.weather import billing_sync, local_time
from project.weather.messages import jobs, service
from project.weather.messages.delivery import MessageDelivery
from project.weather.models import Message, Subscriber
from project.weather.states import MESSAGE_MOVES, MessageState
from tests.time_machine import Clock
from tests.weather.messages.station import Station, end_leases, rested_out

START = datetime(2027, 3, 25, 9, tzinfo=UTC)
ZONES = ("Europe/Moscow", "Asia/Tokyo", "America/New_York", "Europe/Berlin")
NUMBERS = st.integers(0, len(ZONES) - 1)
CARRIER = st.sampled_from(["charged", "refused", "refused:barred", "error", "drop"])
GATEWAY = st.sampled_from(["accepted", "rejected", "busy", "undeliverable"])
FORECASTS = st.sampled_from(["Sun", "NULL", ""])
SENDING = st.sampled_from(["sent", "sent", "dies before", "dies after", "not sent"])
WAITS = st.sampled_from([60, 400, 3600, 6 * 3600, 11 * 3600, 24 * 3600])


class Machine(RuleBasedStateMachine):
    """Four numbers in four time zones."""

    station: Station
    clock: Clock
    rounds = 0

    @initialize()
    def begin(self) -> None:
        type(self).rounds += 1
        self.station.simulator.reset()
        self.station.silence_receipts()
        self.clock.set_to(START + timedelta(days=40 * type(self).rounds))
        rested_out()
        base = 1000 + type(self).rounds * 10
        self.numbers = [
            self.station.subscribe(f"+7901{base + n:04d}001", zone=zone)
            for n, zone in enumerate(ZONES)
        ]
        self.station.bill()
        self.stopped: dict[str, datetime] = {}
        self.states: dict[Any, MessageState] = {}

    def teardown(self) -> None:
        if hasattr(self, "numbers"):
            with transaction() as session:
                for number in self.numbers:
                    self.station.change(number, state="stopped", next_message_at=None)
                session.flush()
            end_leases()
            jobs.follow_plans()

    @rule(seconds=WAITS, ends=SENDING)
    def work_is_done_later(self, seconds: int, ends: str) -> None:
        self.time_passes(seconds)
        self.work_is_done(True, ends)

    @rule(is_billed=st.booleans(), ends=SENDING)
    def work_is_done(self, is_billed: bool, ends: str) -> None:
        """Bill, make and send; the worker that sends may die before or after it has."""
        if is_billed:
            self.station.bill()
        jobs.make_messages()
        if ends == "sent":
            self.station.send()
        if ends.startswith("dies"):
            self._die(after_sending=ends == "dies after")

    @rule(seconds=WAITS)
    def answers_are_lost_for_a_while(self, seconds: int) -> None:
        """Gateways take what they get and say nothing, and it is tried again after that."""
        self.time_passes(0)
        self.station.bill()
        jobs.make_messages()
        self.station.simulator.add_fault("/sms/*", drop="after")
        self.station.send()
        self.station.simulator.control("DELETE", "/faults")
        self.time_passes(min(seconds, 3600))
        self.station.send()

    @rule(ends=SENDING)
    def somebody_triggers(self, ends: str) -> None:
        with transaction():
            service.begin_run()
        self.work_is_done(False, ends)

    def _die(self, *, after_sending: bool) -> None:
        work = MessageDelivery()
        with transaction():
            sendings = work.claim(10)
        for sending in sendings if after_sending else []:
            http_client.start(work.call(sending)).result()
        end_leases()

    @rule(seconds=WAITS)
    def time_passes(self, seconds: int) -> None:
        self.clock.advance(seconds=seconds)
        rested_out()

    @rule(number=NUMBERS, outcomes=st.lists(CARRIER, min_size=1, max_size=3))
    def carrier_will(self, number: int, outcomes: list[str]) -> None:
        self.station.carrier_script(self.numbers[number], *outcomes)

    @rule(number=NUMBERS, outcomes=st.lists(GATEWAY, min_size=1, max_size=3))
    def gateway_will(self, number: int, outcomes: list[str]) -> None:
        self.station.script(self.numbers[number], *outcomes)

    @rule(where=st.sampled_from(["/sms/*", "/carrier/billing"]), times=st.integers(1, 3))
    def answers_are_lost(self, where: str, times: int) -> None:
        self.station.simulator.add_fault(where, drop="after", times=times)

    @rule()
    def carrier_is_asked(self) -> None:
        self.station.inquire()

    @rule()
    def ended_subscriptions_expire(self) -> None:
        with transaction():
            expire_some()

    @rule()
    def worker_dies_in_a_charge(self) -> None:
        work = PromptAutopayment()
        with transaction():
            attempts = work.claim(10)
        for attempt in attempts:
            http_client.start(work.call(attempt)).result()
        end_leases()

    @rule(number=NUMBERS, state=st.sampled_from(["canceled", "active"]), ends=SENDING)
    def somebody_leaves_or_returns(self, number: int, state: str, ends: str) -> None:
        """Messages may have been made for them already."""
        jobs.make_messages()
        msisdn = self.numbers[number]
        if msisdn not in self.stopped:
            self.station.change(msisdn, state=state)
        self.work_is_done(False, ends)

    @rule(number=NUMBERS, ends=SENDING)
    def somebody_is_deleted_and_added_again(self, number: int, ends: str) -> None:
        msisdn = self.numbers[number]
        if msisdn not in self.stopped:
            gone = self.station.subscriber(msisdn)
            with transaction() as session:
                billing_sync.end_billing_now([gone.customer_id])
                session.execute(delete(Subscriber).where(Subscriber.id == gone.id))
            self.station.subscribe(msisdn, zone=ZONES[number])
        self.work_is_done(True, ends)

    @rule(text=FORECASTS)
    def forecast_changes(self, text: str) -> None:
        self.station.forecast(1, text, text)

    @rule()
    def what_is_paid_is_served_when_all_is_well(self) -> None:
        """Whoever has a paid period in the morning or by day has today's message soon."""
        self.station.simulator.control("DELETE", "/faults")
        self.station.forecast()
        for number in self.numbers:
            self.station.script(number)
        for _ in range(4):
            end_leases()
            rested_out()
            self.station.inquire()
            self.station.day()
            self.clock.advance(minutes=6)
        now = product_clock.now()
        for number, zone in zip(self.numbers, ZONES, strict=True):
            if self._is_to_be_served(number, zone, now):
                today = local_time.local_date(zone, now)
                found = [one for one in self.station.messages(number) if one.local_date == today]
                assert any(_may_be_sent(one) for one in found), (
                    number,
                    [one.last_error for one in found],
                )

    def _is_to_be_served(self, msisdn: str, zone: str, now: datetime) -> bool:
        begun = now - timedelta(minutes=24)
        by_day = [not local_time.is_quiet(zone, at) for at in (begun, now)]
        periods = self._paid_periods()[msisdn]
        is_paid = any(start <= begun and now < end for start, end in periods)
        return all(by_day) and is_paid and self.station.subscriber(msisdn).state == "active"

    @rule(number=NUMBERS, is_under_way=st.booleans(), ends=SENDING)
    def somebody_says_stop(self, number: int, is_under_way: bool, ends: str) -> None:
        """A worker may have died with the message in its hands."""
        self.work_is_done(True, "dies before" if is_under_way else "not sent")
        msisdn = self.numbers[number]
        with transaction():
            service.hear_inbound(msisdn, "STOP")
        self.stopped.setdefault(msisdn, product_clock.now())
        self.work_is_done(True, ends)

    @rule(
        number=NUMBERS,
        statuses=st.lists(st.sampled_from(["sent", "delivered", "failed"]), min_size=1, max_size=3),
    )
    def receipts_come(self, number: int, statuses: list[str]) -> None:
        for message in self.station.messages(self.numbers[number])[-1:]:
            for status in statuses:
                with transaction():
                    service.hear_receipt(str(message.id), status, "{}")

    @rule()
    def messages_expire(self) -> None:
        jobs.expire_messages()

    @precondition(lambda self: hasattr(self, "numbers"))
    @invariant()
    def one_message_a_day_is_sent_at_most(self) -> None:
        sent: Counter[tuple[str, Any]] = Counter()
        for one in self._sent():
            zone = ZONES[self.numbers.index(one["msisdn"])]
            at = datetime.fromisoformat(one["accepted_at"])
            sent[one["msisdn"], local_time.local_date(zone, at)] += 1
            assert not local_time.is_quiet(zone, at)
        assert all(count == 1 for count in sent.values()), sent

    @precondition(lambda self: hasattr(self, "numbers"))
    @invariant()
    def nothing_is_sent_unpaid(self) -> None:
        paid = self._paid_periods()
        for one in self._sent():
            at = datetime.fromisoformat(one["accepted_at"])
            periods = paid[one["msisdn"]]
            assert any(start <= at < end for start, end in periods), (one, periods)

    @precondition(lambda self: hasattr(self, "numbers"))
    @invariant()
    def what_is_paid_here_was_charged_there_once(self) -> None:
        items = self.station.simulator.control("GET", "/carrier/charges?limit=1000")["items"]
        charged = Counter(one["key"] for one in items if one["status"] == "charged")
        assert all(count == 1 for count in charged.values())
        for periods in self._paid_periods().values():
            assert all(one[1] <= other[0] for one, other in pairwise(periods))
        with transaction() as session:
            succeeded = session.scalars(select(Payment).where(Payment.state == "succeeded"))
            ours = {str(payment.id) for payment in succeeded if payment.created_at >= self._begun()}
        assert ours <= set(charged)

    @precondition(lambda self: hasattr(self, "numbers"))
    @invariant()
    def the_copy_of_what_is_paid_never_lies(self) -> None:
        now = product_clock.now()
        for number in self.numbers:
            subscriber = self.station.subscriber(number)
            if subscriber.state == "active" and subscriber.billing_due_at is None:
                with transaction() as session:
                    paid = session.scalar(select(is_paid(subscriber.customer_id, now)))
                copied = subscriber.paid_until is not None and subscriber.paid_until > now
                assert copied == paid, (number, subscriber.paid_until)

    @precondition(lambda self: hasattr(self, "numbers"))
    @invariant()
    def nothing_is_sent_after_stop(self) -> None:
        for one in self._sent():
            stopped_at = self.stopped.get(one["msisdn"])
            at = datetime.fromisoformat(one["accepted_at"])
            assert stopped_at is None or at <= stopped_at

    @precondition(lambda self: hasattr(self, "numbers"))
    @invariant()
    def messages_only_move_forward(self) -> None:
        for number in self.numbers:
            for message in self.station.messages(number):
                new = MessageState(message.state)
                assert MESSAGE_MOVES.allows(self.states.get(message.id, new), new)
                self.states[message.id] = new
                assert (message.due_at is None) == (
                    new not in (MessageState.PENDING, MessageState.ACCEPTED)
                )

    def _begun(self) -> datetime:
        return START + timedelta(days=40 * type(self).rounds)

    def _sent(self) -> list[Any]:
        return [one for one in self.station.sent() if one["msisdn"] in self.numbers]

    def _paid_periods(self) -> dict[str, list[tuple[datetime, datetime]]]:
        customers = {self.station.subscriber(one).customer_id: one for one in self.numbers}
        periods: dict[str, list[tuple[datetime, datetime]]] = defaultdict(list)
        with transaction() as session:
            rows = session.scalars(
                select(Payment)
                .where(Payment.customer_id.in_(customers), Payment.state == "succeeded")
                .order_by(Payment.period_start)
                .execution_options(populate_existing=True)
            )
            for one in rows:
                assert one.period_start is not None
                assert one.period_end is not None
                periods[customers[one.customer_id]].append((one.period_start, one.period_end))
        return periods


def _may_be_sent(message: Message) -> bool:
    """Tell whether it was sent, or a gateway said no, which is its word of the day."""
    return not message.never_sent or message.gateway is not None


@pytest.mark.usefixtures("app")
def test_one_message_a_day_never_unpaid_never_after_stop(
    station: Station, clock: Clock, app: Flask, profile: settings
) -> None:
    Machine.station, Machine.clock, Machine.rounds = station, clock, 0
    run_state_machine_as_test(Machine, settings=profile)
    with transaction() as session:
        states = set(session.scalars(select(Message.state)))
    # A machine in which nothing is ever sent would hold anything.
    assert "accepted" in states or "delivered" in states
