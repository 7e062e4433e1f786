"""The fastest way to the database: a statement prepared once a connection, in autocommit."""

import asyncio
import select as polling
import time
from collections import deque
from functools import cached_property
from typing import Any

import psycopg
from psycopg import pq
from psycopg.adapt import PyFormat, Transformer
from psycopg.errors import FeatureNotSupported, InvalidSqlStatementName, error_from_result
from sqlalchemy import Compiled, Engine, Executable, TypeDecorator, create_engine
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.exc import OperationalError

from project.config.environment import get_settings
from project.config.kernel import StorageSettings
from project.core.loop import running_loop
from project.extensions import guard

CONNECTIONS = 3
"""A process has so many. Each thread that comes back from the database wants the interpreter, and
sixteen that fight for it get half as much done as three that the others wait for."""
WORKED = (pq.ExecStatus.TUPLES_OK, pq.ExecStatus.COMMAND_OK)
FAILED = (pq.ExecStatus.FATAL_ERROR, pq.ExecStatus.PIPELINE_ABORTED)
WATCH_SECONDS = 1.0
OUTDATED = (FeatureNotSupported, InvalidSqlStatementName)
"""What Postgres says of a prepared statement whose tables were changed, or that is gone."""

_readers: dict[str, Engine] = {}


class _Prepared:
    """A statement as one connection knows it."""

    def __init__(self, connection: Any, name: bytes, sql: bytes) -> None:
        self._connection = connection
        self._name = name
        self._transformer = Transformer(connection)
        # Postgres tells the types of the parameters from the statement.
        self._checked(connection.pgconn.prepare(name, sql))

    def first_row(self, values: list[Any]) -> tuple[Any, ...] | None:
        """Run it. A driver's cursor waits for the answer in Python, libpq by itself: half the time.

        Raises what the driver raises.
        """
        given = self._transformer.dump_sequence(values, [PyFormat.TEXT] * len(values))
        result = self._checked(self._answer(given))
        self._transformer.set_pgresult(result)
        return self._transformer.load_row(0, tuple) if result.ntuples else None

    def _answer(self, given: Any) -> Any:
        """Send it and wait: libpq by itself would wait for a server that hangs for ever."""
        libpq = self._connection.pgconn
        libpq.send_query_prepared(self._name, given)
        while libpq.flush():
            self._await(polling.POLLOUT)
        self._await(polling.POLLIN)
        result = libpq.get_result()
        while libpq.get_result() is not None:
            pass
        return result

    def _await(self, readiness: int) -> None:
        ready = polling.poll()
        ready.register(self._connection.pgconn.socket, readiness)
        if not ready.poll(self._connection.patience_seconds * 1000):
            self._connection.give_up()
            raise psycopg.OperationalError("Postgres gave no answer in time")

    def _checked(self, result: Any) -> Any:
        if result.status in WORKED:
            return result
        if self._connection.closed:
            # libpq's own error: it has no SQLSTATE to tell it by.
            raise psycopg.OperationalError(result.error_message.decode("utf-8", "replace"))
        raise error_from_result(result)


