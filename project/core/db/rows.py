"""Rows as the database has them at this moment, and the tables that they are in."""

from typing import Any, TypeVar

from sqlalchemy import Executable, Table
from sqlalchemy.orm import DeclarativeBase

from project.extensions import db

Row = TypeVar("Row", bound=DeclarativeBase)
Statement = TypeVar("Statement", bound=Executable)


def table_of(model: type[DeclarativeBase]) -> Table:
    """Return the table of a model, for statements that the ORM does not need to know of."""
    table = model.__table__
    assert isinstance(table, Table)
    return table


def current(statement: Statement) -> Statement:
    """Have a statement load every row anew.

    A session outlives its transactions, and knows nothing of what a statement of its own or
    another process has changed since it read a row.
    """
    return statement.execution_options(populate_existing=True)


def get_current(model: type[Row], key: Any, *, lock: bool = False) -> Row | None:
    """Return the row of this key as it is now, None if there is none; locked where that is asked.

    Changes of it that were not flushed are lost.
    """
    return db.session.get(model, key, populate_existing=True, with_for_update=lock)
