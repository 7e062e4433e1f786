"""Nobody is charged for what cannot be sent, and is charged as soon as it can."""

from datetime import UTC, datetime

import pytest

from project.billing.payments.charging import PromptAutopayment
from project.billing.subscriptions.service import expire_some
from project.core.db.transaction import transaction
from project.core.work import pump
from project.weather.messages import jobs
from project.weather.numbers import can_get_messages
from tests.conftest import ChangeSettings
from tests.time_machine import Clock
from tests.weather.messages.station import Station, local
from tests.weather.world import Operator

FAR_AWAY = (60.0, 100.0)


@pytest.mark.parametrize("plan", ["daily", "weekly"])
def test_a_place_without_a_forecast_is_not_charged_until_it_has_one(
    station: Station, clock: Clock, desk: Operator, plan: str
) -> None:
    number = "+79161230088"
    desk.subscriber(number, FAR_AWAY, plan=plan)
    for _ in range(6):
        station.day()
        with transaction():
            expire_some()
        clock.advance(hours=20)
    assert station.charges(number) == []
    shown = desk.shown(number)
    assert (shown["state"], shown["obstacle"]) == ("active", "no_forecast")
    clock.set_to(datetime(2027, 1, 21, 5, tzinfo=UTC))

    moved = desk.client.patch(f"/api/subscribers/{number}", json={"lat": 55.0, "lon": 37.0})
    station.day()

    assert moved.json["data"]["obstacle"] is None
    assert station.charges(number) == ["charged"]
    assert len(station.sent(number)) == 1


@pytest.mark.parametrize("written", ["NULL", "", "..."])
def test_a_forecast_that_says_nothing_charges_nobody(
    station: Station, clock: Clock, written: str
) -> None:
    number = station.paid()
    station.day()
    station.forecast(1, written, written)
    clock.set_to(datetime(2027, 1, 16, 0, 1, tzinfo=UTC))
    for _ in range(3):
        station.bill()
        clock.advance(hours=2)
    assert station.charges(number) == ["charged"]
    station.forecast(1, "Sun", "Sun")
    clock.advance(minutes=6)
    station.day()
    assert station.charges(number) == ["charged"] * 2
    assert len(station.sent(number)) == 2


def test_a_day_that_can_have_no_message_any_more_is_not_charged(
    station: Station, clock: Clock
) -> None:
    """The carrier was away from three in the morning until after the last message's hour."""
    number = station.paid()
    station.day()
    station.simulator.add_fault("/carrier/*", status=401)
    clock.set_to(datetime(2027, 1, 16, 0, 1, tzinfo=UTC))
    station.day()
    station.simulator.control("DELETE", "/faults")
    for hours in (19, 20, 22):
        clock.set_to(datetime(2027, 1, 16, hours, 1, tzinfo=UTC))
        station.day()
    assert station.charges(number) == ["charged"]
    clock.set_to(datetime(2027, 1, 17, 0, 1, tzinfo=UTC))
    station.day()
    assert station.charges(number) == ["charged"] * 2
    clock.set_to(datetime(2027, 1, 17, 5, 1, tzinfo=UTC))
    station.day()
    assert len(station.sent(number)) == 2
    planned = station.subscriber(number).paid_until
    assert planned is not None
    assert local(planned) == "2027-01-18 03:00"


@pytest.mark.parametrize(
    ("number", "can"),
    [
        ("+74951234567", False), ("+902121234567", False), ("+442071838750", False),
        ("+908001234567", False), ("+909001234567", False), ("+18005550199", False),
        ("+19005550199", False), ("+449098790879", False), ("+79161234567", True),
        ("+905321234567", True), ("+12025550143", True), ("+447400123456", True),
        ("+233240001229", True), ("+79000010001", True),
    ],
)  # fmt: skip
def test_which_numbers_get_messages(number: str, can: bool) -> None:
    assert can_get_messages(number) is can


def test_a_fixed_line_is_taken_and_never_charged(
    station: Station, clock: Clock, desk: Operator
) -> None:
    number = "+74951234567"
    shown = desk.subscriber(number, (55.0, 37.0))
    assert shown["obstacle"] == "no_mobile_number"
    for _ in range(5):
        station.day()
        with transaction():
            expire_some()
        clock.advance(days=1)
    assert station.charges(number) == []
    assert desk.shown(number)["state"] == "active"


def test_who_has_left_is_not_charged_though_billing_has_not_followed(station: Station) -> None:
    number = station.subscribe()
    jobs.follow_plans()
    station.change(number, state="canceled", next_message_at=None)
    pump.run(PromptAutopayment())
    assert station.charges(number) == []


def test_a_charge_without_an_answer_is_never_sent_again_in_another_protocol(
    station: Station, clock: Clock, change_settings: ChangeSettings
) -> None:
    station.forecast()
    number = station.number()
    url = f"{station.simulator.base_url}/carrier"
    station.carrier_script(number, "drop", then="charged")
    change_settings(carrier_billing_protocol="legacy", carrier_billing_url=f"{url}/legacy")
    station.paid(number)
    assert (station.charges(number), station.payments(number)) == (["charged"], ["pending"])

    change_settings(carrier_billing_protocol="keyed", carrier_billing_url=f"{url}/billing")
    for _ in range(8):
        clock.advance(hours=1)
        station.inquire()
        station.bill()

    assert station.charges(number) == ["charged"]
