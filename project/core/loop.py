"""What code needs that runs on an event loop and in threads: ask without waiting, gather, keep."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, Generic, TypeVar

Item = TypeVar("Item")
Value = TypeVar("Value")


def running_loop() -> asyncio.AbstractEventLoop | None:
    """Return the event loop that runs this code, or None in a thread that may wait."""
    return asyncio._get_running_loop()


class GroupCommit(Generic[Item]):
    """Lets calls that arrive together share a write.

    While one write is under way, calls gather; the next one is for all that have. So a single
    call waits for nobody, and many need few writes. `write` returns what became of each item.
    """

    def __init__(
        self, write: Callable[[Sequence[Item]], Awaitable[Sequence[Exception | None]]]
    ) -> None:
        self._write = write
        self._loop: asyncio.AbstractEventLoop | None = None
        self._gathered: list[tuple[Item, asyncio.Future[None]]] = []
        self._writing: asyncio.Task[None] | None = None

    async def put(self, item: Item) -> None:
        """Return when the item is written; raise what became of it otherwise."""
        loop = running_loop()
        if loop is None:
            (error,) = await self._write([item])
            if error is not None:
                raise error
            return
        if loop is not self._loop:
            self._loop, self._gathered, self._writing = loop, [], None
        written = loop.create_future()
        self._gathered.append((item, written))
        if self._writing is None:
            self._writing = loop.create_task(self._write_all())
        await written

    async def _write_all(self) -> None:
        try:
            while self._gathered:
                gathered, self._gathered = self._gathered, []
                await self._write_some(gathered)
        finally:
            self._writing = None

    async def _write_some(self, gathered: list[tuple[Item, asyncio.Future[None]]]) -> None:
        try:
            errors = await self._write([item for item, _ in gathered])
        except Exception as error:
            errors = [error] * len(gathered)
        for (_, written), outcome in zip(gathered, errors, strict=True):
            if written.cancelled():
                continue
            if outcome is None:
                written.set_result(None)
            else:
                written.set_exception(outcome)


class Cached(Generic[Value]):
    """Something read from the database, as it was at most so many seconds ago."""

    def __init__(self, read: Callable[[], Awaitable[Value]], seconds: float) -> None:
        self._read = read
        self._seconds = seconds
        self._known: tuple[Value] | None = None
        self._read_at = 0.0
        self._reading: asyncio.Task[None] | None = None

    async def get(self) -> Value:
        """Return it; on an event loop, all that find it old wait for one reading."""
        if self._known is None or time.monotonic() - self._read_at >= self._seconds:
            loop = running_loop()
            if loop is None:
                await self._renew()
            else:
                if self._reading is None or self._reading.get_loop() is not loop:
                    self._reading = loop.create_task(self._renew())
                await asyncio.shield(self._reading)
        assert self._known is not None
        return self._known[0]

    def forget(self) -> None:
        """Read it anew at the next use."""
        self._known = None

    async def _renew(self) -> None:
        try:
            self._known = (await self._read(),)
            self._read_at = time.monotonic()
        finally:
            self._reading = None


async def in_thread(function: Callable[..., Value], *arguments: Any) -> Value:
    """Run what may wait: in a thread if an event loop runs this, here otherwise."""
    loop = running_loop()
    if loop is None:
        return function(*arguments)
    return await loop.run_in_executor(None, function, *arguments)


def finish(work: Coroutine[Any, Any, Value]) -> Value:
    """Run a coroutine in a thread, where whatever it asks is answered at once."""
    try:
        work.send(None)
    except StopIteration as ended:
        result: Value = ended.value
        return result
    work.close()
    raise RuntimeError("A coroutine has waited although no event loop runs.")
