"""Many rows in one statement: arrays go over, `unnest` makes them rows again."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import ARRAY, Table, Text, cast, column, func, literal, select
from sqlalchemy.dialects.postgresql import JSONB, insert
from sqlalchemy.sql.selectable import TableValuedAlias
from sqlalchemy.types import TypeEngine

from project.extensions import db


def rows_of(columns: Mapping[str, tuple[TypeEngine[Any], Sequence[Any]]]) -> TableValuedAlias:
    """Return a table of the given columns: {name: (type, values)}, all of one length."""
    arrays = [literal(list(values), ARRAY(type_)) for type_, values in columns.values()]
    names = [column(name, type_) for name, (type_, _) in columns.items()]
    return func.unnest(*arrays).table_valued(*names).render_derived()


def insert_rows(
    table: Table, rows: Sequence[Mapping[str, Any]], *, skip_conflicts: bool = False
) -> None:
    """Insert rows that all have the same columns; JSONB columns take their text."""
    if not rows:
        return
    names = list(rows[0])
    columns = {name: (_sent_as(table, name), [row[name] for row in rows]) for name in names}
    source = rows_of(columns)
    selected = [cast(source.c[name], table.c[name].type) for name in names]
    statement = insert(table).from_select(names, select(*selected))
    if skip_conflicts:
        statement = statement.on_conflict_do_nothing()
    db.session.execute(statement)


def _sent_as(table: Table, name: str) -> TypeEngine[Any]:
    type_ = table.c[name].type
    return Text() if isinstance(type_, JSONB) else type_
