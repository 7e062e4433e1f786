"""One message a day for whoever has paid: at eight where they live, never at night, never twice."""

from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from project.config.environment import get_settings
from project.core.db.transaction import transaction
from project.core.work import pump
from project.weather.messages import generate, queries, service
from project.weather.messages.delivery import MessageDelivery
from project.weather.messages.receipts import expire_some
from project.weather.settings import SmsSettings
from tests.conftest import ChangeSettings
from tests.time_machine import Clock
from tests.weather.messages.station import (
    Station,
    at_once,
    end_leases,
    local,
    rested_out,
    send_after_pauses,
)


def test_who_has_paid_gets_the_forecast_of_the_place(station: Station) -> None:
    station.forecast(2, "Snow, -5C", "Sunny")
    number = station.paid(forecast_gid=2)
    station.make()
    station.send()

    sent = station.sent(number)
    assert [one["text"] for one in sent] == [
        "Weather 24h: Snow, -5C. 48h: Sunny. Reply STOP to end."
    ]
    message = station.message(number)
    assert (message.state, message.attempts, str(message.id)) == ("accepted", 1, sent[0]["msgid"])
    assert (message.gateway_ref, message.local_date) == (sent[0]["reference"], date(2027, 1, 15))
    assert station.events(number) == [("answer", "accepted")]


def test_each_day_brings_one_message(station: Station, clock: Clock) -> None:
    number = station.paid()
    station.day()
    for _ in range(3):
        clock.advance(days=1)
        station.day()
        station.day()
    days = [str(one.local_date) for one in station.messages(number)]
    assert days == ["2027-01-15", "2027-01-16", "2027-01-17", "2027-01-18"]
    assert len(station.sent(number)) == 4


def test_a_weekly_plan_brings_a_message_each_day(station: Station, clock: Clock) -> None:
    number = station.paid(plan="weekly")
    for _ in range(8):
        station.day()
        clock.advance(days=1)
    assert len(station.sent(number)) == 8
    assert len(station.charges(number)) == 2


def test_the_message_comes_at_eight_where_the_number_is(station: Station, clock: Clock) -> None:
    tokyo, moscow = station.paid(zone="Asia/Tokyo"), station.paid()
    station.day()
    planned = {number: station.subscriber(number).next_message_at for number in (tokyo, moscow)}
    assert planned[moscow] is not None
    assert local(planned[moscow]) == "2027-01-16 08:00"
    assert planned[tokyo] is not None
    assert local(planned[tokyo], "Asia/Tokyo") == "2027-01-16 08:00"
    clock.set_to(datetime(2027, 1, 15, 23, 1, tzinfo=UTC))
    station.day()
    assert (len(station.sent(tokyo)), len(station.sent(moscow))) == (2, 1)


def test_nobody_is_woken_at_night(station: Station, clock: Clock) -> None:
    """It is 22:30 in Novosibirsk; what was paid for today waits for tomorrow's eight o'clock."""
    clock.set_to(datetime(2027, 1, 15, 15, 30, tzinfo=UTC))
    number = station.paid(zone="Asia/Novosibirsk")
    station.day()
    station.trigger()
    station.day()
    assert station.messages(number) == []
    clock.set_to(datetime(2027, 1, 16, 1, 1, tzinfo=UTC))
    station.day()
    assert [str(one.local_date) for one in station.messages(number)] == ["2027-01-16"]


def test_a_missed_time_is_caught_up_on_the_same_day(station: Station, clock: Clock) -> None:
    number = station.paid()
    station.day()
    clock.set_to(datetime(2027, 1, 16, 16, 0, tzinfo=UTC))
    station.day()
    assert [str(one.local_date) for one in station.messages(number)] == [
        "2027-01-15",
        "2027-01-16",
    ]


def test_a_day_that_is_over_is_not_caught_up(station: Station, clock: Clock) -> None:
    number = station.paid()
    station.day()
    clock.set_to(datetime(2027, 1, 18, 9, 0, tzinfo=UTC))
    station.day()
    assert [str(one.local_date) for one in station.messages(number)] == [
        "2027-01-15",
        "2027-01-18",
    ]


