"""Snapshots: one moment, read in batches, and nothing is ever written."""

from collections.abc import Generator

import pytest
from sqlalchemy import func, select, text
from sqlalchemy.exc import InternalError

from project.core.db.snapshot import in_batches, snapshot, streamed
from project.extensions import db
from tests.core.things import Things, table


def test_what_is_committed_meanwhile_is_not_seen(things: Things) -> None:
    things.add("before")
    with snapshot(db.engine) as connection:
        things.add("meanwhile")
        assert connection.scalar(select(func.count()).select_from(table)) == 1
    with snapshot(db.engine) as connection:
        assert connection.scalar(select(func.count()).select_from(table)) == 2


def test_nothing_can_be_written(things: Things) -> None:
    with snapshot(db.engine) as connection, pytest.raises(InternalError, match="read-only"):
        connection.execute(text("DELETE FROM things_of_tests"))


def test_a_connection_that_read_a_snapshot_can_write_afterwards(things: Things) -> None:
    for _ in range(3):
        with snapshot(db.engine):
            pass
    things.add("after")
    assert things.names_with(None) == ["after"]


def test_rows_come_in_batches(things: Things) -> None:
    numbers = select(func.generate_series(1, 25).column_valued("n"))
    with snapshot(db.engine) as connection:
        batches = list(in_batches(connection, numbers, size=10))

    assert [len(batch) for batch in batches] == [10, 10, 5]
    assert [row[0] for batch in batches for row in batch] == list(range(1, 26))


def test_a_stream_that_is_left_is_closed(things: Things) -> None:
    ended = []

    def chunks() -> Generator[bytes, None, None]:
        try:
            yield b"first"
            yield b"second"
        finally:
            ended.append(True)

    response = streamed(chunks(), mimetype="text/plain")
    assert next(iter(response.response)) == b"first"
    response.close()
    assert ended == [True]


def test_trouble_before_the_first_chunk_is_raised_at_once() -> None:
    def chunks() -> Generator[bytes, None, None]:
        raise ValueError("broken")
        yield b""

    with pytest.raises(ValueError, match="broken"):
        streamed(chunks(), mimetype="text/plain")
