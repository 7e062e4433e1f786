"""The one way to call out: deadlines, size caps, no redirects, no proxies, pooled connections.

One event loop per process, on a thread of its own, carries every call, so that hundreds can wait
at once for the price of a few file descriptors; the rest of the product stays synchronous.
"""

import asyncio
import atexit
import os
import threading
import time
from collections.abc import AsyncIterator, Coroutine, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from types import SimpleNamespace
from typing import Any, BinaryIO, TypeVar

import aiohttp
from yarl import URL

from project.core import clock
from project.core.network_guard import (
    ForbiddenAddress,
    GuardedResolver,
    check_url,
    require_allowed,
)

CONNECT_SECONDS = 5.0
CLOSE_SECONDS = 2.0
KEEP_ALIVE_SECONDS = 15.0
MAX_RETRY_AFTER_SECONDS = 86_400
PIECE_BYTES = 262_144
Result = TypeVar("Result")


@dataclass(frozen=True)
class Request:
    """A call to make. `guarded` is for URLs that a user gave; times are in seconds.

    A body that is an open file is sent from its start in pieces, with its length announced, so
    it may be larger than memory. It goes over a fresh connection, once: it is never sent again
    by itself. So does a request that is to be sent `once`, whose doing twice nobody would notice.
    """

    method: str
    url: str
    body: bytes | BinaryIO = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    deadline_seconds: float = 10.0
    max_answer_bytes: int = 65_536
    guarded: bool = False
    once: bool = False


@dataclass(frozen=True)
class Answer:
    """What came of a call: a status and body, or the reason why there is none."""

    status: int | None
    body: bytes
    headers: Mapping[str, str]
    error: str | None
    timed_out: bool
    seconds: float

    @property
    def retry_after_seconds(self) -> int | None:
        """Return what Retry-After asks for, from a second to a day; None if it says nothing."""
        written = self.headers.get("Retry-After", "")
        if written.isdecimal():
            seconds = int(written[:10])
        else:
            try:
                wait = parsedate_to_datetime(written) - clock.real_now()
            except (TypeError, ValueError):
                return None
            seconds = round(wait.total_seconds())
        return min(max(seconds, 1), MAX_RETRY_AFTER_SECONDS)


async def send(request: Request) -> Answer:
    """Make the call. Whatever the outside does is an Answer; nothing is raised for it."""
    started = time.perf_counter()
    try:
        status, headers, body = await _exchange(request)
    except ForbiddenAddress as error:
        return _no_answer(started, f"refused: {error}")
    except TimeoutError:
        return _no_answer(started, f"no answer within {request.deadline_seconds:g} s", True)
    except (aiohttp.ClientError, OSError, ValueError) as error:
        return _no_answer(started, _reason(error))
    if len(body) > request.max_answer_bytes:
        return _no_answer(started, f"answer larger than {request.max_answer_bytes} bytes")
    return Answer(status, body, headers, None, False, time.perf_counter() - started)


def send_and_wait(request: Request) -> Answer:
    """Make the call from synchronous code and wait for its answer."""
    return start(send(request)).result()


def check_endpoint(url: str, *, field: str = "endpoint") -> None:
    """Look the URL's host up and raise BadRequest if callbacks must not go there.

    A host that does not resolve is let through: names come and go, and the guard stands again at
    every delivery.
    """
    check_url(url, field=field)
    check_url(url, start(resolve(URL(url).host or "")).result(), field=field)


def start(call: Coroutine[Any, Any, Result]) -> Future[Result]:
    """Start a coroutine on this process's event loop; it runs beside the caller."""
    return asyncio.run_coroutine_threadsafe(call, _loop())


async def resolve(host: str, *, deadline_seconds: float = 2.0) -> list[str]:
    """Return the host's addresses; an empty list if it does not resolve in time."""
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(deadline_seconds):
            found = await loop.getaddrinfo(host, None)
    except (OSError, UnicodeError):
        return []
    return sorted({str(entry[4][0]) for entry in found})


def _no_answer(started: float, error: str, timed_out: bool = False) -> Answer:
    return Answer(None, b"", {}, error, timed_out, time.perf_counter() - started)


def _reason(error: Exception) -> str:
    cause = error.__cause__ or error.__context__
    if isinstance(cause, ForbiddenAddress):
        return f"refused: {cause}"
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "the host name does not resolve"
    if isinstance(error, aiohttp.ClientConnectorError):
        return f"cannot connect: {error.strerror or error}"
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return "the connection was closed without an answer"
    return f"{type(error).__name__}: {error}"[:500]


