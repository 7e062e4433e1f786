"""The short way past Flask, for the few calls that come thousands of times a second.

What Flask does around a view, contexts, routing, hooks, takes several times as long as such a view
takes itself, and a thread for it as long again. The front answers a call that is plainly in order
on its event loop. Whatever is not plain, another content type, a query, a slash at the end, goes
the long way to the same function; and a call that fails goes on to Flask with its error, so that
errors are reported in one way.
"""

from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from functools import cached_property
from http import HTTPStatus
from typing import Any

import msgspec
from flask import Flask, Response, request

from project.core.loop import finish

FAILURE = "perennial.failure"
"""Where the WSGI environment holds the error of a call that has failed on the short way."""
JSON = "application/json"
ANSWER_HEADERS = (("X-Content-Type-Options", "nosniff"), ("Cache-Control", "no-store"))
"""What every JSON answer says besides, whichever way it was made."""


@dataclass
class Call:
    """What a view needs of a request, whichever way it came.

    The body is read when it is asked for, so that a view may let the sender in before.
    """

    read: Callable[[], bytes]
    address: str
    header: Callable[[str], str | None]

    @cached_property
    def body(self) -> bytes:
        """Return the whole body."""
        return self.read()

    @property
    def is_json(self) -> bool:
        """Tell whether the body is said to be JSON."""
        kind = (self.header("Content-Type") or "").partition(";")[0].strip().lower()
        return kind == JSON or (kind.startswith("application/") and kind.endswith("+json"))


View = Callable[[Call], Coroutine[Any, Any, Mapping[str, Any]]]


@dataclass(frozen=True, slots=True)
class Route:
    """A view of the short way, and the status of its answer."""

    view: View
    status: HTTPStatus


Routes = dict[tuple[str, str], Route]


def register(app: Flask) -> None:
    """Let routes be added."""
    app.extensions["fast_path"] = {}


def add(app: Flask, method: str, path: str, view: View, status: HTTPStatus = HTTPStatus.OK) -> None:
    """Let a call take the short way; a view of Flask must serve the same path with `view`."""
    app.extensions["fast_path"][method, path] = Route(view, status)


def routes(app: Any) -> Routes:
    """Return the routes of an application, if it has any."""
    found: Routes = getattr(app, "extensions", {}).get("fast_path", {})
    return found


def flask_call() -> Call:
    """Return the call of Flask's present request."""
    return Call(
        lambda: request.get_data(cache=False), request.remote_addr or "", request.headers.get
    )


def flask_response(view: View, status: HTTPStatus = HTTPStatus.OK) -> Response:
    """Answer Flask's present request with what the view of the short way says to it."""
    answer = finish(view(flask_call()))
    return Response(msgspec.json.encode(answer), status, mimetype=JSON)
