"""Who may send, and how much: the allow-list, and a rate limit that costs next to nothing."""

import time
from functools import lru_cache
from threading import Lock

from limits import parse
from redis import RedisError

from project.addresses import counted_as, parse_address
from project.config import Network, get_settings
from project.core import clock
from project.core.errors import Forbidden, TooManyRequests
from project.extensions import redis_client

SHARES = 20
"""A process takes its share of the limit from Redis in such parts, not click by click."""
MAX_ADDRESSES = 10_000
AWAY_SECONDS = 5.0
NOTHING_LEFT = -1


@lru_cache(maxsize=MAX_ADDRESSES)
def _is_allowed(address: str, networks: tuple[Network, ...]) -> bool:
    sender = parse_address(address)
    return sender is not None and any(sender in network for network in networks)


def require_allowed(address: str | None) -> None:
    """Raise Forbidden unless the address is in WEBHOOK_ALLOWED_IPS, or that is empty."""
    networks = get_settings().webhook_allowed_networks
    if networks and not _is_allowed(address or "", networks):
        raise Forbidden("Clicks are not taken from this address.")


class Allowance:
    """How many requests each address may still make in the present stretch of time.

    All processes together keep the limit: each takes a twentieth of it from Redis at a time and
    spends that by itself, so that what is left over is the only error. Without Redis, each
    process keeps the whole limit by itself.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._stretch = 0
        self._left: dict[str, int] = {}
        self._redis_away_until = 0.0

    def spend(self, address: str, limit: str) -> None:
        """Count a request. Raises TooManyRequests when the limit is reached."""
        address = counted_as(address)
        amount, seconds = _parsed(limit)
        # Redis is asked under the lock: twenty times a stretch at most, by one thread for all.
        with self._lock:
            now = clock.real_now().timestamp()
            stretch = int(now // seconds)
            if stretch != self._stretch or len(self._left) > MAX_ADDRESSES:
                self._stretch, self._left = stretch, {}
            left = self._left.get(address, 0)
            if left == 0:
                left = self._take(address, stretch, amount, seconds) or NOTHING_LEFT
            self._left[address] = left if left == NOTHING_LEFT else left - 1
        if left == NOTHING_LEFT:
            raise TooManyRequests(
                "Too many clicks from this address. Wait a little and send them again.",
                retry_after=max(1, round(seconds - now % seconds)),
            )

    def _take(self, address: str, stretch: int, amount: int, seconds: int) -> int:
        if time.monotonic() < self._redis_away_until:
            return amount
        share = max(1, amount // SHARES)
        key = f"clicks:{address}:{stretch}"
        try:
            with redis_client().pipeline(transaction=False) as pipeline:
                pipeline.incrby(key, share)
                pipeline.expire(key, 2 * seconds)
                used = int(pipeline.execute()[0])
        except RedisError:
            self._redis_away_until = time.monotonic() + AWAY_SECONDS
            return amount
        return max(0, min(share, amount - (used - share)))


@lru_cache(maxsize=8)
def _parsed(limit: str) -> tuple[int, int]:
    """Return how many in how many seconds."""
    parsed = parse(limit)
    return parsed.amount, parsed.get_expiry()


allowance = Allowance()
