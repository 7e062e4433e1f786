"""Forks of a process that has imported everything: each belongs to the process that asked."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ops.environment import PROJECT

PATIENCE_SECONDS = 30
MODULE = """
import os, signal, sys, time

VERSION = 1

def leave(*_):
    print("ends in order", flush=True)
    sys.exit(7)

if __name__ == "__main__":
    signal.signal(signal.SIGTERM, leave)
    print(os.getpid(), os.getppid(), os.environ.get("SAID"), *sys.argv[1:], flush=True)
    if "stay" in sys.argv:
        time.sleep(600)
    import {name}
    print("version", {name}.VERSION)
    sys.exit("refuse" in sys.argv and "It cannot be done." or 0)
"""

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux forks so")


class Copy:
    """A fork server of its own, over a module of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "run").mkdir()
        self.name = f"forked_{os.getpid()}_{time.monotonic_ns()}"
        self.module = folder / f"{self.name}.py"
        self.module.write_text(MODULE.format(name=self.name))
        self.environment = {
            **os.environ,
            "VAR_DIR": str(folder),
            "PYTHONPATH": os.pathsep.join((str(folder), str(PROJECT))),
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        self.server = self.start_server()
        self.stubs: list[subprocess.Popen[str]] = []

    def start_server(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "ops.forkserver", self.name]
        return subprocess.Popen(command, cwd=PROJECT, env=self.environment)

    def start(self, *arguments: str, **variables: str) -> subprocess.Popen[str]:
        stub = subprocess.Popen(
            [sys.executable, "-S", "-E", "ops/forked.py", self.name, *arguments],
            cwd=PROJECT,
            env={**self.environment, **variables},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.stubs.append(stub)
        return stub

    def run(self, *arguments: str, **variables: str) -> tuple[int, str, str]:
        stub = self.start(*arguments, **variables)
        output, errors = stub.communicate(timeout=PATIENCE_SECONDS)
        return stub.returncode, output, errors

    def staying(self) -> tuple[subprocess.Popen[str], int]:
        """Return a stub whose fork stays, and the pid of the fork."""
        stub = self.start("stay")
        assert stub.stdout is not None
        return stub, int(stub.stdout.readline().split()[0])

    def end(self) -> None:
        for process in (*self.stubs, self.server):
            if process.poll() is None:
                process.kill()
            process.communicate()


@pytest.fixture
def copy(tmp_path: Path) -> Iterator[Copy]:
    made = Copy(tmp_path)
    yield made
    made.end()


def is_there(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def eventually(what: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_module_runs_with_the_arguments_variables_and_streams_of_who_asks(copy: Copy):
    status, output, _ = copy.run("one", "two words", SAID="here")

    first, last = output.splitlines()
    assert first.split()[1:] == [str(copy.server.pid), "here", "one", "two", "words"]
    assert (status, last) == (0, "version 1")


def test_it_ends_as_the_module_does(copy: Copy):
    status, _, errors = copy.run("refuse")

    assert (status, errors) == (1, "It cannot be done.\n")


def test_who_is_asked_to_end_ends_its_fork_in_order(copy: Copy):
    stub, fork = copy.staying()

    stub.send_signal(signal.SIGTERM)

    output, _ = stub.communicate(timeout=PATIENCE_SECONDS)
    assert (stub.returncode, output) == (7, "ends in order\n")
    eventually(lambda: not is_there(fork))


def test_who_is_killed_takes_its_fork_along_and_no_other(copy: Copy):
    (stub, fork), (other_stub, other_fork) = copy.staying(), copy.staying()

    stub.kill()

    eventually(lambda: not is_there(fork))
    assert is_there(other_fork)
    assert other_stub.poll() is None


def test_a_fork_that_is_killed_ends_who_asked(copy: Copy):
    stub, fork = copy.staying()

    os.kill(fork, signal.SIGKILL)

    assert stub.wait(PATIENCE_SECONDS) == 128 + signal.SIGKILL


def test_forks_outlive_the_server_and_are_asked_to_end_as_before(copy: Copy):
    stub, fork = copy.staying()

    copy.server.kill()
    copy.server.wait()

    assert is_there(fork)
    stub.send_signal(signal.SIGTERM)
    assert stub.wait(PATIENCE_SECONDS) == 7


def test_who_asks_while_the_server_starts_again_gets_a_fork_of_the_new_one(copy: Copy):
    copy.run()
    copy.server.kill()
    copy.server.wait()
    stub = copy.start()
    copy.server = copy.start_server()

    output, _ = stub.communicate(timeout=PATIENCE_SECONDS)

    assert output.split()[1] == str(copy.server.pid)


def test_a_fork_runs_the_code_that_is_there_when_it_is_asked_for(copy: Copy):
    assert "version 1" in copy.run()[1]
    copy.module.write_text(copy.module.read_text().replace("VERSION = 1", "VERSION = 22"))

    assert "version 22" in copy.run()[1]
    assert copy.server.poll() is None


def test_without_a_server_it_becomes_the_module(tmp_path: Path):
    stub = subprocess.run(
        [sys.executable, "-S", "-E", "ops/forked.py", "platform"],
        cwd=PROJECT,
        env={**os.environ, "VAR_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert (stub.returncode, stub.stderr) == (0, "")
    assert stub.stdout.startswith("Linux")
