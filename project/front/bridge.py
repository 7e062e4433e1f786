"""From the event loop to a WSGI application in a bounded number of threads, and back."""

import asyncio
import sys
import tempfile
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from io import BytesIO
from typing import IO, Any

import structlog

from project.front.answers import HttpResponse, problem_answer
from project.front.bodies import IN_MEMORY_BYTES, BodyStore, Budget, OverBudget
from project.front.request import HttpRequest, RequestRefused

log = structlog.get_logger()

MOST_WAITING = 1_000
OURS_OF_HEAD = frozenset({"connection", "date", "transfer-encoding"})
OURS = OURS_OF_HEAD | {"content-length"}
"""Headers that the front writes by itself."""
Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]
_SERVER = {
    "wsgi.version": (1, 0),
    "wsgi.multithread": True,
    "wsgi.multiprocess": True,
    "wsgi.run_once": False,
    # The body is whole when the application sees it, and ends where it ends.
    "wsgi.input_terminated": True,
}


class Threads:
    """Runs the application; a request that finds no thread in time is answered 503."""

    def __init__(
        self, application: Application, *, threads: int, wait_seconds: float, hops: int
    ) -> None:
        self._application = application
        self._hops = hops
        self._wait_seconds = wait_seconds
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="request")
        self._places = asyncio.Semaphore(threads)
        self._waiting = 0
        self.running = 0
        """How many requests the application is at work on."""

    async def answer(
        self, request: HttpRequest, store: BodyStore, more: dict[str, Any]
    ) -> HttpResponse:
        """Return the application's answer to a request; `more` goes into its environment."""
        try:
            environ = request.environ(self._hops) | more
            await self._take_place()
        except RequestRefused as refusal:
            return problem_answer(refusal.status, refusal.detail)
        self.running += 1
        try:
            if request.body is not None:
                environ["wsgi.input"] = await request.body.stream()
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._pool, self._run, environ, store)
        except (OverBudget, OSError) as error:
            log.error("request.no_room", error=type(error).__name__)
            return problem_answer(HTTPStatus.SERVICE_UNAVAILABLE)
        finally:
            self.running -= 1
            self._places.release()

    async def _take_place(self) -> None:
        if self._waiting >= MOST_WAITING:
            raise RequestRefused(HTTPStatus.SERVICE_UNAVAILABLE)
        self._waiting += 1
        try:
            async with asyncio.timeout(self._wait_seconds):
                await self._places.acquire()
        except TimeoutError:
            raise RequestRefused(HTTPStatus.SERVICE_UNAVAILABLE) from None
        finally:
            self._waiting -= 1

    def _run(self, environ: dict[str, Any], store: BodyStore) -> HttpResponse:
        """Have the application answer, and take all of the answer, in this thread."""
        said: list[Any] = []

        def start_response(status: str, headers: Any, _error: Any = None) -> None:
            said[:] = [status, headers]

        environ |= _SERVER | {"wsgi.errors": sys.stderr}
        environ.setdefault("wsgi.input", BytesIO())
        parts = self._application(environ, start_response)
        collected = _Collected(store.disk)
        try:
            for part in parts:
                collected.add(part)
        except BaseException:
            collected.drop()
            raise
        finally:
            close = getattr(parts, "close", None)
            if close is not None:
                close()
        status, headers = said
        ours = OURS_OF_HEAD if environ["REQUEST_METHOD"] == "HEAD" else OURS
        kept = [pair for pair in headers if pair[0].lower() not in ours]
        return collected.answer(int(status[:3]), kept)

    def stop(self) -> None:
        """Let the threads end."""
        self._pool.shutdown(wait=False, cancel_futures=True)


class _Collected:
    """An answer as it is made: in memory until it is long, then on disk."""

    def __init__(self, disk: Budget) -> None:
        self._disk = disk
        self._parts: list[bytes] = []
        self._size = 0
        self._taken = 0
        self._file: IO[bytes] | None = None

    def add(self, part: bytes) -> None:
        """Take some more. Raises OverBudget."""
        self._size += len(part)
        self._parts.append(part)
        if self._size <= IN_MEMORY_BYTES:
            return
        if not self._disk.take(self._size - self._taken):
            raise OverBudget
        self._taken = self._size
        if self._file is None:
            self._file = tempfile.TemporaryFile(prefix="perennial-")  # noqa: SIM115
        self._file.writelines(self._parts)
        self._parts.clear()

    def drop(self) -> None:
        """Forget it."""
        self._disk.give_back(self._taken)
        if self._file is not None:
            self._file.close()

    def answer(self, status: int, headers: list[tuple[str, str]]) -> HttpResponse:
        """Return the whole answer."""
        if self._file is None:
            return HttpResponse(status, headers, b"".join(self._parts))
        self._file.seek(0)
        return HttpResponse(status, headers, file=self._file, size=self._size)
