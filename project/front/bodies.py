"""Bodies as they come in: a little in memory, the rest on disk, all of it within bounds."""

import asyncio
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from threading import Lock
from typing import IO

IN_MEMORY_BYTES = 256 * 1024
"""A body, or an answer, that is longer than this goes to disk."""
DISK_THREADS = 4


class OverBudget(Exception):
    """What waits here takes up as much memory or disk as it may."""


class Budget:
    """Bytes that all requests of a process may take up together."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._used = 0
        self._lock = Lock()

    def take(self, size: int) -> bool:
        """Take so many bytes, unless that is more than there are."""
        with self._lock:
            if self._used + size > self._limit:
                return False
            self._used += size
            return True

    def give_back(self, size: int) -> None:
        """Return bytes that were taken."""
        with self._lock:
            self._used -= size


class BodyStore:
    """Where bodies are kept: how much of them in memory and on disk, and who writes it there."""

    def __init__(self, memory_bytes: int, disk_bytes: int) -> None:
        self.memory = Budget(memory_bytes)
        self.disk = Budget(disk_bytes)
        self.threads = ThreadPoolExecutor(DISK_THREADS, thread_name_prefix="disk")


class Body:
    """The bytes of one body, in memory until they are many.

    The disk is written to by a thread: under load even a temporary file can make its writer wait.
    """

    def __init__(self, store: BodyStore, resume: Callable[[], None]) -> None:
        self.size = 0
        self._store = store
        self._resume = resume
        self._parts: list[bytes] = []
        self._in_memory = 0
        self._on_disk = 0
        self._file: IO[bytes] | None = None
        self._writing: asyncio.Future[None] | None = None
        self._failure: BaseException | None = None
        self._closed = False

    def add(self, data: bytes) -> bool:
        """Keep some more, and tell whether more may come before `resume` is called.

        Raises OverBudget.
        """
        self.size += len(data)
        self._parts.append(data)
        is_small = not self._on_disk and self.size <= IN_MEMORY_BYTES
        if is_small and self._store.memory.take(len(data)):
            self._in_memory += len(data)
            return True
        size = len(data) if self._on_disk else self._in_memory + len(data)
        if self._failure is not None or not self._store.disk.take(size):
            raise OverBudget
        self._on_disk += size
        if self._writing is None:
            self._write()
        return False

    async def stream(self) -> IO[bytes]:
        """Return the whole body as a file, once all of it is kept.

        Raises OSError if the disk does not take it.
        """
        while self._writing is not None:
            await asyncio.wait([self._writing])
        if self._failure is not None:
            raise self._failure
        if self._file is None:
            return BytesIO(self._joined())
        self._file.seek(0)
        return self._file

    async def content(self) -> bytes:
        """Return the whole body, once all of it is kept. Raises OSError."""
        if not self._on_disk:
            return self._joined()
        file = await self.stream()
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._store.threads, file.read)

    def _joined(self) -> bytes:
        return self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)

    def close(self) -> None:
        """Forget the body and give back what it took up."""
        if self._closed:
            return
        self._closed = True
        self._store.memory.give_back(self._in_memory)
        self._in_memory = 0
        self._parts.clear()
        if self._writing is None:
            self._leave_disk()

    def _leave_disk(self) -> None:
        self._store.disk.give_back(self._on_disk)
        if self._file is not None:
            self._file.close()

    def _write(self) -> None:
        parts, self._parts = self._parts, []
        loop = asyncio.get_running_loop()
        self._writing = loop.run_in_executor(self._store.threads, self._append, parts)
        self._writing.add_done_callback(self._written)

    def _append(self, parts: list[bytes]) -> None:
        if self._file is None:
            self._file = tempfile.TemporaryFile(prefix="perennial-")  # noqa: SIM115
        self._file.writelines(parts)
        self._file.flush()

    def _written(self, writing: asyncio.Future[None]) -> None:
        self._writing = None
        self._failure = writing.exception()
        if self._closed:
            self._leave_disk()
            return
        self._store.memory.give_back(self._in_memory)
        self._in_memory = 0
        if self._parts and self._failure is None:
            self._write()
        else:
            self._resume()
