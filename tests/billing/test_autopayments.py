"""Autopayments: charged on the end day, tried again when refused, ended by the last refusal."""

from datetime import UTC, datetime, timedelta

import pytest

from project.billing.jobs import charge_due, expire_subscriptions, match_pending
from project.core.errors import Conflict, NotFound
from tests.billing.conftest import START, Told
from tests.billing.desk import (
    PRICE,
    Desk,
    call_provider,
    claim_charges,
    close_to,
    record_charges,
)
from tests.conftest import ChangeSettings
from tests.time_machine import Clock

REFUSED = "canceled:insufficient_funds"


def day(written: str) -> datetime:
    return datetime.fromisoformat(written).replace(tzinfo=UTC)


def at(written: str) -> datetime:
    return day(written) + timedelta(hours=10)


def test_a_package_is_given_and_charged_on_its_end_day(
    desk: Desk, clock: Clock, told: Told
) -> None:
    sub = desk.subscription()
    given = desk.read(sub)
    assert given.state == "active"
    assert close_to(given.ended_at, at("2027-02-15"))
    assert charge_due() == 0
    clock.set_to(day("2027-02-15") - timedelta(seconds=30))
    assert charge_due() == 0
    clock.set_to(day("2027-02-15"))
    assert charge_due() == 1
    [payment] = desk.payments(sub)
    assert (payment.state, payment.amount, payment.currency) == ("succeeded", PRICE, "RUB")
    assert (payment.trigger, payment.attempt) == ("subscription_cycle", 1)
    assert payment.period_start == given.ended_at
    renewed = desk.read(sub)
    assert (renewed.current_period_start, renewed.ended_at) == (
        payment.period_start,
        payment.period_end,
    )
    assert renewed.due_at == day("2027-03-15")
    assert told.types() == ["assigned", "renewed"]
    assert charge_due() == 0
    assert desk.paid_there() == {str(payment.id): 1}


def test_twelve_renewals_from_the_31st_end_on_the_31st(desk: Desk, clock: Clock) -> None:
    clock.set_to(at("2027-01-31"))
    sub = desk.subscription()
    for _ in range(12):
        due_at = desk.read(sub).due_at
        assert due_at is not None
        clock.set_to(due_at + timedelta(hours=3))
        assert charge_due() == 1
    payments = desk.payments(sub)
    ends = [payment.period_end for payment in payments if payment.period_end]
    assert [end.day for end in ends] == [31, 30, 31, 30, 31, 31, 30, 31, 30, 31, 31, 29]
    starts = [payment.period_start for payment in payments[1:]]
    assert starts == ends[:-1]
    assert desk.states(sub) == ["succeeded"] * 12


def test_a_refusal_is_tried_again_a_day_later_and_renews_from_the_anchor(
    desk: Desk, clock: Clock, told: Told
) -> None:
    sub = desk.subscription(REFUSED)
    clock.set_to(at("2027-02-15"))
    charge_due()
    owing = desk.read(sub)
    assert (owing.state, owing.refusals) == ("past_due", 1)
    assert owing.due_at == day("2027-02-16")
    assert charge_due() == 0
    clock.set_to(at("2027-02-16"))
    charge_due()
    paid = desk.read(sub)
    assert (paid.state, paid.refusals, paid.past_due_at) == ("active", 0, None)
    assert close_to(paid.ended_at, at("2027-03-15"))
    first, second = desk.payments(sub)
    assert (first.state, first.reason, first.attempt) == ("canceled", "insufficient_funds", 1)
    assert (second.state, second.trigger, second.attempt) == ("succeeded", "retry_dunning", 2)
    assert first.period_start == second.period_start
    assert told.types() == ["assigned", "past_due", "renewed"]
    assert [one.is_final for one in told.settled] == [False, True]


