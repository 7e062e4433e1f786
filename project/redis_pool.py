"""The connections to Redis that requests and jobs share: they fail fast, and rest after a failure.

Redis only wakes people up, so nobody may wait for it. A server that hangs, drops packets or
answers slowly costs one caller half a second; the others go on without it, and once a second one of
them looks whether it is back.
"""

import threading
import time
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from redis import ConnectionError as ConnectionLost
from redis import RedisError, TimeoutError
from redis.backoff import NoBackoff
from redis.connection import Connection, ConnectionPool, parse_url
from redis.maint_notifications import MaintNotificationsConfig
from redis.retry import Retry

ANSWER_SECONDS = 0.5
SLOW_SECONDS = 0.25
REST_SECONDS = 1.0

if TYPE_CHECKING:
    AnyConnection = Connection
else:
    AnyConnection = object


class RedisAway(RedisError):
    """Redis did not answer a moment ago and is not asked again yet."""


class Breaker:
    """Who may ask Redis: everybody while it answers, one caller a second while it does not."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._resting = False
        self._rests_until = 0.0
        self._prober: int | None = None

    def enter(self) -> None:
        """Go on, or raise RedisAway."""
        if not self._resting:
            return
        with self._lock:
            if not self._resting or self._prober == threading.get_ident():
                return
            now = time.monotonic()
            if now < self._rests_until:
                raise RedisAway("Redis did not answer a moment ago.")
            # This caller looks whether it is back; meanwhile the others go on without it.
            self._prober, self._rests_until = threading.get_ident(), now + REST_SECONDS

    def note_failure(self) -> None:
        """Let Redis rest."""
        with self._lock:
            self._resting, self._prober = True, None
            self._rests_until = time.monotonic() + REST_SECONDS

    def note_answer(self, seconds: float) -> None:
        """Take an answer for a sign of life, unless it was long in coming."""
        if seconds > SLOW_SECONDS:
            self.note_failure()
        elif self._resting:
            with self._lock:
                self._resting, self._prober = False, None


def shared_pool(url: str) -> ConnectionPool:
    """Return a pool of connections that fail fast, whose settings no library can change."""
    base = parse_url(url).get("connection_class", Connection)  # type: ignore[no-untyped-call]
    watched = type("WatchedConnection", (_Watched, base), {"breaker": Breaker()})
    return _FixedPool.from_url(
        url,
        connection_class=watched,
        socket_connect_timeout=ANSWER_SECONDS,
        socket_timeout=ANSWER_SECONDS,
        # For a kept connection that a restarted server has closed. Who hangs is not asked twice.
        retry=Retry(NoBackoff(), 1, supported_errors=(ConnectionLost,)),
        maint_notifications_config=MaintNotificationsConfig(enabled=False),
    )


class _Watched(AnyConnection):
    """A connection that asks the breaker before it speaks, and tells it what came of it."""

    breaker: Breaker

    def _connect(self) -> Any:
        self.breaker.enter()
        try:
            return super()._connect()  # type: ignore[no-untyped-call]
        except OSError:
            self.breaker.note_failure()
            raise

    def send_packed_command(self, *args: Any, **kwargs: Any) -> None:
        self.breaker.enter()
        super().send_packed_command(*args, **kwargs)  # type: ignore[no-untyped-call]

    def read_response(self, *args: Any, **kwargs: Any) -> Any:
        asked_at = time.monotonic()
        try:
            response = super().read_response(*args, **kwargs)
        except TimeoutError:
            self.breaker.note_failure()
            raise
        self.breaker.note_answer(time.monotonic() - asked_at)
        return response


class _FixedPool(ConnectionPool):
    """A pool whose settings stand; rq's Worker writes a timeout of minutes into its own."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._connection_kwargs = MappingProxyType(self._connection_kwargs)  # type: ignore[assignment]
