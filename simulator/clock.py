"""The time in the simulated world: real UTC time plus what the platform's test clock adds."""

import asyncio
import time
from datetime import UTC, datetime
from http import HTTPStatus

import aiohttp

from simulator.json_http import parse_moment

LOOK_UP_SECONDS = 0.5


class Clock:
    """Tells the time; with a URL it asks there whenever the time is needed."""

    def __init__(self, url: str | None = None) -> None:
        self._url = url
        self._offset_seconds = 0.0
        self._session: aiohttp.ClientSession | None = None
        self._look_up_in_flight: asyncio.Task[None] | None = None

    async def now(self) -> datetime:
        """Return the simulated time, aware, in UTC."""
        offset_seconds = await self.offset_seconds()
        return datetime.fromtimestamp(time.time() + offset_seconds, UTC)

    async def offset_seconds(self) -> float:
        """Return how far the simulated time is ahead of the real one."""
        if self._url is not None:
            await self._refresh(self._url)
        return self._offset_seconds

    async def close(self) -> None:
        """Close the connections to the clock."""
        if self._look_up_in_flight is not None:
            self._look_up_in_flight.cancel()
        if self._session is not None:
            await self._session.close()

    async def _refresh(self, url: str) -> None:
        # Requests that need the time at once share one look-up. It is shielded,
        # because a request that is cancelled must not take it from the others.
        if self._look_up_in_flight is None:
            self._look_up_in_flight = asyncio.create_task(self._look_up(url))
            self._look_up_in_flight.add_done_callback(self._forget_look_up)
        await asyncio.shield(self._look_up_in_flight)

    def _forget_look_up(self, _: asyncio.Task[None]) -> None:
        self._look_up_in_flight = None

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
        except (aiohttp.ClientError, TimeoutError, ValueError, TypeError, KeyError):
            return
        self._offset_seconds = told.timestamp() - time.time()
