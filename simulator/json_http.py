"""JSON in and JSON out, and the checks that every control endpoint shares."""

import json
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import Protocol

from aiohttp import web
from multidict import CIMultiDict

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

# Built once: aiohttp copies headers given as this type faster than it sets a content type.
JSON_HEADERS = CIMultiDict({"Content-Type": "application/json"})


class System(Protocol):
    """One part of the outside world: what it answers and how it forgets."""

    def routes(self) -> list[web.RouteDef]:
        """Return the public and the control routes."""

    def reset(self) -> None:
        """Forget everything that was learnt since the start."""


def json_answer(data: Mapping[str, object], status: int = 200) -> web.Response:
    """Return `data` as a JSON response."""
    return web.Response(body=json.dumps(data).encode(), status=status, headers=JSON_HEADERS)


def bad_request(message: str) -> web.HTTPBadRequest:
    """Return the exception that answers 400 with `message`."""
    return web.HTTPBadRequest(text=message)


def not_found(message: str) -> web.HTTPNotFound:
    """Return the exception that answers 404 with `message`."""
    return web.HTTPNotFound(text=message)


def error_answer(error: web.HTTPException) -> web.Response:
    """Return an HTTP error as {"error": message}."""
    answer = json_answer({"error": error.text or error.reason}, error.status)
    if "Allow" in error.headers:
        answer.headers["Allow"] = error.headers["Allow"]
    return answer


@web.middleware
async def json_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer every HTTP error as {"error": message}."""
    try:
        return await handler(request)
    except web.HTTPException as error:
        return error_answer(error)


async def read_object(request: web.Request) -> dict[str, object]:
    """Return the JSON object in the body, or answer 400."""
    try:
        data = json.loads(await request.read())
    except (ValueError, RecursionError):
        raise bad_request("the body is not JSON") from None
    if not isinstance(data, dict):
        raise bad_request("the body is not a JSON object")
    return data


def reject_unknown(data: Mapping[str, object], known: frozenset[str]) -> None:
    """Answer 400 when `data` has a field that is not in `known`."""
    unknown = sorted(data.keys() - known)
    if unknown:
        raise bad_request(f"unknown fields: {', '.join(unknown)}")


def number(name: str, value: object, minimum: float, maximum: float) -> float:
    """Return `value` as a number between `minimum` and `maximum`, or answer 400."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise bad_request(f"{name} is not a number")
    if not minimum <= value <= maximum:
        raise bad_request(f"{name} is not between {minimum:g} and {maximum:g}")
    return value


def whole_number(name: str, value: object, minimum: int, maximum: int) -> int:
    """Return `value` as an integer between `minimum` and `maximum`, or answer 400."""
    if not isinstance(value, int):
        raise bad_request(f"{name} is not a whole number")
    return int(number(name, value, minimum, maximum))


def text(name: str, value: object) -> str:
    """Return `value` if it is text, or answer 400."""
    if not isinstance(value, str):
        raise bad_request(f"{name} is not text")
    return value


def moment(name: str, value: object) -> datetime:
    """Return ISO 8601 text as an aware UTC time (no offset means UTC), or answer 400."""
    try:
        parsed = parse_moment(text(name, value))
    except (ValueError, OverflowError):
        raise bad_request(f"{name} is not an ISO 8601 time") from None
    if not 1900 <= parsed.year <= 9000:
        raise bad_request(f"{name} is not between the years 1900 and 9000")
    return parsed


def parse_moment(value: str) -> datetime:
    """Return ISO 8601 text as an aware UTC time; text without an offset means UTC."""
    parsed = datetime.fromisoformat(value)
    return parsed.replace(tzinfo=UTC) if parsed.tzinfo is None else parsed.astimezone(UTC)
