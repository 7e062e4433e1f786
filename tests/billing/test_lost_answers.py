"""Answers that are lost, workers that die, several at once: one payment per period, always."""

import threading
import time
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from flask import Flask
from sqlalchemy import select, text

from project.billing.jobs import (
    charge_due,
    expire_payments,
    expire_subscriptions,
    match_pending,
)
from project.billing.models import Subscription
from project.billing.payments.charging import Autopayment, attempts_for
from project.billing.payments.inquiry import ExpiringInquiry
from project.billing.payments.webhooks import hear_notice
from project.billing.providers.base import Unknown
from project.core import clock as product_clock
from project.core.db.transaction import transaction
from project.core.errors import Conflict
from project.core.work import pump
from project.core.work.claims import Claim
from project.core.work.queues import QueueName, rq_queue
from project.extensions import db
from tests.billing.conftest import Told
from tests.billing.desk import (
    PRICE,
    Desk,
    at_once,
    call_provider,
    claim_charges,
    close_to,
    end_leases,
    record_charges,
)
from tests.conftest import ChangeSettings
from tests.time_machine import Clock

CREATE = "/yookassa/v3/payments"
ANY = "/yookassa/v3/*"
END = datetime(2027, 2, 15, 10, tzinfo=UTC)


def test_an_answer_lost_after_the_work_is_found_again(desk: Desk, clock: Clock, told: Told) -> None:
    sub = desk.subscription()
    clock.set_to(END)
    with desk.trouble(CREATE, drop="after"):
        charge_due()
    [payment] = desk.payments(sub)
    assert (payment.state, payment.external_id) == ("pending", None)
    assert desk.paid_there() == {str(payment.id): 1}
    assert desk.read(sub).state == "active"
    assert charge_due() == 0
    clock.advance(minutes=3)
    assert match_pending() == 1
    assert desk.states(sub) == ["succeeded"]
    assert desk.cases() == [("paid_there_pending_here", "resolved")]
    assert told.types() == ["assigned", "renewed"]
    assert close_to(desk.read(sub).ended_at, datetime(2027, 3, 15, 10, tzinfo=UTC))
    assert (match_pending(), charge_due()) == (0, 0)
    assert desk.paid_there() == {str(payment.id): 1}


@pytest.mark.parametrize("drop", ["before", "after"])
def test_the_next_run_asks_under_the_same_key(desk: Desk, clock: Clock, drop: str) -> None:
    sub = desk.subscription()
    clock.set_to(END)
    with desk.trouble(CREATE, drop=drop):
        charge_due()
    clock.advance(minutes=11)
    assert charge_due() == 1
    [payment] = desk.payments(sub)
    assert payment.state == "succeeded"
    assert desk.paid_there() == {str(payment.id): 1}


def test_a_key_that_the_provider_has_forgotten_is_not_used_again(desk: Desk, clock: Clock) -> None:
    sub = desk.subscription()
    clock.set_to(END)
    with desk.trouble(CREATE, drop="after"):
        charge_due()
    clock.advance(days=2)
    charge_due()
    assert desk.asked_there() == 1
    clock.advance(hours=2)
    assert match_pending() == 1
    assert desk.states(sub) == ["succeeded"]


def test_a_lost_refusal_is_found_and_counted_once(desk: Desk, clock: Clock) -> None:
    sub = desk.subscription("canceled:insufficient_funds")
    clock.set_to(END)
    with desk.trouble(CREATE, drop="after"):
        charge_due()
    clock.advance(minutes=3)
    match_pending()
    assert desk.states(sub) == ["canceled"]
    assert (desk.read(sub).state, desk.read(sub).refusals) == ("past_due", 1)
    clock.advance(days=1)
    charge_due()
    assert desk.states(sub) == ["canceled", "succeeded"]


def test_a_notice_that_is_faster_than_a_lost_answer_brings_no_early_charge(
    desk: Desk, clock: Clock
) -> None:
    sub = desk.subscription()
    clock.set_to(END)
    [attempt] = claim_charges()
    word = call_provider(attempt)
    record_charges([(attempt, word)])
    renewed = desk.read(sub)
    record_charges([(attempt, Unknown("no answer within 15 s"))])
    assert desk.read(sub).due_at == renewed.due_at
    clock.advance(hours=1)
    assert charge_due() == 0
    assert desk.states(sub) == ["succeeded"]