async def _exchange(request: Request) -> tuple[int, Mapping[str, str], bytes]:
    url = URL(request.url)
    if request.guarded:
        require_allowed(url.host or "")
    sessions = _sessions()
    trace = SimpleNamespace(reused=False)
    async with asyncio.timeout(request.deadline_seconds):
        if request.once or not isinstance(request.body, bytes):
            return await _once(sessions.fresh(request.guarded), request, url, trace)
        try:
            return await _once(sessions.pooled(request.guarded), request, url, trace)
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
            # The other side may close a kept connection just as it is used again. That is not
            # its answer: ask once more on a fresh one. A fresh connection that drops is final.
            if not trace.reused:
                raise
            return await _once(sessions.fresh(request.guarded), request, url, trace)


async def _once(
    session: aiohttp.ClientSession, request: Request, url: URL, trace: SimpleNamespace
) -> tuple[int, Mapping[str, str], bytes]:
    headers, body = dict(request.headers), request.body
    if not isinstance(body, bytes):
        headers["Content-Length"] = str(body.seek(0, os.SEEK_END))
        body.seek(0)
    async with session.request(
        request.method,
        url,
        data=(body or None) if isinstance(body, bytes) else _pieces(body),
        headers=headers,
        allow_redirects=False,
        trace_request_ctx=trace,
    ) as response:
        return response.status, response.headers, await _read(response, request.max_answer_bytes)


async def _pieces(file: BinaryIO) -> AsyncIterator[bytes]:
    """Read a file in pieces; aiohttp would close a file that it is given, and it is not ours."""
    while piece := await asyncio.to_thread(file.read, PIECE_BYTES):
        yield piece


async def _read(response: aiohttp.ClientResponse, at_most: int) -> bytes:
    """Read the body up to one byte over the cap, which is enough to know that it is too large."""
    announced = response.content_length
    if announced is not None and announced <= at_most:
        return await response.read()
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > at_most:
            response.close()
            break
    return bytes(body[: at_most + 1])


class _Sessions:
    """The process's connection pools: for our own settings' URLs, and guarded for users' URLs."""

    def __init__(self) -> None:
        self._sessions: dict[tuple[bool, bool], aiohttp.ClientSession] = {}

    def pooled(self, guarded: bool) -> aiohttp.ClientSession:
        """Return the session that keeps connections."""
        return self._session(guarded, fresh=False)

    def fresh(self, guarded: bool) -> aiohttp.ClientSession:
        """Return the session that makes a new connection for each call."""
        return self._session(guarded, fresh=True)

    async def close(self) -> None:
        """Close every connection."""
        for session in self._sessions.values():
            await session.close()

    def _session(self, guarded: bool, *, fresh: bool) -> aiohttp.ClientSession:
        key = (guarded, fresh)
        if key not in self._sessions:
            self._sessions[key] = _new_session(guarded, fresh)
        return self._sessions[key]


def _new_session(guarded: bool, fresh: bool) -> aiohttp.ClientSession:
    options: dict[str, Any] = {"limit": 0, "limit_per_host": 0, "ttl_dns_cache": 10}
    options |= {"force_close": True} if fresh else {"keepalive_timeout": KEEP_ALIVE_SECONDS}
    if guarded:
        options["resolver"] = GuardedResolver()
    tracing = aiohttp.TraceConfig()
    tracing.on_connection_reuseconn.append(_note_reuse)
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(**options),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS),
        headers={"User-Agent": "Perennial/1", "Accept-Encoding": "identity"},
        cookie_jar=aiohttp.DummyCookieJar(),
        trust_env=False,
        auto_decompress=False,
        trace_configs=[tracing],
    )


async def _note_reuse(_session: Any, context: SimpleNamespace, _params: Any) -> None:
    context.trace_request_ctx.reused = True


class _ProcessLoop:
    """An event loop on a daemon thread, and the sessions that live on it."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.loop = asyncio.new_event_loop()
        self.sessions = _Sessions()
        self.thread = threading.Thread(
            target=self.loop.run_forever, name="http-client", daemon=True
        )
        self.thread.start()

    def close(self) -> None:
        """Close the connections and end the thread."""
        asyncio.run_coroutine_threadsafe(self.sessions.close(), self.loop).result(CLOSE_SECONDS)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(CLOSE_SECONDS)


_process_loop: _ProcessLoop | None = None
_lock = threading.Lock()


def _current() -> _ProcessLoop:
    """Return this process's loop; a forked child makes its own, for threads end at a fork."""
    global _process_loop
    with _lock:
        if _process_loop is None or _process_loop.pid != os.getpid():
            _process_loop = _ProcessLoop()
        return _process_loop


def _loop() -> asyncio.AbstractEventLoop:
    return _current().loop


def _sessions() -> _Sessions:
    return _current().sessions


@atexit.register
def _close_at_exit() -> None:
    if _process_loop is not None and _process_loop.pid == os.getpid():
        _process_loop.close()
