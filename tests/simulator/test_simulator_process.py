"""The simulator as a process: its start, its stop, its reset, its errors."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from simulator.client import SimulatorClient

if TYPE_CHECKING:
    from tests.simulator.conftest import StartSimulator


def run_simulator(*options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "simulator", *options], capture_output=True, text=True, timeout=20
    )


def test_reset_forgets_everything(simulator_process: SimulatorClient) -> None:
    at_start = {
        path: simulator_process.control("GET", path)
        for path in ("/stores", "/faults", "/settings", "/inbox")
    }
    simulator_process.control("PUT", "/receipts/app-store/r-1", {"state": "canceled"})
    simulator_process.call("POST", "/app-store/verify", {"receipt": "r-1"})
    simulator_process.call("POST", "/inbox/shop", {})
    simulator_process.add_fault("/inbox/*", status=500)
    simulator_process.control("PUT", "/settings", {"period_seconds": 60})
    simulator_process.control("PUT", "/settings", {"latency_seconds": {"/app-store/*": 1}})
    changed = {path: simulator_process.control("GET", path) for path in at_start}
    assert all(changed[path] != at_start[path] for path in at_start)

    assert simulator_process.call("DELETE", "/control").status == 200

    assert {path: simulator_process.control("GET", path) for path in at_start} == at_start
    answer = simulator_process.call("POST", "/app-store/verify", {"receipt": "r-1"})
    assert answer.json()["status"] is True


def test_unknown_path_is_a_json_404(simulator_process: SimulatorClient) -> None:
    for path in ("/", "/nothing", "/inbox", "/inbox/", "/control/nothing"):
        answer = simulator_process.call("POST", path, {})
        assert (answer.status, list(answer.json())) == (404, ["error"])


def test_wrong_method_is_a_json_405(simulator_process: SimulatorClient) -> None:
    answer = simulator_process.call("GET", "/app-store/verify")

    assert (answer.status, answer.headers["Allow"]) == (405, "POST")
    assert list(answer.json()) == ["error"]


@pytest.mark.parametrize("with_fault", [False, True])
def test_body_over_one_mebibyte_is_refused(
    simulator_process: SimulatorClient, with_fault: bool
) -> None:
    if with_fault:
        simulator_process.add_fault("/inbox/*", delay_seconds=0.01)

    assert simulator_process.call("POST", "/inbox/shop", b"x" * 1024 * 1024).status == 200
    answer = simulator_process.call("POST", "/inbox/shop", b"x" * (1024 * 1024 + 1))
    assert (answer.status, list(answer.json())) == (413, ["error"])
    assert simulator_process.inbox("shop", limit=0)["count"] == 1


def test_health_tells_that_it_is_up(simulator_process: SimulatorClient) -> None:
    assert simulator_process.call("GET", "/health").json() == {"status": "ok"}


def test_stops_at_once_though_a_request_hangs(start_simulator: StartSimulator) -> None:
    with start_simulator() as (client, process):
        client.add_fault("/inbox/*", delay_seconds=60)

        def hang() -> None:
            with suppress(OSError):
                client.call("POST", "/inbox/shop", {})

        sender = threading.Thread(target=hang)
        sender.start()
        while client.inbox("shop")["count"] == 0:
            time.sleep(0.01)
        process.terminate()

        assert process.wait(timeout=5) == 0
        sender.join(timeout=5)
        assert not sender.is_alive()


def test_taken_port_is_told_in_one_sentence(simulator_process: SimulatorClient) -> None:
    port = simulator_process.base_url.rpartition(":")[2]

    ended = run_simulator("--port", port)

    assert ended.returncode == 1
    assert ended.stdout == ""
    (line,) = ended.stderr.splitlines()
    assert line == f"simulator: cannot listen on 127.0.0.1:{port}: address already in use"


def test_unknown_host_is_told_in_one_sentence() -> None:
    ended = run_simulator("--host", "no-such-host.invalid", "--port", "0")

    assert ended.returncode == 1
    (line,) = ended.stderr.splitlines()
    assert line.startswith("simulator: cannot listen on no-such-host.invalid:0: ")


@pytest.mark.parametrize("port", ["70000", "-1", "http"])
def test_senseless_port_is_told_without_a_traceback(port: str) -> None:
    ended = run_simulator(f"--port={port}")

    assert ended.returncode == 2
    assert "Traceback" not in ended.stderr
    assert port in ended.stderr
