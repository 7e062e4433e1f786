"""Receipts move a message forward, whenever and how often they come; STOP is for ever."""

import itertools
import threading
import time
from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import select

from project.config.environment import get_settings
from project.core.db.transaction import transaction
from project.core.work import pump
from project.weather.messages import service
from project.weather.messages.jobs import expire_messages
from project.weather.messages.receipts import SelfReceipts
from project.weather.models import MessageEvent, SmsStop
from project.weather.settings import SmsSettings
from tests.conftest import ChangeSettings
from tests.time_machine import Clock
from tests.weather.messages.station import Station

PATHS = (
    "/api/subscribers/callback/",
    "/subscriptions/api/v1/subscriptions/callback",
    "/subscription/api/v1/subscription/callback/",
)


def secret() -> str:
    return get_settings(SmsSettings).sms_receipt_secret


def tell(client: FlaskClient, msgid: object, status: str, **body: Any) -> int:
    answer = client.post(
        f"/api/subscribers/callback/?secret={secret()}",
        json={"msgid": str(msgid), "status": status, **body},
    )
    return answer.status_code


@pytest.fixture
def number(station: Station) -> str:
    """A number whose message was accepted."""
    number = station.paid()
    station.day()
    return number


def test_a_receipt_delivers(station: Station, client: FlaskClient, number: str) -> None:
    assert tell(client, station.message(number).id, "delivered") == 204
    message = station.message(number)
    assert message.state == "delivered"
    assert message.delivered_at is not None
    assert message.due_at is None
    assert station.events(number) == [("answer", "accepted"), ("receipt", "delivered")]


@pytest.mark.parametrize("path", PATHS)
def test_the_secret_comes_in_the_url_or_a_header(
    station: Station, client: FlaskClient, number: str, path: str
) -> None:
    receipt = {"msgid": str(station.message(number).id), "status": "delivered"}
    header = {"X-Callback-Secret": secret()}
    assert client.post(path, json=receipt, headers=header).status_code == 204
    assert client.post(f"{path}?secret={secret()}", data=receipt).status_code == 204
    assert station.states(number) == ["delivered"]


@pytest.mark.parametrize("given", [None, "", "wrong", "\udce4"])
def test_without_its_secret_it_is_not_heard(
    station: Station, client: FlaskClient, number: str, given: str | None
) -> None:
    receipt = {"msgid": str(station.message(number).id), "status": "delivered"}
    query = {} if given is None else {"secret": given.encode("utf-8", "replace").decode()}
    answer = client.post("/api/subscribers/callback/", json=receipt, query_string=query)
    assert answer.status_code == 401
    assert answer.mimetype == "application/problem+json"
    assert secret() not in answer.text
    assert station.states(number) == ["accepted"]


@pytest.mark.parametrize("order", list(itertools.permutations(["sent", "delivered", "failed"])))
def test_in_any_order_and_doubled_delivered_is_the_last_word(
    station: Station, client: FlaskClient, number: str, order: tuple[str, ...]
) -> None:
    msgid = station.message(number).id
    for status in order + order:
        assert tell(client, msgid, status) == 204
    assert station.states(number) == ["delivered"]
    assert sorted(status for kind, status in station.events(number) if kind == "receipt") == [
        "delivered",
        "failed",
        "sent",
    ]


def test_a_receipt_that_says_failed(station: Station, client: FlaskClient, number: str) -> None:
    tell(client, station.message(number).id, "undelivered")
    message = station.message(number)
    assert (message.state, message.last_error) == ("failed", "the receipt says undelivered")


def test_a_receipt_may_be_faster_than_the_answer(station: Station, client: FlaskClient) -> None:
    number = station.paid()
    station.make()
    tell(client, station.message(number).id, "delivered")
    station.send()
    message = station.message(number)
    assert (message.state, station.sent(number)) == ("delivered", [])
    assert message.accepted_at is not None


def test_a_receipt_during_the_call_is_not_undone_by_the_answer(
    station: Station, client: FlaskClient
) -> None:
    number = station.paid()
    station.make()
    station.simulator.control("PUT", "/settings", {"latency_seconds": {"/sms/*": 0.5}})
    sender = threading.Thread(target=_send_in_context, args=(client, station))
    sender.start()
    deadline = time.monotonic() + 5
    while station.message(number).claim_id is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    tell(client, station.message(number).id, "delivered")
    sender.join()
    assert station.states(number) == ["delivered"]


