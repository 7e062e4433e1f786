"""The one way to call out: deadlines, size caps, no redirects, no proxies, pooled connections.

One event loop per process, on a thread of its own, carries every call, so that hundreds can wait
at once for the price of a few file descriptors; the rest of the product stays synchronous.
"""

import asyncio
import atexit
import errno
import json
import os
import threading
import time
from collections.abc import AsyncIterator, Coroutine, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from functools import partial
from types import SimpleNamespace
from typing import Any, BinaryIO, TypeVar

import aiohttp
from aiohttp.abc import AbstractResolver
from aiohttp.client_proto import ResponseHandler
from aiohttp.resolver import ThreadedResolver
from yarl import URL

from project.config.environment import get_settings
from project.config.kernel import NetworkSettings
from project.core import clock
from project.core.net.name_lookup import LookupUnanswered, NameLookup
from project.core.net.network_guard import (
    ForbiddenAddress,
    GuardedResolver,
    check_url,
    require_allowed,
)

CONNECT_SECONDS = 5.0
CLOSE_SECONDS = 2.0
KEEP_ALIVE_SECONDS = 15.0
MAX_HEADER_BYTES = 65_536
"""Of one header of an answer: a page's policies and cookies may be long, and the status decides."""
UNNEEDED_BODY_SECONDS = 1.0
OUR_NAMES = 32
"""Names of our own settings that may be looked up at once; the system needs a thread for each."""
CHECKED_NAMES = 8
CHECK_SECONDS = 2.0
OURS = frozenset(
    (
        *(errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL),
        *(errno.ENETDOWN, errno.ENETUNREACH, errno.EHOSTUNREACH),
    )
)
"""Why no connection could be made that says nothing of the other side."""
MAX_RETRY_AFTER_SECONDS = 86_400
PIECE_BYTES = 262_144
Result = TypeVar("Result")


@dataclass(frozen=True)
class Request:
    """A call to make. `guarded` is for URLs that a user gave; times are in seconds.

    Without `needs_body` the status decides: of the answer's body what comes soon and fits is kept,
    and whatever is wrong with the rest changes nothing. So it is with every status but a 2xx.

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
    needs_body: bool = True


class AnswerTooLarge(ValueError):
    """The body of an answer is larger than is read."""


@dataclass(frozen=True)
class Answer:
    """What came of a call: a status and body, or the reason why there is none.

    `connected`: the request may have arrived. `excused`: it never got as far as a connection, for a
    reason that is not known to be the other side's: no name server answered, no way there, no time.
    """

    status: int | None
    body: bytes
    headers: Mapping[str, str]
    error: str | None
    timed_out: bool
    seconds: float
    connected: bool = True
    excused: bool = False

    def json_object(self) -> dict[str, Any]:
        """Return the JSON object that the body is.

        Raises ValueError or RecursionError for what is not JSON, TypeError for what is no object.
        """
        document = json.loads(self.body)
        if not isinstance(document, dict):
            raise TypeError("not an object")
        return document

    @property
    def retry_after_seconds(self) -> int | None:
        """Return what Retry-After asks for, from a second to a day; None if it says nothing."""
        written = self.headers.get("Retry-After", "")
        if written.isdecimal():
            seconds = int(written[:10])
        else:
            try:
                wait = parsedate_to_datetime(written) - clock.real_now()
            except (TypeError, ValueError, OverflowError):
                return None
            seconds = round(wait.total_seconds())
        return min(max(seconds, 1), MAX_RETRY_AFTER_SECONDS)


class _Trace(SimpleNamespace):
    """How far a call has come, as aiohttp tells it."""

    reused = False
    connected = False


async def send(request: Request) -> Answer:
    """Make the call. Whatever the outside does is an Answer; nothing is raised for it."""
    started = time.perf_counter()
    trace = _Trace()
    try:
        status, headers, body = await _exchange(request, trace)
    except (aiohttp.ClientError, OSError, ValueError) as error:
        seconds = time.perf_counter() - started
        timed_out = isinstance(error, TimeoutError)
        reason = _reason(error, request, trace)
        excused = not trace.connected and _is_excused(error)
        return Answer(None, b"", {}, reason, timed_out, seconds, trace.connected, excused)
    return Answer(status, body, headers, None, False, time.perf_counter() - started)


def send_and_wait(request: Request) -> Answer:
    """Make the call from synchronous code and wait for its answer."""
    return start(send(request)).result()


def check_endpoint(url: str, *, field: str = "endpoint") -> None:
    """Look the URL's host up and raise BadRequest if callbacks must not go there.

    A host that does not resolve is let through: names come and go, and the guard stands again at
    every delivery. So it is if the lookup takes long or many are under way.
    """
    check_url(url, field=field)
    if _checking.acquire(blocking=False):
        try:
            addresses = start(_look_up(URL(url).raw_host or "")).result()
        finally:
            _checking.release()
        check_url(url, addresses, field=field)


def start(call: Coroutine[Any, Any, Result]) -> Future[Result]:
    """Start a coroutine on this process's event loop; it runs beside the caller."""
    return asyncio.run_coroutine_threadsafe(call, _loop())


