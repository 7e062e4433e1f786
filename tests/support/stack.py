"""A whole running copy as real processes on loopback, for fault tests and benchmarks.

    with running_stack(workers=4, environment={"STORE_TIMEOUT_SECONDS": "1"}) as stack:
        stack.flask("purchase-run")
        stack.workers[0].kill()

It sees no `.env` and no setting of the shell, and everything ends with the `with`.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, LiteralString

import psycopg
from redis import Redis

from ops import ports
from ops.environment import PROJECT
from ops.files import make_folder, tail
from simulator.client import SimulatorClient
from tests.support.servers import Server, embedded_postgres, embedded_valkey

API_KEY = "pk_operators-key-of-a-copy-for-tests"
QUEUES = ("high", "medium", "default")
START_SECONDS = 60
COMMAND_SECONDS = 120
STOP_SECONDS = 30
POLL_SECONDS = 0.05
RESTART_SECONDS = 0.5
INHERITED = ("HOME", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "TMPDIR")

# The kernel tells a program of the death of the thread that started it. So one thread, that
# lives as long as the process, starts them all.
_starter = ThreadPoolExecutor(max_workers=1, thread_name_prefix="programs")


class Program:
    """A process of the copy, with all that it starts; its output goes to a log."""

    def __init__(
        self, name: str, command: Sequence[str], environment: Mapping[str, str], log: Path
    ) -> None:
        self.name = name
        self.log = log
        self.starts = 0
        self._command = [sys.executable, "-m", "ops.launch", *command]
        self._environment = environment
        self._process: subprocess.Popen[bytes] | None = None
        self._wanted = False
        self._lock = threading.Lock()

    @property
    def pid(self) -> int:
        """Return the process id."""
        assert self._process is not None, f"{self.name} was never started"
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Tell whether the process is there."""
        return self._process is not None and self._process.poll() is None

    @property
    def exit_status(self) -> int | None:
        """Return how the process ended: negative for a signal, None while it runs."""
        return None if self._process is None else self._process.poll()

    def start(self) -> None:
        """Start the process, unless it runs."""
        with self._lock:
            self._wanted = True
            self._start()

    def start_again_if_it_died(self) -> None:
        """Start the process again if nobody asked for its end."""
        with self._lock:
            if self._wanted:
                self._start()

    def kill(self) -> None:
        """End it as a power cut would: SIGKILL to the process and all that it started."""
        with self._lock:
            self._signal_group(signal.SIGKILL)
            if self._process is not None:
                self._process.wait(STOP_SECONDS)

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the process, which is wanted no longer."""
        with self._lock:
            self._wanted = False
            if self._process is not None and self._process.poll() is None:
                self._process.send_signal(number)

    def terminate(self, *, seconds: float = STOP_SECONDS) -> int:
        """Ask it to end and return its exit status. Raises TimeoutExpired, after killing it."""
        self.send(signal.SIGTERM)
        assert self._process is not None, f"{self.name} was never started"
        try:
            return self._process.wait(seconds)
        finally:
            self.discard()

    def discard(self) -> None:
        """Kill it for good."""
        self._wanted = False
        self.kill()

    def _start(self) -> None:
        if self.is_running:
            return
        with self.log.open("ab") as output:
            self._process = _starter.submit(
                subprocess.Popen,
                self._command,
                cwd=PROJECT,
                env=dict(self._environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                process_group=0,
            ).result()
        self.starts += 1

    def _signal_group(self, number: signal.Signals) -> None:
        # What it started may outlive it in its group, whose number nobody else gets till then.
        if self._process is not None:
            try:
                os.killpg(self._process.pid, number)
            except ProcessLookupError:
                return


@dataclass(frozen=True)
class Stack:
    """A running copy: where its parts are, and the handles to break them."""

    api_url: str
    simulator: SimulatorClient
    environment: Mapping[str, str]
    folder: Path
    postgres: Server
    valkey: Server
    outside: Program
    api: Program
    workers: Sequence[Program]
    schedulers: Sequence[Program]

    @property
    def database_url(self) -> str:
        """Return the database's URL in SQLAlchemy's spelling."""
        return self.postgres.url

    @property
    def redis_url(self) -> str:
        """Return the URL of Valkey."""
        return self.valkey.url

    @property
    def redis(self) -> Redis:
        """Return a new client of Valkey."""
        return Redis.from_url(self.redis_url)

    @property
    def programs(self) -> Sequence[Program]:
        """Return every program, whether it runs or not."""
        return [self.outside, self.api, *self.workers, *self.schedulers]

    def flask(self, *arguments: str, seconds: float = COMMAND_SECONDS) -> str:
        """Run a `flask` command beside the copy and return what it prints."""
        answer = subprocess.run(
            [sys.executable, "-m", "flask", *arguments],
            cwd=PROJECT,
            env=dict(self.environment),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=seconds,
        )
        if answer.returncode != 0:
            raise RuntimeError(f"flask {' '.join(arguments)} failed:\n{answer.stderr}")
        return answer.stdout

    def fetch(
        self, query: LiteralString, parameters: Mapping[str, object] | None = None
    ) -> list[Any]:
        """Run one statement in a transaction of its own and return its rows, if it has any."""
        url = self.database_url.replace("+psycopg", "", 1)
        with psycopg.connect(url, connect_timeout=30) as connection:
            cursor = connection.execute(query, parameters)
            return cursor.fetchall() if cursor.description else []

    def value(self, query: LiteralString, parameters: Mapping[str, object] | None = None) -> Any:
        """Return the first column of the first row."""
        return self.fetch(query, parameters)[0][0]

    def await_ready(self) -> None:
        """Wait until every program that was started does its work."""
        if self.outside.is_running:
            self._await(lambda: answers(f"{self.simulator.base_url}/health"), self.outside)
        if self.api.is_running:
            self._await(lambda: answers(f"{self.api_url}/health/ready"), self.api)
        running = [worker for worker in self.workers if worker.is_running]
        if running:
            self._await(lambda: self._enrolled() >= len(running), *running)
        for scheduler in self.schedulers:
            if scheduler.is_running:
                self._await(lambda: self._scheduled() > 0, scheduler)

    def logs(self) -> str:
        """Return the end of every log, for people who look for what went wrong."""
        logs = sorted(self.folder.glob("log/*.log"))
        return "\n".join(f"=== {log.name}\n{tail(log, 40)}" for log in logs)

    def _enrolled(self) -> int:
        return int(self.redis.scard("rq:workers"))

    def _scheduled(self) -> int:
        return int(self.redis.zcard("rq:scheduler:scheduled_jobs"))

    def _await(self, is_true: Callable[[], object], *programs: Program) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not is_true():
            for program in programs:
                if not program.is_running:
                    raise RuntimeError(f"{program.name} ended with {program.exit_status}")
            if time.monotonic() > deadline:
                raise TimeoutError(f"{programs[0].name} was not ready within {START_SECONDS} s")
            time.sleep(POLL_SECONDS)


def answers(url: str) -> bool:
    """Tell whether a GET is answered with 2xx."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=5) as response:
            return bool(200 <= response.status < 300)
    except (urllib.error.URLError, OSError):
        return False