class PreparedQuery:
    """A statement for a route that is asked thousands of times a second.

    Neither session, ORM nor cursor stand between; it sees what is committed, and what it writes is
    committed when it returns. It may run twice when a connection breaks, so it must be one that
    changes nothing then. Elsewhere, use the session.
    """

    def __init__(self, statement: Executable) -> None:
        self._statement: Any = statement
        self._name = f"perennial_{id(self)}".encode()
        self._pipeline: _Pipeline | None = None

    @cached_property
    def _compiled(self) -> Compiled:
        dialect = PGDialect_psycopg(paramstyle="numeric_dollar")  # type: ignore[no-untyped-call]
        compiled: Compiled = self._statement.compile(dialect=dialect)
        return compiled

    @cached_property
    def _names(self) -> list[str]:
        compiled: Any = self._compiled
        return list(compiled.positiontup)

    @cached_property
    def _constants(self) -> dict[str, Any]:
        return dict(self._compiled.params)

    @cached_property
    def _loaders(self) -> list[tuple[int, Any]]:
        """What makes of a value what its column's type says, where the driver does not know it."""
        types = enumerate(column.type for column in self._statement.exported_columns)
        dialect = self._compiled.dialect
        return [
            (place, type_.result_processor(dialect, None))
            for place, type_ in types
            if isinstance(type_, TypeDecorator)
        ]

    def one(self, parameters: dict[str, Any]) -> tuple[Any, ...] | None:
        """Return the first row, or None. Raises OperationalError if the database is away."""
        try:
            return self._loaded(self._first_row(parameters))
        except OperationalError as error:
            if not error.connection_invalidated:
                raise
            # A restarted server leaves a pool of dead connections behind.
            _reader().dispose()
            return self._loaded(self._first_row(parameters))

    async def read(self, parameters: dict[str, Any]) -> tuple[Any, ...] | None:
        """Do what `one` does; an event loop that runs this goes on meanwhile."""
        loop = running_loop()
        if loop is None:
            return self.one(parameters)
        if self._pipeline is None or self._pipeline.loop is not loop:
            # A connection that `one` has used may know the statement by its plain name already.
            self._pipeline = _Pipeline(
                loop, self._name + b"_pipeline", str(self._compiled).encode()
            )
        known = self._constants | parameters
        values = [known[name] for name in self._names]
        try:
            try:
                row = await self._pipeline.ask(values)
            except (ConnectionLost, *OUTDATED):
                row = await self._pipeline.ask(values)
        except (psycopg.OperationalError, psycopg.InterfaceError) as error:
            raise self._away(error) from error
        return self._loaded(row)

    def _loaded(self, row: tuple[Any, ...] | None) -> tuple[Any, ...] | None:
        if row is None or not self._loaders:
            return row
        values = list(row)
        for place, load in self._loaders:
            values[place] = load(values[place])
        return tuple(values)

    def _first_row(self, parameters: dict[str, Any]) -> tuple[Any, ...] | None:
        try:
            connection = _reader().raw_connection()
        except (psycopg.OperationalError, psycopg.InterfaceError) as error:
            raise self._away(error) from error
        driver: Any = connection.driver_connection
        try:
            prepared = connection.info.get(self) or self._prepare(connection)
            known = self._constants | parameters
            return prepared.first_row([known[name] for name in self._names])
        except (psycopg.OperationalError, psycopg.InterfaceError, *OUTDATED) as error:
            cut = driver.broken or driver.closed or isinstance(error, OUTDATED)
            connection.invalidate(error)
            raise self._away(error, cut=cut) from error
        finally:
            connection.close()

    def _prepare(self, connection: Any) -> _Prepared:
        sql = str(self._compiled).encode()
        prepared = _Prepared(connection.driver_connection, self._name, sql)
        connection.info[self] = prepared
        return prepared

    def _away(self, error: Exception, *, cut: bool = False) -> OperationalError:
        return OperationalError(str(self._compiled), None, error, connection_invalidated=cut)


class ConnectionLost(psycopg.OperationalError):
    """The connection went away before the answer; the statement may have run."""