def test_who_did_not_pay_for_today_gets_nothing(station: Station, clock: Clock) -> None:
    number = station.paid()
    station.day()
    station.simulator.add_fault("/carrier/*", status=503)
    clock.advance(days=1)
    station.day()
    assert len(station.sent(number)) == 1
    station.simulator.control("DELETE", "/faults")
    clock.advance(hours=2)
    station.bill()
    station.day()
    assert len(station.sent(number)) == 2


def test_who_left_gets_nothing_though_the_message_was_made(station: Station) -> None:
    number = station.paid()
    station.make()
    station.change(number, state="canceled")
    station.send()
    assert station.sent(number) == []
    message = station.message(number)
    assert (message.state, message.last_error) == ("failed", "subscribes no more")


def test_without_a_forecast_it_is_counted_and_not_sent(
    station: Station, operator: FlaskClient
) -> None:
    number = station.paid()
    station.change(number, forecast_gid=None)
    station.day()
    assert station.sent(number) == []
    assert station.message(number).last_error == "no forecast"
    run = operator.get("/api/messages/runs/2027-01-15").json["data"]
    assert (run["due"], run["no_forecast"], run["sent"], run["failed"]) == (1, 1, 0, 0)


def test_two_runs_at_once_make_one_message_each(station: Station, app: Flask) -> None:
    numbers = [station.subscribe() for _ in range(30)]
    station.bill()
    at_once(app, *[station.make] * 4)
    at_once(app, *[station.send] * 4)
    assert [len(station.sent(number)) for number in numbers] == [1] * 30
    assert len(station.messages()) == 30


class TestByHand:
    def test_it_sends_at_once_what_is_planned_for_later_today(
        self, station: Station, clock: Clock, operator: FlaskClient
    ) -> None:
        number = station.paid()
        station.day()
        clock.set_to(datetime(2027, 1, 16, 5, 0, tzinfo=UTC))
        station.bill()
        late = station.paid(zone="America/New_York")
        answer = operator.post("/api/subscribers/trigger_send_sms/")
        station.make()
        station.send()
        # It is 08:00 in Moscow, and midnight in New York.
        assert answer.status_code == 202
        assert answer.json["status"] == "success"
        assert answer.json["due"] == 1
        assert answer.json["run_id"]
        assert len(station.sent(number)) == 2
        assert station.sent(late) == []

    def test_the_hour_does_not_count_then(
        self, station: Station, clock: Clock, change_settings: ChangeSettings
    ) -> None:
        change_settings(sms_send_at=get_settings(SmsSettings).sms_send_at.replace(hour=18))
        number = station.paid()
        station.day()
        assert station.messages(number) == []
        assert station.trigger() == 1
        station.day()
        assert len(station.sent(number)) == 1
        clock.advance(hours=7)
        station.day()
        assert len(station.sent(number)) == 1
        assert station.trigger() == 0

    @pytest.mark.parametrize("method", ["get", "post"])
    @pytest.mark.parametrize(
        "path",
        [
            "/api/subscribers/trigger_send_sms",
            "/subscriptions/api/v1/subscriptions/trigger_send_sms/",
            "/subscription/api/v1/subscription/trigger_send_sms/",
        ],
    )
    def test_it_is_asked_for_in_any_of_the_ways(
        self, station: Station, operator: FlaskClient, method: str, path: str
    ) -> None:
        number = station.paid()
        assert getattr(operator, method)(path).status_code == 202
        station.make()
        station.send()
        assert len(station.sent(number)) == 1

    def test_it_takes_a_key(self, station: Station, client: FlaskClient) -> None:
        assert client.post("/api/subscribers/trigger_send_sms").status_code == 401


