import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ops import exclusive, launch, ports, processes
from ops.environment import PROJECT, load

READY_SECONDS = 120
STOP_SECONDS = 60
by_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root steps down")


@pytest.fixture
def copy(tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment of a small copy with a folder and ports of its own."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR") if name in os.environ}
    variables = kept | {
        "ENV_FILE": str(tmp_path / "copy.env"),
        "VAR_DIR": str(tmp_path / "var"),
        "PORT": str(ports.free_port()),
        "SIMULATOR_PORT": str(ports.free_port()),
        "WORKERS": "1",
        "API_WORKERS": "1",
    }
    yield variables
    # Where root's servers cannot reach the folder, their data are elsewhere.
    assert run("ops.clean", "--yes", env=variables).returncode == 0


def run(module: str, *arguments: str, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=PROJECT,
        env=env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@contextmanager
def started(env: dict[str, str], *wrapper: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [*wrapper, sys.executable, "-m", "ops.start"],
        cwd=PROJECT,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.terminate()
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()


@contextmanager
def taken_port() -> Iterator[int]:
    with socket.socket() as server:
        server.bind((ports.LOOPBACK, 0))
        server.listen()
        yield server.getsockname()[1]


class TestRefusals:
    @pytest.mark.parametrize("name", ["PORT", "SIMULATOR_PORT"])
    def test_a_taken_port(self, copy: dict[str, str], name: str):
        with taken_port() as port:
            answer = run("ops.start", env=copy | {name: str(port)})
        assert answer.returncode == 1
        assert f"Cannot listen on port {port} of 127.0.0.1: it is taken." in answer.stderr
        assert f"make run {name}=" in answer.stderr
        assert len(answer.stderr.splitlines()) == 1

    def test_the_same_port_twice(self, copy: dict[str, str]):
        answer = run("ops.start", env=copy | {"SIMULATOR_PORT": copy["PORT"]})
        assert answer.returncode == 1
        assert "PORT and SIMULATOR_PORT are the same" in answer.stderr

    def test_a_number_that_is_none(self, copy: dict[str, str]):
        answer = run("ops.start", env=copy | {"WORKERS": "many"})
        assert answer.returncode == 1
        assert answer.stderr == (
            "perennial: WORKERS=many cannot be used: it must be a number from 1 to 128.\n"
        )

    def test_control_without_a_running_copy(self, copy: dict[str, str]):
        answer = run("ops.ctl", "status", env=copy)
        assert answer.returncode == 1
        assert "No copy is running in" in answer.stderr


def test_a_copy_starts_refuses_a_second_one_and_stops_without_a_trace(copy: dict[str, str]):
    with started(copy) as process:
        greeting = read_until(process, "Ctrl-C stops everything")
        assert f"http://127.0.0.1:{copy['PORT']}" in greeting
        assert "Key    pk_" in greeting

        status = run("ops.ctl", "status", env=copy).stdout.splitlines()
        names = [line.split()[0] for line in status]
        assert names == [
            "api",
            "forkserver",
            "postgres",
            "redis",
            "scheduler",
            "simulator",
            "worker:worker_00",
        ]
        assert {line.split()[1] for line in status} == {"RUNNING"}
        assert 0 not in owners(copy) or os.geteuid() != 0

        second = run("ops.start", env=copy)
        assert second.returncode == 1
        assert f"already running in {copy['VAR_DIR']} (process {process.pid})" in second.stderr

        # A command in another terminal knows nothing but VAR_DIR.
        elsewhere = {name: copy[name] for name in ("PATH", "VAR_DIR", "ENV_FILE")}
        assert run("flask", "clock", "show", env=elsewhere).returncode == 0

        process.send_signal(signal.SIGINT)
        assert process.wait(STOP_SECONDS) == 0
    assert not (Path(copy["VAR_DIR"]) / "run" / "runtime.env").exists()
    assert_nothing_holds(Path(copy["VAR_DIR"]))


@by_root
def test_a_copy_that_root_may_not_hand_over_says_so_and_starts(copy: dict[str, str]):
    """As in a container whose root may mount nothing, with the project below a private folder."""
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        pytest.skip("setpriv is not installed")
    with started(copy, setpriv, "--bounding-set", "-sys_admin") as process:
        greeting = read_until(process, "Ctrl-C stops everything")
        assert "cannot reach the project" in greeting
        assert "everything else as root" in greeting
        process.send_signal(signal.SIGTERM)
        assert process.wait(STOP_SECONDS) == 0


@by_root
def test_two_copies_of_root_cannot_read_each_other(copy: dict[str, str], tmp_path: Path):
    other = copy | {"VAR_DIR": str(tmp_path / "another"), "ENV_FILE": str(tmp_path / "another.env")}
    other |= {"PORT": str(ports.free_port()), "SIMULATOR_PORT": str(ports.free_port())}
    try:
        for env in (copy, other):
            with started(env) as process:
                read_until(process, "Starting")
        first, second = (Path(env["VAR_DIR"]) for env in (copy, other))
        assert owner(first / "secrets") != owner(second / "secrets")
        for folder in (*first.iterdir(), *second.iterdir()):
            assert folder.stat().st_mode & 0o077 == 0, folder
    finally:
        assert run("ops.clean", "--yes", env=other).returncode == 0


def test_nothing_outlives_a_supervisord_that_is_killed(copy: dict[str, str]):
    run_folder = Path(copy["VAR_DIR"]) / "run"
    with started(copy) as process:
        while not is_postgres_up(Path(copy["VAR_DIR"])):
            assert process.poll() is None, process.communicate()[0]
            time.sleep(0.05)
        os.kill(int((run_folder / "supervisord.pid").read_text()), signal.SIGKILL)
        assert process.wait(STOP_SECONDS) == 1
        assert "supervisord" in process.communicate()[0]
    assert_nothing_holds(Path(copy["VAR_DIR"]))


def owner(path: Path) -> int:
    return path.stat().st_uid


def owners(copy: dict[str, str]) -> set[int]:
    """Return whose the processes of the copy are: each of them has this lock open."""
    pids = processes.holders(launch.programs_lock(Path(copy["VAR_DIR"])))
    assert len(pids) > len(("api", "postgres", "redis", "scheduler", "simulator", "worker"))
    return {owner(Path(f"/proc/{pid}")) for pid in pids}


def is_postgres_up(var_dir: Path) -> bool:
    log = var_dir / "log" / "postgres.log"
    return log.exists() and "ready to accept connections" in log.read_text()


def read_until(process: subprocess.Popen[str], words: str) -> str:
    assert process.stdout is not None
    deadline = time.monotonic() + READY_SECONDS
    lines: list[str] = []
    for line in process.stdout:
        lines.append(line)
        if words in line:
            return "".join(lines)
        assert time.monotonic() < deadline, "".join(lines)
    raise AssertionError("".join(lines))


def assert_nothing_holds(var_dir: Path) -> None:
    """Assert that no process of the copy is left: each of them would hold this lock."""
    assert not exclusive.is_running(load(PROJECT, {"VAR_DIR": str(var_dir)}))
