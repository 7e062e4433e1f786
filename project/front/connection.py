"""One connection: reads requests with limits and deadlines, one answer after the other.

The parser is llhttp, the one of Node. What it lets pass and we do not is in `request.py`.
"""

import asyncio
import time
from collections import deque
from enum import Enum
from http import HTTPStatus
from typing import TYPE_CHECKING, cast

import structlog
from httptools import (
    HttpParserError,
    HttpParserInvalidMethodError,
    HttpParserInvalidURLError,
    HttpParserUpgrade,
    HttpRequestParser,
)

from project.front.answers import HttpResponse, head_of, problem_answer
from project.front.bodies import Body, OverBudget
from project.front.request import HttpRequest, RequestRefused

if TYPE_CHECKING:
    from project.front.server import Server

log = structlog.get_logger()

IDLE_SECONDS = 75.0
"""A connection is kept for so long without a request: longer than a proxy in front keeps it."""
HEAD_SECONDS = 20.0
ANSWER_SECONDS = 60.0
"""A reader that takes nothing of its answer for so long is given up."""
DISCARD_SECONDS = 20.0
BODY_MOST_SECONDS = 3_600.0
MAX_HEAD_BYTES = 64 * 1024
MAX_FRAMING_BYTES = 64 * 1024
MAX_FRAMING_FACTOR = 8
"""What chunks and trailers may add to a body: so many times its length, and something more."""
PIECE_BYTES = 256 * 1024
SEND_BUFFER_BYTES = 256 * 1024
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Phase(Enum):
    """What a connection waits for; by its deadline, see `Connection.look_at_clock`."""

    IDLE = "idle"
    HEAD = "head"
    BODY = "body"
    ANSWER = "answer"
    DISCARD = "discard"


