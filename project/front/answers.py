"""Answers as they go over the wire, and those that the front gives by itself."""

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from email.utils import format_datetime
from http import HTTPStatus
from typing import IO

from project.core import clock
from project.core.errors import PROBLEM_JSON, problem_document
from project.core.http.request_ids import new_request_id

Headers = Iterable[tuple[str, str]]

BODILESS = (HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED)
RETRY_AFTER_SECONDS = 5
_REASONS = {status.value: status.phrase for status in HTTPStatus}
_DETAILS = {
    400: "This is not a whole and valid HTTP request.",
    404: "There is nothing at this address. See /docs for what there is.",
    408: "The request did not come in whole in the time that it has for that. Send it again.",
    413: "The body is larger than this service accepts.",
    414: "The address is longer than this service accepts.",
    417: "Of what Expect may say, only 100-continue is known here.",
    431: "The headers are larger than this service accepts.",
    500: "Something went wrong on our side. It has been logged.",
    501: "This service knows neither this method nor any transfer encoding but chunked.",
    503: "Too much is waiting here at the moment. Nothing was recorded; try again.",
    505: "This service speaks HTTP/1.1.",
}


@dataclass
class HttpResponse:
    """A status, headers, and a body in memory or in a file."""

    status: int
    headers: Headers
    content: bytes = b""
    file: IO[bytes] | None = None
    size: int = field(default=-1)

    def __post_init__(self) -> None:
        if self.size < 0:
            self.size = len(self.content)


def head_of(answer: HttpResponse, *, method: str, keep_alive: bool, is_old: bool) -> bytes:
    """Return the status line and the headers of an answer, up to its body."""
    status = answer.status
    lines = [f"HTTP/1.1 {status} {_REASONS.get(status, '')}\r\nDate: {_date()}\r\n"]
    lines += [f"{name}: {value}\r\n" for name, value in answer.headers]
    if method != "HEAD" and status not in BODILESS:
        lines.append(f"Content-Length: {answer.size}\r\n")
    if not keep_alive:
        lines.append("Connection: close\r\n")
    elif is_old:
        lines.append("Connection: keep-alive\r\n")
    lines.append("\r\n")
    return "".join(lines).encode("latin-1")


def problem_answer(
    status: int, detail: str | None = None, request_id: str | None = None
) -> HttpResponse:
    """Return what the front answers to a request that never gets to Flask."""
    request_id = request_id or new_request_id()
    title = HTTPStatus(status).phrase
    content = problem_document(status, title, detail or _DETAILS[status], request_id=request_id)
    headers = [
        ("Content-Type", PROBLEM_JSON),
        ("X-Request-ID", request_id),
        ("X-Content-Type-Options", "nosniff"),
        ("Cache-Control", "no-store"),
    ]
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        headers.append(("Retry-After", str(RETRY_AFTER_SECONDS)))
    return HttpResponse(status, headers, content)


_dated: tuple[int, str] = (0, "")


def _date() -> str:
    global _dated
    second = int(time.monotonic())
    if _dated[0] != second:
        _dated = (second, format_datetime(clock.real_now(), usegmt=True))
    return _dated[1]
