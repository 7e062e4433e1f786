"""The simulator as a real process, and a clock that it can be told to ask."""

import json
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from simulator.client import SimulatorClient
from tests.processes import running_simulator


class StubClock:
    """A clock over HTTP whose time, speed and health a test decides."""

    def __init__(self) -> None:
        self.reset()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    def reset(self) -> None:
        self.now = datetime(2026, 1, 1, tzinfo=UTC)
        self.answer: bytes | None = None
        self.delay_seconds = 0.0
        self.status = 200
        self.asked = 0
        self.told = threading.Event()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        clock = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                clock.asked += 1
                body = clock.answer or json.dumps({"now": clock.now.isoformat()}).encode()
                clock.told.set()
                time.sleep(clock.delay_seconds)
                self.send_response(clock.status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Keep the test output clean."""

        return Handler


StartSimulator = Callable[
    [], AbstractContextManager[tuple[SimulatorClient, subprocess.Popen[bytes]]]
]


@pytest.fixture
def start_simulator() -> StartSimulator:
    """Starts further simulators, for tests that stop them."""
    return running_simulator


@pytest.fixture(scope="session")
def _shared_simulator() -> Iterator[SimulatorClient]:
    with running_simulator() as (client, _):
        yield client


@pytest.fixture
def simulator_process(_shared_simulator: SimulatorClient) -> SimulatorClient:
    """A simulator in real time that knows nothing yet."""
    _shared_simulator.reset()
    return _shared_simulator


@pytest.fixture(scope="session")
def _shared_clock() -> Iterator[StubClock]:
    clock = StubClock()
    yield clock
    clock.stop()


@pytest.fixture
def stub_clock(_shared_clock: StubClock) -> StubClock:
    """A clock that stands at the start of 2026."""
    _shared_clock.reset()
    return _shared_clock


@pytest.fixture(scope="session")
def _shared_clocked_simulator(_shared_clock: StubClock) -> Iterator[SimulatorClient]:
    with running_simulator(clock_url=_shared_clock.url) as (client, _):
        yield client


@pytest.fixture
def clocked_simulator(
    _shared_clocked_simulator: SimulatorClient, stub_clock: StubClock
) -> SimulatorClient:
    """A simulator that asks the stub clock for the time and knows nothing yet."""
    _shared_clocked_simulator.reset()
    return _shared_clocked_simulator
