"""Who may send, and how much: the allow-list, and a rate limit that costs next to nothing."""

import asyncio
from functools import lru_cache
from threading import Lock
from typing import NamedTuple

from limits import parse
from redis import RedisError

from project.addresses import counted_as, parse_address
from project.clicks.settings import ClickSettings
from project.config.environment import get_settings
from project.config.kernel import Network
from project.core import clock
from project.core.errors import Forbidden, TooManyRequests
from project.core.loop import in_thread, running_loop
from project.extensions import redis_client

SHARES = 20
"""A process takes its share of the limit from Redis in such parts, not click by click."""
MAX_ADDRESSES = 10_000
REDIS_SECONDS = 0.3
"""How long those who need a share wait for Redis before they go on without it."""
NOTHING_LEFT = -1


@lru_cache(maxsize=MAX_ADDRESSES)
def _is_allowed(address: str, networks: tuple[Network, ...]) -> bool:
    sender = parse_address(address)
    return sender is not None and any(sender in network for network in networks)


def require_allowed(address: str | None) -> None:
    """Raise Forbidden unless the address is in WEBHOOK_ALLOWED_IPS, or that is empty."""
    networks = get_settings(ClickSettings).click_webhook_allowed_networks
    if networks and not _is_allowed(address or "", networks):
        raise Forbidden("Clicks are not taken from this address.")


class _Wanted(NamedTuple):
    """A share of the limit that an address has to have for a stretch of time."""

    address: str
    stretch: int
    amount: int
    seconds: int


class Allowance:
    """How many requests each address may still make in the present stretch of time.

    All processes together keep the limit: each takes a twentieth of it from Redis at a time and
    spends that by itself, so that what is left over is the only error. Without Redis, each
    process keeps the whole limit by itself. Redis is asked by one for all, and never under the
    lock: those who need no share do not wait for it.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._stretch = 0
        self._left: dict[str, int] = {}
        self._alone: set[str] = set()
        self._asking: dict[_Wanted, asyncio.Task[None]] = {}

    async def spend(self, address: str, limit: str) -> None:
        """Count a request. Raises TooManyRequests when the limit is reached."""
        while (wanted := self._spend(counted_as(address), limit)) is not None:
            await self._have_share(wanted)

    def _spend(self, address: str, limit: str) -> _Wanted | None:
        amount, seconds = _parsed(limit)
        with self._lock:
            now = clock.real_now().timestamp()
            stretch = int(now // seconds)
            if stretch != self._stretch or len(self._left) > MAX_ADDRESSES:
                self._stretch, self._left, self._alone = stretch, {}, set()
            left = self._left.get(address, 0)
            if left == 0:
                return _Wanted(address, stretch, amount, seconds)
            if left != NOTHING_LEFT:
                self._left[address] = left - 1
                return None
        raise TooManyRequests(
            "Too many clicks from this address. Wait a little and send them again.",
            retry_after=max(1, round(seconds - now % seconds)),
        )

    def _grant(self, wanted: _Wanted, share: int | None) -> None:
        """Take a share into account; None stands for a Redis that is away."""
        with self._lock:
            if wanted.stretch != self._stretch:
                return
            if share is None:
                is_first = wanted.address not in self._alone
                self._alone.add(wanted.address)
                share = wanted.amount if is_first else 0
            left = max(0, self._left.get(wanted.address, 0)) + share
            self._left[wanted.address] = left or NOTHING_LEFT

    async def _have_share(self, wanted: _Wanted) -> None:
        loop = running_loop()
        if loop is None:
            self._grant(wanted, self._take(wanted))
            return
        asking = self._asking.get(wanted)
        if asking is None or asking.get_loop() is not loop:
            asking = self._asking[wanted] = loop.create_task(self._ask(wanted))
        await asyncio.shield(asking)

    async def _ask(self, wanted: _Wanted) -> None:
        try:
            share = await asyncio.wait_for(in_thread(self._take, wanted), REDIS_SECONDS)
        except TimeoutError:
            share = None
        finally:
            del self._asking[wanted]
        self._grant(wanted, share)

    def _take(self, wanted: _Wanted) -> int | None:
        share = max(1, wanted.amount // SHARES)
        key = f"clicks:{wanted.address}:{wanted.stretch}"
        try:
            with redis_client().pipeline(transaction=False) as pipeline:
                pipeline.incrby(key, share)
                pipeline.expire(key, 2 * wanted.seconds)
                used = int(pipeline.execute()[0])
        except RedisError:
            return None
        return max(0, min(share, wanted.amount - (used - share)))


@lru_cache(maxsize=8)
def _parsed(limit: str) -> tuple[int, int]:
    """Return how many in how many seconds."""
    parsed = parse(limit)
    return parsed.amount, parsed.get_expiry()


allowance = Allowance()
