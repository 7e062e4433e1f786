"""The one way to work through what is due: claim, call outside, record, until nothing is left.

Calls run concurrently on the process's event loop (see `http_client`), while this thread claims
and records in short transactions. Results are recorded as they come in, so one call that hangs
delays neither the others nor their results.
"""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from queue import Empty, SimpleQueue
from typing import Generic, Protocol, TypeVar

import structlog
from redis import RedisError

from project.config.environment import get_settings
from project.config.kernel import WorkSettings
from project.core.db.transaction import transaction
from project.core.net import http_client
from project.core.work.queues import Wakeup, wake, wakeup_taken
from project.extensions import redis_client

log = structlog.get_logger()

SLOT_SECONDS = 10
LULL_SECONDS = 0.1
GATHER_SECONDS = 0.01
RECORD_AT_MOST = 500

stopping = threading.Event()
"""Set when this process is asked to end: nothing more is claimed, what is under way is finished."""

Item = TypeVar("Item")
Answer = TypeVar("Answer")


class Work(Protocol[Item, Answer]):
    """A kind of due work, as the pump needs to know it."""

    wakeup: Wakeup
    capacity: int
    """How many items one process has under way at once."""
    armful: int
    """How many items one process claims at once, so that others find some too."""

    def claim(self, limit: int) -> Sequence[Item]:
        """Claim at most `limit` due items, inside the transaction that the pump opened."""

    async def call(self, item: Item) -> Answer:
        """Make the outside call; outside trouble is an answer, not an exception."""

    def record(self, results: Sequence[tuple[Item, Answer]]) -> None:
        """Write down what came of the items, inside the transaction that the pump opened."""

    def is_anything_due(self) -> bool:
        """Tell whether a claim would find something."""


def run_in_worker(work: Work[Item, Answer]) -> int:
    """Do this kind of work as a woken job and return how many items were recorded.

    At most half of the workers do one kind at a time. A job that finds all places taken ends at
    once: those at work will see what it was woken for, because each looks again after it has
    given up its place.
    """
    wakeup_taken(work.wakeup)
    with place(work.wakeup) as keep_place:
        if keep_place is None:
            return 0
        done = run(
            work,
            seconds=get_settings(WorkSettings).pump_seconds,
            on_progress=keep_place,
            on_plenty=lambda: wake(work.wakeup),
        )
    with transaction():
        if work.is_anything_due():
            wake(work.wakeup)
    return done


def run(
    work: Work[Item, Answer],
    *,
    limit: int | None = None,
    seconds: float | None = None,
    on_progress: Callable[[int], object] = lambda count: None,
    on_plenty: Callable[[], object] = lambda: None,
) -> int:
    """Work until nothing is due, `limit` items are done or the time is up; return the count.

    `on_progress` is told, about once a second or oftener, how many items were recorded since;
    `on_plenty` is called when more is due than this process has room for.
    """
    return _Run(work, limit, seconds, on_progress, on_plenty).finish()


class _Run(Generic[Item, Answer]):
    """One pass of the pump: what is under way, what came back, when to claim again."""

    def __init__(
        self,
        work: Work[Item, Answer],
        limit: int | None,
        seconds: float | None,
        on_progress: Callable[[int], object],
        on_plenty: Callable[[], object],
    ) -> None:
        self.work = work
        self.left = limit
        self.ends_at = None if seconds is None else time.monotonic() + seconds
        self.on_progress = on_progress
        self.on_plenty = on_plenty
        self.came_back: SimpleQueue[tuple[Item, Answer] | None] = SimpleQueue()
        self.under_way = 0
        self.done = 0
        self.claim_again_at = 0.0

    def finish(self) -> int:
        """Go round until nothing is under way and nothing more is to be claimed."""
        while True:
            claimed = self._claim()
            if not self.under_way and not claimed:
                return self.done
            self._record(self._gather())

    def _claim(self) -> int:
        room = self._room()
        if room == 0:
            return 0
        with transaction():
            items = self.work.claim(room)
        for item in items:
            http_client.start(self._call(item))
        self.under_way += len(items)
        if self.left is not None:
            self.left -= len(items)
        if len(items) < room:
            self.claim_again_at = time.monotonic() + LULL_SECONDS
        else:
            self.on_plenty()
        return len(items)

    def _room(self) -> int:
        """Return how many items to claim now: whole armfuls, so that a claim is worth its query."""
        now = time.monotonic()
        if stopping.is_set() or (self.ends_at is not None and now >= self.ends_at):
            return 0
        if self.under_way and now < self.claim_again_at:
            return 0
        room = min(self.work.capacity - self.under_way, self.work.armful)
        if self.left is not None:
            return min(room, self.left)
        return room if room >= self.work.armful // 2 or not self.under_way else 0

    async def _call(self, item: Item) -> None:
        try:
            self.came_back.put((item, await self.work.call(item)))
        except Exception:
            # The item keeps its claim; when the lease ends, it is due again.
            log.exception("pump.call_failed", kind=self.work.wakeup.name)
            self.came_back.put(None)

    def _gather(self) -> list[tuple[Item, Answer]]:
        """Wait for a result and take those that come at about the same time with it."""
        results: list[tuple[Item, Answer]] = []
        wait: float = LULL_SECONDS
        gathered_until = None
        while self.under_way and len(results) < RECORD_AT_MOST:
            try:
                result = self.came_back.get(timeout=wait)
            except Empty:
                break
            self.under_way -= 1
            if result is not None:
                results.append(result)
            if gathered_until is None:
                gathered_until = time.monotonic() + GATHER_SECONDS
            wait = max(gathered_until - time.monotonic(), 0)
            if wait == 0 and self.came_back.empty():
                break
            wait = max(wait, 0.0001)
        return results

    def _record(self, results: list[tuple[Item, Answer]]) -> None:
        try:
            self._record_together(results)
        except Exception:
            log.exception("pump.record_failed", kind=self.work.wakeup.name, items=len(results))
            if len(results) == 1:
                return
            for result in results:
                self._record([result])
            return
        self.done += len(results)
        self.on_progress(len(results))

    def _record_together(self, results: list[tuple[Item, Answer]]) -> None:
        if results:
            with transaction():
                self.work.record(results)


@contextmanager
def place(wakeup: Wakeup) -> Iterator[Callable[[int], None] | None]:
    """Hold a place for this kind of work; give what keeps it, or None if all are taken.

    Without Redis nobody counts the places, and the work goes on: claims in Postgres divide it.
    """
    redis = redis_client()
    places = max(1, get_settings(WorkSettings).workers // 2)
    keys = [f"place:{wakeup.name}:{number}" for number in range(places)]
    try:
        key = next((key for key in keys if redis.set(key, 1, nx=True, ex=SLOT_SECONDS)), None)
    except RedisError:
        log.warning("pump.places_not_counted", kind=wakeup.name)
        yield lambda _count: None
        return
    if key is None:
        yield None
        return

    def keep(_count: int) -> None:
        try:
            redis.set(key, 1, ex=SLOT_SECONDS)
        except RedisError:
            log.warning("pump.place_not_kept", kind=wakeup.name)

    try:
        yield keep
    finally:
        try:
            redis.delete(key)
        except RedisError:
            log.warning("pump.place_not_given_up", kind=wakeup.name)