@pytest.mark.parametrize(("at_retry_end", "state"), [("expire", "expired"), ("cancel", "canceled")])
def test_the_third_refusal_ends_it(
    desk: Desk, clock: Clock, told: Told, at_retry_end: str, state: str
) -> None:
    package = desk.package(at_retry_end=at_retry_end)
    sub = desk.subscription(REFUSED, REFUSED, REFUSED, package_id=package)
    for date in ("2027-02-15", "2027-02-16", "2027-02-17"):
        assert desk.read(sub).due_at == day(date)
        clock.set_to(at(date))
        assert charge_due() == 1
    ended = desk.read(sub)
    assert (ended.state, ended.due_at, ended.refusals) == (state, None, 3)
    assert told.types() == ["assigned", "past_due", "past_due", "exhausted"]
    assert [one.is_final for one in told.settled] == [False, False, True]
    assert [payment.attempt for payment in desk.payments(sub)] == [1, 2, 3]
    clock.advance(days=40)
    assert charge_due() == 0
    expire_subscriptions()
    assert desk.read(sub).state == "expired"
    assert desk.states(sub) == ["canceled"] * 3


def test_the_package_says_how_often_and_how_soon(desk: Desk, clock: Clock) -> None:
    package = desk.package(retry_attempts=2, retry_interval_seconds=7200)
    sub = desk.subscription(REFUSED, REFUSED, package_id=package)
    clock.set_to(at("2027-02-15"))
    charge_due()
    assert close_to(desk.read(sub).due_at, at("2027-02-15") + timedelta(hours=2))
    clock.advance(hours=2)
    charge_due()
    assert desk.read(sub).state == "expired"


@pytest.mark.parametrize("reason", ["card_expired", "permission_revoked", "fraud_suspected"])
def test_a_hard_refusal_ends_the_tries_at_once(
    desk: Desk, clock: Clock, told: Told, reason: str
) -> None:
    sub = desk.subscription(f"canceled:{reason}")
    # The period began some moments after ten.
    clock.set_to(at("2027-02-15") + timedelta(minutes=1))
    charge_due()
    assert desk.read(sub).state == "expired"
    [payment] = desk.payments(sub)
    assert (payment.state, payment.reason) == ("canceled", reason)
    assert told.types()[-1] == "exhausted"
    assert told.settled[-1].is_final


def test_without_a_saved_card_nothing_is_asked_of_the_provider(
    desk: Desk, clock: Clock, told: Told
) -> None:
    sub = desk.subscription(method=False)
    for date in ("2027-02-15", "2027-02-16", "2027-02-17"):
        clock.set_to(at(date))
        charge_due()
    assert desk.asked_there() == 0
    assert {payment.reason for payment in desk.payments(sub)} == {"no_payment_method"}
    assert desk.read(sub).state == "expired"
    assert told.types()[-1] == "exhausted"


def test_a_request_that_the_provider_does_not_take_costs_no_try(desk: Desk, clock: Clock) -> None:
    sub = desk.subscription()
    clock.set_to(at("2027-02-15"))
    desk.simulator.add_fault("/yookassa/v3/payments", status=401, times=1)
    charge_due()
    waiting = desk.read(sub)
    assert (waiting.state, waiting.refusals) == ("active", 0)
    assert close_to(waiting.due_at, at("2027-02-15") + timedelta(hours=1))
    clock.advance(hours=1, seconds=1)
    charge_due()
    assert desk.states(sub) == ["canceled", "succeeded"]


def test_of_missed_periods_only_the_current_one_is_charged(desk: Desk, clock: Clock) -> None:
    sub = desk.subscription()
    clock.set_to(at("2027-06-20"))
    assert charge_due() == 1
    [payment] = desk.payments(sub)
    assert close_to(payment.period_start, at("2027-06-15"))
    assert close_to(payment.period_end, at("2027-07-15"))
    assert charge_due() == 0
    assert close_to(desk.read(sub).ended_at, at("2027-07-15"))


def test_each_missed_period_is_charged_where_that_is_set(
    desk: Desk, clock: Clock, change_settings: ChangeSettings
) -> None:
    change_settings(bill_missed_periods=True)
    sub = desk.subscription()
    clock.set_to(at("2027-06-20"))
    assert charge_due() == 5
    payments = desk.payments(sub)
    months = [payment.period_start.month for payment in payments if payment.period_start]
    assert months == [2, 3, 4, 5, 6]
    assert desk.states(sub) == ["succeeded"] * 5
    assert charge_due() == 0


