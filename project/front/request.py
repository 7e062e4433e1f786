"""A request as it was read: what its line and headers say, each with one reading."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any
from urllib.parse import unquote_to_bytes

from httptools import HttpParserInvalidURLError, parse_url

from project import addresses
from project.front.bodies import Body

MAX_TARGET_BYTES = 8_192
VERSIONS = ("1.1", "1.0")
HOST = re.compile(r"(\[[0-9A-Za-z:.~-]+\]|[0-9A-Za-z._~!$&'()*+,;=%-]*)(:[0-9]*)?")
"""A name or address and a port, as RFC 3986 writes them: what RFC 9112 wants refused is not."""


ONCE = (
    "authorization",
    "content-type",
    "idempotency-key",
    "x-callback-secret",
    "x-client-token",
    "x-signature",
    "x-twilio-signature",
)
"""Who sends, what for and in which form: headers that mean one thing, of which two lines would be
read by some as the first, by others as the last."""


class RequestRefused(Exception):
    """A request that is not taken, whatever it asks for; the connection ends with the answer."""

    def __init__(self, status: HTTPStatus, detail: str | None = None) -> None:
        super().__init__(detail or status.phrase)
        self.status = status
        self.detail = detail


@dataclass(slots=True)
class HttpRequest:
    """One request; `headers` holds names in lower case and every line of them in its order.

    A header whose name has an underscore is left out. To whoever reads it later, as CGI and WSGI
    do, it would stand for the one with a dash, which may be a proxy's word.
    """

    method: str = ""
    target: bytes = b""
    version: str = "1.1"
    keep_alive: bool = True
    headers: dict[str, list[str]] = field(default_factory=dict)
    body: Body | None = None
    peer: tuple[str, int] = ("", 0)

    def add_header(self, name: bytes, value: bytes) -> None:
        """Take a line of the head."""
        if b"_" in name:
            return
        self.headers.setdefault(name.decode("latin-1").lower(), []).append(
            value.strip(b" \t").decode("latin-1")
        )

    def header(self, name: str) -> str | None:
        """Return what a header says, its lines put together."""
        lines = self.headers.get(name.lower())
        return None if lines is None else lines[0] if len(lines) == 1 else ",".join(lines)

    def check(self) -> None:
        """Raise RequestRefused for a head that has no one reading, or that we do not serve."""
        if self.version not in VERSIONS:
            raise RequestRefused(HTTPStatus.HTTP_VERSION_NOT_SUPPORTED)
        if self.method == "CONNECT":
            raise RequestRefused(HTTPStatus.NOT_IMPLEMENTED)
        if len(self.target) > MAX_TARGET_BYTES:
            raise RequestRefused(HTTPStatus.REQUEST_URI_TOO_LONG)
        hosts = self.headers.get("host", ())
        if len(hosts) != 1 and (hosts or self.version == "1.1"):
            raise RequestRefused(HTTPStatus.BAD_REQUEST, "Send one Host header.")
        if hosts and not HOST.fullmatch(hosts[0]):
            raise RequestRefused(HTTPStatus.BAD_REQUEST, "The Host header is not valid.")
        for name in ONCE:
            if len(self.headers.get(name, ())) > 1:
                raise RequestRefused(HTTPStatus.BAD_REQUEST, f"Send one {name.title()} header.")
        encodings = self.headers.get("transfer-encoding")
        if encodings is not None:
            if [encoding.lower() for encoding in encodings] != ["chunked"]:
                raise RequestRefused(HTTPStatus.NOT_IMPLEMENTED)
            if self.version == "1.0" or "content-length" in self.headers:
                raise RequestRefused(
                    HTTPStatus.BAD_REQUEST, "A body is chunked or has a length, not both."
                )
        expected = self.header("expect")
        if expected is not None and expected.lower() != "100-continue":
            raise RequestRefused(HTTPStatus.EXPECTATION_FAILED)

    @property
    def length(self) -> int | None:
        """Return the length of the body as its head says, in bytes; None for a chunked one."""
        if "transfer-encoding" in self.headers:
            return None
        return int(self.headers.get("content-length", ("0",))[0])

    @property
    def awaits_continue(self) -> bool:
        """Tell whether the sender waits for our word before it sends the body."""
        return self.version == "1.1" and "expect" in self.headers and self.length != 0

    def path_and_query(self) -> tuple[bytes, bytes]:
        """Return the path as it was written, and the query.

        Raises RequestRefused with 404 for a path of which others, such as a proxy's rules, may read
        another one than we do: with an empty segment or an encoded slash.
        """
        try:
            parsed = parse_url(self.target)
        except HttpParserInvalidURLError as error:
            raise RequestRefused(HTTPStatus.BAD_REQUEST) from error
        path = parsed.path or b"/"
        if not path.startswith(b"/"):
            raise RequestRefused(HTTPStatus.BAD_REQUEST)
        if b"//" in path or b"%2f" in path.lower():
            raise RequestRefused(HTTPStatus.NOT_FOUND)
        return path, parsed.query or b""

    def sender(self, hops: int) -> str:
        """Return who sent it, with so many trusted proxies in front."""
        return addresses.sender(self.peer[0], self.headers.get("x-forwarded-for", ()), hops)

    def scheme(self, hops: int) -> str:
        """Return by which scheme the outermost trusted proxy was asked, http without one."""
        proto = addresses.hop(self.headers.get("x-forwarded-proto", ()), hops)
        return proto if proto in ("http", "https") else "http"

    def environ(self, hops: int) -> dict[str, Any]:
        """Return what WSGI says of it, all but its body. Raises RequestRefused."""
        path, query = self.path_and_query()
        environ: dict[str, Any] = {
            "REQUEST_METHOD": self.method,
            "SCRIPT_NAME": "",
            "PATH_INFO": unquote_to_bytes(path).decode("latin-1"),
            "QUERY_STRING": query.decode("latin-1"),
            "REMOTE_ADDR": self.sender(hops),
            "SERVER_NAME": _host_name(self.headers.get("host", ())),
            "SERVER_PORT": "80",
            "SERVER_PROTOCOL": f"HTTP/{self.version}",
            "wsgi.url_scheme": self.scheme(hops),
            "CONTENT_LENGTH": str(self.body.size if self.body else 0),
        }
        for name in self.headers:
            key = name.upper().replace("-", "_")
            if name not in ("content-type", "content-length", "transfer-encoding"):
                environ["HTTP_" + key] = self.header(name)
        if "content-type" in self.headers:
            environ["CONTENT_TYPE"] = self.header("content-type")
        return environ


def _host_name(hosts: Sequence[str]) -> str:
    return hosts[0].rpartition(":")[0] or hosts[0] if hosts and hosts[0] else "localhost"
