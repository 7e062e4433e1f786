"""Gateways: what each answer means, who is used next, who rests, and how Twilio proves itself."""

import time
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import pytest
from flask.testing import FlaskClient

from project.config.environment import get_settings
from project.core import clock as product_clock
from project.core.net import http_client
from project.weather.gateways import registry
from project.weather.gateways.base import Accepted, Gateway, NotTaken, Refused, Sms, Unknown
from project.weather.gateways.http import HttpGateway
from project.weather.gateways.twilio import Twilio
from project.weather.settings import SmsSettings
from simulator.client import SimulatorClient
from simulator.sms import TWILIO_TOKEN, twilio_signature
from tests.conftest import ChangeSettings
from tests.processes import free_port
from tests.time_machine import Clock
from tests.weather.messages.station import Station, rested_out

NUMBER = "+79001112233"


def sms(msgid: str = "m1", **changes: Any) -> Sms:
    values = {
        "msgid": msgid,
        "msisdn": NUMBER,
        "text": "Sunny",
        "callback": "http://127.0.0.1:9/",
        "made_at": product_clock.now(),
    }
    return Sms(**(values | changes))


def send(gateway: Gateway, message: Sms) -> Any:
    return http_client.start(gateway.send(message)).result()


def twilio_url(simulator: SimulatorClient) -> str:
    host = urlsplit(simulator.base_url).netloc
    return f"twilio+http://AC1:{TWILIO_TOKEN}@{host}/twilio?from=%2B15005550006"


@pytest.fixture(params=["http", "twilio"])
def gateway(request: pytest.FixtureRequest, simulator: SimulatorClient, clock: Clock) -> Gateway:
    """Each adapter in turn."""
    if request.param == "twilio":
        return Twilio(twilio_url(simulator), deadline_seconds=2)
    return HttpGateway("a", f"{simulator.base_url}/sms/a/messages", deadline_seconds=2)


def script(simulator: SimulatorClient, *outcomes: str) -> None:
    simulator.control("PUT", f"/sms/numbers/{NUMBER}", {"outcomes": list(outcomes)})


def accepted(simulator: SimulatorClient) -> int:
    count: int = simulator.control("GET", "/sms")["accepted"]
    return count


class TestEveryAdapter:
    def test_a_message_is_accepted(self, gateway: Gateway, simulator: SimulatorClient) -> None:
        word = send(gateway, sms())
        assert isinstance(word, Accepted)
        listed = simulator.control("GET", "/sms/messages")["items"]
        assert [(one["msisdn"], one["text"]) for one in listed] == [(NUMBER, "Sunny")]
        assert word.reference == listed[0]["reference"]

    @pytest.mark.parametrize("reason", ["unknown_number", "opted_out"])
    def test_a_permanent_refusal(
        self, gateway: Gateway, simulator: SimulatorClient, reason: str
    ) -> None:
        script(simulator, f"rejected:{reason}")
        word = send(gateway, sms())
        assert isinstance(word, Refused)
        assert word.reason == reason

    def test_a_busy_one_has_not_taken_it(
        self, gateway: Gateway, simulator: SimulatorClient
    ) -> None:
        script(simulator, "busy")
        assert isinstance(send(gateway, sms()), NotTaken)
        assert accepted(simulator) == 0

    @pytest.mark.parametrize(
        "fault",
        [{"status": 500}, {"drop": "after"}, {"body": "accepted"}, {"body": "[]"}, {"body": "{}"}],
    )
    def test_what_may_have_been_sent_is_unknown(
        self, gateway: Gateway, simulator: SimulatorClient, fault: dict[str, Any]
    ) -> None:
        simulator.add_fault("/sms/*", **fault)
        simulator.add_fault("/twilio/*", **fault)
        assert isinstance(send(gateway, sms()), Unknown)

    def test_a_hanging_one_is_not_waited_for(self, simulator: SimulatorClient) -> None:
        simulator.add_fault("/*", delay_seconds=2)
        plain = HttpGateway("a", f"{simulator.base_url}/sms/a/messages", deadline_seconds=0.2)
        twilio = Twilio(twilio_url(simulator), deadline_seconds=0.2)
        for one in (plain, twilio):
            word = send(one, sms())
            assert isinstance(word, Unknown)
            assert word.reason == "no answer within 0.2 s"

    def test_what_was_lost_is_sent_once(self, gateway: Gateway, simulator: SimulatorClient) -> None:
        simulator.add_fault("/*", drop="after")
        assert isinstance(send(gateway, sms()), Unknown)
        simulator.control("DELETE", "/faults")
        before = accepted(simulator)
        word = send(gateway, sms(is_repeated=True))
        assert isinstance(word, Accepted)
        assert accepted(simulator) == before

    def test_what_never_arrived_is_sent_now(
        self, gateway: Gateway, simulator: SimulatorClient
    ) -> None:
        assert isinstance(send(gateway, sms(is_repeated=True)), Accepted)
        assert accepted(simulator) == 1