@contextmanager
def running_stack(
    *,
    workers: int = 8,
    schedulers: int = 1,
    api: bool = True,
    api_workers: int = 2,
    durable: bool = False,
    test_clock: bool = False,
    restart: bool = False,
    environment: Mapping[str, str] | None = None,
) -> Iterator[Stack]:
    """Start a migrated copy, give it when every part is ready, and end all of it.

    `durable=False` lets Postgres lose commits when it is killed, and is faster. `restart` starts
    programs again that died, as supervisord does. With `test_clock` the simulator follows the
    API's clock.
    """
    folder = Path(tempfile.mkdtemp(prefix="perennial-stack-"))
    # The account that the servers run as must get through.
    folder.chmod(0o711)
    with ExitStack() as ending:
        ending.callback(shutil.rmtree, folder, ignore_errors=True)
        postgres = ending.enter_context(embedded_postgres(folder / "postgres", durable=durable))
        valkey = ending.enter_context(embedded_valkey(folder / "valkey", durable=durable))
        settings = {
            **_basic_environment(folder),
            "DATABASE_URL": postgres.url,
            "REDIS_URL": valkey.url,
            "PORT": str(ports.free_port()),
            "SIMULATOR_PORT": str(ports.free_port()),
            "TEST_CLOCK": "1" if test_clock else "0",
            "WORKERS": str(max(1, workers)),
            "API_WORKERS": str(api_workers),
            **(environment or {}),
        }
        stack = _stack(settings, folder, postgres, valkey, workers, schedulers)
        for program in stack.programs:
            ending.callback(program.discard)
        try:
            stack.flask("upgrade")
            for program in stack.programs:
                if api or program is not stack.api:
                    program.start()
            stack.await_ready()
            if restart:
                ending.enter_context(_restarting(stack.programs))
            yield stack
        except BaseException:
            print(stack.logs(), file=sys.stderr, flush=True)
            raise