def test_a_resent_charge_that_is_not_taken_may_have_been_paid_before(
    desk: Desk, clock: Clock
) -> None:
    """The same key with another body is refused, though the first one was paid."""
    sub = desk.subscription()
    clock.set_to(END)
    with desk.trouble(CREATE, drop="after"):
        charge_due()
    with transaction():
        db.session.execute(text("UPDATE payments SET description = 'Changed in between'"))
    clock.advance(minutes=11)
    charge_due()
    assert desk.states(sub) == ["pending"]
    clock.advance(hours=2)
    match_pending()
    charge_due()
    [payment] = desk.payments(sub)
    assert payment.state == "succeeded"
    assert desk.paid_there() == {str(payment.id): 1}


def test_a_renamed_package_is_asked_for_again_as_it_was_named_at_first(
    desk: Desk, clock: Clock
) -> None:
    sub = desk.subscription()
    clock.set_to(END)
    with desk.trouble(CREATE, drop="after"):
        charge_due()
    with transaction():
        db.session.execute(text("UPDATE packages SET name = 'Renamed in between', price = 5"))
    clock.advance(minutes=11)
    charge_due()
    [payment] = desk.payments(sub)
    assert (payment.state, payment.amount) == ("succeeded", PRICE)
    assert desk.paid_there() == {str(payment.id): 1}


@pytest.mark.parametrize("fault", [{"status": 500}, {"drop": "before"}, {"body": "<html>"}])
def test_a_provider_that_is_down_for_days_costs_no_try_and_doubles_nothing(
    desk: Desk, clock: Clock, fault: dict[str, object]
) -> None:
    sub = desk.subscription()
    clock.set_to(END)
    desk.simulator.add_fault(ANY, **fault)
    for _ in range(10):
        charge_due()
        match_pending()
        clock.advance(hours=6)
    down = desk.read(sub)
    assert (down.state, down.refusals) == ("active", 0)
    assert desk.states(sub) == ["pending"]
    desk.simulator.control("DELETE", "/faults")
    charge_due()
    match_pending()
    assert desk.asked_there() == 0, "its key may have been forgotten: nothing is sent again"
    clock.advance(days=7)
    assert expire_payments() == 1
    charge_due()
    assert desk.states(sub) == ["expired", "succeeded"]
    assert list(desk.paid_there().values()) == [1]


def test_a_worker_that_dies_before_the_call_leaves_its_payment_to_another(
    desk: Desk, clock: Clock
) -> None:
    sub = desk.subscription()
    clock.set_to(END)
    [attempt] = claim_charges()
    assert claim_charges() == []
    assert charge_due() == 0
    clock.advance(hours=1)
    assert charge_due() == 0, "the lease is in real time"
    end_leases()
    assert charge_due() == 1
    [payment] = desk.payments(sub)
    assert (payment.id, payment.state) == (attempt.payment.id, "succeeded")
    assert desk.paid_there() == {str(attempt.payment.id): 1}


def test_a_worker_that_dies_after_the_call_is_replaced_without_a_second_charge(
    desk: Desk, clock: Clock
) -> None:
    sub = desk.subscription()
    clock.set_to(END)
    [attempt] = claim_charges()
    call_provider(attempt)
    end_leases()
    [again] = claim_charges()
    assert again.payment.id == attempt.payment.id
    record_charges([(again, call_provider(again))])
    assert desk.states(sub) == ["succeeded"]
    assert desk.paid_there() == {str(attempt.payment.id): 1}


def test_a_charge_left_by_a_dead_worker_is_woken_by_the_next_inquiry(
    desk: Desk, clock: Clock
) -> None:
    desk.subscription()
    clock.set_to(END)
    claim_charges()
    end_leases()
    assert woken() == []
    clock.advance(minutes=3)
    match_pending()
    assert "project.billing.jobs.charge_due" in woken()


