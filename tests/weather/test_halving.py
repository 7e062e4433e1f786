"""Chunks that cannot be written whole: halved, down to the one row that is to blame."""

from collections.abc import Callable, Iterator

import pytest
from flask import Flask
from sqlalchemy import Connection, event, text

from project.core.db.transaction import transaction
from project.extensions import db
from project.weather.imports import runner
from project.weather.imports.runner import NOT_TAKEN, TOO_LATE
from project.weather.models import TaskError
from tests.conftest import ChangeSettings
from tests.time_machine import Clock
from tests.weather.world import FORECASTS, Operator, counts, lines

ROWS = 23
CONTENT = lines(FORECASTS, *(f"{gid},{gid},{gid},Fog,Frost" for gid in range(1, ROWS + 1)))
Obstruct = Callable[[str], None]
CANCELED = "RAISE EXCEPTION 'late' USING ERRCODE = 'query_canceled';"


@pytest.fixture
def obstruct(app: Flask) -> Iterator[Obstruct]:
    """Have each statement that makes forecasts run some PL/pgSQL over its rows, `made`."""

    def by(body: str) -> None:
        with transaction():
            db.session.execute(
                text(
                    "CREATE FUNCTION obstruct() RETURNS trigger LANGUAGE plpgsql AS"
                    f" $$ BEGIN {body} RETURN NULL; END $$"
                )
            )
            db.session.execute(
                text(
                    "CREATE TRIGGER obstruct AFTER INSERT ON forecasts"
                    " REFERENCING NEW TABLE AS made FOR EACH STATEMENT EXECUTE FUNCTION obstruct()"
                )
            )

    yield by
    with transaction():
        db.session.execute(text("DROP FUNCTION IF EXISTS obstruct CASCADE"))


@pytest.fixture
def two_seconds(app: Flask) -> Iterator[None]:
    """Give each statement two seconds."""

    def limit(connection: Connection) -> None:
        connection.exec_driver_sql("SET LOCAL statement_timeout = '2s'")

    event.listen(db.engine, "begin", limit)
    yield
    event.remove(db.engine, "begin", limit)


def made(desk: Operator) -> set[int]:
    listed = desk.client.get("/api/forecasts?limit=100").json["data"]
    return {forecast["gid"] for forecast in listed}


def reasons(task_id: str) -> list[tuple[int, str]]:
    with transaction(read_only=True) as session:
        found = session.execute(db.select(TaskError).order_by(TaskError.row)).scalars()
        return [(one.row, one.reason) for one in found if str(one.task_id) == task_id]


@pytest.mark.usefixtures("two_seconds")
def test_a_chunk_for_which_the_time_is_too_short_is_halved(
    desk: Operator, obstruct: Obstruct
) -> None:
    obstruct("IF (SELECT count(*) FROM made) > 12 THEN PERFORM pg_sleep(60); END IF;")

    task = desk.imported("forecasts", CONTENT)

    assert (task["state"], counts(task)) == ("success", (ROWS, 0, 0, 0))
    assert made(desk) == set(range(1, ROWS + 1))


def test_a_chunk_is_halved_down_to_one_row_and_later_ones_are_whole_again(
    desk: Operator, obstruct: Obstruct, change_settings: ChangeSettings
) -> None:
    change_settings(import_chunk_rows=4)
    obstruct(
        "IF (SELECT count(*) FROM made WHERE gid < 5) > 1"
        f" OR (SELECT count(*) FROM forecasts) > 4 AND (SELECT count(*) FROM made) = 1"
        f" THEN {CANCELED} END IF;"
    )

    task = desk.imported("forecasts", CONTENT)

    assert (task["state"], counts(task)) == ("success", (ROWS, 0, 0, 0))


@pytest.mark.parametrize("bad", [{1}, {ROWS}, {7, 8, 19}, set(range(2, ROWS + 1))])
@pytest.mark.parametrize("error", ["check_violation", "numeric_value_out_of_range"])
def test_a_row_that_the_database_refuses_is_a_bad_row_of_its_own(
    desk: Operator, obstruct: Obstruct, bad: set[int], error: str
) -> None:
    listed = ", ".join(map(str, bad))
    obstruct(
        f"IF EXISTS (SELECT FROM made WHERE gid IN ({listed}))"
        f" THEN RAISE EXCEPTION 'no' USING ERRCODE = '{error}'; END IF;"
    )

    task = desk.imported("forecasts", CONTENT)

    assert counts(task) == (ROWS - len(bad), 0, 0, len(bad))
    assert (task["state"], task["done"]) == ("success", ROWS)
    assert made(desk) == set(range(1, ROWS + 1)) - bad
    assert reasons(task["id"]) == [(gid + 1, NOT_TAKEN) for gid in sorted(bad)]


def test_a_row_for_which_there_is_never_time_is_a_bad_row_after_all_tries(
    desk: Operator, obstruct: Obstruct, clock: Clock, change_settings: ChangeSettings
) -> None:
    change_settings(task_max_retries=2)
    obstruct(f"IF EXISTS (SELECT FROM made WHERE gid = 9) THEN {CANCELED} END IF;")

    task = desk.imported("forecasts", CONTENT)
    assert (task["state"], task["done"], task["failed"]) == ("started", 8, 0)
    for _ in range(3):
        clock.advance(hours=1)
        runner.run()

    task = desk.task(task["id"])
    assert (task["state"], counts(task)) == ("success", (ROWS - 1, 0, 0, 1))
    assert made(desk) == set(range(1, ROWS + 1)) - {9}
    assert reasons(task["id"]) == [(10, TOO_LATE)]


def test_what_follows_a_half_is_read_where_the_half_ends_whatever_blank_rows_there_are(
    desk: Operator, obstruct: Obstruct, clock: Clock
) -> None:
    rows = [f"{gid},{gid},{gid},Fog,Frost" for gid in range(1, 7)]
    blank = ",,,,"
    content = lines(FORECASTS, blank, rows[0], blank, *rows[1:], blank, blank)
    obstruct(
        f"IF (SELECT count(*) FROM made) > 3 THEN {CANCELED} END IF;"
        " IF EXISTS (SELECT FROM made WHERE gid = 4)"
        " THEN RAISE EXCEPTION 'no' USING ERRCODE = 'out_of_memory'; END IF;"
    )

    task = desk.imported("forecasts", content)
    assert (task["state"], task["done"], task["blank"]) == ("started", 3, 2)
    with transaction():
        db.session.execute(text("DROP FUNCTION obstruct CASCADE"))
    clock.advance(hours=1)
    runner.run()

    task = desk.task(task["id"])
    assert (task["state"], counts(task)) == ("success", (6, 0, 0, 0))
    assert (task["total"], task["blank"]) == (6, 4)
    assert made(desk) == set(range(1, 7))