def _send_in_context(client: FlaskClient, station: Station) -> None:
    with client.application.app_context():
        station.send()


def test_a_receipt_after_expiry_still_counts(
    station: Station, client: FlaskClient, clock: Clock, number: str
) -> None:
    clock.advance(days=4)
    assert expire_messages() == 1
    tell(client, station.message(number).id, "delivered")
    assert station.states(number) == ["delivered"]


@pytest.mark.parametrize("msgid", ["nobody's", "00000000-0000-7000-8000-000000000000", "x" * 200])
def test_an_unknown_msgid_is_kept(client: FlaskClient, station: Station, msgid: str) -> None:
    assert tell(client, msgid, "delivered", network="MTS") == 204
    assert tell(client, msgid, "delivered", network="MTS") == 204
    with transaction() as session:
        kept = session.scalars(select(MessageEvent)).all()
        assert [(one.msgid, one.message_id, one.status) for one in kept] == [
            (msgid, None, "delivered")
        ]
        assert '"network": "MTS"' in kept[0].body


@pytest.mark.parametrize(
    "receipt",
    [
        {},
        {"msgid": "x"},
        {"status": "delivered"},
        {"msgid": "", "status": "delivered"},
        {"msgid": "x" * 201, "status": "delivered"},
        {"msgid": "x", "status": "s" * 51},
        {"msgid": "a\u0000b", "status": "delivered"},
        {"msgid": 7, "status": "delivered"},
        {"msgid": "x", "status": ["delivered"]},
    ],
)
def test_a_receipt_that_is_none(client: FlaskClient, receipt: dict[str, Any]) -> None:
    answer = client.post(f"/api/subscribers/callback/?secret={secret()}", json=receipt)
    assert answer.status_code == 400


def test_the_gateways_receipts_come_to_the_api(station: Station) -> None:
    station.simulator.control(
        "PUT", "/sms/settings", {"receipt_after_seconds": 0.01, "receipt_times": 2}
    )
    numbers = [station.subscribe() for _ in range(5)]
    station.script(numbers[0], then="undeliverable")
    station.day()
    deadline = time.monotonic() + 10
    wanted = [["failed"], *[["delivered"]] * 4]
    while [station.states(number) for number in numbers] != wanted:
        assert time.monotonic() < deadline, [station.states(number) for number in numbers]
        time.sleep(0.02)


class TestSelfCallback:
    def test_a_worker_sends_the_receipt_to_ourselves(
        self, station: Station, change_settings: ChangeSettings
    ) -> None:
        change_settings(self_callback=True)
        number = station.paid()
        station.day()
        assert station.states(number) == ["accepted"]
        pump.run(SelfReceipts())
        assert station.states(number) == ["delivered"]
        assert not SelfReceipts().is_anything_due()

    def test_it_is_tried_again_when_the_api_is_away(
        self, station: Station, change_settings: ChangeSettings, clock: Clock
    ) -> None:
        url = get_settings(SmsSettings).sms_receipt_url
        change_settings(self_callback=True, sms_receipt_url="http://127.0.0.1:9/callback/")
        number = station.paid()
        station.day()
        pump.run(SelfReceipts())
        assert station.states(number) == ["accepted"]
        change_settings(sms_receipt_url=url)
        clock.advance(minutes=6)
        pump.run(SelfReceipts())
        assert station.states(number) == ["delivered"]

    def test_it_is_off_unless_asked_for(self, station: Station, number: str) -> None:
        pump.run(SelfReceipts())
        assert station.states(number) == ["accepted"]


