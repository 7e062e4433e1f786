"""Numbers are billed by their carrier: at once, each day or week, until it refuses too often."""

from datetime import UTC, datetime, timedelta

import pytest
from flask import Flask
from sqlalchemy import select

from project.billing.models import Payment
from project.billing.queries import current_subscription, listed_payments
from project.billing.subscriptions.service import expire_some
from project.core.db.transaction import transaction
from tests.conftest import ChangeSettings
from tests.time_machine import Clock
from tests.weather.messages.station import ONE_DAY, Station, at_once, local


def subscription_of(station: Station, msisdn: str) -> object:
    with transaction():
        found = current_subscription(station.subscriber(msisdn).customer_id)
        assert found is not None
        return found


def paid_periods(station: Station, msisdn: str) -> list[tuple[datetime, datetime]]:
    customer_id = station.subscriber(msisdn).customer_id
    with transaction() as session:
        rows = session.execute(
            select(Payment.period_start, Payment.period_end)
            .where(Payment.customer_id == customer_id, Payment.state == "succeeded")
            .order_by(Payment.period_start)
        )
        return [(row.period_start, row.period_end) for row in rows]


def test_a_new_subscriber_is_charged_at_once_for_its_day(station: Station) -> None:
    number = station.paid()

    assert station.payments(number) == ["succeeded"]
    assert station.charges(number) == ["charged"]
    found = subscription_of(station, number)
    assert local(found.current_period_start) == "2027-01-15 03:00"
    assert local(found.ended_at) == "2027-01-16 03:00"
    assert found.due_at == found.ended_at


def test_nothing_is_given_before_it_is_paid(station: Station) -> None:
    number = station.subscribe()
    station.make()
    assert station.messages(number) == []
    assert station.subscriber(number).next_message_at is None


def test_the_carrier_is_told_number_and_plan(station: Station) -> None:
    daily, weekly = station.paid(), station.paid(plan="weekly")
    told = station.simulator.control("GET", "/carrier/charges")["items"]

    assert {(one["msisdn"], one["sub_plan"]) for one in told} == {
        (daily, "daily"),
        (weekly, "weekly"),
    }


def test_daily_plans_are_charged_each_day_and_weekly_ones_each_week(
    station: Station, clock: Clock
) -> None:
    daily, weekly = station.paid(), station.paid(plan="weekly")
    for _ in range(14):
        clock.advance(days=1)
        station.bill()

    assert len(station.charges(daily)) == 15
    assert len(station.charges(weekly)) == 3


def test_nobody_is_charged_a_day_too_early(station: Station, clock: Clock) -> None:
    """Of two zones, each is charged at three o'clock of its own."""
    tokyo = station.paid(zone="Asia/Tokyo")
    moscow = station.paid()
    # 15 January: 03:00 of the 16th in Tokyo is 18:00 UTC, in Moscow midnight UTC.
    clock.set_to(datetime(2027, 1, 15, 17, 59, tzinfo=UTC))
    station.bill()
    assert (len(station.charges(tokyo)), len(station.charges(moscow))) == (1, 1)
    clock.set_to(datetime(2027, 1, 15, 18, 1, tzinfo=UTC))
    station.bill()
    assert (len(station.charges(tokyo)), len(station.charges(moscow))) == (2, 1)
    clock.set_to(datetime(2027, 1, 16, 0, 1, tzinfo=UTC))
    station.bill()
    assert (len(station.charges(tokyo)), len(station.charges(moscow))) == (2, 2)


def test_who_comes_in_the_evening_pays_for_a_day_that_has_a_message(
    station: Station, clock: Clock
) -> None:
    clock.set_to(datetime(2027, 1, 15, 19, 30, tzinfo=UTC))
    number = station.paid()
    found = subscription_of(station, number)
    assert local(found.current_period_start) == "2027-01-15 22:30"
    clock.advance(hours=10)
    station.day()
    assert [str(one.local_date) for one in station.messages(number)] == ["2027-01-16"]
    assert len(station.charges(number)) == 1


def test_the_last_of_three_refusals_cancels_the_subscriber(station: Station, clock: Clock) -> None:
    number = station.subscribe()
    station.carrier_script(number, then="refused")
    for tries in range(1, 4):
        station.bill()
        station.bill()
        assert len(station.charges(number)) == tries
        clock.advance(seconds=61)

    subscriber = station.subscriber(number)
    assert (subscriber.state, subscriber.next_message_at) == ("canceled", None)
    station.day()
    assert station.charges(number) == ["refused"] * 3
    assert station.messages(number) == []


def test_an_unknown_number_is_tried_once(station: Station, clock: Clock) -> None:
    number = station.subscribe()
    station.carrier_script(number, then="refused:unknown_subscriber")
    for _ in range(3):
        station.bill()
        clock.advance(minutes=2)
    assert station.charges(number) == ["refused"]
    assert station.subscriber(number).state == "canceled"


