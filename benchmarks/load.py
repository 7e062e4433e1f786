"""A load generator that costs little: one thread, blocking nowhere, requests prepared as bytes.

Every connection is kept alive and has one request under way; the next leaves as soon as the
answer is there. What it spends per request, some 20 microseconds, is taken from the same machine
that serves, in equal amounts for every server that is compared.
"""

import selectors
import socket
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle
from statistics import quantiles
from urllib.parse import urlsplit

ANSWER_SECONDS = 10.0
RECEIVE_BYTES = 65_536
HEAD_END = b"\r\n\r\n"
SUCCESS = (b"200", b"202")
START_SECONDS = 15
SEND_ALL_SECONDS = 120.0


@dataclass(frozen=True)
class Load:
    """What a server did under load; times in milliseconds."""

    per_second: float
    p50_ms: float
    p99_ms: float


@dataclass(frozen=True)
class Asked:
    """A request to be made: its JSON body, and the bearer token that goes with it."""

    body: bytes
    token: bytes | None = None

    @property
    def headers(self) -> dict[str, str]:
        """Return the headers that it has beside those of every request."""
        return {} if self.token is None else {"Authorization": f"Bearer {self.token.decode()}"}


class LoadError(Exception):
    """The server did not do the work, so there is nothing to measure."""


class _Connection:
    """A kept connection with one request under way."""

    __slots__ = ("answer", "sent_at", "socket")

    def __init__(self, address: tuple[str, int]) -> None:
        self.socket = socket.create_connection(address, timeout=ANSWER_SECONDS)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.answer = b""
        self.sent_at = 0.0

    def send(self, request: bytes) -> None:
        self.answer = b""
        self.sent_at = time.perf_counter()
        self.socket.sendall(request)

    def receive(self) -> bool:
        """Take what has come and tell whether the answer is whole."""
        received = self.socket.recv(RECEIVE_BYTES)
        if not received:
            raise LoadError("The server closed a connection.")
        self.answer += received
        return _is_whole(self.answer)


def post(url: str, body: bytes, headers: Mapping[str, str] | None = None) -> bytes:
    """Return a POST of a JSON body as it goes over the wire."""
    parts = urlsplit(url)
    more = "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items())
    head = (
        f"POST {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\n{more}"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def generate_load(
    url: str,
    requests: Sequence[bytes],
    *,
    seconds: float,
    connections: int = 32,
    per_second: float | None = None,
) -> Load:
    """Send the requests over and over for so long, as fast as they are answered or at a pace.

    Raises LoadError unless all are answered 200 or 202.
    """
    with _connected(url, connections) as opened:
        return _summary(_exchange(opened, cycle(requests), seconds, per_second), seconds)


def send_all(url: str, requests: Sequence[bytes], *, connections: int = 32) -> None:
    """Send each request once, as fast as they are answered.

    Raises LoadError unless all are answered 200 or 202.
    """
    with _connected(url, min(connections, len(requests))) as opened:
        took = _exchange(opened, iter(requests), SEND_ALL_SECONDS, None)
    if len(took) < len(requests):
        raise LoadError(f"{len(took)} of {len(requests)} were answered in {SEND_ALL_SECONDS:g} s.")


def wait_for(url: str) -> None:
    """Wait until somebody listens there. Raises LoadError after a while."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        try:
            socket.create_connection(_address(url), timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise LoadError(f"{url} was not served in time.")


def _address(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    return parts.hostname or "", parts.port or 80


@contextmanager
def _connected(url: str, connections: int) -> Iterator[Sequence[_Connection]]:
    opened = [_Connection(_address(url)) for _ in range(connections)]
    try:
        yield opened
    finally:
        for connection in opened:
            connection.socket.close()


def _exchange(
    connections: Sequence[_Connection],
    requests: Iterator[bytes],
    seconds: float,
    per_second: float | None,
) -> list[float]:
    """Keep the connections busy until the time is up or all is sent; return each duration."""
    took: list[float] = []
    idle = deque(connections)
    pause = 1 / per_second if per_second else 0.0
    request = next(requests, None)
    with selectors.DefaultSelector() as selector:
        for connection in connections:
            selector.register(connection.socket, selectors.EVENT_READ, connection)
        next_at = time.perf_counter()
        ends_at = next_at + seconds
        while (now := time.perf_counter()) < ends_at:
            while request is not None and idle and next_at <= now:
                idle.popleft().send(request)
                request = next(requests, None)
                next_at += pause
            if request is None and len(idle) == len(connections):
                break
            waits_for_pace = request is not None and bool(idle)
            ready = selector.select(max(next_at - now, 0) if waits_for_pace else ANSWER_SECONDS)
            if not ready and not waits_for_pace:
                raise LoadError(f"No answer within {ANSWER_SECONDS:g} s.")
            for key, _ in ready:
                connection = key.data
                if connection.receive():
                    _require_success(connection.answer)
                    took.append(time.perf_counter() - connection.sent_at)
                    idle.append(connection)
    return took


def _is_whole(answer: bytes) -> bool:
    head_end = answer.find(HEAD_END)
    if head_end < 0:
        return False
    head = answer[:head_end].lower()
    at = head.find(b"content-length:")
    if at < 0:
        raise LoadError("An answer has no Content-Length.")
    length = int(head[at + 15 :].split(b"\r\n", 1)[0])
    return len(answer) >= head_end + len(HEAD_END) + length


def _require_success(answer: bytes) -> None:
    if answer[9:12] not in SUCCESS:
        raise LoadError(f"The server answered {answer[:1000].decode('utf-8', 'replace')}")


def _summary(took: list[float], seconds: float) -> Load:
    if len(took) < 100:
        raise LoadError(f"Only {len(took)} requests were answered in {seconds:g} s.")
    percentiles = quantiles(took, n=100)
    return Load(len(took) / seconds, percentiles[49] * 1000, percentiles[98] * 1000)