def woken() -> list[str]:
    return [job.func_name for job in rq_queue(QueueName.MEDIUM).jobs]


def test_a_slow_worker_whose_claim_was_lost_changes_nothing(desk: Desk, clock: Clock) -> None:
    sub = desk.subscription()
    clock.set_to(END)
    [slow] = claim_charges()
    end_leases()
    [quick] = claim_charges()
    word = call_provider(quick)
    record_charges([(quick, word)])
    before = desk.read(sub)
    record_charges([(slow, call_provider(slow))])
    record_charges([(slow, word)])
    after = desk.read(sub)
    assert (after.ended_at, after.due_at, after.state) == (
        before.ended_at,
        before.due_at,
        before.state,
    )
    assert len(desk.payments(sub)) == 1


def test_a_chunk_is_recorded_whole_or_not_at_all(desk: Desk, clock: Clock) -> None:
    sub = desk.subscription()
    clock.set_to(END)
    [attempt] = claim_charges()
    word = call_provider(attempt)

    class Interrupted(Exception):
        pass

    def record_and_break_off() -> None:
        with transaction():
            Autopayment().record([(attempt, word)])
            raise Interrupted

    with pytest.raises(Interrupted):
        record_and_break_off()
    assert desk.states(sub) == ["pending"]
    assert close_to(desk.read(sub).ended_at, END)


def test_pumps_at_once_make_one_payment_per_period(app: Flask, desk: Desk, clock: Clock) -> None:
    package = desk.package()
    subs = [desk.subscription(package_id=package) for _ in range(30)]
    refused = [
        desk.subscription("canceled:insufficient_funds", package_id=package) for _ in range(10)
    ]
    clock.set_to(END + timedelta(minutes=5))
    latency = {"latency_seconds": {ANY: 0.05}}
    desk.simulator.control("PUT", "/settings", latency)

    def charge() -> int:
        work = Autopayment()
        work.armful = 8
        return pump.run(work)

    done = at_once(app, charge, charge, charge)
    assert sum(int(str(count)) for count in done) == 40
    assert desk.asked_there() == 40
    assert set(desk.paid_there().values()) <= {0, 1}
    assert sorted(desk.states()) == ["canceled"] * 10 + ["succeeded"] * 30
    assert {desk.read(sub).state for sub in subs} == {"active"}
    assert {desk.read(sub).state for sub in refused} == {"past_due"}


def test_paying_while_the_workers_charge_is_one_payment(
    app: Flask, desk: Desk, clock: Clock
) -> None:
    sub = desk.subscription("canceled:insufficient_funds")
    clock.set_to(END)
    charge_due()
    clock.advance(days=1)
    desk.simulator.control("PUT", "/settings", {"latency_seconds": {ANY: 0.1}})

    def pay() -> object:
        try:
            return desk.pay_now(sub).state
        except Conflict as conflict:
            return conflict

    at_once(app, charge_due, pay, pay, charge_due)
    assert sum(desk.paid_there().values()) == 1
    assert sorted(desk.states(sub)) == ["canceled", "succeeded"]


def test_nothing_is_paid_by_hand_while_a_payment_is_under_way(desk: Desk, clock: Clock) -> None:
    sub = desk.subscription("canceled:insufficient_funds", "pending")
    clock.set_to(END)
    charge_due()
    clock.advance(days=1)
    charge_due()
    assert desk.states(sub) == ["canceled", "pending"]
    with pytest.raises(Conflict):
        desk.pay_now(sub)


def test_a_change_of_package_and_a_charge_at_once_do_not_block_each_other(
    app: Flask, desk: Desk, clock: Clock
) -> None:
    customer = desk.customer()
    sub = desk.give(customer, desk.package())
    other = desk.package()
    clock.set_to(END)
    trouble: list[BaseException] = []

    def change() -> None:
        with app.app_context():
            try:
                desk.give(customer, other)
            except BaseException as error:
                trouble.append(error)

    thread = threading.Thread(target=change)
    with transaction():
        db.session.execute(select(Subscription.id).where(Subscription.id == sub).with_for_update())
        thread.start()
        thread.join(0.3)
        rows = db.session.execute(select(Subscription.id).where(Subscription.id == sub)).all()
        attempts_for(Claim(uuid4(), rows))
    thread.join()
    assert trouble == []
    assert desk.read(sub).next_package_id == other


