"""A lack that has passed is made up on the same day; what may have been sent never comes twice."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from flask.testing import FlaskClient

from project.core.db.transaction import transaction
from project.core.work import pump
from project.weather.messages import service
from project.weather.messages.delivery import MessageDelivery
from tests.conftest import ChangeSettings
from tests.time_machine import Clock
from tests.weather.messages.station import Station, rested_out, send_after_pauses
from tests.weather.world import Operator

NOTHING = ["", " ", "NULL", "null", r"\N", "nan", "NaN", "None", "N/A", "n/a", "...", " . ", "-"]


def statuses(station: Station, number: str) -> list[tuple[str, str | None]]:
    return [(one.state, one.last_error) for one in station.messages(number)]


@pytest.mark.parametrize("by_hand", [False, True])
def test_a_forecast_that_comes_later_brings_the_message_of_the_day(
    station: Station, clock: Clock, by_hand: bool
) -> None:
    number = station.paid(plan="weekly")
    station.forecast(1, "NULL", "")
    station.day()
    assert statuses(station, number) == [("failed", "no forecast")]
    clock.advance(minutes=2)
    station.forecast(1, "Mild", "Fog")
    if by_hand:
        assert station.trigger() == 1
    else:
        clock.advance(minutes=5)
    station.day()
    assert [one["text"] for one in station.sent(number)] == [
        "Weather 24h: Mild. 48h: Fog. Reply STOP to end."
    ]
    assert statuses(station, number) == [("failed", "no forecast"), ("accepted", None)]
    for _ in range(3):
        clock.advance(minutes=10)
        station.trigger()
        station.day()
    assert len(station.sent(number)) == 1


def test_a_lack_that_stays_is_noted_once_a_day_and_counted_once(
    station: Station, clock: Clock, operator: FlaskClient
) -> None:
    number = station.paid(plan="weekly")
    station.change(number, forecast_gid=None)
    for _ in range(6):
        station.day()
        clock.advance(minutes=30)
    assert statuses(station, number) == [("failed", "no forecast")]
    station.change(number, forecast_gid=1)
    clock.advance(minutes=30)
    station.day()
    run = operator.get("/api/messages/runs/2027-01-15").json["data"]
    assert (run["due"], run["accepted"], run["no_forecast"], run["failed"]) == (1, 1, 0, 0)
    clock.set_to(datetime(2027, 1, 15, 19, 0, tzinfo=UTC))
    station.day()
    assert len(station.sent(number)) == 1


def test_a_lack_is_not_made_up_at_night_nor_on_the_next_day(station: Station, clock: Clock) -> None:
    number = station.paid(plan="weekly")
    station.change(number, forecast_gid=None)
    station.day()
    clock.set_to(datetime(2027, 1, 15, 18, 30, tzinfo=UTC))
    station.change(number, forecast_gid=1)
    station.trigger()
    station.day()
    assert station.sent(number) == []
    clock.set_to(datetime(2027, 1, 16, 5, 1, tzinfo=UTC))
    station.day()
    assert [str(one.local_date) for one in station.messages(number)] == ["2027-01-15", "2027-01-16"]
    assert len(station.sent(number)) == 1


@pytest.mark.parametrize("written", NOTHING)
def test_what_means_nothing_is_no_forecast(station: Station, written: str) -> None:
    number = station.paid(plan="weekly")
    station.forecast(1, written, written)
    station.day()
    assert statuses(station, number) == [("failed", "no forecast")]
    assert station.sent(number) == []


@pytest.mark.parametrize("has_left_when_claimed", [True, False])
def test_who_leaves_and_is_back_while_the_message_waits_gets_it(
    station: Station, clock: Clock, has_left_when_claimed: bool
) -> None:
    number = station.paid()
    station.make()
    station.change(number, state="canceled", next_message_at=None)
    if has_left_when_claimed:
        station.send()
        assert statuses(station, number) == [("failed", "subscribes no more")]
    station.change(number, state="active")
    station.day()
    assert len(station.sent(number)) == 1
    clock.advance(minutes=30)
    station.day()
    assert len(station.sent(number)) == 1


def test_who_is_back_before_the_message_was_given_up_is_looked_at_again(
    station: Station, clock: Clock
) -> None:
    """The run finds a message there that a worker may be about to give up, and looks again."""
    number = station.paid()
    station.make()
    station.change(number, state="active")
    station.bill()
    station.make()
    planned = station.subscriber(number).next_message_at
    assert planned is not None
    assert timedelta() < planned - clock.now() <= timedelta(minutes=5)
    station.send()
    clock.advance(minutes=6)
    station.day()
    assert len(station.sent(number)) == 1
    planned = station.subscriber(number).next_message_at
    assert planned is not None
    assert planned - clock.now() > timedelta(hours=12)


def test_who_is_deleted_and_added_again_while_the_message_waits_gets_it(
    station: Station, desk: Operator
) -> None:
    number = station.paid(plan="weekly")
    station.make()
    assert desk.client.delete(f"/api/subscribers/{number}").status_code == 204
    desk.subscriber(number, (55.0, 37.0), plan="weekly")
    station.day()
    assert len(station.sent(number)) == 1
    assert station.charges(number) == ["charged"]


def test_what_no_gateway_took_can_be_sent_by_hand(
    station: Station, clock: Clock, change_settings: ChangeSettings
) -> None:
    change_settings(sms_max_attempts=2)
    number = station.paid()
    station.simulator.add_fault("/sms/*", status=503)
    station.make()
    send_after_pauses(station, clock, times=4)
    assert station.states(number) == ["failed"]
    station.simulator.control("DELETE", "/faults")
    rested_out()
    station.day()
    assert station.sent(number) == []
    assert station.trigger() == 1
    station.day()
    assert len(station.sent(number)) == 1
    assert station.trigger() == 0


def test_what_may_have_been_sent_is_never_sent_again(
    station: Station, clock: Clock, change_settings: ChangeSettings
) -> None:
    """Given once and lost: a gateway that is busy afterwards has not said that it was not sent."""
    change_settings(sms_max_attempts=2)
    number = station.paid()
    station.simulator.add_fault("/sms/*", drop="after")
    station.make()
    station.send()
    station.simulator.control("DELETE", "/faults")
    station.simulator.add_fault("/sms/*", status=503)
    for _ in range(3):
        clock.advance(minutes=6)
        rested_out()
        station.send()
    station.simulator.control("DELETE", "/faults")
    rested_out()
    assert station.states(number) == ["failed"]
    assert station.trigger() == 0
    station.change(number, state="canceled")
    station.day()
    station.change(number, state="active")
    station.day()
    assert len(station.sent(number)) == 1


class TestTheText:
    def test_it_is_that_of_the_moment_of_sending(self, station: Station, clock: Clock) -> None:
        number = station.paid()
        station.simulator.add_fault("/sms/*", status=503)
        station.make()
        station.send()
        station.forecast(1, "STORM WARNING", "Storm")
        station.simulator.control("DELETE", "/faults")
        clock.advance(minutes=12)
        rested_out()
        station.send()
        texts = [one["text"] for one in station.sent(number)]
        assert texts == ["Weather 24h: STORM WARNING. 48h: Storm. Reply STOP to end."]
        assert station.message(number).text == texts[0]

    def test_what_was_lost_is_asked_for_with_the_same_text(
        self, station: Station, clock: Clock
    ) -> None:
        number = station.paid()
        station.simulator.add_fault("/sms/*", drop="before")
        station.make()
        station.send()
        given = station.message(number).text
        station.forecast(1, "Hail", "Hail")
        station.simulator.control("DELETE", "/faults")
        clock.advance(minutes=6)
        rested_out()
        station.send()
        assert [one["text"] for one in station.sent(number)] == [given]

    def test_a_bare_number_has_the_unit_of_the_language(
        self, station: Station, change_settings: ChangeSettings
    ) -> None:
        change_settings(forecast_units=(("en", "mm"), ("tr", "mm")))
        station.forecast(1, ".5", "0.05")
        numbers = [station.paid(language=language) for language in ("en", "tr", "ru")]
        station.day()
        assert [station.sent(number)[0]["text"] for number in numbers] == [
            "Weather 24h: 0.5 mm. 48h: 0.05 mm. Reply STOP to end.",
            "Hava 24s: 0.5 mm. 48s: 0.05 mm. Bitirmek icin DUR yazin.",
            "24ч: 0.5. 48ч: 0.05. Отказ: СТОП",
        ]

    def test_a_forecast_that_is_gone_is_waited_for(self, station: Station, clock: Clock) -> None:
        number = station.paid()
        station.make()
        station.forecast(1, "", "")
        station.send()
        assert statuses(station, number) == [("failed", "no forecast")]
        station.forecast(1, "Warm", "Warm")
        clock.advance(minutes=6)
        station.day()
        assert len(station.sent(number)) == 1


class TestRefusalsForGood:
    @pytest.mark.parametrize("reason", ["opted_out", "Opted-Out", "UNSUBSCRIBED"])
    def test_who_has_opted_out_at_the_gateway_has_said_stop(
        self, station: Station, clock: Clock, desk: Operator, reason: str
    ) -> None:
        number = station.paid()
        station.script(number, then=f"rejected:{reason}")
        station.day()
        assert station.subscriber(number).state == "stopped"
        for _ in range(2):
            clock.advance(days=1)
            station.day()
        assert station.charges(number) == ["charged"]
        body = {"msisdn": number, "lat": 55.0, "lon": 37.0, "plan": "daily"}
        assert desk.client.post("/api/subscribers", json=body).status_code == 409

    def test_an_unknown_number_is_charged_no_more_after_some_days(
        self, station: Station, clock: Clock, desk: Operator, change_settings: ChangeSettings
    ) -> None:
        change_settings(sms_refusal_limit=3)
        number = station.paid()
        station.script(number, then="rejected:unknown_number")
        for day in range(1, 6):
            station.day()
            station.trigger()
            station.day()
            assert desk.shown(number)["refused_messages"] == min(day, 3)
            clock.advance(days=1)
            station.bill()
        shown = desk.shown(number)
        assert (shown["state"], shown["end_reason"]) == ("canceled", "unreachable")
        assert len(station.charges(number)) == 3

    def test_only_refusals_in_a_row_count(
        self, station: Station, clock: Clock, change_settings: ChangeSettings
    ) -> None:
        change_settings(sms_refusal_limit=2)
        number = station.paid()
        station.script(number, "rejected", "accepted", "rejected", "accepted")
        for _ in range(4):
            station.day()
            clock.advance(days=1)
            station.bill()
        subscriber = station.subscriber(number)
        assert (subscriber.state, subscriber.refused_messages) == ("active", 0)

    def test_who_is_added_again_is_tried_again(
        self, station: Station, clock: Clock, desk: Operator, change_settings: ChangeSettings
    ) -> None:
        change_settings(sms_refusal_limit=1)
        number = station.paid(plan="weekly")
        station.script(number, "rejected")
        station.day()
        assert station.subscriber(number).end_reason == "unreachable"
        clock.advance(days=1)
        desk.client.patch(f"/api/subscribers/{number}", json={"state": "active"})
        station.day()
        subscriber = station.subscriber(number)
        assert (subscriber.state, subscriber.refused_messages) == ("active", 0)
        assert len(station.sent(number)) == 1
        assert station.charges(number) == ["charged"]

    @pytest.mark.parametrize(
        ("receipt", "state"),
        [
            ({"status": "failed", "reason": "opted_out"}, "stopped"),
            ({"MessageStatus": "undelivered", "ErrorCode": "21610"}, "stopped"),
            ({"MessageStatus": "undelivered", "ErrorCode": "30006"}, "canceled"),
            ({"status": "UNDELIV", "reason": "unknown_number"}, "canceled"),
            ({"status": "failed", "reason": "handset is off"}, "active"),
            ({"status": "failed", "reason": None}, "active"),
            ({"status": "delivered", "reason": "opted_out"}, "active"),
        ],
    )
    def test_a_receipt_may_say_so_too(
        self,
        station: Station,
        client: FlaskClient,
        change_settings: ChangeSettings,
        receipt: dict[str, Any],
        state: str,
    ) -> None:
        change_settings(sms_refusal_limit=1, sms_receipt_secret="s" * 30)
        number = station.paid()
        station.day()
        body = {"msgid": str(station.message(number).id), **receipt}
        for _ in range(2):
            path = "/api/subscribers/callback"
            answer = client.post(path, json=body, headers={"X-Callback-Secret": "s" * 30})
            assert answer.status_code == 204, answer.json
        assert station.subscriber(number).state == state


def test_a_stop_is_heard_though_its_message_failed_before(station: Station) -> None:
    number = station.paid(plan="weekly")
    station.change(number, forecast_gid=None)
    station.day()
    with transaction():
        service.hear_inbound(number, "revoke")
    station.change(number, forecast_gid=1)
    station.trigger()
    pump.run(MessageDelivery())
    assert station.sent(number) == []
