"""Reading much: one moment's state of the database, row by row, in the memory of a few rows."""

from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import Any

from flask import Response
from sqlalchemy import Connection, Engine, Row, Select, text

ROWS_AT_ONCE = 2000


@contextmanager
def snapshot(engine: Engine) -> Iterator[Connection]:
    """Read in one read-only transaction that sees a single moment, on a connection of its own.

    The engine is given, because a thread has no application context and a stream outlives it.
    """
    with engine.connect() as connection:
        connection = connection.execution_options(
            isolation_level="REPEATABLE READ", postgresql_readonly=True
        )
        # The first statement fixes the moment, and finds out whether the server is still there.
        connection.execute(text("SELECT 1"))
        yield connection


def in_batches(
    connection: Connection, statement: Select[*tuple[Any, ...]], *, size: int = ROWS_AT_ONCE
) -> Iterator[Sequence[Row[*tuple[Any, ...]]]]:
    """Read the rows through a cursor of the server, so many at once."""
    options = {"stream_results": True, "yield_per": size}
    with connection.execute(statement, execution_options=options) as result:
        yield from result.partitions()


def streamed(
    chunks: Generator[bytes, None, None], *, mimetype: str, filename: str | None = None
) -> Response:
    """Answer with the chunks as they are made; trouble before the first one is still a problem."""
    first = next(chunks, b"")
    response = Response(chain([first], chunks), mimetype=mimetype)
    response.call_on_close(chunks.close)
    response.headers["Cache-Control"] = "no-store"
    if filename is not None:
        response.headers.set("Content-Disposition", "attachment", filename=filename)
    return response