def test_a_pending_payment_is_asked_after_ever_more_rarely(desk: Desk, clock: Clock) -> None:
    sub = desk.subscription("pending")
    clock.set_to(END)
    charge_due()
    waits = []
    for _ in range(9):
        [payment] = desk.payments(sub)
        assert payment.due_at is not None
        waits.append(round((payment.due_at - clock.now()).total_seconds() / 60))
        clock.set_to(payment.due_at)
        assert match_pending() == 1
        assert match_pending() == 0
    assert waits == [2, 2, 4, 8, 16, 32, 60, 60, 60]


@pytest.mark.parametrize(
    ("becomes", "state"), [("succeeded", "succeeded"), ("canceled:card_expired", "canceled")]
)
def test_a_pending_payment_that_settles_later_is_recorded(
    desk: Desk, clock: Clock, becomes: str, state: str
) -> None:
    desk.simulator.control("PUT", "/yookassa/settings", {"settle_after_seconds": 5400})
    sub = desk.subscription(f"pending:{becomes}")
    clock.set_to(END)
    charge_due()
    assert desk.states(sub) == ["pending"]
    clock.advance(hours=1)
    match_pending()
    assert desk.states(sub) == ["pending"]
    clock.advance(hours=1)
    match_pending()
    assert desk.states(sub) == [state]
    assert desk.read(sub).state == ("active" if state == "succeeded" else "expired")


def test_a_payment_pending_for_seven_days_is_asked_after_and_expires(
    desk: Desk, clock: Clock
) -> None:
    undecided = desk.subscription("pending")
    paid = desk.subscription("pending")
    clock.set_to(END)
    charge_due()
    clock.advance(days=6, hours=23)
    assert expire_payments() == 0
    [external_id] = [one.external_id for one in desk.payments(paid)]
    order = {"status": "succeeded"}
    desk.simulator.control("POST", f"/yookassa/payments/{external_id}/settle", order)
    clock.advance(hours=2)
    assert expire_payments() == 2
    assert desk.states(undecided) == ["expired"]
    assert desk.states(paid) == ["succeeded"]
    assert expire_payments() == 0


def test_no_payment_expires_unasked_and_each_is_asked_once_in_a_run(
    desk: Desk, clock: Clock
) -> None:
    subs = [desk.subscription("pending") for _ in range(3)]
    clock.set_to(END)
    charge_due()
    clock.advance(days=8)
    desk.simulator.add_fault(ANY, status=500)
    assert pump.run(ExpiringInquiry(), limit=50) == 3
    assert expire_payments() == 3
    faults = desk.simulator.control("GET", "/faults")["faults"]
    assert sum(fault["hits"] for fault in faults) == 6
    assert [desk.states(sub) for sub in subs] == [["pending"]] * 3
    desk.simulator.control("DELETE", "/faults")
    assert expire_payments() == 3
    assert [desk.states(sub) for sub in subs] == [["expired"]] * 3


def expired_without_an_answer(desk: Desk, clock: Clock, days: int = 8) -> int:
    """Make a subscription that expired with its pending payment, these days after its end."""
    sub = desk.subscription("pending")
    clock.set_to(END)
    charge_due()
    clock.advance(days=days)
    expire_payments()
    expire_subscriptions()
    return sub


def test_a_late_yes_is_money_that_was_taken(desk: Desk, clock: Clock, told: Told) -> None:
    sub = expired_without_an_answer(desk, clock)
    assert (desk.read(sub).state, desk.states(sub)) == ("expired", ["expired"])
    give_late_yes(desk, sub)
    assert desk.states(sub) == ["succeeded"]
    assert desk.read(sub).state == "active"
    assert told.types() == ["assigned", "expired", "renewed"]


