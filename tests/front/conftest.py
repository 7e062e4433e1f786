"""A copy of the API as `ops/serve.sh` starts it, and sockets to it that say what a test says."""

import json
import re
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

import pytest

from tests.support.stack import API_KEY, Stack, running_stack

ANSWER_SECONDS = 30.0
SETTINGS = {
    "TRUSTED_PROXIES": "1",
    "BODY_TIMEOUT_SECONDS": "2",
    "API_THREADS": "8",
    "IMPORT_MAX_BYTES": "4194304",
    "MAX_BODY_BYTES": "65536",
}
BEARER = f"Authorization: Bearer {API_KEY}\r\n"


@dataclass(frozen=True)
class Answered:
    """An answer as it came: its status, its headers with names in lower case, its body."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def detail(self) -> str:
        """What the problem document says."""
        assert self.headers["content-type"] == "application/problem+json"
        document = json.loads(self.body)
        assert document["status"] == self.status
        return str(document["detail"])


class Wire:
    """A socket to the API that sends what it is told to, and reads what comes back."""

    def __init__(self, url: str, buffer_bytes: int | None) -> None:
        parts = urlsplit(url)
        self.socket = socket.socket()
        if buffer_bytes:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer_bytes)
        self.socket.settimeout(ANSWER_SECONDS)
        try:
            self.socket.connect((parts.hostname, parts.port))
        except OSError:
            self.socket.close()
            raise
        self._read = b""

    def __enter__(self) -> "Wire":
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> "Wire":
        self.socket.sendall(data)
        return self

    def end(self) -> "Wire":
        """Send no more, and go on listening."""
        self.socket.shutdown(socket.SHUT_WR)
        return self

    def reset(self) -> None:
        """Break the connection off, as a client that is killed does."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.socket.close()

    def answer(self, *, has_body: bool = True) -> Answered | None:
        """Read one answer; None if the connection ends instead."""
        while b"\r\n\r\n" not in self._read:
            if not self._receive():
                return None
        head, _, self._read = self._read.partition(b"\r\n\r\n")
        line, *lines = head.decode("latin-1").split("\r\n")
        headers = {}
        for name, _, value in (written.partition(": ") for written in lines):
            assert name.lower() not in headers, f"{name} comes twice"
            headers[name.lower()] = value
        found = re.fullmatch(r"HTTP/1\.1 ([0-9]{3}) .*", line)
        assert found, line
        length = int(headers.get("content-length", 0)) if has_body else 0
        while len(self._read) < length:
            assert self._receive(), "the answer ends before its end"
        body, self._read = self._read[:length], self._read[length:]
        return Answered(int(found.group(1)), headers, body)

    def ends(self) -> bool:
        """Tell that the other side closes, without another byte."""
        return not self._read and not self._receive()

    def _receive(self) -> bool:
        try:
            data = self.socket.recv(65_536)
        except ConnectionResetError:
            return False
        self._read += data
        return bool(data)


class Served:
    """The API of a running copy."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack

    def wire(self, *, buffer_bytes: int | None = None) -> Wire:
        return Wire(self.stack.api_url, buffer_bytes)

    def ask(self, raw: bytes) -> Answered | None:
        """Send one request on a connection of its own."""
        with self.wire() as wire:
            return wire.send(raw).answer()


@pytest.fixture(scope="package")
def served() -> Iterator[Served]:
    """The API alone, with one process, so that what holds it up holds up all of it."""
    with running_stack(
        workers=0, schedulers=0, api_workers=1, test_clock=False, environment=SETTINGS
    ) as stack:
        yield Served(stack)


def request(
    path: str,
    body: bytes = b"",
    *headers: str,
    method: str = "POST",
    kind: str = "application/json",
) -> bytes:
    """Return a whole request as it goes over the wire."""
    lines = [
        f"{method} {path} HTTP/1.1",
        "Host: api",
        f"Content-Type: {kind}",
        f"Content-Length: {len(body)}",
        *headers,
    ]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body
