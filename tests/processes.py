"""Processes that tests start, stop for a while and end, each by its own process id."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
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


@contextmanager
def frozen(pids: Sequence[int], *, seconds: float = 0) -> Iterator[None]:
    """Stop processes with SIGSTOP, and let them go on after so many seconds, or at the end."""
    ends_at = time.monotonic() + seconds
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
        time.sleep(max(0.0, ends_at - time.monotonic()))
    finally:
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


def parent_of(pid: int) -> int:
    """Return the process that started another, as Linux tells it."""
    status = Path(f"/proc/{pid}/stat").read_text()
    return int(status.rpartition(")")[2].split()[1])


def family(pid: int) -> list[int]:
    """Return a process and all that it started, directly or not."""
    parents = {}
    for name in os.listdir("/proc"):
        with suppress(ValueError, FileNotFoundError, ProcessLookupError):
            parents[int(name)] = parent_of(int(name))
    found = [pid]
    for member in found:
        found += [child for child, parent in parents.items() if parent == member]
    return found