class Connection(asyncio.Protocol):
    """Reads requests and sends their answers, in the order in which they came."""

    def __init__(self, server: "Server") -> None:
        self._server = server
        self._parser = HttpRequestParser(self)
        self._request: HttpRequest | None = None
        self._refusal: RequestRefused | None = None
        self._limit = 0
        self._read_bytes = 0
        self._has_head = False
        self._is_resuming = False
        self._queue: deque[HttpRequest] = deque()
        self._answering: HttpRequest | None = None
        self._task: asyncio.Task[None] | None = None
        self._has_ended = False
        self._got_eof = False
        self._unsent = 0
        self._may_send = asyncio.Event()
        self._may_send.set()
        self._transport: asyncio.Transport
        self._peer: tuple[str, int] = ("", 0)
        self.phase = Phase.IDLE
        self.deadline = 0.0
        self._body_began_at = 0.0

    # What the event loop says.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to read."""
        # uvloop's transports are of no class of asyncio's.
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=SEND_BUFFER_BYTES)
        peer = transport.get_extra_info("peername")
        self._peer = (str(peer[0]), int(peer[1])) if peer else ("", 0)
        self._enter(Phase.IDLE, IDLE_SECONDS)
        self._server.opened(self)

    def connection_lost(self, _error: Exception | None) -> None:
        """Forget a request that is not whole; what was begun is brought to its end."""
        self._server.closed(self)
        self._may_send.set()
        for request in (self._request, *self._queue):
            if request is not None and request.body is not None:
                request.body.close()
        self._request = None
        self._queue.clear()

    def data_received(self, data: bytes) -> None:
        """Read what has come."""
        if self.phase is Phase.DISCARD or self._has_ended:
            return
        self._feed(data)
        if self._refusal is not None:
            self._refuse(self._refusal)
            return
        if self._request is not None:
            self._count(len(data))
        if self._answering is not None and (self._queue or self._request is not None):
            # Requests that are sent ahead wait in the socket, not here.
            self._transport.pause_reading()

    def eof_received(self) -> bool:
        """Answer what is whole to a sender who only listens now; what is not whole is refused."""
        if self.phase is Phase.DISCARD:
            return False
        self._has_ended = self._got_eof = True
        if self._request is not None:
            self._refuse(RequestRefused(HTTPStatus.BAD_REQUEST, "The request is not whole."))
            return True
        return self._answering is not None

    def pause_writing(self) -> None:
        """Hear that the reader is slower than we are."""
        self._may_send.clear()

    def resume_writing(self) -> None:
        """Hear that the reader has caught up."""
        self._may_send.set()

    # What the parser says.

    def on_message_begin(self) -> None:
        """Begin a request."""
        if self._is_resuming:
            return
        self._request = HttpRequest(peer=self._peer)
        self._has_head = False
        self._read_bytes = 0
        if self._answering is None:
            self._enter(Phase.HEAD, HEAD_SECONDS)

    def on_url(self, url: bytes) -> None:
        """Take the target, which may come in parts."""
        assert self._request is not None
        if not self._is_resuming:
            self._request.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a line of the head; what comes after the body stands for nothing."""
        if not self._has_head and self._request is not None:
            self._request.add_header(name, value)

    def on_headers_complete(self) -> None:
        """Decide whether the body may come."""
        request = self._request
        assert request is not None
        if self._is_resuming:
            self._is_resuming = False
            return
        self._has_head = True
        request.method = self._parser.get_method().decode("latin-1")
        request.version = self._parser.get_http_version()
        request.keep_alive = self._parser.should_keep_alive()
        try:
            request.check()
            length = request.length
            self._limit = self._server.body_limit(request, length)
        except RequestRefused as refusal:
            self._refusal = self._refusal or refusal
            return
        if length == 0:
            return
        request.body = Body(self._server.store, self._resume)
        if self._answering is None:
            self._begin_body(request)

    def _begin_body(self, request: HttpRequest) -> None:
        self._body_began_at = time.monotonic()
        self._enter(Phase.BODY, self._server.body_seconds)
        if request.awaits_continue and request.body is not None and not request.body.size:
            self._transport.write(CONTINUE)

    def on_body(self, data: bytes) -> None:
        """Keep a part of the body."""
        if self._refusal is not None or self._request is None or self._request.body is None:
            return
        try:
            if self._request.body.size + len(data) > self._limit:
                self._limit = self._server.body_limit(
                    self._request, self._request.body.size + len(data)
                )
            if not self._request.body.add(data):
                self._transport.pause_reading()
        except RequestRefused as refusal:
            self._refusal = refusal
        except OverBudget:
            self._refusal = RequestRefused(HTTPStatus.SERVICE_UNAVAILABLE)

    def on_message_complete(self) -> None:
        """Have the request answered, or wait for its turn."""
        request = self._request
        if self._parser.should_upgrade() and request is not None and request.body is not None:
            # llhttp leaves the body of such a request to the other protocol: see `_feed`.
            return
        self._request = None
        if request is None or self._refusal is not None:
            if request is not None and request.body is not None:
                request.body.close()
            return
        self._queue.append(request)
        self._has_ended = self._has_ended or not request.keep_alive
        if self._answering is None:
            self._answer_next()

    def _feed(self, data: bytes) -> None:
        while data and self._refusal is None:
            try:
                self._parser.feed_data(data)
                return
            except HttpParserUpgrade as upgrade:
                # We speak nothing else: the offer is passed over, and HTTP goes on behind it.
                self._parser = HttpRequestParser(self)
                data = self._framing() + data[upgrade.args[0] :]
            except HttpParserInvalidMethodError:
                self._refusal = RequestRefused(HTTPStatus.NOT_IMPLEMENTED)
            except HttpParserInvalidURLError:
                self._refusal = RequestRefused(HTTPStatus.BAD_REQUEST, "The address is not valid.")
            except HttpParserError as error:
                # What follows a request that says it is the last one is passed over.
                if not self._has_ended:
                    self._refusal = self._refusal or self._what_is_wrong(error)
                return

    def _framing(self) -> bytes:
        """Return a head by which a new parser reads the body of the present request, if any."""
        if self._request is None:
            return b""
        self._is_resuming = True
        length = self._request.length
        framing = "Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}"
        return f"POST / HTTP/1.1\r\n{framing}\r\n\r\n".encode()

    def _what_is_wrong(self, error: HttpParserError) -> RequestRefused:
        encodings = self._request.headers.get("transfer-encoding", ()) if self._request else ()
        if encodings and encodings[-1].lower() != "chunked":
            return RequestRefused(HTTPStatus.NOT_IMPLEMENTED)
        return RequestRefused(HTTPStatus.BAD_REQUEST, f"This is not valid HTTP: {error}.")

    def _count(self, size: int) -> None:
        """Hold the head and the framing of the body to their limits, and put off the deadline."""
        self._read_bytes += size
        body = self._request.body if self._request else None
        if body is None:
            if self._read_bytes > MAX_HEAD_BYTES:
                self._refuse(RequestRefused(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE))
            return
        if self._read_bytes - body.size > MAX_FRAMING_BYTES + body.size * MAX_FRAMING_FACTOR:
            self._refuse(RequestRefused(HTTPStatus.BAD_REQUEST))
            return
        seconds = self._server.body_seconds + body.size / self._server.body_bytes_per_second
        self.deadline = self._body_began_at + min(seconds, BODY_MOST_SECONDS)

    # Answers.

    def _answer_next(self) -> None:
        request = self._queue.popleft()
        self._answering = request
        self._enter(Phase.ANSWER, ANSWER_SECONDS)
        self._task = asyncio.get_running_loop().create_task(self._answer(request))

    async def _answer(self, request: HttpRequest) -> None:
        try:
            answer = await self._server.answer(request)
        except Exception:
            log.exception("front.request_failed", path=request.target.decode("latin-1"))
            answer = problem_answer(HTTPStatus.INTERNAL_SERVER_ERROR)
        finally:
            if request.body is not None:
                request.body.close()
        try:
            await self._send(request, answer)
        finally:
            if answer.file is not None:
                answer.file.close()
                self._server.store.disk.give_back(answer.size)
        self._answered()

    async def _send(self, request: HttpRequest, answer: HttpResponse) -> None:
        """Write an answer as fast as its reader takes it."""
        self._has_ended = self._has_ended or self._server.is_stopping
        head = head_of(
            answer,
            method=request.method,
            keep_alive=not self._has_ended or bool(self._queue),
            is_old=request.version == "1.0",
        )
        if request.method == "HEAD":
            self._write(head)
        elif answer.file is None:
            self._write(head + answer.content)
        else:
            self._write(head)
            loop = asyncio.get_running_loop()
            read = answer.file.read
            while not self._transport.is_closing():
                await self._may_send.wait()
                piece = await loop.run_in_executor(self._server.store.threads, read, PIECE_BYTES)
                if not piece:
                    break
                self._write(piece)
        if not self._may_send.is_set():
            await self._may_send.wait()

    def _write(self, data: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(data)
            self._put_off(ANSWER_SECONDS)

    def _answered(self) -> None:
        self._answering = None
        if self._transport.is_closing():
            return
        if self._queue:
            self._answer_next()
        elif self._refusal is not None:
            self._refuse(self._refusal)
        elif self._has_ended:
            self._close()
        elif self._request is None:
            self._enter(Phase.IDLE, IDLE_SECONDS)
            self._resume()
        else:
            if self._request.body is None:
                self._enter(Phase.HEAD, HEAD_SECONDS)
            else:
                self._begin_body(self._request)
            self._resume()

    def _refuse(self, refusal: RequestRefused) -> None:
        """Answer a request that is not taken, after those before it, and read no other.

        What its sender still sends is taken and dropped for a while. A connection that is closed
        while something comes in is reset, and then the answer may never be read.
        """
        self._refusal = refusal
        if self._request is not None and self._request.body is not None:
            self._request.body.close()
        self._request = None
        if self._answering is not None or self._transport.is_closing():
            self._transport.pause_reading()
            return
        self._has_ended = True
        answer = problem_answer(refusal.status, refusal.detail)
        self._write(head_of(answer, method="", keep_alive=False, is_old=False) + answer.content)
        self._enter(Phase.DISCARD, DISCARD_SECONDS)
        if self._got_eof:
            self._transport.close()
            return
        self._transport.write_eof()
        self._transport.resume_reading()

    def _resume(self) -> None:
        """Read on, unless something else has to happen before."""
        if self._transport.is_closing() or self._queue or self._refusal is not None:
            return
        self._transport.resume_reading()

    def _close(self) -> None:
        self._enter(Phase.DISCARD, DISCARD_SECONDS)
        self._transport.close()

    # Time.

    def _enter(self, phase: Phase, seconds: float) -> None:
        self.phase = phase
        self._put_off(seconds)
        self._server.waits(self, phase)

    def _put_off(self, seconds: float) -> None:
        self.deadline = time.monotonic() + seconds

    def look_at_clock(self, now: float) -> None:
        """End what has taken too long."""
        unsent, self._unsent = self._unsent, self._transport.get_write_buffer_size()
        if self._unsent and self._unsent < unsent:
            self._put_off(ANSWER_SECONDS)
        if now < self.deadline:
            return
        if self.phase is Phase.IDLE and not self._unsent:
            self._transport.close()
        elif self.phase in (Phase.HEAD, Phase.BODY) and not self._unsent:
            self._refuse(RequestRefused(HTTPStatus.REQUEST_TIMEOUT))
        elif self.phase is Phase.ANSWER and not self._unsent:
            self._put_off(ANSWER_SECONDS)
        else:
            self._transport.abort()

    def give_up(self) -> None:
        """End a connection that waits for its sender, to make room."""
        if self.phase is Phase.IDLE:
            self._transport.close()
        else:
            self._transport.abort()

    def stop(self) -> None:
        """End the connection once what has come in whole is answered."""
        if self.phase is Phase.IDLE:
            self._transport.close()
