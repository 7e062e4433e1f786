"""Who may send clicks: signatures, sources with their own secret, addresses, rates."""

import ipaddress

import pytest
from flask import Flask

from project.clicks.intake import rate_limit, signatures, sources
from project.clicks.intake.signatures import HEADER, is_signed_by, signature_of
from project.core.db.transaction import transaction
from project.core.loop import finish
from project.core.secrets import new_token
from tests.api.problems import assert_problem
from tests.clicks.conftest import BATCH, SECRET, WEBHOOK, Sender, value
from tests.conftest import ChangeSettings

GITHUB_SECRET = "It's a Secret to Everybody"
GITHUB_BODY = b"Hello, World!"
GITHUB_SIGNATURE = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"


def test_a_signature_is_githubs() -> None:
    assert signature_of(GITHUB_SECRET, GITHUB_BODY) == GITHUB_SIGNATURE
    assert is_signed_by(GITHUB_SIGNATURE, [GITHUB_SECRET], GITHUB_BODY)


@pytest.mark.parametrize(
    "given",
    [
        GITHUB_SIGNATURE.upper(),
        "sha256=" + GITHUB_SIGNATURE.removeprefix("sha256=").upper(),
        "SHA256=" + GITHUB_SIGNATURE.removeprefix("sha256="),
        GITHUB_SIGNATURE.removeprefix("sha256="),
        "sha1=" + GITHUB_SIGNATURE.removeprefix("sha256="),
        GITHUB_SIGNATURE[:-1],
        GITHUB_SIGNATURE + "0",
        f" {GITHUB_SIGNATURE}",
        "sha256=",
        "",
        "sha256=ü",
        "sha256=\udc80",
        "\0",
        "x" * 100_000,
    ],
)
def test_anything_else_is_not(given: str) -> None:
    assert not is_signed_by(given, [GITHUB_SECRET, "another"], GITHUB_BODY)


def test_another_body_or_secret_does_not_fit() -> None:
    assert not is_signed_by(GITHUB_SIGNATURE, [GITHUB_SECRET], b"Hello, World?")
    assert not is_signed_by(GITHUB_SIGNATURE, [GITHUB_SECRET.lower()], GITHUB_BODY)
    assert not is_signed_by(GITHUB_SIGNATURE, [], GITHUB_BODY)


@pytest.mark.parametrize("path", [WEBHOOK, BATCH])
@pytest.mark.parametrize("given", [None, "", "sha256=00", "Bearer x", "sha256=\u00e9"])
def test_without_its_signature_a_webhook_is_refused_unread(
    sender: Sender, path: str, given: str | None
) -> None:
    headers = {"Content-Type": "application/json"} | ({} if given is None else {HEADER: given})
    answer = sender.client.post(path, data=b"{broken", headers=headers)
    assert_problem(answer, 401)


def test_the_body_is_signed_byte_by_byte(sender: Sender) -> None:
    signed = {HEADER: signature_of(SECRET, b'{"click_id":"1"}')}
    answer = sender.client.post(
        WEBHOOK, data=b'{"click_id": "1"}', headers=signed, content_type="application/json"
    )
    assert_problem(answer, 401)


def test_while_a_secret_is_replaced_both_are_good(
    sender: Sender, change_settings: ChangeSettings
) -> None:
    change_settings(click_webhook_secrets=("the-new-secret", SECRET))
    assert sender.send(sender.click("c-1")).status_code == 202
    assert sender.send(sender.click("c-2"), secret="the-new-secret").status_code == 202
    change_settings(click_webhook_secrets=("the-new-secret",))
    assert_problem(sender.send(sender.click("c-3")), 401)


@pytest.fixture
def own_secret(app: Flask) -> str:
    """The secret that the source `partner` has to itself."""
    with transaction():
        secret = sources.add_source("partner")
    signatures.own_secrets.forget()
    return secret


def test_a_source_with_its_own_secret_signs_with_it(sender: Sender, own_secret: str) -> None:
    click = sender.click(source="partner")
    assert sender.send(click, secret=own_secret).status_code == 202
    assert_problem(sender.send(click), 400, "source")
    assert_problem(sender.send(click, secret=new_token("clk")), 401)


def test_its_secret_signs_for_nobody_else(sender: Sender, own_secret: str) -> None:
    assert_problem(sender.send(sender.click(source="google"), secret=own_secret), 400, "source")
    answer = sender.send_batch(
        [sender.click("c-1", source="partner"), sender.click("c-2", source="google")],
        secret=own_secret,
    )
    assert [bad["index"] for bad in answer.get_json()["errors"]] == [1]
    assert answer.get_json()["processed"] == 1


def test_a_source_that_lost_its_secret_is_signed_for_by_the_common_one(
    sender: Sender, own_secret: str
) -> None:
    with transaction():
        sources.remove_source("partner")
    signatures.own_secrets.forget()
    click = sender.click(source="partner")
    assert sender.send(click).status_code == 202
    assert_problem(sender.send(click, secret=own_secret), 401)


def test_secrets_of_sources_are_kept_encrypted(own_secret: str) -> None:
    sealed = bytes(value("SELECT sealed_secret FROM click_sources"))
    assert own_secret.encode() not in sealed


class TestAddresses:
    @pytest.mark.parametrize(
        ("address", "status"),
        [
            ("203.0.113.7", 202),
            ("::ffff:203.0.113.7", 202),
            ("2001:db8::1", 202),
            ("203.0.114.1", 403),
            ("127.0.0.1", 403),
            ("::1", 403),
        ],
    )
    def test_only_the_listed_networks_may_send(
        self, sender: Sender, change_settings: ChangeSettings, address: str, status: int
    ) -> None:
        networks = tuple(map(ipaddress.ip_network, ("203.0.113.0/24", "2001:db8::/32")))
        change_settings(click_webhook_allowed_networks=networks)
        assert sender.send(sender.click(), address=address).status_code == status

    def test_a_header_does_not_change_the_address(
        self, sender: Sender, change_settings: ChangeSettings
    ) -> None:
        change_settings(click_webhook_allowed_networks=(ipaddress.ip_network("203.0.113.0/24"),))
        headers = {"X-Forwarded-For": "203.0.113.7", "X-Real-IP": "203.0.113.7"}
        assert_problem(sender.send(sender.click(), headers=headers), 403)


class TestRates:
    def test_past_the_limit_an_address_is_asked_to_wait(
        self, sender: Sender, change_settings: ChangeSettings
    ) -> None:
        change_settings(click_webhook_rate_limit="5/hour")
        answers = [sender.send(sender.click(f"c-{number}")) for number in range(7)]
        assert [answer.status_code for answer in answers] == [202] * 5 + [429] * 2
        assert 0 < int(answers[-1].headers["Retry-After"]) <= 3600
        assert sender.send(sender.click("c-9"), address="127.0.0.2").status_code == 202

    def test_all_processes_together_keep_it(self, app: Flask) -> None:
        one, other = rate_limit.Allowance(), rate_limit.Allowance()
        taken = 0
        for allowance in (one, other) * 60:
            try:
                finish(allowance.spend("192.0.2.1", "40/hour"))
            except rate_limit.TooManyRequests:
                continue
            taken += 1
        assert taken == 40

    @pytest.mark.usefixtures("redis_away")
    def test_without_redis_clicks_are_still_taken(self, sender: Sender) -> None:
        answers = [sender.send(sender.click(f"c-{number}")) for number in range(5)]
        assert [answer.status_code for answer in answers] == [202] * 5