def test_a_second_try_that_is_paid_keeps_the_subscriber(station: Station, clock: Clock) -> None:
    number = station.subscribe()
    station.carrier_script(number, "refused")
    station.bill()
    clock.advance(seconds=61)
    station.day()
    assert station.charges(number) == ["refused", "charged"]
    assert station.states(number) == ["accepted"]


def test_a_timeout_is_no_refusal_and_the_carrier_is_asked(station: Station, clock: Clock) -> None:
    number = station.subscribe()
    station.simulator.add_fault("/carrier/billing", drop="after")
    station.bill()
    assert station.payments(number) == ["pending"]
    clock.advance(minutes=3)
    station.bill()
    assert station.payments(number) == ["pending"]
    station.inquire()
    assert station.payments(number) == ["succeeded"]
    assert station.charges(number) == ["charged"]


def test_an_outage_of_the_carrier_cancels_nobody(station: Station, clock: Clock) -> None:
    number = station.subscribe()
    station.simulator.add_fault("/carrier/*", status=503)
    for _ in range(6):
        station.bill()
        station.inquire()
        clock.advance(minutes=11)
    assert station.subscriber(number).state == "active"
    station.simulator.control("DELETE", "/faults")
    station.day()
    assert station.payments(number) == ["succeeded"]
    assert station.states(number) == ["accepted"]


def test_who_cancels_is_charged_no_more(station: Station, clock: Clock) -> None:
    number = station.paid()
    station.change(number, state="canceled")
    station.bill()
    clock.advance(days=2)
    station.day()
    assert station.charges(number) == ["charged"]
    assert station.messages(number) == []


def test_who_comes_back_within_the_day_is_not_charged_again(station: Station, clock: Clock) -> None:
    number = station.paid()
    station.change(number, state="canceled")
    station.bill()
    station.change(number, state="active")
    station.day()
    assert station.charges(number) == ["charged"]
    assert station.states(number) == ["accepted"]
    clock.advance(days=1)
    station.day()
    assert station.charges(number) == ["charged"] * 2


def test_who_comes_back_later_begins_anew(station: Station, clock: Clock) -> None:
    number = station.paid()
    station.change(number, state="canceled")
    station.bill()
    clock.advance(days=3)
    with transaction():
        assert expire_some() == 1
    assert station.subscriber(number).state == "canceled"
    station.change(number, state="active")
    station.day()
    assert station.charges(number) == ["charged"] * 2
    assert station.states(number) == ["accepted"]


def test_who_comes_back_after_the_clocks_changed_pays_for_no_hour_twice(
    station: Station, clock: Clock
) -> None:
    """The paid day ends at four in the morning then, and the next one would begin at three."""
    clock.set_to(datetime(2027, 3, 27, 11, tzinfo=UTC))
    number = station.paid(zone="Europe/Berlin")
    station.change(number, state="canceled")
    station.bill()
    clock.set_to(datetime(2027, 3, 28, 3, tzinfo=UTC))
    with transaction():
        assert expire_some() == 1

    station.change(number, state="active")
    station.bill()

    first, second = paid_periods(station, number)
    assert first[1] == second[0] == datetime(2027, 3, 28, 2, tzinfo=UTC)


def test_another_plan_counts_from_the_end_of_the_period(station: Station, clock: Clock) -> None:
    number = station.paid()
    station.change(number, plan="weekly")
    station.bill()
    assert station.charges(number) == ["charged"]
    for _ in range(7):
        clock.advance(days=1)
        station.bill()
    assert station.charges(number) == ["charged"] * 2
    told = station.simulator.control("GET", "/carrier/charges")["items"]
    assert [one["sub_plan"] for one in told] == ["weekly", "daily"]


def test_days_of_an_outage_are_not_billed_afterwards(station: Station, clock: Clock) -> None:
    number = station.paid()
    clock.advance(days=2)
    station.bill()
    assert station.charges(number) == ["charged"] * 2
    found = subscription_of(station, number)
    assert local(found.ended_at) == "2027-01-18 03:00"


def test_two_workers_that_follow_at_once_charge_once(station: Station, app: Flask) -> None:
    numbers = [station.subscribe() for _ in range(20)]
    at_once(app, *[station.bill] * 4)
    station.bill()
    assert [station.charges(number) for number in numbers] == [["charged"]] * 20


@pytest.mark.parametrize("price", [100, 250])
def test_a_new_price_counts_from_the_next_period(
    station: Station, clock: Clock, change_settings: ChangeSettings, price: int
) -> None:
    change_settings(forecast_daily_price=price)
    number = station.paid()
    with transaction() as session:
        found = subscription_of(station, number)
        session.add(found)
    change_settings(forecast_daily_price=300)
    station.paid()
    clock.advance(days=1)
    station.bill()
    with transaction() as session:
        rows = session.execute(
            listed_payments({"customer_id": station.subscriber(number).customer_id})
        ).all()
    assert [row.Payment.amount for row in rows] == [300, price]
    assert clock.now() - NOON > ONE_DAY - timedelta(minutes=5)


NOON = datetime(2027, 1, 15, 9, tzinfo=UTC)
