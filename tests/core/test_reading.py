"""A statement prepared once a connection: what it returns, and what it outlives."""

import asyncio
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from flask import Flask
from psycopg.errors import DivisionByZero
from sqlalchemy import Boolean, DateTime, Integer, String, Uuid, bindparam, literal_column, select
from sqlalchemy import cast as as_type
from sqlalchemy import text as raw

from project.core.fast_path import reading
from project.core.fast_path.reading import ConnectionLost, PreparedQuery
from project.extensions import db

VALUES = {
    "whole": 70_000,
    "text": "O'Brien % :x $1",
    "truth": True,
    "moment": datetime(2026, 3, 1, 12, tzinfo=UTC),
    "id": UUID(int=7),
    "nothing": None,
}
KINDS = {
    "whole": Integer,
    "text": String,
    "truth": Boolean,
    "moment": DateTime(timezone=True),
    "id": Uuid,
    "nothing": String,
}


def test_what_is_given_comes_back_as_it_was(app: Flask) -> None:
    columns = [as_type(bindparam(name), kind).label(name) for name, kind in KINDS.items()]
    query = PreparedQuery(select(*columns))

    for whole in (1, 70_000, -5):
        given = VALUES | {"whole": whole}
        assert query.one(given) == tuple(given.values())


def test_no_row_is_none(app: Flask) -> None:
    assert PreparedQuery(select(literal_column("1")).where(raw("false"))).one({}) is None


def test_a_statement_that_fails_says_why_and_the_next_one_works(app: Flask) -> None:
    query = PreparedQuery(select(literal_column("1") / bindparam("by", type_=Integer)))

    with pytest.raises(DivisionByZero):
        query.one({"by": 0})
    assert query.one({"by": 1}) == (1,)


def test_a_table_that_was_changed_meanwhile_is_read_as_it_is_now(app: Flask) -> None:
    with db.engine.begin() as connection:
        connection.execute(raw("CREATE TABLE changing AS SELECT 1 AS a"))
    try:
        query = PreparedQuery(select(literal_column("*")).select_from(raw("changing")))
        assert query.one({}) == (1,)

        with db.engine.begin() as connection:
            connection.execute(raw("ALTER TABLE changing ADD COLUMN b text DEFAULT 'new'"))

        assert query.one({}) == (1, "new")
    finally:
        with db.engine.begin() as connection:
            connection.execute(raw("DROP TABLE changing"))


def test_a_connection_that_was_cut_is_not_noticed(
    app: Flask, cut_connections: Callable[[], None]
) -> None:
    query = PreparedQuery(select(literal_column("1")))
    assert query.one({}) == (1,)

    cut_connections()

    assert query.one({}) == (1,)


def test_a_process_takes_few_connections_however_many_threads_ask(app: Flask) -> None:
    reading._reader().dispose()
    query = PreparedQuery(select(literal_column("count(*) FROM pg_sleep(0.02)")))
    answers = []
    threads = [threading.Thread(target=lambda: answers.append(query.one({}))) for _ in range(12)]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert answers == [(1,)] * 12
    assert reading._reader().pool.checkedin() == reading.CONNECTIONS


def read_on_a_loop_of_its_own(query: PreparedQuery) -> tuple[Any, ...] | None:
    async def read() -> tuple[Any, ...] | None:
        try:
            return await query.read({})
        finally:
            if query._pipeline is not None:
                query._pipeline._cut(ConnectionLost("the test is over"))

    return asyncio.run(read())


def test_threads_and_the_loop_may_prepare_a_statement_on_the_same_connections(app: Flask) -> None:
    reading._reader().dispose()
    query = PreparedQuery(select(literal_column("42")))
    assert query.one({}) == (42,)

    assert read_on_a_loop_of_its_own(query) == (42,)


def test_a_loop_that_finds_only_cut_connections_makes_a_new_one(
    app: Flask, cut_connections: Callable[[], None]
) -> None:
    query = PreparedQuery(select(literal_column("43")))
    assert query.one({}) == (43,)

    cut_connections()

    assert read_on_a_loop_of_its_own(query) == (43,)
