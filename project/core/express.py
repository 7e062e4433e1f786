"""The short way past Flask, for the few calls that come thousands of times a second.

What Flask does around a view, contexts, routing, hooks, takes several times as long as such a view
takes itself. A call that is plainly in order needs none of it. Whatever is not plain, another
content type, a query, a body without a length, goes the long way to the same function; and a call
that fails goes on to Flask with its error, so that errors are reported in one way.
"""

import io
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import msgspec
from flask import Flask

from project.core.request_ids import begin_request

FAILURE = "perennial.failure"
"""Where the WSGI environment holds the error of a call that has failed on the short way."""
JSON = "application/json"
NO_BODY = ("", "0")

Environ = dict[str, Any]


class Call:
    """What a view needs of a request, wherever it comes from: its body and its headers."""

    __slots__ = ("_environ", "body")

    def __init__(self, environ: Environ, body: bytes) -> None:
        self._environ = environ
        self.body = body

    @property
    def address(self) -> str | None:
        """Return the sender's address."""
        return self._environ.get("REMOTE_ADDR")

    @property
    def is_json(self) -> bool:
        """Tell whether the body is said to be JSON."""
        kind: str = self._environ.get("CONTENT_TYPE", "").partition(";")[0].strip().lower()
        return kind == JSON or (kind.startswith("application/") and kind.endswith("+json"))

    def header(self, name: str) -> str | None:
        """Return a header by its name."""
        return self._environ.get("HTTP_" + name.upper().replace("-", "_"))


View = Callable[[Call], Mapping[str, Any]]


@dataclass(frozen=True)
class _Route:
    view: View
    status: str


class ExpressLane:
    """A WSGI application before another: serves its own routes, and leaves the rest to that one."""

    def __init__(self, application: Any, max_body_bytes: int) -> None:
        self._application = application
        self._max_body_bytes = max_body_bytes
        self._routes: dict[tuple[str, str], _Route] = {}

    def add(self, method: str, path: str, view: View, status: HTTPStatus) -> None:
        """Serve this path; the view runs outside Flask and returns what is written as JSON."""
        self._routes[method, path] = _Route(view, f"{status.value} {status.phrase.upper()}")

    def __call__(self, environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer, or have Flask answer."""
        route = self._routes.get((environ["REQUEST_METHOD"], environ["PATH_INFO"]))
        length = -1 if route is None else self._plain_length(environ)
        if route is None or length < 0:
            return self._leave(environ, start_response)
        body = environ["wsgi.input"].read(length) if length else b""
        request_id = begin_request(environ.get("HTTP_X_REQUEST_ID", ""))
        try:
            written = msgspec.json.encode(route.view(Call(environ, body)))
        except Exception as error:  # Flask's error handlers take it from here.
            environ |= {FAILURE: error, "wsgi.input": io.BytesIO(body)}
            environ["HTTP_X_REQUEST_ID"] = request_id
            return self._leave(environ, start_response)
        headers = [
            ("Content-Type", JSON),
            ("Content-Length", str(len(written))),
            ("X-Request-ID", request_id),
            ("X-Content-Type-Options", "nosniff"),
            ("Cache-Control", "no-store"),
        ]
        start_response(route.status, headers)
        return [written]

    def _leave(self, environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        answer: Iterable[bytes] = self._application(environ, start_response)
        return answer

    def _plain_length(self, environ: Environ) -> int:
        """Return the length of the body, or -1 for a call that Flask should look at."""
        if environ.get("QUERY_STRING") or "HTTP_TRANSFER_ENCODING" in environ:
            return -1
        given = environ.get("CONTENT_LENGTH", "")
        if environ["REQUEST_METHOD"] == "GET":
            return 0 if given in NO_BODY else -1
        if environ.get("CONTENT_TYPE") != JSON or not (given.isascii() and given.isdigit()):
            return -1
        # What is too long is refused by Flask, which says how long it may be.
        return int(given) if len(given) < 12 and int(given) <= self._max_body_bytes else -1


def register(app: Flask) -> None:
    """Put the short way before the application."""
    lane = ExpressLane(app.wsgi_app, app.config["MAX_CONTENT_LENGTH"])
    app.extensions["express"] = lane
    app.wsgi_app = lane  # type: ignore[method-assign]


def add(app: Flask, method: str, path: str, view: View, status: HTTPStatus = HTTPStatus.OK) -> None:
    """Let a call take the short way; a view of Flask must serve the same path with `view`."""
    app.extensions["express"].add(method, path, view, status)