async def _look_up(host: str) -> list[str]:
    """Return the host's addresses; an empty list if it does not resolve in time."""
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            found = await _sessions().guarded_names().addresses(host)
    except OSError:
        return []
    return sorted({address for address, _ in found})


def _is_excused(error: Exception) -> bool:
    cause = error.__cause__ or error.__context__
    if isinstance(error, TimeoutError) or isinstance(cause, LookupUnanswered):
        return True
    return isinstance(error, OSError) and error.errno in OURS


def _reason(error: Exception, request: Request, trace: _Trace) -> str:
    cause = error.__cause__ or error.__context__
    for refusal in (error, cause):
        if isinstance(refusal, ForbiddenAddress):
            return f"refused: {refusal}"
    if isinstance(cause, LookupUnanswered):
        return f"no name server answered: {cause}"
    if isinstance(error, TimeoutError):
        if trace.connected:
            return f"no answer within {request.deadline_seconds:g} s"
        return f"no connection within {min(CONNECT_SECONDS, request.deadline_seconds):g} s"
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "the host name does not resolve"
    if isinstance(error, aiohttp.ClientConnectorError):
        return f"cannot connect: {error.strerror or error}"
    if isinstance(error, AnswerTooLarge):
        return str(error)
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return "the connection was closed without an answer"
    if isinstance(error, aiohttp.ClientResponseError):
        # Its status is aiohttp's own, and not the other side's.
        what, _, shown = error.message.partition("\n")
        return f"the head of the answer cannot be read: {' '.join([what, *shown.split()])}"[:500]
    return f"{type(error).__name__}: {error}"[:500]


async def _exchange(request: Request, trace: _Trace) -> tuple[int, Mapping[str, str], bytes]:
    url = URL(request.url)
    if request.guarded:
        require_allowed(url.host or "")
    sessions = _sessions()
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
    session: aiohttp.ClientSession, request: Request, url: URL, trace: _Trace
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
        needed = request.needs_body and 200 <= response.status < 300
        read = _read if needed else _read_what_comes
        return response.status, response.headers, await read(response, request.max_answer_bytes)


async def _pieces(file: BinaryIO) -> AsyncIterator[bytes]:
    """Read a file in pieces; aiohttp would close a file that it is given, and it is not ours."""
    while piece := await asyncio.to_thread(file.read, PIECE_BYTES):
        yield piece


async def _read(response: aiohttp.ClientResponse, at_most: int) -> bytes:
    """Read the whole body. Raises ValueError if it is larger than the cap."""
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > at_most:
            response.close()
            raise AnswerTooLarge(f"answer larger than {at_most} bytes")
    return bytes(body)


