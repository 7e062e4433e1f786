"""A Postgres that hangs costs each caller a set time: an error comes, and nobody waits for ever."""

import os
import signal
import time
from collections.abc import Callable, Iterator

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import create_engine, select, text
from sqlalchemy.exc import OperationalError

from project.config.environment import get_settings
from project.config.kernel import StorageSettings
from project.core.clock import read_offset
from project.core.fast_path.reading import PreparedQuery
from project.extensions import PATIENCE_BEYOND_SECONDS, db, guard, wait_as_long_as_it_takes
from tests.conftest import ChangeSettings
from tests.processes import family, parent_of

STATEMENT_SECONDS = 1
CONNECT_SECONDS = 2
# What a machine that is busy with other tests may take on top.
BUSY_SECONDS = 4
Freeze = Callable[[], None]


@pytest.fixture
def freeze(app: Flask) -> Iterator[Freeze]:
    """Stop every process of Postgres where it is; connections stay open and say nothing."""
    with db.engine.begin() as connection:
        found = connection.execute(text("SELECT pg_backend_pid()")).scalar_one()
    stopped: list[int] = []

    def stop() -> None:
        stopped.extend(family(parent_of(found)))
        for pid in stopped:
            os.kill(pid, signal.SIGSTOP)

    yield stop
    for pid in stopped:
        os.kill(pid, signal.SIGCONT)
    db.session.rollback()
    db.engine.dispose()


@pytest.fixture
def short_patience(change_settings: ChangeSettings) -> None:
    """Settings under which a test of them takes seconds."""
    change_settings(
        statement_timeout_seconds=STATEMENT_SECONDS,
        database_connect_timeout_seconds=CONNECT_SECONDS,
    )


@pytest.mark.usefixtures("short_patience")
def test_a_statement_of_a_session_ends_soon_after_postgres_should_have_ended_it(
    freeze: Freeze,
) -> None:
    settings = get_settings(StorageSettings)
    engine = create_engine(settings.database_url, **settings.engine_options())
    guard(engine)
    with engine.connect() as connection:
        connection.execute(text("SELECT 1"))
        freeze()
        began = time.monotonic()
        with pytest.raises(OperationalError) as failed:
            connection.execute(text("SELECT 2"))
    took = time.monotonic() - began

    assert STATEMENT_SECONDS < took < STATEMENT_SECONDS + PATIENCE_BEYOND_SECONDS + BUSY_SECONDS
    assert failed.value.connection_invalidated
    engine.dispose()


@pytest.mark.usefixtures("short_patience")
def test_so_does_a_statement_that_was_prepared(
    freeze: Freeze, change_settings: ChangeSettings
) -> None:
    usual = get_settings(StorageSettings).database_url
    query = PreparedQuery(select(text("1")))
    change_settings(database_url=f"{usual}&application_name=hangs")
    assert query.one({}) == (1,)
    freeze()
    began = time.monotonic()

    with pytest.raises(OperationalError):
        query.one({})

    limit = STATEMENT_SECONDS + PATIENCE_BEYOND_SECONDS + 2 * CONNECT_SECONDS
    assert time.monotonic() - began < limit + BUSY_SECONDS


@pytest.mark.usefixtures("short_patience")
def test_who_waits_on_purpose_may_wait(app: Flask) -> None:
    settings = get_settings(StorageSettings)
    engine = create_engine(settings.database_url, **settings.engine_options())
    guard(engine)
    with engine.connect() as connection:
        wait_as_long_as_it_takes(connection)
        connection.execute(text("SET statement_timeout = 0"))
        seconds = STATEMENT_SECONDS + PATIENCE_BEYOND_SECONDS + 0.5
        assert connection.execute(text(f"SELECT 1 FROM pg_sleep({seconds})")).scalar_one() == 1
    engine.dispose()


def test_requests_are_answered_503_in_a_set_time_and_life_is_told_at_once(
    freeze: Freeze, client: FlaskClient
) -> None:
    assert client.get("/api/health/ready").status_code == 200
    time.sleep(1.1)
    freeze()
    began = time.monotonic()

    assert client.get("/api/health/live").status_code == 200
    assert time.monotonic() - began < STATEMENT_SECONDS + PATIENCE_BEYOND_SECONDS
    assert client.get("/api/health/ready").status_code == 503
    limit = get_settings(StorageSettings).statement_timeout_seconds + PATIENCE_BEYOND_SECONDS
    assert time.monotonic() - began < limit + BUSY_SECONDS


def test_the_clock_is_read_again_when_postgres_is_back(
    app: Flask, cut_connections: Callable[[], None]
) -> None:
    read_offset()
    cut_connections()

    assert read_offset().total_seconds() == 0
