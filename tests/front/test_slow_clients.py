"""Senders and readers that stand still hold up nobody else."""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import cycle

import pytest

from tests.front.conftest import BEARER, Answered, Served, Wire, request
from tests.front.test_cut_bodies import FORM, UPLOAD, signed_click

OPERATOR = BEARER.strip()
PROMPT_SECONDS = 1.0
LONG = b"100000"


def stalled(kind: str, path: str, *headers: str) -> bytes:
    """Return the head of a request, and the first byte of the many that it announces."""
    whole = request(path, b"x", *headers, kind=kind)
    return whole.replace(b"Content-Length: 1\r\n", b"Content-Length: 60000\r\n")


STALLED = [
    stalled("application/json", "/api/purchase/check"),
    stalled(FORM, "/api/purchase", OPERATOR),
    stalled("application/json", "/api/webhook/clicks", "X-Signature: sha256=00"),
    stalled("text/csv", UPLOAD, OPERATOR),
    stalled("text/csv", UPLOAD, OPERATOR).replace(
        b"Content-Length: 60000\r\n", b"Transfer-Encoding: chunked\r\n"
    )[:-1]
    + b"40\r\nx",
]


@contextmanager
def open_wires(served: Served, number: int, sent: list[bytes]) -> Iterator[list[Wire]]:
    """Hold so many connections open on which this was sent."""
    with ExitStack() as held:
        wires = [held.enter_context(served.wire()) for _ in range(number)]
        for wire, data in zip(wires, cycle(sent), strict=False):
            wire.send(data)
        yield wires


def assert_prompt(served: Served) -> None:
    """Everything that others ask for is answered, and soon: of three tries one at least."""
    nobody = "Authorization: Bearer nobody"
    asked = (
        (200, request("/health/live", method="GET")),
        (401, request("/api/purchase/check", b'{"client-token": "nobody"}')),
        (401, request("/api/companies/check", b"", nobody, method="GET")),
        (202, signed_click(7)),
    )
    for status, raw in asked:
        took = []
        for _ in range(3):
            began = time.monotonic()
            answer = served.ask(raw)
            took.append(time.monotonic() - began)
            assert isinstance(answer, Answered)
            assert answer.status == status, answer.body
        assert min(took) < PROMPT_SECONDS, raw


@pytest.mark.parametrize("number", [60, 500])
def test_stalled_bodies_hold_up_nobody(served: Served, number: int) -> None:
    with open_wires(served, number, STALLED):
        assert_prompt(served)


def test_a_body_that_stands_still_is_ended_with_408(served: Served) -> None:
    with open_wires(served, len(STALLED), STALLED) as wires:
        for wire in wires:
            answer = wire.answer()
            assert isinstance(answer, Answered)
            assert answer.status == 408
            assert answer.headers["connection"] == "close"


def test_a_body_of_a_byte_now_and_then_is_ended_too(served: Served) -> None:
    with served.wire() as wire:
        wire.send(STALLED[1]).socket.settimeout(0.05)
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            try:
                wire.send(b"x")
                answer = wire.answer()
            except TimeoutError:
                continue
            break

    assert isinstance(answer, Answered)
    assert answer.status == 408


def test_a_long_body_that_keeps_coming_has_the_time_that_it_needs(served: Served) -> None:
    rows = b"ts,msisdn,reason\r\n" + b"2026-11-20 10:00:00,491709999999,\r\n" * 1_500
    raw = request(UPLOAD.replace("additions", "cancellations"), rows, OPERATOR, kind="text/csv")
    with served.wire() as wire:
        began = time.monotonic()
        for at in range(0, len(raw), 2_500):
            wire.send(raw[at : at + 2_500])
            time.sleep(0.12)
        answer = wire.answer()

    assert time.monotonic() - began > 2
    assert isinstance(answer, Answered)
    assert answer.status == 202, answer.body


def test_thousands_of_idle_connections_hold_up_nobody(served: Served) -> None:
    kept = request("/health/live", method="GET")
    with ExitStack() as held:
        wires = [held.enter_context(served.wire()) for _ in range(3_000)]
        for wire in wires[::10]:
            answer = wire.send(kept).answer()
            assert isinstance(answer, Answered)
        assert_prompt(served)


def test_readers_of_long_answers_who_do_not_read_hold_up_nobody(served: Served) -> None:
    asked = request("/docs/assets/swagger-ui-bundle.js", method="GET")
    with ExitStack() as held:
        wires = []
        for _ in range(60):
            wire = held.enter_context(served.wire(buffer_bytes=32_768))
            wires.append(wire.send(asked))
        assert_prompt(served)
        for wire in wires[:5]:
            answer = wire.answer()
            assert isinstance(answer, Answered)
            assert len(answer.body) > 500_000
