"""`flask` commands as processes of their own, as supervisord and people start them."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

PROJECT_ROOT = Path(__file__).parents[2]
PATIENCE_SECONDS = 20


def flask_command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "flask", *arguments]


def run_flask(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        flask_command(*arguments),
        cwd=PROJECT_ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS * 6,
        check=False,
    )


@contextmanager
def running_flask(*arguments: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """Start a command; what the test does not end is killed."""
    process = subprocess.Popen(
        flask_command(*arguments),
        cwd=PROJECT_ROOT,
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def wait_until(what: Callable[[], object], *, seconds: float = PATIENCE_SECONDS) -> None:
    """Wait until something holds; fail if it takes too long."""
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, f"waited {seconds:g} s in vain"
        time.sleep(0.03)
