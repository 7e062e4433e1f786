"""The finance service: takes each day's clicks, checks them, and remembers what arrived."""

import asyncio
import base64
import hashlib
import json
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, date, datetime

from aiohttp import web

from simulator.json_http import Handler, bad_request, json_answer, not_found

LARGEST_EXPORT_BYTES = 256 * 1024 * 1024
KEPT_BODY_BYTES = 1024 * 1024
FIELDS = {"click_id", "offer_id", "source", "timestamp", "signature"}
CLICKS_PATH = "/finance/clicks"


@dataclass
class Arrival:
    """One export that was taken; the body only if it is small."""

    date: str
    total_clicks: int
    clicks_by_offer: dict[str, int]
    sha256: str
    key: str | None
    authorization: str | None
    body_bytes: int
    body: bytes | None
    times: int = 1

    def shown(self) -> dict[str, object]:
        """Return it as the control API shows it."""
        return {name: value for name, value in vars(self).items() if name != "body"}


class Finance:
    """The service and its control API."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget everything that arrived."""
        self._arrivals: list[Arrival] = []
        self._requests: Counter[str] = Counter(health=0, clicks=0, refused=0)

    def routes(self) -> list[web.RouteDef]:
        """Return the public and the control routes."""
        return [
            web.get("/finance/health", self.health),
            web.post(CLICKS_PATH, self.take_clicks),
            web.get("/control/finance", self.show),
            web.get("/control/finance/{date}", self.show_body),
        ]

    async def health(self, request: web.Request) -> web.Response:
        """Answer that the service is well; a fault on this path says otherwise."""
        self._requests["health"] += 1
        return json_answer({"status": "ok"})

    async def take_clicks(self, request: web.Request) -> web.Response:
        """Take a day's clicks; the same key again is answered but not taken twice."""
        self._requests["clicks"] += 1
        body = await request.read()
        try:
            arrival = await asyncio.to_thread(_checked, request, body)
        except web.HTTPBadRequest:
            self._requests["refused"] += 1
            raise
        known = self._with_key(arrival.key)
        if known is not None:
            known.times += 1
        else:
            self._arrivals.append(arrival)
        return json_answer({"status": "ok", "received": arrival.total_clicks})

    async def show(self, request: web.Request) -> web.Response:
        """Answer what arrived, oldest first, and how often each path was asked."""
        exports = [arrival.shown() for arrival in self._arrivals]
        return json_answer({"requests": self._requests, "exports": exports})

    async def show_body(self, request: web.Request) -> web.Response:
        """Answer the last body that came for a date, as it came."""
        wanted = request.match_info["date"]
        bodies = [one.body for one in self._arrivals if one.date == wanted and one.body is not None]
        if not bodies:
            raise not_found("nothing small enough to be kept arrived for that date")
        return web.Response(body=bodies[-1], content_type="application/json")

    def _with_key(self, key: str | None) -> Arrival | None:
        if key is None:
            return None
        return next((one for one in self._arrivals if one.key == key), None)


@web.middleware
async def take_large_exports(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Take bodies on the path of exports that are too large for any other."""
    if request.path == CLICKS_PATH:
        request = request.clone(client_max_size=LARGEST_EXPORT_BYTES)
    return await handler(request)


def _checked(request: web.Request, body: bytes) -> Arrival:
    """Return what arrived, or answer 400 for what finance would not book."""
    sha256 = hashlib.sha256(body)
    _check_digest(request.headers.get("Content-Digest"), sha256.digest())
    try:
        data = json.loads(body)
    except (ValueError, RecursionError):
        raise bad_request("the body is not JSON") from None
    if not isinstance(data, dict) or data.keys() != {"date", "total_clicks", "clicks"}:
        raise bad_request("the body is not {date, total_clicks, clicks}")
    clicks = data["clicks"]
    day = _day(data["date"])
    if not isinstance(clicks, list) or data["total_clicks"] != len(clicks):
        raise bad_request("total_clicks is not the number of clicks")
    for click in clicks:
        _check_click(click, day)
    if len({click["click_id"] for click in clicks}) != len(clicks):
        raise bad_request("a click_id comes twice")
    return Arrival(
        date=data["date"],
        total_clicks=len(clicks),
        clicks_by_offer=dict(Counter(str(click["offer_id"]) for click in clicks)),
        sha256=sha256.hexdigest(),
        key=request.headers.get("Idempotency-Key"),
        authorization=request.headers.get("Authorization"),
        body_bytes=len(body),
        body=body if len(body) <= KEPT_BODY_BYTES else None,
    )


def _check_digest(given: str | None, digest: bytes) -> None:
    expected = f"sha-256=:{base64.b64encode(digest).decode()}:"
    if given is not None and given != expected:
        raise bad_request("Content-Digest is not that of the body")


def _day(written: object) -> date:
    try:
        return date.fromisoformat(str(written))
    except ValueError:
        raise bad_request("date is not a date") from None


def _check_click(click: object, day: date) -> None:
    if not isinstance(click, dict) or click.keys() != FIELDS:
        raise bad_request(f"a click has not the fields {', '.join(sorted(FIELDS))}")
    if not isinstance(click["offer_id"], int) or not isinstance(click["click_id"], str):
        raise bad_request("a click's offer_id is not a number or its click_id not text")
    try:
        moment = datetime.fromisoformat(click["timestamp"])
    except (TypeError, ValueError):
        raise bad_request("a click's timestamp is not a time") from None
    if moment.tzinfo is None or moment.astimezone(UTC).date() != day:
        raise bad_request("a click's timestamp is not on the date (UTC)")