async def _read_what_comes(response: aiohttp.ClientResponse, at_most: int) -> bytes:
    """Read of the body what fits and comes soon; a connection with more on it is not kept."""
    body = bytearray()
    with suppress(aiohttp.ClientError, OSError, ValueError):
        async with asyncio.timeout(UNNEEDED_BODY_SECONDS):
            async for chunk in response.content.iter_any():
                body += chunk
                if len(body) > at_most:
                    break
            else:
                return bytes(body)
    response.close()
    return bytes(body[:at_most])


class _Sessions:
    """The process's connection pools: for our own settings' URLs, and guarded for users' URLs."""

    def __init__(self) -> None:
        self._sessions: dict[tuple[bool, bool, tuple[str, ...]], aiohttp.ClientSession] = {}
        self._names: dict[tuple[str, ...], NameLookup] = {}

    def pooled(self, guarded: bool) -> aiohttp.ClientSession:
        """Return the session that keeps connections."""
        return self._session(guarded, fresh=False)

    def fresh(self, guarded: bool) -> aiohttp.ClientSession:
        """Return the session that makes a new connection for each call."""
        return self._session(guarded, fresh=True)

    def guarded_names(self) -> NameLookup:
        """Return what looks up the names in users' URLs."""
        servers = get_settings(NetworkSettings).callback_dns_servers
        if servers not in self._names:
            self._names[servers] = NameLookup(servers)
        return self._names[servers]

    async def close(self) -> None:
        """Close every connection."""
        for session in self._sessions.values():
            await session.close()
        for names in self._names.values():
            await names.close()

    def _session(self, guarded: bool, *, fresh: bool) -> aiohttp.ClientSession:
        key = (
            guarded,
            fresh,
            get_settings(NetworkSettings).callback_dns_servers if guarded else (),
        )
        if key not in self._sessions:
            resolver = GuardedResolver(self.guarded_names()) if guarded else ThreadedResolver()
            self._sessions[key] = _new_session(resolver, fresh)
        return self._sessions[key]


def _new_session(resolver: AbstractResolver, fresh: bool) -> aiohttp.ClientSession:
    options: dict[str, Any] = {"limit": 0, "limit_per_host": 0, "ttl_dns_cache": 10}
    options |= {"force_close": True} if fresh else {"keepalive_timeout": KEEP_ALIVE_SECONDS}
    tracing = aiohttp.TraceConfig()
    tracing.on_connection_reuseconn.append(_note_reuse)
    tracing.on_connection_create_end.append(_note_connection)
    connector = aiohttp.TCPConnector(resolver=resolver, **options)
    loop = asyncio.get_running_loop()
    connector._factory = _with(_HeadFirst, loop)
    return aiohttp.ClientSession(
        connector=connector,
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS),
        headers={"User-Agent": "Perennial/1", "Accept-Encoding": "identity"},
        cookie_jar=aiohttp.DummyCookieJar(),
        trust_env=False,
        auto_decompress=False,
        max_field_size=MAX_HEADER_BYTES,
        trace_configs=[tracing],
    )


class _HeadFirst(ResponseHandler):
    """Takes the head of an answer by itself: what is broken behind it does not cost the status."""

    def data_received(self, data: bytes) -> None:
        head, blank_line, rest = data.partition(b"\r\n\r\n")
        super().data_received(head + blank_line)
        if rest:
            super().data_received(rest)


def _with(kind: type[ResponseHandler], loop: asyncio.AbstractEventLoop) -> partial[ResponseHandler]:
    return partial(kind, loop=loop)


async def _note_reuse(_session: Any, context: SimpleNamespace, _params: Any) -> None:
    context.trace_request_ctx.reused = context.trace_request_ctx.connected = True


async def _note_connection(_session: Any, context: SimpleNamespace, _params: Any) -> None:
    context.trace_request_ctx.connected = True


class _ProcessLoop:
    """An event loop on a daemon thread, and the sessions that live on it."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.loop = asyncio.new_event_loop()
        names = ThreadPoolExecutor(OUR_NAMES, thread_name_prefix="http-client-names")
        self.loop.set_default_executor(names)
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
_checking = threading.BoundedSemaphore(CHECKED_NAMES)


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
