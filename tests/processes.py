"""Processes that tests start: on free loopback ports, ended by their own process id."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from simulator.client import SimulatorClient

PROJECT_ROOT = Path(__file__).parents[1]
START_SECONDS = 30


def free_port() -> int:
    """Return a port that nobody listens on at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def running_simulator(
    *, port: int | None = None, clock_url: str = ""
) -> Iterator[tuple[SimulatorClient, subprocess.Popen[bytes]]]:
    """Start a simulator, and stop it in the end."""
    port = port or free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "simulator", "--port", str(port), "--clock-url", clock_url],
        cwd=PROJECT_ROOT,
        env=os.environ | {"PYTHONWARNINGS": ""},
        stdout=subprocess.DEVNULL,
    )
    try:
        client = SimulatorClient(f"http://127.0.0.1:{port}")
        wait_until_healthy(client, process)
        yield client, process
    finally:
        process.terminate()
        process.wait(timeout=10)


def wait_until_healthy(client: SimulatorClient, process: subprocess.Popen[bytes]) -> None:
    """Wait until the simulator answers; fail if it ends or takes too long."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        assert process.poll() is None, f"the simulator ended with {process.returncode}"
        try:
            if client.call("GET", "/health").status == 200:
                return
        except OSError:
            time.sleep(0.02)
    raise AssertionError(f"the simulator did not answer within {START_SECONDS} s")