class TestTrouble:
    def test_a_busy_gateway_leaves_it_to_the_next(self, station: Station) -> None:
        number = station.paid()
        station.script(number, "busy")
        station.make()
        station.send()
        assert station.states(number) == ["accepted"]
        assert station.message(number).attempts == 2
        assert len({one["gateway"] for one in station.sent(number)}) == 1
        assert [status for _, status in station.events(number)] == ["not_taken", "accepted"]

    @pytest.mark.parametrize("reason", ["unknown_number", "opted_out"])
    def test_a_permanent_refusal_ends_at_once(self, station: Station, reason: str) -> None:
        number = station.paid()
        station.script(number, then=f"rejected:{reason}")
        station.day()
        message = station.message(number)
        assert (message.state, message.last_error, message.attempts) == ("failed", reason, 1)
        station.day()
        assert station.message(number).attempts == 1

    def test_an_answer_that_was_lost_is_asked_for_at_the_same_gateway(
        self, station: Station, clock: Clock
    ) -> None:
        number = station.paid()
        station.simulator.add_fault("/sms/*", drop="after")
        station.make()
        station.send()
        asked = station.message(number).gateway
        assert station.states(number) == ["pending"]
        station.simulator.control("DELETE", "/faults")
        clock.advance(minutes=6)
        rested_out()
        station.send()
        message = station.message(number)
        assert (message.state, message.gateway) == ("accepted", asked)
        assert len(station.sent(number)) == 1

    def test_a_worker_that_died_is_followed_by_one_that_asks_the_same_gateway(
        self, station: Station
    ) -> None:
        number = station.paid()
        station.make()
        with transaction():
            sendings = MessageDelivery().claim(10)
        for sending in sendings:
            pump.http_client.start(MessageDelivery().call(sending)).result()
        end_leases()
        for _ in range(3):
            station.send()
        assert station.states(number) == ["accepted"]
        assert len(station.sent(number)) == 1
        assert station.message(number).attempts == 1

    def test_after_the_last_try_it_has_failed(
        self, station: Station, clock: Clock, change_settings: ChangeSettings
    ) -> None:
        change_settings(sms_max_attempts=3)
        number = station.paid()
        station.simulator.add_fault("/sms/*", status=500)
        station.make()
        send_after_pauses(station, clock, times=5)
        message = station.message(number)
        assert (message.state, message.attempts, message.last_error) == (
            "failed",
            3,
            "answered 500",
        )

    def test_gateways_that_rest_use_up_no_try(self, station: Station, clock: Clock) -> None:
        number = station.paid()
        station.simulator.add_fault("/sms/*", status=503)
        station.make()
        station.send()
        tried = station.message(number).attempts
        for _ in range(5):
            station.send()
        assert station.message(number).attempts == tried <= 2
        station.simulator.control("DELETE", "/faults")
        rested_out()
        clock.advance(minutes=6)
        station.send()
        assert station.states(number) == ["accepted"]

    def test_a_retry_does_not_come_at_night(self, station: Station, clock: Clock) -> None:
        clock.set_to(datetime(2027, 1, 15, 17, 58, tzinfo=UTC))
        number = station.paid()
        station.simulator.add_fault("/sms/*", status=500)
        station.make()
        station.send()
        message = station.message(number)
        assert message.state == "failed"
        assert message.last_error == "its day is over: answered 500"

    def test_a_message_left_over_from_yesterday_is_not_sent(
        self, station: Station, clock: Clock
    ) -> None:
        number = station.paid()
        station.make()
        clock.advance(days=1)
        station.send()
        assert station.sent(number) == []
        assert station.message(number).last_error == "its day is over"

    def test_one_bad_message_stops_nobody(self, station: Station) -> None:
        numbers = [station.paid() for _ in range(3)]
        station.script(numbers[1], then="rejected")
        station.day()
        assert [station.states(number) for number in numbers] == [
            ["accepted"],
            ["failed"],
            ["accepted"],
        ]


def test_gateways_are_used_in_turn(station: Station) -> None:
    for _ in range(10):
        station.subscribe()
    station.day()
    counts = station.gateways()
    assert {name: one["accepted"] for name, one in counts.items()} == {"first": 5, "second": 5}


def test_accepted_without_a_receipt_for_three_days_is_expired(
    station: Station, clock: Clock
) -> None:
    number = station.paid()
    station.day()
    clock.advance(days=2, hours=23)
    with transaction():
        assert expire_some() == 0
    clock.advance(hours=2)
    with transaction():
        assert expire_some() == 1
    assert station.states(number) == ["expired"]


