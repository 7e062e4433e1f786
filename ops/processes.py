"""What an earlier start left behind: its processes, and locks that nobody holds any more."""

import contextlib
import fcntl
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

POLL_SECONDS = 0.05


def command_line(pid: int) -> str:
    """Return the command line of a process, or nothing if there is no such process."""
    try:
        return (
            Path(f"/proc/{pid}/cmdline")
            .read_bytes()
            .replace(b"\0", b" ")
            .decode("utf-8", "replace")
        )
    except OSError:
        if Path("/proc/self/cmdline").exists():
            return ""
    # Not Linux.
    answer = subprocess.run(
        ["ps", "-o", "args=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    return answer.stdout.strip()


def read_pid(path: Path) -> int | None:
    """Return the pid in the first line of a file, or None."""
    try:
        return int(path.read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return None


def stop_leftover(pid_file: Path, mark: str, signals: Sequence[signal.Signals]) -> None:
    """End the process of an earlier run, named in its pid file.

    `mark` must be in its command line: the pid may be another process's by now. The
    signals are sent one after the other, ten seconds apart.
    """
    pid = read_pid(pid_file)
    if pid is None:
        return
    for number in (*signals, signal.SIGKILL):
        if mark not in command_line(pid):
            break
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
        wait_until_gone(pid, mark, seconds=10)


def end_orphans(folder: Path, title: str, number: signal.Signals) -> None:
    """End the processes that work in `folder` and call themselves `title...` (Linux only)."""
    orphans = [pid for pid in _pids() if _works_in(pid, folder, title)]
    for pid in orphans:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
    for pid in orphans:
        wait_until_gone(pid, title, seconds=5)


def wait_until_gone(pid: int, mark: str, *, seconds: float) -> bool:
    """Wait for the end of a process with `mark` in its command line; tell whether it came."""
    deadline = time.monotonic() + seconds
    while mark in command_line(pid):
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_SECONDS)
    return True


def lock_alone(file: IO[str], *, seconds: float = 0) -> bool:
    """Take the lock of an open file for us alone, within so many seconds."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(POLL_SECONDS)


def holders(path: Path) -> list[int]:
    """Return the other processes that have this file open, as far as we may see (Linux only)."""
    wanted = str(path.resolve())
    return [pid for pid in _pids() if pid != os.getpid() and wanted in _open_files(pid)]


def children() -> list[int]:
    """Return our own child processes (Linux only)."""
    found = []
    for path in Path("/proc/self/task").glob("*/children"):
        with contextlib.suppress(OSError):
            found += [int(pid) for pid in path.read_text().split()]
    return found


def _pids() -> Iterator[int]:
    return (int(path.name) for path in Path("/proc").glob("[0-9]*"))


def _works_in(pid: int, folder: Path, title: str) -> bool:
    try:
        return Path(os.readlink(f"/proc/{pid}/cwd")) == folder and command_line(pid).startswith(
            title
        )
    except OSError:
        return False


def _open_files(pid: int) -> Iterator[str]:
    try:
        names = os.listdir(f"/proc/{pid}/fd")
    except OSError:
        return
    for name in names:
        with contextlib.suppress(OSError):
            yield os.readlink(f"/proc/{pid}/fd/{name}")
