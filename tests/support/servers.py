"""Embedded servers for tests and benchmarks, gone with the `with` or with the process.

with embedded_postgres(directory) as postgres, embedded_valkey(directory) as valkey:
    create_engine(postgres.url)
    postgres.stop(kill=True)
    postgres.start()
"""

import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import psycopg
from redis import Redis, RedisError
from redis.backoff import NoBackoff
from redis.retry import Retry

from ops import postgres, valkey
from ops.environment import PROJECT
from ops.errors import OpsError
from ops.files import make_folder, tail
from ops.places import Home, spare_place
from ops.privileges import server_environment
from ops.processes import lock_alone

START_SECONDS = 30
STOP_SECONDS = 30
POLL_SECONDS = 0.02
RETRY_SECONDS = 0.2

# The kernel tells a server of the death of the thread that started it. So one thread, that
# lives as long as the process, starts them all.
_starter = ThreadPoolExecutor(max_workers=1, thread_name_prefix="embedded-servers")


class Startable(Protocol):
    """What `Server` needs to know about Postgres or Valkey."""

    @property
    def home(self) -> Home:
        """Return where it keeps its files."""

    @property
    def url(self) -> str:
        """Return how clients reach it."""

    @property
    def command(self) -> list[str]:
        """Return what starts it."""

    def prepare(self) -> None:
        """Make what it needs to start."""


class Server:
    """A server that can be stopped, killed and started again on the same data and URL."""

    def __init__(
        self,
        kind: Startable,
        *,
        log: Path,
        stop_signal: signal.Signals,
        answers: Callable[[str], bool],
    ) -> None:
        self.log = log
        self._kind = kind
        self._stop_signal = stop_signal
        self._answers = answers
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Return how clients reach it, password included."""
        return self._kind.url

    @property
    def pid(self) -> int:
        """Return the process id of the server that was started last."""
        assert self._process is not None, "the server was never started"
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Tell whether the process is there."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start the server and wait until it answers. Raises OpsError if it does not."""
        if self.is_running:
            return
        deadline = time.monotonic() + START_SECONDS
        while True:
            self._kind.prepare()
            self._process = self._spawn()
            if self._answers_before(deadline):
                return
            if self.is_running or time.monotonic() > deadline:
                self.stop(kill=True)
                raise OpsError(f"{self._kind.command[0]} does not start:\n{tail(self.log)}")
            # After a kill, the sessions of the dead server may take a moment to notice.
            time.sleep(RETRY_SECONDS)

    def stop(self, kill: bool = False) -> None:
        """Stop the server in order, or `kill` it as a power cut would; the data stay."""
        if self._process is None:
            return
        if self.is_running:
            self._process.send_signal(signal.SIGKILL if kill else self._stop_signal)
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _spawn(self) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as output:
            return _starter.submit(
                subprocess.Popen,
                self._launcher(),
                cwd=PROJECT,
                env=server_environment(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                # Ctrl-C in the terminal is for the tests, which then stop the server.
                process_group=0,
            ).result()

    def _launcher(self) -> Sequence[str]:
        account = self._kind.home.account
        return [
            *(sys.executable, "-m", "ops.launch"),
            *("--signal", self._stop_signal.name.removeprefix("SIG")),
            *(("--user", account.option) if account else ()),
            *self._kind.command,
        ]

    def _answers_before(self, deadline: float) -> bool:
        while self.is_running and time.monotonic() < deadline:
            if self._answers(self.url):
                return True
            time.sleep(POLL_SECONDS)
        return False


@contextmanager
def embedded_postgres(directory: Path, *, durable: bool = False) -> Iterator[Server]:
    """Run a Postgres of our own with its files in `directory`, made if it is missing.

    The application's role may create databases here. Without `durable` commits may be
    lost when it is killed. Where root's Postgres cannot reach the directory, its data
    are elsewhere and last as long as the `with`.
    """
    with _folder(directory, postgres.NAME) as folder:
        kind = postgres.locate(folder, durable=durable, may_create_databases=True)
        yield from _running(kind, folder / "postgres.log", postgres.STOP_SIGNAL, _postgres_answers)


@contextmanager
def embedded_valkey(directory: Path, *, durable: bool = False) -> Iterator[Server]:
    """Run a Valkey of our own with its files in `directory`, made if it is missing."""
    with _folder(directory, valkey.NAME) as folder:
        kind = valkey.locate(folder, durable=durable)
        yield from _running(kind, folder / "valkey.log", valkey.STOP_SIGNAL, _valkey_answers)


def _running(
    kind: Startable, log: Path, stop_signal: signal.Signals, answers: Callable[[str], bool]
) -> Iterator[Server]:
    server = Server(kind, log=log, stop_signal=stop_signal, answers=answers)
    try:
        server.start()
        yield server
    finally:
        server.stop()


@contextmanager
def _folder(directory: Path, name: str) -> Iterator[Path]:
    folder = directory.resolve()
    elsewhere = spare_place(folder)
    lock = make_folder(make_folder(folder) / "run") / f"{name}.lock"
    if not lock.exists():
        # Data of a killed run that had a directory of the same name.
        shutil.rmtree(elsewhere / name, ignore_errors=True)
    with lock.open("a") as file:
        if not lock_alone(file):
            raise OpsError(f"Another {name} runs in {folder}.")
        try:
            yield folder
        finally:
            shutil.rmtree(elsewhere / name, ignore_errors=True)
            if elsewhere.is_dir() and not any(elsewhere.iterdir()):
                elsewhere.rmdir()


def _postgres_answers(url: str) -> bool:
    try:
        psycopg.connect(url.replace("+psycopg", "", 1), connect_timeout=5).close()
    except psycopg.OperationalError:
        return False
    return True


def _valkey_answers(url: str) -> bool:
    try:
        # The client's own retries would take seconds while the server starts.
        with Redis.from_url(url, socket_timeout=5, retry=Retry(NoBackoff(), 0)) as client:
            return bool(client.ping())
    except (RedisError, OSError):
        return False
