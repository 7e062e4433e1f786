"""A request that is not whole is refused and changes nothing, wherever it is cut."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from itertools import count

import pytest

from project.clicks.intake.signatures import signature_of
from project.clicks.settings import DEVELOPMENT_WEBHOOK_SECRET
from tests.front.conftest import BEARER, Served, Wire, request

OPERATOR = BEARER.strip()
FORM = "application/x-www-form-urlencoded"
COUNTS = """
    SELECT (SELECT count(*) FROM packages), (SELECT count(*) FROM tasks),
           (SELECT coalesce(sum(size), 0)::int FROM click_inbox)
"""
CSV = b"ts,msisdn,original_sub_plan,lat,lon\r\n2026-11-20 10:00:00,491701234567,1,52.5,13.4\r\n"


def multipart() -> tuple[str, bytes]:
    """Return the type and the body of a form with a file in it."""
    lines = [
        b"--frontier",
        b'Content-Disposition: form-data; name="file"; filename="a.csv"',
        b"Content-Type: text/csv",
        b"",
        CSV,
        b"--frontier--",
        b"",
    ]
    return "multipart/form-data; boundary=frontier", b"\r\n".join(lines)


def click(number: int) -> bytes:
    now = datetime.now(UTC).isoformat()
    return json.dumps(
        {"click_id": f"cut-{number}", "offer_id": 3, "source": "mail", "timestamp": now}
    ).encode()


def signed_click(number: int) -> bytes:
    """Return the whole request that hands in a click."""
    body = click(number)
    signature = signature_of(DEVELOPMENT_WEBHOOK_SECRET, body)
    return request("/api/webhook/clicks", body, f"X-Signature: {signature}")


def form() -> bytes:
    return b"name=form+%d&price=1000" % next(numbers)


def package(name: str) -> bytes:
    return json.dumps({"name": name, "price": 1000, "currency": "EUR", "period": "month"}).encode()


numbers = count(1)
UPLOAD = "/api/subscribers/upload_additions_csv/"
REQUESTS: dict[str, Callable[[], bytes]] = {
    "json": lambda: request("/api/packages", package(f"json {next(numbers)}"), OPERATOR),
    "form": lambda: request("/api/packages", form(), OPERATOR, kind=FORM),
    "csv": lambda: request(UPLOAD, CSV, OPERATOR, kind="text/csv"),
    "multipart": lambda: request(UPLOAD, multipart()[1], OPERATOR, kind=multipart()[0]),
    "signed click": lambda: signed_click(1),
}
WAYS: dict[str, Callable[[Wire], object]] = {
    "closed": lambda wire: wire.socket.close(),
    "reset": lambda wire: wire.reset(),
}


def chunked(raw: bytes, size: int = 9) -> bytes:
    """Return the same request with its body in chunks."""
    head, _, body = raw.partition(b"\r\n\r\n")
    lines = [line for line in head.split(b"\r\n") if not line.startswith(b"Content-Length")]
    pieces = [body[at : at + size] for at in range(0, len(body), size)]
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)
    return b"\r\n".join([*lines, b"Transfer-Encoding: chunked", b"", chunks]) + b"0\r\n\r\n"


@pytest.fixture
def unchanged(served: Served) -> Iterator[None]:
    """Nothing is recorded meanwhile."""
    before = served.stack.fetch(COUNTS)
    yield
    # A request that comes after them is answered: those before it have been seen.
    assert served.ask(request("/health/live", method="GET")).status == 200
    assert served.stack.fetch(COUNTS) == before


def cuts(raw: bytes) -> Iterator[bytes]:
    """Give every beginning of a request that is not all of it."""
    return (raw[:end] for end in range(1, len(raw)))


@pytest.mark.parametrize("framed", ["length", "chunked"])
@pytest.mark.parametrize("kind", REQUESTS)
@pytest.mark.usefixtures("unchanged")
def test_half_closed_anywhere_it_is_400(served: Served, kind: str, framed: str) -> None:
    raw = REQUESTS[kind]()
    for sent in cuts(chunked(raw) if framed == "chunked" else raw):
        with served.wire() as wire:
            answer = wire.send(sent).end().answer()
            assert answer is not None, sent
            assert answer.status == 400, sent
            assert wire.ends()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("framed", ["length", "chunked"])
@pytest.mark.parametrize("kind", REQUESTS)
@pytest.mark.usefixtures("unchanged")
def test_broken_off_anywhere_it_records_nothing(
    served: Served, kind: str, framed: str, way: str
) -> None:
    raw = REQUESTS[kind]()
    for sent in cuts(chunked(raw) if framed == "chunked" else raw):
        WAYS[way](served.wire().send(sent))


@pytest.mark.parametrize("framed", ["length", "chunked"])
@pytest.mark.parametrize("kind", REQUESTS)
def test_whole_it_is_taken(served: Served, kind: str, framed: str) -> None:
    raw = REQUESTS[kind]()
    answer = served.ask(chunked(raw) if framed == "chunked" else raw)

    assert answer is not None
    assert answer.status in (201, 202), answer.body


def test_a_whole_request_of_a_sender_who_only_listens_is_answered(served: Served) -> None:
    with served.wire() as wire:
        answer = wire.send(REQUESTS["form"]()).end().answer()

        assert answer is not None
        assert answer.status == 201
        assert wire.ends()


@pytest.mark.parametrize(
    "chunks",
    [
        b"5\r\nname=\r\n5;x=y\r\nCutXX\r\n",
        b"5\r\nname=\r\nzz\r\n",
        b"-1\r\n",
        b"5\r\nname=Cut\r\n0\r\n\r\n",
        b"5\nname=\n0\n\n",
        b"fffffffffffffffff\r\n",
    ],
)
@pytest.mark.usefixtures("unchanged")
def test_chunks_that_are_none_are_400(served: Served, chunks: bytes) -> None:
    head = (
        f"POST /api/packages HTTP/1.1\r\nHost: api\r\nContent-Type: {FORM}\r\n"
        f"{BEARER}Transfer-Encoding: chunked\r\n\r\n"
    )
    with served.wire() as wire:
        answer = wire.send(head.encode() + chunks).end().answer()

        assert answer is not None
        assert answer.status == 400


@pytest.mark.usefixtures("unchanged")
def test_a_large_upload_that_is_cut_is_400(served: Served) -> None:
    rows = CSV + b"2026-11-20 10:00:00,491701234567,1,52.5,13.4\r\n" * 20_000
    raw = request(UPLOAD, rows, OPERATOR, kind="text/csv")

    with served.wire() as wire:
        answer = wire.send(raw[:-1]).end().answer()

    assert answer is not None
    assert answer.status == 400
