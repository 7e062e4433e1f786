"""An endpoint over real HTTP that answers as a test says and counts what is in flight to it."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass(frozen=True)
class Reply:
    """How a request is answered, and after how many seconds."""

    status: int = 200
    seconds: float = 0.0
    headers: Mapping[str, str] = field(default_factory=dict)


class Receiver:
    """Answers what `reply_to` says of the number of requests that are in flight."""

    def __init__(self, reply_to: Callable[[int], Reply]) -> None:
        self.reply_to = reply_to
        self.url = ""
        self.ids: list[str] = []
        self.arrived_at: list[float] = []
        self.most_in_flight = 0
        self.in_flight = 0
        self.lock = threading.Lock()
        self.ended = threading.Event()

    def forget(self) -> None:
        """Count anew."""
        with self.lock:
            self.ids, self.arrived_at, self.most_in_flight = [], [], self.in_flight

    def enter(self, webhook_id: str) -> Reply:
        with self.lock:
            self.in_flight += 1
            self.most_in_flight = max(self.most_in_flight, self.in_flight)
            self.ids.append(webhook_id)
            self.arrived_at.append(time.monotonic())
            return self.reply_to(self.in_flight)

    def leave(self) -> None:
        with self.lock:
            self.in_flight -= 1


class _Server(ThreadingHTTPServer):
    request_queue_size = 128
    block_on_close = False


@contextmanager
def receiving(reply_to: Callable[[int], Reply]) -> Iterator[Receiver]:
    """Run an endpoint until the end of the block."""
    receiver = Receiver(reply_to)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True
        wbufsize = -1

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            reply = receiver.enter(self.headers["webhook-id"])
            receiver.ended.wait(reply.seconds)
            # Who has the answer may ask again at once.
            receiver.leave()
            self.send_response(reply.status)
            for name, value in {**reply.headers, "Content-Length": "0"}.items():
                self.send_header(name, value)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    server = _Server(("127.0.0.1", 0), Handler)
    receiver.url = f"http://127.0.0.1:{server.server_address[1]}/"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield receiver
    finally:
        receiver.ended.set()
        server.shutdown()
        thread.join()
        server.server_close()
