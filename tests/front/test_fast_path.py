"""The short way past Flask says what the long way says, to good calls and to bad ones."""

import json
from typing import Any

import pytest
from flask import Flask

from project.core import fast_path
from project.core.loop import finish
from tests.faults.world import make_apps, seed_devices, token
from tests.front.conftest import Answered, Served, request
from tests.front.test_cut_bodies import click, signed_click
from tests.support.stack import API_KEY

WEBHOOK = "/api/webhook/clicks"
CHECK = "/api/purchase/check"
OWN_ID = "X-Request-ID: a-request-id-of-the-caller"
SHORT = "application/json"
LONG = "application/json; charset=utf-8"


@pytest.fixture(scope="module")
def device_token(served: Served) -> str:
    """The token of a device that never bought anything."""
    seed_devices(served.stack, make_apps(served.stack, 1), 1)
    return token(1)


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


def test_good_calls_are_answered_alike(served: Served, device_token: str) -> None:
    body = json.dumps({"client-token": device_token}).encode()
    short, long = both_ways(served, CHECK, body)

    assert json.loads(short.body)["active"] is False
    assert_same(short, long)


def test_a_click_is_taken_alike(served: Served) -> None:
    raw = signed_click(70)
    short = served.ask(raw.replace(b"Host: api", b"Host: api\r\n" + OWN_ID.encode()))
    long = served.ask(
        raw.replace(b"Host: api", b"Host: api\r\n" + OWN_ID.encode()).replace(
            SHORT.encode(), LONG.encode()
        )
    )

    assert short is not None
    assert long is not None
    assert short.status == 202
    assert_same(short, long)


@pytest.mark.parametrize("body", [b"", b"{}", click(1), b"\xff" * 10])
def test_an_unsigned_click_is_refused_alike(served: Served, body: bytes) -> None:
    assert_same(*both_ways(served, WEBHOOK, body))
    assert_same(*both_ways(served, WEBHOOK + "/batch", body))


@pytest.mark.parametrize("key", [API_KEY, "nobody"])
def test_a_company_that_is_none_is_told_alike(served: Served, key: str) -> None:
    short, long = (
        served.ask(request(path, b"", OWN_ID, f"Authorization: Bearer {key}", method="GET"))
        for path in ("/api/companies/check", "/api/companies/check/")
    )
    assert isinstance(short, Answered)
    assert isinstance(long, Answered)
    assert short.status == 401
    assert_same(short, long)


def test_each_short_way_has_a_long_one(app: Flask) -> None:
    adapter = app.url_map.bind("localhost")
    known = fast_path.routes(app)

    assert len(known) >= 6
    for method, path in known:
        assert adapter.match(path, method=method)


def test_the_long_way_runs_the_same_function_and_waits_for_what_it_asks() -> None:
    async def view(asked: list[Any]) -> int:
        asked.append("asked")
        return 7

    asked: list[Any] = []
    assert finish(view(asked)) == 7
    assert asked == ["asked"]
