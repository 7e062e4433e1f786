"""The App Store and Google Play: whether a receipt is good, and until when."""

import json
import math
from collections import Counter
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

from aiohttp import web

from simulator.clock import Clock
from simulator.json_http import (
    JSON_HEADERS,
    bad_request,
    json_answer,
    moment,
    not_found,
    read_object,
    reject_unknown,
)
from simulator.settings import Settings

STORE_NAMES = ("app-store", "google-play")

# The development stores answer in the local time of fixed UTC-6, without an offset.
STORE_TIMEZONE = timezone(timedelta(hours=-6))

LIMITED_ENDINGS = frozenset(f"{number:02}" for number in range(0, 100, 6))
ACCEPTED_ENDINGS = frozenset("13579")

REFUSED = b'{"status": false}'
RATE_LIMITED = b'{"error": "rate limit"}'


@dataclass(frozen=True, slots=True)
class Outcome:
    """A forced outcome: refused, or accepted until a given time or by the usual rule."""

    accepted: bool
    expires_at: datetime | None = None


class Store:
    """One store: what it knows of its receipts, and what it was asked."""

    def __init__(self, clock: Clock, settings: Settings) -> None:
        self._clock = clock
        self._settings = settings
        self._expiries: dict[str, datetime | None] = {}
        self._forced: dict[str, Outcome] = {}
        self._counters: Counter[str] = Counter(requests=0, accepted=0, refused=0, limited=0)

    async def verify(self, request: web.Request) -> web.Response:
        """Answer whether the receipt in the body is good."""
        self._counters["requests"] += 1
        receipt = await _receipt(request)
        self._expiries.setdefault(receipt, None)
        forced = self._forced.get(receipt)
        if forced is None:
            return await self._verify_by_rule(receipt)
        if not forced.accepted:
            return self._refuse()
        return self._accept(forced.expires_at or await self._expiry(receipt))

    def force(self, receipt: str, outcome: Outcome | None) -> None:
        """Force the outcome for a receipt; None goes back to the rule."""
        if outcome is None:
            self._forced.pop(receipt, None)
        else:
            self._forced[receipt] = outcome

    def counters(self) -> dict[str, int]:
        """Return what the store was asked and what it answered."""
        return {**self._counters, "distinct_receipts": len(self._expiries)}

    async def _verify_by_rule(self, receipt: str) -> web.Response:
        if receipt[-2:] in LIMITED_ENDINGS:
            self._counters["limited"] += 1
            return web.Response(body=RATE_LIMITED, status=429, headers=JSON_HEADERS)
        if receipt[-1] in ACCEPTED_ENDINGS:
            return self._accept(await self._expiry(receipt))
        return self._refuse()

    async def _expiry(self, receipt: str) -> datetime:
        """Return when a good receipt expires; one that has expired is renewed."""
        now = await self._clock.now()
        period_seconds = self._settings.period_seconds
        expires_at = self._expiries[receipt]
        if expires_at is None:
            expires_at = now + timedelta(seconds=period_seconds)
        elif expires_at <= now:
            late_seconds = (now - expires_at).total_seconds()
            periods = math.floor(late_seconds / period_seconds) + 1
            expires_at += timedelta(seconds=periods * period_seconds)
        self._expiries[receipt] = expires_at
        return expires_at

    def _accept(self, expires_at: datetime) -> web.Response:
        self._counters["accepted"] += 1
        local = expires_at.astimezone(STORE_TIMEZONE).replace(tzinfo=None)
        text = local.isoformat(sep=" ", timespec="seconds")
        body = f'{{"status": true, "expire-date": "{text}"}}'
        return web.Response(body=body.encode(), headers=JSON_HEADERS)

    def _refuse(self) -> web.Response:
        self._counters["refused"] += 1
        return web.Response(body=REFUSED, headers=JSON_HEADERS)


class Stores:
    """Both stores and their control API."""

    def __init__(self, clock: Clock, settings: Settings) -> None:
        self._clock = clock
        self._settings = settings
        self.reset()

    def reset(self) -> None:
        """Forget all receipts, forced outcomes and counters."""
        self._stores = {name: Store(self._clock, self._settings) for name in STORE_NAMES}

    def routes(self) -> list[web.RouteDef]:
        """Return the public and the control routes."""
        return [
            web.post("/app-store/verify", self.verify_at_app_store),
            web.post("/google-play/verify", self.verify_at_google_play),
            web.put("/control/receipts/{store}/{receipt:.+}", self.force_outcome),
            web.get("/control/stores", self.show_counters),
        ]

    async def verify_at_app_store(self, request: web.Request) -> web.Response:
        """Verify a receipt of the App Store."""
        return await self._stores["app-store"].verify(request)

    async def verify_at_google_play(self, request: web.Request) -> web.Response:
        """Verify a receipt of Google Play."""
        return await self._stores["google-play"].verify(request)

    async def force_outcome(self, request: web.Request) -> web.Response:
        """Force what a store answers for a receipt, or go back to the rule."""
        store = self._stores.get(request.match_info["store"])
        if store is None:
            raise not_found(f"no such store; there are {' and '.join(STORE_NAMES)}")
        data = await read_object(request)
        store.force(request.match_info["receipt"], _outcome(data))
        return json_answer({"state": data["state"], "expires_at": data.get("expires_at")})

    async def show_counters(self, request: web.Request) -> web.Response:
        """Answer the counters of both stores."""
        return json_answer({name: store.counters() for name, store in self._stores.items()})


async def _receipt(request: web.Request) -> str:
    """Return the receipt in the body, or answer 400."""
    try:
        receipt = json.loads(await request.read())["receipt"]
    except (ValueError, TypeError, KeyError, IndexError, RecursionError):
        raise bad_request("the body is not JSON with a receipt") from None
    if not isinstance(receipt, str) or not receipt:
        raise bad_request("receipt is not text")
    return receipt


def _outcome(data: dict[str, object]) -> Outcome | None:
    reject_unknown(data, frozenset({"state", "expires_at"}))
    given = data.get("expires_at")
    expires_at = None if given is None else moment("expires_at", given)
    match data.get("state"):
        case "default":
            return None
        case "canceled":
            return Outcome(accepted=False)
        case "active":
            return Outcome(accepted=True, expires_at=expires_at)
        case _:
            raise bad_request('state is not "active", "canceled" or "default"')
