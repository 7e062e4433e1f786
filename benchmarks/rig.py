"""The rig: a running copy with default settings and a durable Postgres, and the stopwatch."""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
from rq import Queue
from sqlalchemy import text

from ops import postgres
from ops.ports import LOOPBACK
from project import config, create_app
from project.core.work.queues import QueueName, rq_queue
from project.extensions import db, redis_client
from simulator.client import SimulatorClient
from tests.support.stack import Stack, running_stack

WORKERS = 8
POLL_SECONDS = 0.05
FINISH_SECONDS = 240


class BenchmarkError(Exception):
    """Something that makes a figure worthless; the message says what."""


@dataclass(frozen=True)
class Options:
    """How much is measured: a factor on every size, and how many rounds make a figure."""

    scale: float = 1.0
    rounds: int = 3
    use_wrk: bool = False

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

    @property
    def simulator(self) -> SimulatorClient:
        """Return the control of the outside world."""
        return self.stack.simulator

    def execute(self, statement: str, **parameters: Any) -> None:
        """Run a statement by itself, for as long as it takes."""
        with db.engine.connect() as connection:
            connection = connection.execution_options(isolation_level="AUTOCOMMIT")
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

    def raw_connection(self) -> psycopg.Connection[Any]:
        """Connect as the application does, without SQLAlchemy; the caller closes it."""
        return psycopg.connect(self.stack.environment["DATABASE_URL"].replace("+psycopg", "", 1))

    def require(self, wanted: int, query: str, **parameters: Any) -> None:
        """Raise BenchmarkError unless the query counts what is wanted."""
        found = self.value(query, **parameters)
        if found != wanted:
            raise BenchmarkError(f"{wanted} were expected, {found} were found by: {query}")

    def queue(self, name: QueueName) -> Queue:
        """Return the queue that the workers take from."""
        return rq_queue(name)

    def settle(self) -> None:
        """Refresh the statistics and write everything out, so that each run starts alike."""
        self.execute("VACUUM ANALYZE")
        with _superuser(self.stack) as connection:
            connection.execute("CHECKPOINT")

    def seconds_until_none(
        self, unfinished: str, start: Callable[[], object], **parameters: Any
    ) -> float:
        """Start the work and return after how many seconds the query finds no row any more."""
        started = time.perf_counter()
        start()
        while self.rows(unfinished, **parameters):
            if time.perf_counter() - started > FINISH_SECONDS:
                raise BenchmarkError(f"Not finished within {FINISH_SECONDS} s: {unfinished}")
            time.sleep(POLL_SECONDS)
        return time.perf_counter() - started

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
        config.use_settings(None)
        try:
            with create_app().app_context():
                yield Rig(stack, options)
                db.engine.dispose()
        finally:
            config.use_settings(None)
            os.environ.clear()
            os.environ.update(before)