class TestStop:
    def say(self, client: FlaskClient, number: str, text: str) -> Any:
        answer = client.post(
            f"/api/subscribers/inbound?secret={secret()}", json={"msisdn": number, "text": text}
        )
        assert answer.status_code == 200, answer.json
        return answer.json["action"]

    @pytest.mark.parametrize(
        "text",
        [
            "STOP",
            "stop",
            " Stop! ",
            "СТОП",
            "стоп.",
            "DUR",
            "dur",
            "Unsubscribe",
            "END",
            "quit",
            "STOP please",
            "STOPALL",
            "cancel",
        ],
    )
    def test_it_ends_the_subscription(
        self, station: Station, client: FlaskClient, clock: Clock, text: str
    ) -> None:
        number = station.paid()
        assert self.say(client, number, text) == "stopped"
        assert station.subscriber(number).state == "stopped"
        for _ in range(3):
            station.day()
            clock.advance(days=1)
        assert station.sent(number) == []
        assert station.charges(number) == ["charged"]

    @pytest.mark.parametrize(
        "written", [" {}{}", "00{}{}", "{} {}", "+{}-{}", "({}) {}", "00 {} {} "]
    )
    def test_it_is_heard_however_the_number_is_written(
        self, station: Station, client: FlaskClient, written: str
    ) -> None:
        number = station.paid()
        digits = number.removeprefix("+")

        assert self.say(client, written.format(digits[:2], digits[2:]), "STOP") == "stopped"
        assert station.subscriber(number).state == "stopped"

    @pytest.mark.parametrize(
        "text", ["", "hello", "stopwatch", "the end", "end of the month?", "don't stop", "👍"]
    )
    def test_anything_else_is_ignored(
        self, station: Station, client: FlaskClient, text: str
    ) -> None:
        number = station.paid()
        assert self.say(client, number, text) == "ignored"
        assert station.subscriber(number).state == "active"

    def test_it_ends_what_waits_to_be_sent(self, station: Station, client: FlaskClient) -> None:
        number = station.paid()
        station.make()
        self.say(client, number, "STOP")
        station.send()
        assert station.sent(number) == []
        assert station.states(number) == ["failed"]

    def test_it_is_kept_for_numbers_that_nobody_knows(
        self, station: Station, client: FlaskClient
    ) -> None:
        assert self.say(client, "79001112233", "STOP") == "stopped"
        assert self.say(client, "+79001112233", "stop") == "stopped"
        with transaction() as session:
            stops = session.scalars(select(SmsStop)).all()
            assert [(one.msisdn, one.text) for one in stops] == [("+79001112233", "STOP")]

    def test_nobody_brings_the_number_back(
        self, station: Station, client: FlaskClient, operator: FlaskClient
    ) -> None:
        number = station.paid()
        self.say(client, number, "STOP")
        body = {"msisdn": number, "lat": 55.0, "lon": 37.0, "plan": "daily"}
        assert operator.post("/api/subscribers", json=body).status_code == 409
        station.day()
        assert station.sent(number) == []

    def test_it_needs_the_secret(self, station: Station, client: FlaskClient) -> None:
        number = station.paid()
        answer = client.post("/api/subscribers/inbound", json={"msisdn": number, "text": "STOP"})
        assert answer.status_code == 401
        assert station.subscriber(number).state == "active"

    @pytest.mark.parametrize(
        "body", [{}, {"msisdn": "+7900"}, {"msisdn": "abc", "text": "STOP"}, {"text": "STOP"}]
    )
    def test_what_is_no_message(self, client: FlaskClient, body: dict[str, str]) -> None:
        answer = client.post(f"/api/subscribers/inbound?secret={secret()}", json=body)
        assert answer.status_code == 400


STATES_OF_SMPP = {
    "DELIVRD": "delivered",
    "EXPIRED": "failed",
    "DELETED": "failed",
    "UNDELIV": "failed",
    "REJECTD": "failed",
    "ACCEPTD": "accepted",
    "ENROUTE": "accepted",
    "UNKNOWN": "accepted",
}


@pytest.mark.parametrize("spelled", ["{}", " {} ", "{}\t", "lower", "title"])
def test_the_states_of_smpp_are_read_however_they_are_spelled(
    station: Station, spelled: str
) -> None:
    for word, state in STATES_OF_SMPP.items():
        number = station.paid()
        station.day()
        status = spelled.format(word) if "{" in spelled else getattr(word, spelled)()
        with transaction():
            service.hear_receipt(str(station.message(number).id), status, "{}")
        assert (word, station.message(number).state) == (word, state)
