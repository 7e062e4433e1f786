"""The fastest way to the database: a statement prepared once a connection, in autocommit."""

from functools import cached_property
from typing import Any

import psycopg
from psycopg import pq
from psycopg.adapt import PyFormat, Transformer
from psycopg.errors import FeatureNotSupported, InvalidSqlStatementName, error_from_result
from sqlalchemy import Compiled, Engine, Executable, create_engine
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.exc import OperationalError

from project.config import get_settings
from project.extensions import ping_after_idling

CONNECTIONS = 3
"""A process has so many. Each thread that comes back from the database wants the interpreter, and
sixteen that fight for it get half as much done as three that the others wait for."""
WORKED = (pq.ExecStatus.TUPLES_OK, pq.ExecStatus.COMMAND_OK)
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
        result = self._checked(self._connection.pgconn.exec_prepared(self._name, given))
        self._transformer.set_pgresult(result)
        return self._transformer.load_row(0, tuple) if result.ntuples else None

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

    def one(self, parameters: dict[str, Any]) -> tuple[Any, ...] | None:
        """Return the first row, or None. Raises OperationalError if the database is away."""
        try:
            return self._first_row(parameters)
        except OperationalError as error:
            if not error.connection_invalidated:
                raise
            # A restarted server leaves a pool of dead connections behind.
            _reader().dispose()
            return self._first_row(parameters)

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


def _reader() -> Engine:
    """Return the pool of connections in autocommit, apart from those of the sessions."""
    settings = get_settings()
    if settings.database_url not in _readers:
        engine = create_engine(
            settings.database_url,
            isolation_level="AUTOCOMMIT",
            pool_reset_on_return=None,
            **settings.engine_options() | {"pool_size": CONNECTIONS, "max_overflow": 0},
        )
        ping_after_idling(engine)
        _readers[settings.database_url] = engine
    return _readers[settings.database_url]
