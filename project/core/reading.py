"""The fastest way to the database: a statement compiled once, on a connection in autocommit."""

from functools import cached_property
from typing import Any

import psycopg
from sqlalchemy import Compiled, Engine, Executable, create_engine
from sqlalchemy.exc import OperationalError

from project.config import get_settings
from project.extensions import ping_after_idling

_readers: dict[str, Engine] = {}


class PreparedQuery:
    """A statement for a route that is asked thousands of times a second.

    Neither session nor ORM stand between; it sees what is committed, and what it writes is
    committed when it returns. It may run twice when a connection breaks, so it must be one that
    changes nothing then. Elsewhere, use the session.
    """

    def __init__(self, statement: Executable) -> None:
        self._statement: Any = statement

    @cached_property
    def _compiled(self) -> Compiled:
        compiled: Compiled = self._statement.compile(dialect=_reader().dialect)
        return compiled

    @cached_property
    def _sql(self) -> str:
        return str(self._compiled)

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
            raise OperationalError(self._sql, None, error) from error
        driver: Any = connection.driver_connection
        try:
            row: tuple[Any, ...] | None = driver.execute(
                self._sql, self._constants | parameters
            ).fetchone()
            return row
        except (psycopg.OperationalError, psycopg.InterfaceError) as error:
            cut = driver.broken or driver.closed
            connection.invalidate(error)
            raise OperationalError(self._sql, None, error, connection_invalidated=cut) from error
        finally:
            connection.close()


def _reader() -> Engine:
    """Return the pool of connections in autocommit, apart from those of the sessions."""
    settings = get_settings()
    if settings.database_url not in _readers:
        engine = create_engine(
            settings.database_url,
            isolation_level="AUTOCOMMIT",
            pool_reset_on_return=None,
            **settings.engine_options(),
        )
        ping_after_idling(engine)
        _readers[settings.database_url] = engine
    return _readers[settings.database_url]