class TestLists:
    def test_messages_are_listed_and_shown_with_all_that_was_heard(
        self, station: Station, operator: FlaskClient
    ) -> None:
        first, second = station.paid(), station.paid()
        station.script(first, "busy")
        station.day()
        listed = operator.get(f"/api/messages?msisdn={first[1:]}&date=2027-01-15&state=accepted")
        assert [one["msisdn"] for one in listed.json["data"]] == [first]
        assert operator.get("/api/messages").json["pagination"]["total"] == 2
        assert operator.get("/api/messages?state=failed").json["data"] == []
        shown = operator.get(f"/api/messages/{listed.json['data'][0]['id']}").json["data"]
        assert shown["date"] == "2027-01-15"
        assert [one["status"] for one in shown["events"]] == ["not_taken", "accepted"]
        assert second not in str(shown)

    def test_a_run_is_counted(self, station: Station, operator: FlaskClient) -> None:
        numbers = [station.paid() for _ in range(3)]
        station.script(numbers[0], then="rejected")
        station.day()
        assert operator.get("/api/messages/runs/2027-01-15").json["data"] == {
            "date": "2027-01-15",
            "due": 3,
            "sent": 3,
            "accepted": 2,
            "delivered": 0,
            "failed": 1,
            "expired": 0,
            "pending": 0,
            "no_forecast": 0,
        }

    @pytest.mark.parametrize(
        ("path", "status"),
        [
            ("/api/messages/runs/15.01.2027", 404),
            ("/api/messages?date=yesterday", 400),
            ("/api/messages?state=lost", 400),
            ("/api/messages?msisdn=12ab", 400),
            ("/api/messages?colour=red", 400),
            ("/api/messages/00000000-0000-7000-8000-000000000000", 404),
            ("/api/messages/not-a-uuid", 404),
        ],
    )
    def test_what_cannot_be_listed(
        self, station: Station, operator: FlaskClient, path: str, status: int
    ) -> None:
        answer = operator.get(path)
        assert answer.status_code == status
        assert answer.mimetype == "application/problem+json"


def test_a_run_by_hand_goes_on_where_a_worker_died(
    station: Station, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers = [station.subscribe() for _ in range(7)]
    station.bill()
    monkeypatch.setattr(generate, "AT_ONCE", 3)
    station.trigger()
    with transaction():
        generate.make_some_of_run()
    assert len(station.messages()) == 3
    station.make()
    station.send()
    assert [len(station.sent(number)) for number in numbers] == [1] * 7


def test_a_stop_that_comes_while_messages_are_made_is_kept(
    app: Flask, station: Station, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop() -> None:
        with transaction():
            service.hear_inbound(number, "STOP")

    number, other = station.paid(), station.paid()
    select = queries.due_recipients

    def select_then_stop(now: datetime, limit: int) -> Any:
        found = select(now, limit)
        monkeypatch.setattr(queries, "due_recipients", select)
        at_once(app, stop)
        return found

    monkeypatch.setattr(queries, "due_recipients", select_then_stop)
    station.make()
    station.send()

    assert (station.subscriber(number).state, station.sent(number)) == ("stopped", [])
    assert station.subscriber(number).next_message_at is None
    assert len(station.sent(other)) == 1
    assert station.subscriber(other).next_message_at is not None


def test_a_year_of_days_changes_with_summer(station: Station, clock: Clock) -> None:
    """Berlin goes to summer time: eight o'clock stays eight o'clock, one message a date."""
    clock.set_to(datetime(2027, 3, 26, 12, tzinfo=UTC))
    number = station.paid(zone="Europe/Berlin", plan="weekly")
    for _ in range(5):
        station.day()
        planned = station.subscriber(number).next_message_at
        assert planned is not None
        assert local(planned, "Europe/Berlin").endswith("08:00")
        clock.set_to(planned + timedelta(seconds=5))
    dates = [one.local_date for one in station.messages(number)]
    assert dates == [date(2027, 3, 26) + timedelta(days=n) for n in range(5)]
