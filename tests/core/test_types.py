"""A column of an enum takes and gives its members, in whatever way rows are read and written."""

from collections.abc import Iterator
from enum import StrEnum
from typing import Any

import pytest
from alembic.autogenerate import render_python_code
from alembic.operations.ops import CreateTableOp, UpgradeOps
from flask import Flask
from sqlalchemy import (
    CheckConstraint,
    Column,
    Integer,
    MetaData,
    Table,
    case,
    func,
    insert,
    literal,
    select,
    text,
    update,
)
from sqlalchemy.exc import IntegrityError, StatementError
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from project.core.db import bulk
from project.core.db.rows import table_of
from project.core.db.transaction import transaction
from project.core.db.types import StringEnum, one_of, render_type
from project.core.fast_path.reading import PreparedQuery
from project.extensions import db


class Light(StrEnum):
    RED = "red"
    AMBER = "amber"
    GREEN = "green"


class Paint(StrEnum):
    RED = "red"


class Base(DeclarativeBase):
    metadata = MetaData()


class Signal(Base):
    __tablename__ = "signals_of_a_test"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    light: Mapped[Light] = mapped_column(StringEnum(Light))
    next_light: Mapped[Light | None] = mapped_column(StringEnum(Light))

    __table_args__ = (CheckConstraint(one_of("light", Light), name="light"),)


signals = table_of(Signal)


@pytest.fixture(autouse=True)
def table(app: Flask) -> Iterator[Table]:
    with transaction():
        signals.create(db.session.connection())
        db.session.execute(
            insert(signals),
            [
                {"id": 1, "light": Light.RED, "next_light": Light.AMBER},
                {"id": 2, "light": Light.GREEN, "next_light": None},
            ],
        )
    yield signals
    db.session.rollback()
    with transaction():
        signals.drop(db.session.connection())


def all_of(statement: Any) -> list[tuple[Any, ...]]:
    with transaction():
        return [tuple(row) for row in db.session.execute(statement)]


def written_by_another_version() -> None:
    with transaction():
        db.session.execute(text("ALTER TABLE signals_of_a_test DROP CONSTRAINT light"))
        db.session.execute(text("INSERT INTO signals_of_a_test VALUES (3, 'violet', 'red')"))


def test_rows_hold_members() -> None:
    rows = all_of(select(signals.c.light, signals.c.next_light).order_by(signals.c.id))

    assert rows == [(Light.RED, Light.AMBER), (Light.GREEN, None)]
    assert {type(value) for row in rows for value in row} == {Light, type(None)}
    with transaction():
        assert db.session.get_one(Signal, 1).light is Light.RED


@pytest.mark.parametrize(
    ("condition", "ids"),
    [
        (signals.c.light == Light.RED, [1]),
        (signals.c.light != Light.RED, [2]),
        (Signal.light == "green", [2]),
        (signals.c.light.in_({Light.RED, Light.AMBER}), [1]),
        (signals.c.light.not_in([Light.RED]), [2]),
        (signals.c.light.in_([]), []),
        (signals.c.next_light.is_(None), [2]),
        (signals.c.next_light.is_distinct_from(Light.AMBER), [2]),
        (signals.c.light < signals.c.next_light, []),
        (signals.c.light.like("gr%"), [2]),
        (func.coalesce(signals.c.next_light, Light.GREEN) == Light.GREEN, [2]),
    ],
    ids=str,
)
def test_rows_are_found_by_members(condition: Any, ids: list[int]) -> None:
    assert all_of(select(signals.c.id).where(condition).order_by(signals.c.id)) == [
        (number,) for number in ids
    ]


@pytest.mark.parametrize("foreign", ["violet", "RED", "", Paint.RED, 3, b"red"])
def test_what_is_not_a_member_is_refused_before_it_is_sent(foreign: Any) -> None:
    statements = (
        select(signals).where(signals.c.light == foreign),
        select(signals).where(signals.c.light.in_([Light.RED, foreign])),
        update(signals).values(light=foreign),
        update(Signal).values(next_light=foreign),
    )
    for statement in statements:
        with pytest.raises(StatementError, match="is not a Light"), transaction():
            db.session.execute(statement)
    with pytest.raises(StatementError, match="is not a Light"), transaction():
        bulk.insert_rows(signals, [{"id": 3, "light": foreign}])
    with pytest.raises(ValueError, match="is not a Light"), transaction():
        bulk.copy_rows(signals, ["id", "light"], [(3, foreign)])
    assert all_of(select(func.count()).select_from(signals)) == [(2,)]


def test_many_rows_go_over_at_once() -> None:
    with transaction():
        bulk.insert_rows(signals, [{"id": 3, "light": Light.AMBER}, {"id": 4, "light": Light.RED}])
        bulk.copy_rows(signals, ["id", "light", "next_light"], [(5, Light.GREEN, None)])
        new = bulk.rows_of(
            {"id": (Integer(), [3, 5]), "light": (StringEnum(Light), [Light.GREEN, Light.RED])}
        )
        changed = db.session.execute(
            update(signals)
            .where(signals.c.id == new.c.id)
            .values(light=new.c.light)
            .returning(signals.c.id, signals.c.light, new.c.light)
        ).all()

    assert sorted(map(tuple, changed)) == [
        (3, Light.GREEN, Light.GREEN),
        (5, Light.RED, Light.RED),
    ]
    assert all(type(value) is Light for row in changed for value in row[1:])
    assert all_of(select(signals.c.light).order_by(signals.c.id))[2:] == [
        (Light.GREEN,),
        (Light.RED,),
        (Light.RED,),
    ]


def test_an_expression_of_a_column_gives_members_too() -> None:
    shown = case(
        (signals.c.id == 1, literal(Light.AMBER, StringEnum(Light))), else_=signals.c.light
    )

    assert [type(row[0]) for row in all_of(select(shown))] == [Light, Light]


def test_a_prepared_query_gives_members_too() -> None:
    query = PreparedQuery(select(signals.c.id, signals.c.light).where(signals.c.light == Light.RED))

    row = query.one({})
    assert row == (1, Light.RED)
    assert type(row[1]) is Light


def test_the_database_refuses_what_is_sent_past_the_type() -> None:
    with pytest.raises(IntegrityError), transaction():
        db.session.execute(text("UPDATE signals_of_a_test SET light = 'violet'"))


def test_a_text_of_another_version_is_shown_kept_and_equals_none_of_ours() -> None:
    written_by_another_version()
    with transaction():
        newer = db.session.get_one(Signal, 3)
        assert f"{newer.light}" == newer.light.value == newer.light.name == "violet"
        assert newer.light not in set(Light)
        newer.next_light = newer.light

    assert all_of(select(signals.c.next_light).where(signals.c.id == 3)) == [("violet",)]
    found = select(signals.c.id).where(signals.c.light == newer.light)
    assert all_of(found) == [(3,)]


def test_a_condition_is_written_in_the_order_of_the_enum() -> None:
    assert one_of("light", Light) == "light IN ('red', 'amber', 'green')"
    assert one_of("light", {Light.GREEN, Light.RED}) == "light IN ('red', 'green')"
    assert one_of("light", [Light.AMBER]) == "light = 'amber'"


def test_a_migration_calls_the_column_a_text() -> None:
    made = CreateTableOp("signals", [Column("light", StringEnum(Light), nullable=False)])

    written = render_python_code(UpgradeOps([made]), render_item=render_type)
    assert "sa.Column('light', sa.Text(), nullable=False)" in written