class _Pipeline:
    """A connection that an event loop sends a statement over, again and again, without waiting.

    In libpq's pipeline mode a statement need not wait for the answer to the one before it. Each is
    a transaction of its own, so an error is that statement's alone.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, name: bytes, sql: bytes) -> None:
        self.loop = loop
        self._name = name
        self._sql = sql
        self._connection: Any = None
        self._connecting: asyncio.Task[None] | None = None
        self._asked: deque[tuple[asyncio.Future[Any], float]] = deque()
        self._answer: Any = None
        self._is_writing = False

    async def ask(self, values: list[Any]) -> tuple[Any, ...] | None:
        """Run the statement and return its first row, or None.

        Raises what the driver raises, and ConnectionLost for a connection that is lost meanwhile.
        """
        if self._connection is None:
            if self._connecting is None:
                self._connecting = self.loop.create_task(self._connect())
            await asyncio.shield(self._connecting)
        return await self._send(values)

    def _send(self, values: list[Any]) -> asyncio.Future[tuple[Any, ...] | None]:
        answer: asyncio.Future[tuple[Any, ...] | None] = self.loop.create_future()
        given = self._transformer.dump_sequence(values, [PyFormat.TEXT] * len(values))
        if not self._asked:
            self.loop.call_later(WATCH_SECONDS, self._watch)
        self._asked.append((answer, time.monotonic()))
        try:
            self._pgconn.send_query_prepared(self._name, given)
            self._pgconn.pipeline_sync()
            self._flush()
        except psycopg.Error as error:
            self._cut(error)
        return answer

    async def _connect(self) -> None:
        """Connect and prepare in a thread, because both may take long."""
        try:
            connection = await self.loop.run_in_executor(None, self._open)
        finally:
            self._connecting = None
        self._connection = connection
        self._transformer = Transformer(connection)
        self._pgconn = connection.pgconn
        self._answer = None
        # libpq forgets the number when it finds the connection lost.
        self._socket = self._pgconn.socket
        self.loop.add_reader(self._socket, self._receive)

    def _open(self) -> Any:
        try:
            connection = self._prepared()
        except ConnectionLost:
            # A restarted server leaves a pool of dead connections behind.
            _reader().dispose()
            connection = self._prepared()
        connection.pgconn.nonblocking = 1
        connection.pgconn.enter_pipeline_mode()
        return connection

    def _prepared(self) -> Any:
        """Return a connection that knows the statement. Raises ConnectionLost for a dead one."""
        # Taken out of the pool, which knows how to connect, for good.
        pooled = _reader().raw_connection()
        connection: Any = pooled.driver_connection
        pooled.detach()
        prepared = connection.pgconn.prepare(self._name, self._sql)
        if prepared.status in WORKED:
            return connection
        is_dead = connection.closed
        connection.close()
        if is_dead:
            raise ConnectionLost(prepared.error_message.decode("utf-8", "replace"))
        raise error_from_result(prepared)

    def _flush(self) -> None:
        is_writing = bool(self._pgconn.flush())
        if is_writing == self._is_writing:
            return
        self._is_writing = is_writing
        if is_writing:
            self.loop.add_writer(self._socket, self._go_on_writing)
        else:
            self.loop.remove_writer(self._socket)

    def _go_on_writing(self) -> None:
        try:
            self._flush()
        except psycopg.Error as error:
            self._cut(error)

    def _receive(self) -> None:
        try:
            self._pgconn.consume_input()
            while self._asked and not self._pgconn.is_busy():
                result = self._pgconn.get_result()
                if self._pgconn.status == pq.ConnStatus.BAD:
                    break
                if result is None:
                    continue
                if result.status == pq.ExecStatus.PIPELINE_SYNC:
                    answer, _ = self._asked.popleft()
                    self._hand_over(answer)
                elif result.status in FAILED or self._answer is None:
                    self._answer = result
        except psycopg.Error as error:
            self._cut(error)
            return
        if self._pgconn.status == pq.ConnStatus.BAD:
            self._cut(psycopg.OperationalError("the connection is closed"))

    def _hand_over(self, answer: asyncio.Future[Any]) -> None:
        result, self._answer = self._answer, None
        if answer.done():
            return
        if result.status in WORKED:
            self._transformer.set_pgresult(result)
            answer.set_result(self._transformer.load_row(0, tuple) if result.ntuples else None)
            return
        error = error_from_result(result)
        answer.set_exception(error)
        if isinstance(error, OUTDATED):
            self._cut(error)

    def _watch(self) -> None:
        """Give up a server that does not answer, which no timeout of its own can do."""
        if not self._asked:
            return
        waited = time.monotonic() - self._asked[0][1]
        if waited > get_settings(StorageSettings).statement_timeout_seconds + WATCH_SECONDS:
            self._cut(psycopg.OperationalError("the database does not answer"), is_hanging=True)
        else:
            self.loop.call_later(WATCH_SECONDS, self._watch)

    def _cut(self, cause: Exception, *, is_hanging: bool = False) -> None:
        """Let go of the connection; whoever waits for an answer may ask again, on another."""
        connection, self._connection = self._connection, None
        if connection is not None:
            self.loop.remove_reader(self._socket)
            if self._is_writing:
                self.loop.remove_writer(self._socket)
                self._is_writing = False
            connection.close()
        asked, self._asked = self._asked, deque()
        kind = psycopg.OperationalError if is_hanging else ConnectionLost
        for answer, _ in asked:
            if not answer.done():
                answer.set_exception(kind(str(cause)))


def _reader() -> Engine:
    """Return the pool of connections in autocommit, apart from those of the sessions."""
    settings = get_settings(StorageSettings)
    if settings.database_url not in _readers:
        engine = create_engine(
            settings.database_url,
            isolation_level="AUTOCOMMIT",
            pool_reset_on_return=None,
            **settings.engine_options() | {"pool_size": CONNECTIONS, "max_overflow": 0},
        )
        guard(engine)
        _readers[settings.database_url] = engine
    return _readers[settings.database_url]