def test_nobody_there_has_surely_not_taken_it(clock: Clock) -> None:
    port = free_port()
    plain = HttpGateway("a", f"http://127.0.0.1:{port}/", deadline_seconds=2)
    twilio = Twilio(f"twilio+http://AC1:t@127.0.0.1:{port}?from=1", deadline_seconds=2)
    assert isinstance(send(plain, sms()), NotTaken)
    assert isinstance(send(twilio, sms()), NotTaken)


def test_names_hold_no_credentials(simulator: SimulatorClient) -> None:
    assert "token" not in Twilio(twilio_url(simulator), deadline_seconds=1).name
    made = registry._gateway("https://user:secret@gateway.example/send?key=secret", "token", 1)
    assert made.name == "gateway.example/send"


class Named:
    def __init__(self, name: str) -> None:
        self.name = name

    async def send(self, sms: Sms) -> Any:
        raise NotImplementedError


class TestRotation:
    @pytest.fixture
    def rotation(self) -> registry.Rotation:
        return registry.Rotation(tuple(Named(name) for name in "abc"), rest_seconds=60)

    def names(self, rotation: registry.Rotation, count: int) -> str:
        return "".join(one.name for _ in range(count) if (one := rotation.next()))

    def test_each_has_its_turn(self, rotation: registry.Rotation) -> None:
        assert sorted(self.names(rotation, 6)) == list("aabbcc")

    def test_one_that_failed_rests(self, rotation: registry.Rotation) -> None:
        rotation.rest("b")
        assert set(self.names(rotation, 6)) == {"a", "c"}
        assert rotation.is_resting("b")
        rotation.wake_up()
        assert set(self.names(rotation, 6)) == {"a", "b", "c"}

    def test_the_rest_ends_by_itself(self) -> None:
        rotation = registry.Rotation((Named("a"),), rest_seconds=0)
        rotation.rest("a")
        assert self.names(rotation, 1) == "a"

    def test_all_may_rest(self, rotation: registry.Rotation) -> None:
        for name in "abc":
            rotation.rest(name)
        assert rotation.next() is None
        assert not rotation.is_one_fit()


class TestTwilioReceipts:
    @pytest.fixture
    def number(
        self, station: Station, simulator: SimulatorClient, change_settings: ChangeSettings
    ) -> str:
        change_settings(sms_gateways=(twilio_url(simulator),))
        number = station.paid()
        station.day()
        assert station.states(number) == ["accepted"]
        return number

    def receipt(self, station: Station, number: str) -> tuple[str, dict[str, str]]:
        message = station.message(number)
        assert message.gateway_ref is not None
        url = f"{get_settings(SmsSettings).sms_receipt_url}?msgid={message.id}"
        return url, {"MessageSid": message.gateway_ref, "MessageStatus": "delivered"}

    def post(self, client: FlaskClient, url: str, form: dict[str, str], signature: str) -> int:
        path = f"/api/subscribers/callback/?{urlsplit(url).query}"
        answer = client.post(path, data=form, headers={"X-Twilio-Signature": signature})
        return answer.status_code

    def test_a_signed_receipt_delivers(
        self, station: Station, client: FlaskClient, number: str
    ) -> None:
        url, form = self.receipt(station, number)
        assert self.post(client, url, form, twilio_signature(url, form)) == 204
        assert station.states(number) == ["delivered"]

    def test_another_signature_is_not_heard(
        self, station: Station, client: FlaskClient, number: str
    ) -> None:
        url, form = self.receipt(station, number)
        signature = twilio_signature(url, form)
        assert self.post(client, url, {**form, "MessageStatus": "failed"}, signature) == 401
        assert self.post(client, url, form, "") == 401
        assert self.post(client, url, form, "AAAA") == 401
        assert self.post(client, url + "&x=1", form, signature) == 401
        assert station.states(number) == ["accepted"]

    def test_the_simulated_twilio_calls_back(
        self,
        station: Station,
        simulator: SimulatorClient,
        change_settings: ChangeSettings,
    ) -> None:
        change_settings(sms_gateways=(twilio_url(simulator),))
        simulator.control("PUT", "/sms/settings", {"receipt_after_seconds": 0.01})
        number = station.paid()
        station.day()
        deadline = time.monotonic() + 10
        while station.states(number) != ["delivered"]:
            assert time.monotonic() < deadline, station.events(number)
            time.sleep(0.02)


