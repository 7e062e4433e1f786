"""A head has one reading: header names, hosts, methods, paths, the sender's address."""

import pytest

from project.front.request import ONCE
from tests.front.conftest import BEARER, Served, Wire, request
from tests.front.test_cut_bodies import signed_click

LIVE = b"GET /health/live HTTP/1.1\r\n"
HOST = b"Host: api\r\n"


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (LIVE + b"\r\n", 400),
        (LIVE + HOST + b"Host: other\r\n\r\n", 400),
        (LIVE + HOST + HOST + b"\r\n", 400),
        (LIVE.replace(b"1.1", b"1.0") + b"\r\n", 200),
        (LIVE + b"Host:\r\n\r\n", 200),
        (LIVE + b"Host: [2001:db8::7]:8000\r\n\r\n", 200),
        (LIVE + b"Host: some_shop.example:\r\n\r\n", 200),
        (LIVE + b"Host: api/health\r\n\r\n", 400),
        (LIVE + b"Host: ada@api\r\n\r\n", 400),
        (LIVE + b"Host: api other\r\n\r\n", 400),
        (LIVE + b"Host: [2001:db8::7\r\n\r\n", 400),
        (LIVE + b"Host: api:http\r\n\r\n", 400),
        (b"get" + LIVE[3:] + HOST + b"\r\n", 501),
        (b"Get" + LIVE[3:] + HOST + b"\r\n", 501),
        (b"FETCH" + LIVE[3:] + HOST + b"\r\n", 501),
        (b"CONNECT api:80 HTTP/1.1\r\n" + HOST + b"\r\n", 501),
        (b"DELETE" + LIVE[3:] + HOST + b"\r\n", 405),
        (b"GET //health/live HTTP/1.1\r\n" + HOST + b"\r\n", 404),
        (b"GET /health//live HTTP/1.1\r\n" + HOST + b"\r\n", 404),
        (b"GET /health%2flive HTTP/1.1\r\n" + HOST + b"\r\n", 404),
        (b"GET /health%2Flive HTTP/1.1\r\n" + HOST + b"\r\n", 404),
        (b"GET http://api/health/live HTTP/1.1\r\n" + HOST + b"\r\n", 200),
        (b"GET /he%61lth/live HTTP/1.1\r\n" + HOST + b"\r\n", 200),
        (b"GET /health/live\r\n\r\n", 505),
        (LIVE.replace(b"1.1", b"2.0") + HOST + b"\r\n", 505),
        (LIVE + HOST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501),
        (LIVE + HOST + b"Transfer-Encoding: gzip\r\n\r\n", 501),
        (LIVE + HOST + b"Transfer-Encoding: identity\r\n\r\n", 501),
        (LIVE + HOST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n", 400),
        (LIVE + HOST + b"Transfer-Encoding: CHUNKED\r\n\r\n0\r\n\r\n", 200),
        (LIVE + HOST + b"Transfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n0\r\n\r\n", 400),
        (LIVE + HOST + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (LIVE + HOST + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nab", 400),
        (LIVE + HOST + b"Content-Length: +1\r\n\r\na", 400),
        (LIVE + HOST + b"Content-Length: -1\r\n\r\n", 400),
        (LIVE + HOST + b"Content-Length: 1, 1\r\n\r\na", 400),
        (LIVE + HOST + b"Expect: the-unexpected\r\n\r\n", 417),
        (LIVE + HOST + b"X: a\r\n b\r\n\r\n", 400),
        (LIVE + HOST + b"X : a\r\n\r\n", 400),
        (LIVE + HOST + b"X: a\x00b\r\n\r\n", 400),
        (LIVE + HOST + b"X: " + b"a" * 70_000, 431),
        (b"GET /" + b"a" * 9_000 + b" HTTP/1.1\r\n" + HOST + b"\r\n", 414),
        (b"\x16\x03\x01\x02\x00", 501),
    ],
)
def test_a_head_has_one_reading(served: Served, raw: bytes, status: int) -> None:
    answer = served.ask(raw)

    assert answer is not None
    assert answer.status == status, answer.body
    if status in (400, 417, 431, 501, 505):
        assert answer.headers["connection"] == "close"
        assert answer.detail


@pytest.mark.parametrize("name", ONCE)
@pytest.mark.parametrize("second", ["a", "b", ""])
def test_a_header_that_means_one_thing_is_sent_once(served: Served, name: str, second: str) -> None:
    once = LIVE + HOST + f"{name}: a\r\n".encode()
    alone = served.ask(once + b"\r\n")
    doubled = served.ask(once + f"{name.upper()}: {second}\r\n\r\n".encode())

    assert alone is not None
    assert doubled is not None
    assert (alone.status, doubled.status) == (200, 400)
    assert name in (doubled.detail or "").lower()


def test_an_offer_to_speak_something_else_is_passed_over(served: Served) -> None:
    offer = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk"
    with served.wire() as wire:
        wire.send(request("/api/purchase/check", b'{"client-token": "x"}', offer))
        wire.send(request("/health/live", b"", offer, method="GET") * 2)

        assert statuses(wire, 3) == [401, 200, 200]


def test_requests_sent_ahead_are_answered_in_their_order(served: Served) -> None:
    live, nothing = (request(path, method="GET") for path in ("/health/live", "/nothing"))
    with served.wire() as wire:
        wire.send(live + nothing * 2 + signed_click(20) + live)
        wire.send(live + nothing.replace(b"Host: api\r\n", b"Host: api\r\nConnection: close\r\n"))

        assert statuses(wire, 7) == [200, 404, 404, 202, 200, 200, 404]
        assert wire.ends()


def test_what_comes_before_a_broken_request_is_answered(served: Served) -> None:
    with served.wire() as wire:
        wire.send(request("/nothing", method="GET") + b"nonsense\r\n\r\n").end()

        assert statuses(wire, 2) == [404, 501]
        assert wire.ends()


def test_head_has_the_headers_of_get_and_no_body(served: Served) -> None:
    with served.wire() as wire:
        got = wire.send(request("/api/packages", method="GET")).answer()
        wire.send(request("/api/packages", method="HEAD"))
        headed = wire.answer(has_body=False)
        wire.send(request("/health/live", method="GET"))
        after = wire.answer()

    assert got is not None
    assert headed is not None
    assert after is not None
    assert headed.headers["content-length"] == got.headers["content-length"]
    assert after.body == b'{"status":"ok"}'


def test_a_sender_that_asks_first_is_told_to_go_on(served: Served) -> None:
    whole = request("/api/purchase/check", b'{"client-token": "x"}', "Expect: 100-continue")
    head, _, body = whole.partition(b"\r\n\r\n")
    with served.wire() as wire:
        first = wire.send(head + b"\r\n\r\n").answer()
        second = wire.send(body).answer()

    assert first is not None
    assert second is not None
    assert (first.status, second.status) == (100, 401)


@pytest.mark.parametrize("framing", ["Content-Length: 5000000", "Transfer-Encoding: chunked"])
def test_a_body_that_is_too_large_is_413_while_it_comes(served: Served, framing: str) -> None:
    head = f"POST /api/purchase/check HTTP/1.1\r\nHost: api\r\n{framing}\r\n\r\n".encode()
    piece = b"x" * 50_000
    chunk = b"%x\r\n%s\r\n" % (len(piece), piece) if "chunked" in framing else piece
    with served.wire() as wire:
        # All of it is sent before the answer is read, as simple clients do.
        wire.send(head + chunk * 100)
        answer = wire.answer()

    assert answer is not None
    assert answer.status == 413


def test_a_sender_that_asks_first_is_told_at_once_that_it_is_too_much(served: Served) -> None:
    head = b"POST /api/packages HTTP/1.1\r\nHost: api\r\nExpect: 100-continue\r\n"
    answer = served.ask(head + b"Content-Length: 99999999\r\n\r\n")

    assert answer is not None
    assert answer.status == 413


@pytest.mark.parametrize("name", ["X_Client_Token", "x-client_token", "X_CLIENT-TOKEN"])
def test_a_header_with_an_underscore_stands_for_no_other(served: Served, name: str) -> None:
    with_dash = served.ask(request("/api/purchase/check", b"{}", "X-Client-Token: somebody"))
    without = served.ask(request("/api/purchase/check", b"{}", f"{name}: somebody"))

    assert with_dash is not None
    assert without is not None
    assert "not known" in with_dash.detail
    assert without.detail != with_dash.detail


def test_an_operators_key_in_a_bent_header_opens_nothing(served: Served) -> None:
    good = BEARER.strip()
    answers = [
        served.ask(request("/api/apps", b"", header, method="GET"))
        for header in (good, good.replace("Authorization", "Author_ization"))
    ]

    assert [answer and answer.status for answer in answers] == [200, 401]


def statuses(wire: Wire, number: int) -> list[int]:
    answers = [wire.answer() for _ in range(number)]
    return [0 if answer is None else answer.status for answer in answers]
