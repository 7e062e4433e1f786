"""The notices that YooKassa sends of payments that were settled."""

import asyncio
import json
import random
from collections import Counter, deque
from typing import cast

import aiohttp

from simulator.yookassa.payments import Payment

MOST_WAITING = 50_000
SENDERS = 16
TIMEOUT_SECONDS = 5.0
LONGEST_SHUFFLE_SECONDS = 0.5


class Webhooks:
    """Sends notices in the background, once and without a promise."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None
        self._senders: set[asyncio.Task[None]] = set()
        self._held_back: set[asyncio.TimerHandle] = set()
        self._queue: deque[tuple[str, bytes]] = deque()
        self.reset()

    def reset(self) -> None:
        """Send nothing any more, also not what was waiting."""
        self.url: str | None = None
        self.times = 1
        self.shuffle = False
        self._counters: Counter[str] = Counter(sent=0, failed=0, left_out=0)
        for sender in self._senders:
            sender.cancel()
        for handle in self._held_back:
            handle.cancel()
        self._senders.clear()
        self._held_back.clear()
        self._queue.clear()

    async def close(self) -> None:
        """Stop sending and close the connections."""
        self.reset()
        if self._session is not None:
            await self._session.close()

    def counters(self) -> dict[str, int]:
        """Return how many notices were taken, failed, were too many, and are on their way."""
        waiting = len(self._queue) + len(self._senders) + len(self._held_back)
        return {**self._counters, "waiting": waiting}

    def tell(self, payment: Payment) -> None:
        """Send what the payment is now, as often as it is set."""
        if self.url is None:
            return
        notice = {
            "type": "notification",
            "event": f"payment.{payment.status}",
            "object": payment.shown(),
        }
        body = json.dumps(notice).encode()
        for _ in range(self.times):
            self._plan(self.url, body)

    def _plan(self, url: str, body: bytes) -> None:
        if len(self._queue) + len(self._held_back) >= MOST_WAITING:
            self._counters["left_out"] += 1
        elif self.shuffle:
            self._hold_back(url, body, random.uniform(0, LONGEST_SHUFFLE_SECONDS))
        else:
            self._enqueue(url, body)

    def _hold_back(self, url: str, body: bytes, seconds: float) -> None:
        def release() -> None:
            self._held_back.discard(handle)
            self._enqueue(url, body)

        handle = asyncio.get_running_loop().call_later(seconds, release)
        self._held_back.add(handle)

    def _enqueue(self, url: str, body: bytes) -> None:
        self._queue.append((url, body))
        if len(self._senders) < SENDERS:
            self._senders.add(asyncio.create_task(self._send_all()))

    async def _send_all(self) -> None:
        if self._session is None:
            timeout = aiohttp.ClientTimeout(total=TIMEOUT_SECONDS)
            self._session = aiohttp.ClientSession(timeout=timeout)
        while self._queue:
            url, body = self._queue.popleft()
            taken = await self._send(self._session, url, body)
            self._counters["sent" if taken else "failed"] += 1
        # Not left to a callback: a notice that comes in between would find nobody to send it.
        self._senders.discard(cast("asyncio.Task[None]", asyncio.current_task()))

    async def _send(self, session: aiohttp.ClientSession, url: str, body: bytes) -> bool:
        """Send one notice; return whether it was taken."""
        headers = {"Content-Type": "application/json"}
        try:
            async with session.post(
                url, data=body, headers=headers, allow_redirects=False
            ) as answer:
                return 200 <= answer.status < 300
        except (aiohttp.ClientError, TimeoutError, ValueError):
            return False