def give_late_yes(desk: Desk, sub: int) -> None:
    payment = desk.payments(sub)[0]
    path = f"/yookassa/payments/{payment.external_id}/settle"
    desk.simulator.control("POST", path, {"status": "succeeded"})
    notice = {"event": "payment.succeeded", "object": {"id": payment.external_id}}
    hear_notice("yookassa", notice)


def test_a_late_yes_after_paying_again_prolongs_and_never_shortens(
    desk: Desk, clock: Clock
) -> None:
    sub = expired_without_an_answer(desk, clock)
    again = desk.pay_now(sub)
    assert again.state == "succeeded"
    give_late_yes(desk, sub)
    late = desk.payments(sub)[0]
    assert late.state == "succeeded"
    assert late.period_start == again.period_end
    assert desk.read(sub).ended_at == late.period_end


def test_a_late_yes_at_the_very_moment_of_paying_again_gets_the_first_period(
    desk: Desk, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    sub = expired_without_an_answer(desk, clock, days=40)
    moment = product_clock.now()
    monkeypatch.setattr(product_clock, "now", lambda: moment)
    with desk.trouble(CREATE, drop="after"):
        assert desk.pay_now(sub).state == "pending"

    give_late_yes(desk, sub)

    late, again = desk.payments(sub)
    assert (late.state, late.period_start) == ("succeeded", moment)
    assert (again.state, again.period_start) == ("pending", late.period_end)


def test_a_late_yes_while_the_same_period_is_being_paid_again_gets_it(
    desk: Desk, clock: Clock
) -> None:
    sub = desk.subscription("pending")
    clock.set_to(END)
    charge_due()
    clock.advance(days=8)
    expire_payments()
    with desk.trouble(CREATE, drop="after"):
        assert desk.pay_now(sub).state == "pending"

    give_late_yes(desk, sub)

    late, again = desk.payments(sub)
    assert late.state == "succeeded"
    assert close_to(late.period_start, END)
    assert (again.state, again.period_start) == ("pending", late.period_end)


def test_a_late_yes_for_a_subscription_that_was_replaced_prolongs_the_new_one(
    desk: Desk, clock: Clock
) -> None:
    customer, package = desk.customer("pending"), desk.package()
    old = desk.give(customer, package)
    clock.set_to(END)
    charge_due()
    clock.advance(days=8)
    expire_payments()
    expire_subscriptions()
    new = desk.give(customer, package)
    assert new != old
    give_late_yes(desk, old)
    assert sorted(desk.states()) == ["succeeded"]
    assert desk.read(new).state == "active"
    assert desk.read(old).state == "expired"
    [payment] = desk.payments()
    assert payment.subscription_id == new
    assert close_to(payment.period_start, desk.read(new).current_period_start)


def test_a_purchase_while_the_same_period_is_being_charged_gets_the_next_one(
    desk: Desk, clock: Clock
) -> None:
    customer, package = desk.customer("pending"), desk.package()
    sub = desk.give(customer, package)
    clock.set_to(END)
    charge_due()
    begun = desk.purchase(customer, package)
    order = {"status": "succeeded"}
    desk.simulator.control("POST", f"/yookassa/payments/{begun.external_id}/settle", order)
    clock.advance(minutes=3)
    match_pending()
    give_late_yes(desk, sub)
    payments = desk.payments(sub)
    assert [payment.state for payment in payments] == ["succeeded"] * 2
    periods = sorted((one.period_start, one.period_end) for one in payments)
    assert periods[0][1] == periods[1][0]
    assert desk.read(sub).ended_at == periods[1][1]


def test_provider_calls_are_bounded_in_time(
    desk: Desk, clock: Clock, change_settings: ChangeSettings
) -> None:
    change_settings(provider_timeout_seconds=0.2)
    sub = desk.subscription()
    clock.set_to(END)
    desk.simulator.add_fault(CREATE, delay_seconds=0.6, times=1)
    charge_due()
    assert desk.states(sub) == ["pending"]
    time.sleep(0.6)
    change_settings(provider_timeout_seconds=5)
    clock.advance(minutes=11)
    assert charge_due() == 1
    assert desk.states(sub) == ["succeeded"]