def test_a_late_run_keeps_the_anchor_of_a_missed_february(desk: Desk, clock: Clock) -> None:
    clock.set_to(at("2027-01-31"))
    sub = desk.subscription()
    clock.set_to(at("2027-04-15"))
    charge_due()
    assert close_to(desk.read(sub).current_period_start, at("2027-03-31"))
    assert close_to(desk.read(sub).ended_at, at("2027-04-30"))
    clock.set_to(at("2027-04-30"))
    charge_due()
    assert close_to(desk.read(sub).ended_at, at("2027-05-31"))


def test_another_package_counts_from_the_periods_end(desk: Desk, clock: Clock, told: Told) -> None:
    customer = desk.customer()
    monthly, weekly = desk.package(), desk.package(price=500, period="week")
    sub = desk.give(customer, monthly)
    clock.set_to(at("2027-02-01"))
    assert desk.give(customer, weekly) == sub
    changed = desk.read(sub)
    assert (changed.package_id, changed.next_package_id) == (monthly, weekly)
    clock.set_to(at("2027-02-15"))
    charge_due()
    renewed = desk.read(sub)
    assert (renewed.package_id, renewed.next_package_id) == (weekly, None)
    assert close_to(renewed.ended_at, at("2027-02-22"))
    assert desk.payments(sub)[0].amount == 500
    clock.set_to(at("2027-02-22"))
    charge_due()
    assert close_to(desk.read(sub).ended_at, at("2027-03-01"))
    assert told.types() == ["assigned", "changed", "renewed", "renewed"]


def test_a_change_is_taken_back_by_taking_the_running_package(desk: Desk, clock: Clock) -> None:
    customer = desk.customer()
    monthly, weekly = desk.package(), desk.package(period="week")
    sub = desk.give(customer, monthly)
    desk.give(customer, weekly)
    desk.give(customer, monthly)
    with pytest.raises(Conflict):
        desk.give(customer, monthly)
    clock.set_to(at("2027-02-15"))
    charge_due()
    assert desk.read(sub).package_id == monthly


def test_a_canceled_package_runs_to_its_end_and_is_not_charged(
    desk: Desk, clock: Clock, told: Told
) -> None:
    sub = desk.subscription()
    desk.cancel(sub)
    desk.cancel(sub)
    clock.set_to(at("2027-02-15") - timedelta(hours=1))
    assert (charge_due(), expire_subscriptions()) == (0, 0)
    clock.set_to(at("2027-02-15") + timedelta(minutes=1))
    assert (charge_due(), expire_subscriptions()) == (0, 1)
    assert told.types() == ["assigned", "canceled", "expired"]
    with pytest.raises(NotFound):
        desk.cancel(sub)


def test_a_cancellation_during_a_charge_keeps_what_was_paid_and_renews_no_more(
    desk: Desk, clock: Clock
) -> None:
    sub = desk.subscription()
    clock.set_to(at("2027-02-15"))
    [attempt] = claim_charges()
    word = call_provider(attempt)
    desk.cancel(sub)
    record_charges([(attempt, word)])
    canceled = desk.read(sub)
    assert (canceled.state, canceled.due_at) == ("canceled", None)
    assert close_to(canceled.ended_at, at("2027-03-15"))
    assert desk.states(sub) == ["succeeded"]
    clock.set_to(at("2027-03-16"))
    assert (charge_due(), expire_subscriptions()) == (0, 1)


def test_a_refusal_after_a_cancellation_leaves_it_canceled(desk: Desk, clock: Clock) -> None:
    sub = desk.subscription(REFUSED)
    clock.set_to(at("2027-02-15"))
    [attempt] = claim_charges()
    word = call_provider(attempt)
    desk.cancel(sub)
    record_charges([(attempt, word)])
    assert desk.read(sub).state == "canceled"
    assert desk.states(sub) == ["canceled"]


