"""The time in the simulated world: real UTC time plus what the platform's test clock adds."""

import asyncio
import contextlib
import time
from datetime import UTC, datetime
from http import HTTPStatus

import aiohttp
from aiohttp import web

from simulator.json_http import parse_moment

LOOK_UP_SECONDS = 10.0
NOTE_SECONDS = 0.5


class Clock:
    """Tells the time; with a URL it asks there whenever the time is needed.

    A clock that is away, or has none to tell, leaves the time as it was last known. One that is
    slow is waited for: a store that went by a time from before a move would deny renewals.
    """

    def __init__(self, url: str | None = None) -> None:
        self._url = url
        self._offset_seconds = 0.0
        self._session: aiohttp.ClientSession | None = None
        self._under_way: asyncio.Task[None] | None = None
        self._next: asyncio.Task[None] | None = None

    async def now(self) -> datetime:
        """Return the simulated time, aware, in UTC; answers 503 where the clock is too slow."""
        try:
            await self._refresh()
        except TimeoutError:
            raise web.HTTPServiceUnavailable(text="the clock does not answer") from None
        return datetime.fromtimestamp(time.time() + self._offset_seconds, UTC)

    async def offset_seconds(self) -> float:
        """Return how far the simulated time is ahead, as last known if the clock is slow.

        For notes of when something came, that nothing is decided by.
        """
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._refresh(), NOTE_SECONDS)
        return self._offset_seconds

    async def close(self) -> None:
        """Close the connections to the clock."""
        for task in (self._under_way, self._next):
            if task is not None:
                task.cancel()
        if self._session is not None:
            await self._session.close()

    async def _refresh(self) -> None:
        """Look the time up. Raises TimeoutError.

        Requests that come together share a look-up, but none that was under way when they came:
        it may have been told the time from before a move that they know of.
        """
        if self._url is None:
            return
        if self._next is None:
            self._next = asyncio.create_task(self._look_up_after(self._under_way, self._url))
        # Shielded, because a request that is canceled must not take it from the others.
        await asyncio.shield(self._next)

    async def _look_up_after(self, other: asyncio.Task[None] | None, url: str) -> None:
        if other is not None:
            await asyncio.wait([other])
        self._under_way, self._next = self._next, None
        await self._look_up(url)

    async def _look_up(self, url: str) -> None:
        """Set the offset from the answer; keep the last one when there is no good answer."""
        if self._session is None:
            timeout = aiohttp.ClientTimeout(total=LOOK_UP_SECONDS, ceil_threshold=60)
            self._session = aiohttp.ClientSession(timeout=timeout)
        try:
            async with self._session.get(url, allow_redirects=False) as answer:
                if answer.status != HTTPStatus.OK:
                    return
                told = parse_moment((await answer.json(content_type=None))["now"])
        except TimeoutError:
            raise
        except (aiohttp.ClientError, ValueError, TypeError, KeyError):
            return
        self._offset_seconds = told.timestamp() - time.time()
