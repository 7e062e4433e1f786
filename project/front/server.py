"""The front of one process: its loop, its connections, its clock, and its end."""

import asyncio
import resource
import signal
import socket
import time
from http import HTTPStatus
from typing import Any

import msgspec
import structlog
import uvloop
from flask import Flask

from project.config.kernel import HttpSettings
from project.core import fast_path
from project.core.fast_path import ANSWER_HEADERS, FAILURE, JSON, Call, Route
from project.core.http.body_limits import body_limit
from project.core.http.request_ids import request_id_for
from project.front.answers import HttpResponse
from project.front.bodies import BodyStore
from project.front.bridge import Threads
from project.front.connection import Connection, Phase
from project.front.processes import BACKLOG
from project.front.request import HttpRequest, RequestRefused

log = structlog.get_logger()

LOOK_SECONDS = 0.5
STOP_SECONDS = 15.0
FILES_FOR_OTHERS = 200
"""Of the files that a process may have open, so many are for what is no connection."""


class Server:
    """Serves one application to all connections of this process."""

    def __init__(self, application: Any, settings: HttpSettings) -> None:
        self.store = BodyStore(settings.bodies_memory_bytes, settings.bodies_disk_bytes)
        self.body_seconds = settings.body_timeout_seconds
        self.body_bytes_per_second = settings.body_min_bytes_per_second
        self.is_stopping = False
        self._application = application
        self._hops = settings.trusted_proxies
        self._fast_routes = {
            (method, path.encode()): route
            for (method, path), route in fast_path.routes(application).items()
        }
        self._max_body_bytes = settings.max_body_bytes
        self._threads = Threads(
            application,
            threads=settings.api_threads,
            wait_seconds=settings.api_wait_seconds,
            hops=settings.trusted_proxies,
        )
        self._max_connections = min(settings.api_connections, _open_files() - FILES_FOR_OTHERS)
        self._connections: set[Connection] = set()
        self._idle: dict[Connection, None] = {}
        self._reading: dict[Connection, None] = {}

    # What connections ask for.

    def opened(self, connection: Connection) -> None:
        """Keep account of a connection; if there are too many, one that waits must go."""
        self._connections.add(connection)
        if len(self._connections) > self._max_connections:
            oldest = next(iter(self._idle), None) or next(iter(self._reading), None)
            if oldest is not None:
                oldest.give_up()

    def closed(self, connection: Connection) -> None:
        """Forget a connection."""
        self._connections.discard(connection)
        self._idle.pop(connection, None)
        self._reading.pop(connection, None)

    def waits(self, connection: Connection, phase: Phase) -> None:
        """Keep account of what a connection waits for."""
        self._idle.pop(connection, None)
        self._reading.pop(connection, None)
        if phase is Phase.IDLE:
            self._idle[connection] = None
        elif phase in (Phase.HEAD, Phase.BODY):
            self._reading[connection] = None

    def body_limit(self, request: HttpRequest, length: int | None) -> int:
        """Return how many bytes the body may have. Raises RequestRefused if `length` is more."""
        if length is None or length <= self._max_body_bytes:
            return self._max_body_bytes
        limit = self._own_limit(request)
        if length > limit:
            raise RequestRefused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        return limit

    def _own_limit(self, request: HttpRequest) -> int:
        """Return the limit that the view of the request has by itself, or the common one."""
        if not isinstance(self._application, Flask):
            return self._max_body_bytes
        path, _ = request.path_and_query()
        return body_limit(self._application, path.decode("latin-1"), request.method)

    async def answer(self, request: HttpRequest) -> HttpResponse:
        """Return the answer to a whole request."""
        route = self._route(request)
        if route is None:
            return await self._threads.answer(request, self.store, {})
        request_id = request_id_for(request.header("x-request-id") or "")
        try:
            body = request.body
            content = b"" if body is None else await body.content()
            call = Call(lambda: content, request.sender(self._hops), request.header)
            written = msgspec.json.encode(await route.view(call))
        except Exception as error:  # Flask's error handlers take it from here.
            more = {FAILURE: error, "HTTP_X_REQUEST_ID": request_id}
            return await self._threads.answer(request, self.store, more)
        headers = (("Content-Type", JSON), ("X-Request-ID", request_id), *ANSWER_HEADERS)
        return HttpResponse(route.status, headers, written)

    def _route(self, request: HttpRequest) -> Route | None:
        """Return the short way that a request takes, if it is plainly in order."""
        route = self._fast_routes.get((request.method, request.target))
        if route is None:
            return None
        if request.method == "GET":
            return route if request.body is None else None
        return route if request.headers.get("content-type") == [JSON] else None

    # Its life.

    def run(self, listener: socket.socket) -> None:
        """Serve until SIGTERM or SIGINT comes, and bring to an end what has begun."""
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(self._serve(listener))

    async def _serve(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        stopped = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stopped.set)
        accepting = await loop.create_server(
            lambda: Connection(self), sock=listener, backlog=BACKLOG
        )
        watching = loop.create_task(self._watch())
        await stopped.wait()
        accepting.close()
        await self._finish()
        watching.cancel()
        self._threads.stop()

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            now = time.monotonic()
            for connection in list(self._connections):
                connection.look_at_clock(now)

    async def _finish(self) -> None:
        """Let requests that are being read or answered come to their end, for a while."""
        self.is_stopping = True
        deadline = time.monotonic() + STOP_SECONDS
        for connection in list(self._connections):
            connection.stop()
        while (self._connections or self._threads.running) and time.monotonic() < deadline:
            await asyncio.sleep(0.02)
        if self._connections:
            log.warning("front.connections_cut", number=len(self._connections))


def _open_files() -> int:
    """Allow this process as many open files as it may have, and return how many that are."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return most
