"""Many values in one statement come out as they went in."""

import pytest
from flask import Flask
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg.errors import UniqueViolation
from sqlalchemy import Column, MetaData, Table, Text, select, text

from project.core.db import bulk
from project.core.db.models import ApiKey
from project.core.db.rows import table_of
from project.core.db.transaction import transaction
from project.extensions import db

TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=5)
keys = table_of(ApiKey)


def row(name: str, key_hash: bytes) -> tuple[str, str, bytes, list[str]]:
    return name, "pk", key_hash, ["read"]


@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(texts=st.lists(TEXTS | st.sampled_from(["", "\x1f", "a\x1fb", "NULL", ",", "{}", "\\"])))
def test_an_array_of_any_texts(app: Flask, texts: list[str]) -> None:
    with transaction(read_only=True):
        assert db.session.scalar(select(bulk.text_array(texts))) == texts


@settings(
    max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(numbers=st.lists(st.integers(-(2**63), 2**63 - 1)))
def test_an_array_of_any_numbers(app: Flask, numbers: list[int]) -> None:
    with transaction(read_only=True):
        assert db.session.scalar(select(bulk.integer_array(numbers))) == numbers


def test_rows_are_copied_in_the_callers_transaction(app: Flask) -> None:
    names = ("name", "prefix", "key_hash", "scopes")
    with transaction():
        bulk.copy_rows(keys, names, [row("a\tb\\N\n", b"1"), row("", b"\x00\xff")])
    with pytest.raises(UniqueViolation), transaction():
        bulk.copy_rows(keys, names, [row("c", b"3"), row("d", b"1")])

    with transaction(read_only=True):
        found = db.session.execute(select(ApiKey.name, ApiKey.key_hash).order_by(ApiKey.id)).all()
    assert [tuple(one) for one in found] == [("a\tb\\N\n", b"1"), ("", b"\x00\xff")]


def test_an_insert_tells_how_many_rows_came(app: Flask) -> None:
    rows = [{"name": name, "url": name} for name in ("a", "b")]
    made = Table("counted", MetaData(), Column("name", Text, unique=True), Column("url", Text))
    with transaction() as session:
        session.execute(
            text("CREATE TEMPORARY TABLE counted (name text UNIQUE, url text) ON COMMIT DROP")
        )
        assert bulk.insert_rows(made, rows[:1]) == 1
        assert bulk.insert_rows(made, rows, skip_conflicts=True) == 1
        assert bulk.insert_rows(made, rows, skip_conflicts=True) == 0