def test_paying_what_is_owed_is_outside_of_the_retries(desk: Desk, clock: Clock) -> None:
    sub = desk.subscription(REFUSED, REFUSED)
    clock.set_to(at("2027-02-15"))
    charge_due()
    refused = desk.pay_now(sub)
    assert (refused.state, refused.trigger) == ("canceled", "retry_customer")
    assert (desk.read(sub).state, desk.read(sub).refusals) == ("past_due", 1)
    assert desk.pay_now(sub).state == "succeeded"
    paid = desk.read(sub)
    assert (paid.state, paid.refusals) == ("active", 0)
    assert close_to(paid.ended_at, at("2027-03-15"))
    with pytest.raises(Conflict):
        desk.pay_now(sub)


def test_an_ended_subscription_is_paid_back_in_from_now(
    desk: Desk, clock: Clock, told: Told
) -> None:
    sub = desk.subscription("canceled:card_expired")
    clock.set_to(at("2027-02-15"))
    charge_due()
    clock.set_to(at("2027-05-05"))
    assert desk.pay_now(sub).state == "succeeded"
    back = desk.read(sub)
    assert back.state == "active"
    assert close_to(back.current_period_start, at("2027-05-05"))
    assert close_to(back.ended_at, at("2027-06-05"))
    assert told.types() == ["assigned", "exhausted", "renewed"]
    clock.set_to(at("2027-06-05"))
    assert charge_due() == 1


def test_what_is_unpaid_for_three_days_expires(desk: Desk, clock: Clock, told: Told) -> None:
    package = desk.package(retry_attempts=9, retry_interval_seconds=21_600)
    subs = [desk.subscription(*[REFUSED] * 9, package_id=package) for _ in range(3)]
    untouched = desk.subscription()
    clock.set_to(at("2027-02-15"))
    charge_due()
    clock.set_to(at("2027-02-18") - timedelta(minutes=1))
    charge_due()
    assert expire_subscriptions() == 0
    clock.set_to(at("2027-02-18") + timedelta(minutes=1))
    assert expire_subscriptions() == 3
    assert {desk.read(sub).state for sub in subs} == {"expired"}
    assert desk.read(untouched).state == "active"
    assert told.types()[-3:] == ["expired"] * 3
    assert (expire_subscriptions(), charge_due()) == (0, 0)


def test_a_first_purchase_gives_a_package_and_saves_the_card(desk: Desk, clock: Clock) -> None:
    customer, package = desk.customer(method=False), desk.package()
    begun = desk.purchase(customer, package)
    assert (begun.state, begun.subscription_id) == ("pending", None)
    assert begun.confirmation_url
    order = {"status": "succeeded"}
    desk.simulator.control("POST", f"/yookassa/payments/{begun.external_id}/settle", order)
    clock.advance(minutes=3)
    assert match_pending() == 1
    [paid] = desk.payments()
    assert paid.state == "succeeded"
    assert paid.subscription_id is not None
    sub = desk.read(paid.subscription_id)
    assert (sub.state, sub.current_period_start, sub.ended_at) == (
        "active",
        paid.period_start,
        paid.period_end,
    )
    desk.script(str(begun.external_id))
    clock.set_to(START + timedelta(days=31, hours=1))
    assert charge_due() == 1
    assert desk.states() == ["succeeded", "succeeded"]


def test_a_purchase_on_top_of_a_running_package_prolongs_it(desk: Desk, clock: Clock) -> None:
    clock.set_to(at("2027-01-31"))
    customer, package = desk.customer(), desk.package()
    sub = desk.give(customer, package)
    clock.set_to(at("2027-02-10"))
    begun = desk.purchase(customer, package)
    desk.simulator.control(
        "POST", f"/yookassa/payments/{begun.external_id}/settle", {"status": "succeeded"}
    )
    clock.advance(minutes=3)
    match_pending()
    [paid] = desk.payments(sub)
    assert close_to(paid.period_start, at("2027-02-28"))
    assert close_to(paid.period_end, at("2027-03-31"))
    assert desk.read(sub).due_at == day("2027-03-31")