class TestAMessageIsFoundByItsTime:
    """Twilio knows no key: what went to the number since the message was made is the message."""

    def twilio(self, simulator: SimulatorClient, **changes: str) -> Twilio:
        url = twilio_url(simulator)
        for old, new in changes.items():
            url = url.replace(old, new)
        return Twilio(url, deadline_seconds=2)

    def test_yesterdays_same_words_are_not_todays_message(
        self, simulator: SimulatorClient, clock: Clock
    ) -> None:
        twilio = self.twilio(simulator)
        assert isinstance(send(twilio, sms()), Accepted)
        clock.advance(hours=23)
        word = send(twilio, sms("m2", is_repeated=True))
        assert isinstance(word, Accepted)
        assert accepted(simulator) == 2

    def test_what_was_taken_is_found_though_its_words_were_changed(
        self, simulator: SimulatorClient, clock: Clock
    ) -> None:
        """A carrier's filter or Twilio's own encoding may have changed a sign of it."""
        twilio = self.twilio(simulator)
        made = send(twilio, sms(text="Sunny"))
        clock.advance(minutes=40)
        found = send(
            twilio,
            sms(text="Sunny…", is_repeated=True, made_at=clock.now() - timedelta(minutes=41)),
        )
        assert found.reference == made.reference
        assert accepted(simulator) == 1

    def test_what_another_sender_sent_is_not_ours(
        self, simulator: SimulatorClient, clock: Clock
    ) -> None:
        other = self.twilio(simulator, **{"15005550006": "15005550009"})
        assert isinstance(send(other, sms()), Accepted)
        assert isinstance(send(self.twilio(simulator), sms(is_repeated=True)), Accepted)
        assert accepted(simulator) == 2

    def test_a_lost_request_is_made_again_on_the_day_after(
        self, simulator: SimulatorClient, clock: Clock, station: Station,
        change_settings: ChangeSettings,
    ) -> None:  # fmt: skip
        change_settings(sms_gateways=(twilio_url(simulator),))
        number = station.paid()
        station.day()
        clock.advance(days=1)
        station.simulator.add_fault("/twilio/*", drop="before")
        station.day()
        station.simulator.control("DELETE", "/faults")
        clock.advance(minutes=6)
        rested_out()
        station.day()
        assert len(station.sent(number)) == 2


@pytest.mark.parametrize(
    ("tokens", "told"),
    [((), [None, None]), (("for-all-of-them",), ["for-all-of-them"] * 2),
     (("the-first-one", "the-second-one"), ["the-first-one", "the-second-one"])],
)  # fmt: skip
def test_a_plain_gateway_is_told_its_own_token(
    tokens: tuple[str, ...], told: list[str | None], change_settings: ChangeSettings
) -> None:
    change_settings(
        sms_gateways=("http://a.example/send", "http://b.example/send"), sms_gateway_tokens=tokens
    )
    gateways = [registry.rotation().named(name) for name in ("a.example/send", "b.example/send")]
    assert [one.headers.get("Auth-Key") for one in gateways] == told
