"""The rig: a running copy with default settings and a durable Postgres, and the stopwatch."""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar
from uuid import UUID

import psycopg
from rq import Queue
from sqlalchemy import text

from benchmarks.machine import Machine, used_by
from ops import postgres
from ops.ports import LOOPBACK
from project.application import create_app
from project.config.environment import use_settings
from project.core.work.queues import QueueName, rq_queue
from project.extensions import db, redis_client, wait_as_long_as_it_takes
from simulator.client import SimulatorClient
from tests.support.stack import Stack, running_stack

WORKERS = 8
POLL_SECONDS = 0.05
FINISH_SECONDS = 240
ROWS_PER_CALL = 2
Id = TypeVar("Id", int, UUID)


class BenchmarkError(Exception):
    """Something that makes a figure worthless; the message says what."""


@dataclass(frozen=True)
class Options:
    """How much is measured: a factor on every size, and how many rounds make a figure."""

    scale: float = 1.0
    rounds: int = 3
    use_wrk: bool = False
    wait_seconds: float = 120.0

    def size(self, full: int) -> int:
        """Return a size at this scale."""
        return max(50, round(full * self.scale))

    def seconds(self, full: float) -> float:
        """Return a duration at this scale; short ones say nothing."""
        return max(1.0, full * self.scale)


@dataclass(frozen=True)
class Rig:
    """A running copy, seen by a process that has the application at hand."""

    stack: Stack
    options: Options
    machine: Machine

    @property
    def simulator(self) -> SimulatorClient:
        """Return the control of the outside world."""
        return self.stack.simulator

    def execute(self, statement: str, **parameters: Any) -> None:
        """Run a statement by itself, for as long as it takes."""
        with db.engine.connect() as connection:
            connection = connection.execution_options(isolation_level="AUTOCOMMIT")
            wait_as_long_as_it_takes(connection)
            connection.execute(text("SET statement_timeout = 0"))
            connection.execute(text(statement), parameters)

    def rows(self, query: str, **parameters: Any) -> Sequence[Any]:
        """Return the rows of a query."""
        with db.engine.connect() as connection:
            connection = connection.execution_options(isolation_level="AUTOCOMMIT")
            return connection.execute(text(query), parameters).all()

    def value(self, query: str, **parameters: Any) -> Any:
        """Return the first column of the first row; None if there is no row."""
        found = self.rows(query, **parameters)
        return found[0][0] if found else None

    @property
    def plain_database_url(self) -> str:
        """Return the database's URL as everybody but SQLAlchemy spells it."""
        return self.stack.environment["DATABASE_URL"].replace("+psycopg", "", 1)

    def raw_connection(self) -> psycopg.Connection[Any]:
        """Connect as the application does, without SQLAlchemy; the caller closes it."""
        return psycopg.connect(self.plain_database_url)

    def require(self, wanted: int, query: str, **parameters: Any) -> None:
        """Raise BenchmarkError unless the query counts what is wanted."""
        found = self.value(query, **parameters)
        if found != wanted:
            raise BenchmarkError(f"{wanted} were expected, {found} were found by: {query}")

    def processor_seconds(self) -> float:
        """Return what the copy and a peer beside it have used so far, on Linux; else 0.

        The simulator and this process, which are the outside world, are left out.
        """
        measured = used_by(os.getpid(), without=[self.stack.outside.pid])
        return measured - sum(os.times()[:2])

    def calls_in_flight(self, per_process: int) -> int:
        """Return how many calls of one kind of work the workers make at once, all together."""
        return per_process * max(1, WORKERS // 2)

    def enqueue(
        self,
        name: QueueName,
        job: Callable[[Sequence[Id], int], None],
        ids: Sequence[Id],
        *,
        in_flight: int,
    ) -> None:
        """Queue jobs for these rows in bulk; the workers make `in_flight` calls at once, together.

        A job is given some of the rows, and how many calls it may make at once.
        """
        threads = max(1, in_flight // WORKERS)
        size = min(ROWS_PER_CALL * threads, -(-len(ids) // WORKERS))
        parts = [ids[start : start + size] for start in range(0, len(ids), size)]
        rq_queue(name).enqueue_many([Queue.prepare_data(job, (part, threads)) for part in parts])

    def settle(self) -> None:
        """Refresh the statistics, write everything out, await a quiet machine: all start alike."""
        self.execute("VACUUM ANALYZE")
        with _superuser(self.stack) as connection:
            connection.execute("CHECKPOINT")
        self.machine.wait_until_quiet()

    def seconds_until_none(
        self, unfinished: str, start: Callable[[], object], **parameters: Any
    ) -> float:
        """Start the work and return after how many seconds the query finds no row any more."""
        started = time.perf_counter()
        start()
        self.wait_until_none(unfinished, **parameters)
        return time.perf_counter() - started

    def wait_until_none(self, unfinished: str, **parameters: Any) -> None:
        """Wait until the query finds no row any more. Raises BenchmarkError after a while."""
        deadline = time.monotonic() + FINISH_SECONDS
        while self.rows(unfinished, **parameters):
            if time.monotonic() > deadline:
                raise BenchmarkError(f"Not finished within {FINISH_SECONDS} s: {unfinished}")
            time.sleep(POLL_SECONDS)

    def wait_until_idle(self) -> None:
        """Wait until no worker works through anything and the queues are empty."""
        deadline = time.monotonic() + FINISH_SECONDS
        while _is_busy():
            if time.monotonic() > deadline:
                raise BenchmarkError("The workers do not come to rest.")
            time.sleep(POLL_SECONDS)


def _superuser(stack: Stack) -> psycopg.Connection[Any]:
    """Connect as the one who may ask for a checkpoint."""
    server = postgres.locate(stack.folder / "postgres", check_port=False)
    on_socket = server.endpoint.socket is not None
    return psycopg.connect(
        host=str(server.home.data) if on_socket else LOOPBACK,
        port=postgres.PORT if on_socket else server.endpoint.port,
        user=postgres.SUPERUSER,
        password=server.superuser_password,
        dbname=postgres.DATABASE,
        autocommit=True,
    )


def _is_busy() -> bool:
    queues = [rq_queue(name) for name in QueueName]
    waiting = any(queue.count or queue.started_job_registry.count for queue in queues)
    return waiting or any(redis_client().scan_iter("place:*"))


@contextmanager
def running_rig(options: Options) -> Iterator[Rig]:
    """Start a copy as `make run` would have it, at real time; give the rig; end all of it."""
    with running_stack(
        workers=WORKERS,
        durable=True,
        restart=True,
        environment={"LOG_LEVEL": "INFO", "WEBHOOK_RATE_LIMIT": "100000/second"},
    ) as stack:
        before = dict(os.environ)
        os.environ.update(stack.environment)
        use_settings(None)
        try:
            with create_app().app_context():
                yield Rig(stack, options, Machine(options.wait_seconds))
                db.engine.dispose()
        finally:
            use_settings(None)
            os.environ.clear()
            os.environ.update(before)