def _basic_environment(folder: Path) -> dict[str, str]:
    scripts = str(Path(sys.executable).parent)
    return {
        **{name: os.environ[name] for name in INHERITED if name in os.environ},
        "PATH": os.pathsep.join((scripts, os.environ.get("PATH", os.defpath))),
        "ENV_FILE": os.devnull,
        "VAR_DIR": str(folder),
        "TZ": "UTC",
        "PYTHONUNBUFFERED": "1",
        "HOST": ports.LOOPBACK,
        "APP_ENV": "testing",
        "API_KEY": API_KEY,
        "SECRET_KEY": "a-secret-key-of-a-copy-for-tests",
        "CALLBACK_ALLOWED_NETWORKS": "127.0.0.0/8",
        "REGISTER_RATE_LIMIT": "1000000/minute",
        "LOG_LEVEL": "WARNING",
    }


def _stack(
    settings: Mapping[str, str],
    folder: Path,
    postgres: Server,
    valkey: Server,
    workers: int,
    schedulers: int,
) -> Stack:
    make_folder(folder / "run")
    logs = make_folder(folder / "log")
    python = (sys.executable, "-m")
    api_url = f"http://{ports.LOOPBACK}:{settings['PORT']}"
    clock = ("--clock-url", f"{api_url}/api/clock") if settings["TEST_CLOCK"] == "1" else ()

    def program(name: str, *command: str) -> Program:
        return Program(name, command, settings, logs / f"{name}.log")

    return Stack(
        api_url=api_url,
        simulator=SimulatorClient(f"http://{ports.LOOPBACK}:{settings['SIMULATOR_PORT']}"),
        environment=settings,
        folder=folder,
        postgres=postgres,
        valkey=valkey,
        outside=program("simulator", *python, "simulator", *clock),
        api=program("api", "sh", "ops/serve.sh"),
        workers=[
            program(f"worker_{number}", *python, "flask", "worker", *QUEUES)
            for number in range(workers)
        ],
        schedulers=[
            program(f"scheduler_{number}", *python, "flask", "scheduler")
            for number in range(schedulers)
        ],
    )


@contextmanager
def _restarting(programs: Sequence[Program]) -> Iterator[None]:
    """Start programs again that died, until the `with` ends."""
    ended = threading.Event()

    def keep() -> None:
        while not ended.wait(RESTART_SECONDS):
            for program in programs:
                program.start_again_if_it_died()

    keeper = threading.Thread(target=keep, name="restarting", daemon=True)
    keeper.start()
    try:
        yield
    finally:
        ended.set()
        keeper.join()
