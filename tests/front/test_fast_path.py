"""The short way past Flask says what the long way says, to good calls and to bad ones."""

import json
from collections.abc import Callable
from itertools import count

import pytest
from flask import Flask

from project.clicks.intake.signatures import signature_of
from project.clicks.settings import DEVELOPMENT_WEBHOOK_SECRET
from project.core import fast_path
from tests.companies.shop import registration
from tests.faults.world import make_apps, seed_devices, token
from tests.front.conftest import Answered, Served, request
from tests.front.test_cut_bodies import click
from tests.support.stack import API_KEY

WEBHOOK = "/api/webhook/clicks"
CHECK = "/api/purchase/check"
COMPANY_CHECK = "/api/companies/check"
OWN_ID = "X-Request-ID: a-request-id-of-the-caller"
SHORT = "application/json"
LONG = "application/json; charset=utf-8"
numbers = count(70)


def both_ways(served: Served, path: str, body: bytes, *headers: str) -> tuple[Answered, Answered]:
    """Return the answers of the short and of the long way."""
    short, long = (
        served.ask(request(path, body, OWN_ID, *headers, kind=kind)) for kind in (SHORT, LONG)
    )
    assert short is not None
    assert long is not None
    return short, long


def assert_same(short: Answered, long: Answered) -> None:
    """Both say the same, but for the blanks between what they say, and the second."""
    assert short.status == long.status
    assert json.loads(short.body) == json.loads(long.body)
    differing = ("content-length", "date")
    one, other = (
        {name: value for name, value in answer.headers.items() if name not in differing}
        for answer in (short, long)
    )
    assert one == other


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"{", 400),
        (b"[]", 400),
        (b"", 400),
        (b'{"client-token": "nobody"}', 401),
        (b'{"client-token": 7}', 401),
        (b'{"client-token": ""}', 401),
        (b'{"client-token": "a", "more": 1}', 400),
        (b'{"client-token": "a", "client_token": "a"}', 400),
        (b'{"client-token": "\xff"}', 400),
    ],
)
def test_what_is_wrong_is_told_as_flask_tells_it(served: Served, body: bytes, status: int) -> None:
    short, long = both_ways(served, CHECK, body)

    assert short.status == status
    assert short.detail
    assert_same(short, long)


def signed(body: bytes) -> str:
    return f"X-Signature: {signature_of(DEVELOPMENT_WEBHOOK_SECRET, body)}"


def company_token(served: Served) -> str:
    """Register a company and return its token."""
    body = json.dumps(registration(next(numbers))).encode()
    registered = served.ask(request("/api/companies/register", body))
    assert registered is not None
    return str(json.loads(registered.body)["token"])


def clicks_good_and_bad(_served: Served) -> tuple[bytes, str]:
    batch = b'{"clicks": [%s, {"click_id": ""}]}' % click(next(numbers))
    return batch, signed(batch)


def one_click(_served: Served) -> tuple[bytes, str]:
    body = click(next(numbers))
    return body, signed(body)


def device(served: Served) -> tuple[bytes, str]:
    seed_devices(served.stack, make_apps(served.stack, 1), 1)
    return json.dumps({"client-token": token(1)}).encode(), "Accept: */*"


def company(served: Served) -> tuple[bytes, str]:
    return b"", f"Authorization: Bearer {company_token(served)}"


def anybody(_served: Served) -> tuple[bytes, str]:
    return b"", "Accept: */*"


GOOD: dict[tuple[str, str], Callable[[Served], tuple[bytes, str]]] = {
    ("POST", WEBHOOK): one_click,
    ("POST", WEBHOOK + "/batch"): clicks_good_and_bad,
    ("POST", CHECK): device,
    ("GET", COMPANY_CHECK): company,
    ("POST", COMPANY_CHECK): company,
    ("GET", "/api/health/live"): anybody,
    ("GET", "/health/live"): anybody,
}
"""A good call of each route of the fast path: its body, and a header that it needs."""


def test_every_route_of_the_fast_path_is_tried(app: Flask) -> None:
    assert set(fast_path.routes(app)) == set(GOOD)


@pytest.mark.parametrize(("method", "path"), list(GOOD))
def test_a_good_call_is_answered_as_flask_answers_it(
    served: Served, method: str, path: str
) -> None:
    body, header = GOOD[method, path](served)
    short = served.ask(request(path, body, OWN_ID, header, method=method))
    # A slash at the end is enough for a call to go the long way.
    long = served.ask(request(path + "/", body, OWN_ID, header, method=method))

    assert short is not None
    assert long is not None
    assert short.status in (200, 202)
    assert_same(short, long)


@pytest.mark.parametrize("body", [b"", b"{}", click(1), b"\xff" * 10])
def test_an_unsigned_click_is_refused_alike(served: Served, body: bytes) -> None:
    assert_same(*both_ways(served, WEBHOOK, body))
    assert_same(*both_ways(served, WEBHOOK + "/batch", body))


@pytest.mark.parametrize("key", [API_KEY, "nobody"])
def test_a_company_that_is_none_is_told_alike(served: Served, key: str) -> None:
    short, long = (
        served.ask(request(path, b"", OWN_ID, f"Authorization: Bearer {key}", method="GET"))
        for path in (COMPANY_CHECK, COMPANY_CHECK + "/")
    )
    assert isinstance(short, Answered)
    assert isinstance(long, Answered)
    assert short.status == 401
    assert_same(short, long)
