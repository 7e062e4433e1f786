"""What the simulated world sends by itself: notices and receipts, in the background, once."""

import asyncio
from collections import Counter, deque
from collections.abc import Mapping
from typing import cast

import aiohttp

MOST_WAITING = 50_000
SENDERS = 16
TIMEOUT_SECONDS = 5.0
JSON = {"Content-Type": "application/json"}


class Outgoing:
    """Sends messages one after another, by a few senders, and without a promise."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None
        self._senders: set[asyncio.Task[None]] = set()
        self._held_back: set[asyncio.TimerHandle] = set()
        self._queue: deque[tuple[str, bytes, Mapping[str, str]]] = deque()
        self._counters: Counter[str] = Counter(sent=0, failed=0, left_out=0)

    def forget(self) -> None:
        """Send nothing any more, also not what was waiting."""
        self._counters = Counter(sent=0, failed=0, left_out=0)
        for sender in self._senders:
            sender.cancel()
        for handle in self._held_back:
            handle.cancel()
        self._senders.clear()
        self._held_back.clear()
        self._queue.clear()

    async def close(self) -> None:
        """Stop sending and close the connections."""
        self.forget()
        if self._session is not None:
            await self._session.close()

    def counters(self) -> dict[str, int]:
        """Return how many messages were taken, failed, were too many, and are on their way."""
        waiting = len(self._queue) + len(self._senders) + len(self._held_back)
        return {**self._counters, "waiting": waiting}

    def post(
        self,
        url: str,
        body: bytes,
        *,
        after_seconds: float = 0.0,
        headers: Mapping[str, str] = JSON,
    ) -> None:
        """Send a message, now or after a while; left out when too many wait already."""
        if len(self._queue) + len(self._held_back) >= MOST_WAITING:
            self._counters["left_out"] += 1
        elif after_seconds > 0:
            self._hold_back(url, body, headers, after_seconds)
        else:
            self._enqueue(url, body, headers)

    def _hold_back(self, url: str, body: bytes, headers: Mapping[str, str], seconds: float) -> None:
        def release() -> None:
            self._held_back.discard(handle)
            self._enqueue(url, body, headers)

        handle = asyncio.get_running_loop().call_later(seconds, release)
        self._held_back.add(handle)

    def _enqueue(self, url: str, body: bytes, headers: Mapping[str, str]) -> None:
        self._queue.append((url, body, headers))
        if len(self._senders) < SENDERS:
            self._senders.add(asyncio.create_task(self._send_all()))

    async def _send_all(self) -> None:
        if self._session is None:
            timeout = aiohttp.ClientTimeout(total=TIMEOUT_SECONDS)
            self._session = aiohttp.ClientSession(timeout=timeout)
        while self._queue:
            url, body, headers = self._queue.popleft()
            taken = await self._send(self._session, url, body, headers)
            self._counters["sent" if taken else "failed"] += 1
        # Not left to a callback: a message that comes in between would find nobody to send it.
        self._senders.discard(cast("asyncio.Task[None]", asyncio.current_task()))

    async def _send(
        self, session: aiohttp.ClientSession, url: str, body: bytes, headers: Mapping[str, str]
    ) -> bool:
        """Send one message; return whether it was taken."""
        try:
            async with session.post(
                url, data=body, headers=headers, allow_redirects=False
            ) as answer:
                return 200 <= answer.status < 300
        except (aiohttp.ClientError, TimeoutError, ValueError):
            return False
