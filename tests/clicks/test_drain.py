"""The drain: every accepted click counts once, whatever breaks and however often it runs."""

import random
import threading
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import event, text
from sqlalchemy.exc import OperationalError

from project.clicks import dead_letters, jobs, partitions, queries, retention
from project.clicks.drain import Drained, drain_batch
from project.core import clock as product_clock
from project.core.db.transaction import transaction
from project.core.work import pump
from project.extensions import db
from tests.clicks.conftest import Sender, counted, drain, value
from tests.conftest import ChangeSettings
from tests.time_machine import Clock

# Past every check of the webhook: too long for an index, and it cannot be compressed.
UNSTORABLE = random.Random(1).randbytes(6000).hex()


class PulledPlug(Exception):
    """The worker is gone."""


def put(*clicks: tuple[Any, ...]) -> None:
    """Put rows of (click_id, offer_id, source, clicked_at) into the inbox, past all checks."""
    columns = [list(column) for column in zip(*clicks, strict=True)]
    with transaction():
        db.session.execute(
            text(
                "INSERT INTO click_inbox (click_ids, offer_ids, sources, clicked_at, signatures,"
                " size) VALUES (:ids, :offers, :sources, :moments, :signatures, :size)"
            ),
            {
                "ids": columns[0],
                "offers": columns[1],
                "sources": columns[2],
                "moments": columns[3],
                "signatures": [None] * len(clicks),
                "size": len(clicks),
            },
        )


@pytest.fixture
def noon(clock: Clock) -> datetime:
    """Noon of 10 March 2027, which is now."""
    moment = datetime(2027, 3, 10, 12, tzinfo=UTC)
    clock.set_to(moment)
    return moment


def test_clicks_are_summed_by_day_offer_and_source(app: Flask, noon: datetime) -> None:
    put(
        ("c-1", 1, "google", noon),
        ("c-2", 1, "google", noon),
        ("c-3", 1, "bing", noon),
        ("c-4", 2, "google", noon),
        ("c-5", 1, "google", noon - timedelta(hours=13)),
    )
    assert drain() == Drained(5, 5)
    assert counted() == [
        ("2027-03-09", 1, "google", 1),
        ("2027-03-10", 1, "bing", 1),
        ("2027-03-10", 1, "google", 2),
        ("2027-03-10", 2, "google", 1),
    ]
    assert value("SELECT string_agg(day || ' ' || clicks, ', ' ORDER BY day) FROM click_days") == (
        "2027-03-09 1, 2027-03-10 4"
    )


def test_known_clicks_are_found_by_index_though_the_table_was_empty_when_analyzed(
    app: Flask, noon: datetime
) -> None:
    with db.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("ANALYZE click_ids"))
    scans = text("SELECT seq_scan FROM pg_stat_xact_user_tables WHERE relname = 'click_ids'")
    for batch in range(8):
        put(*((f"c-{batch}-{number}", 1, "google", noon) for number in range(100)))
        put((f"c-{batch}-0", 1, "google", noon))
        with transaction():
            before = db.session.scalar(scans)
            assert drain_batch() == Drained(101, 100)
            assert db.session.scalar(scans) == before


def test_of_doubles_in_a_batch_the_first_counts(app: Flask, noon: datetime) -> None:
    put(("c-1", 1, "first", noon), ("c-1", 2, "second", noon))
    put(("c-1", 3, "third", noon))
    assert drain() == Drained(3, 1)
    assert counted() == [("2027-03-10", 1, "first", 1)]


def test_a_double_adds_nothing_to_its_day(app: Flask, noon: datetime) -> None:
    put(("c-1", 1, "google", noon))
    drain()
    version = value("SELECT version FROM click_days")
    put(("c-1", 1, "google", noon), ("c-1", 9, "bing", noon - timedelta(days=1)))
    assert drain() == Drained(2, 0)
    assert value("SELECT version FROM click_days") == version
    assert len(counted()) == 1


def test_a_batch_takes_whole_rows_up_to_its_size(
    app: Flask, noon: datetime, change_settings: ChangeSettings
) -> None:
    change_settings(clicks_batch_size=3)
    for row in range(4):
        put(*((f"c-{row}-{number}", 1, "google", noon) for number in range(2)))
    put(*((f"d-{number}", 1, "google", noon) for number in range(5)))
    taken = [drain_batch().taken for _ in range(6)]
    assert taken == [2, 2, 2, 2, 5, 0]


STATEMENTS = ("enable_nestloop", "SELECT id, size", "WITH gone", "RELEASE SAVEPOINT")


@pytest.mark.parametrize("statement", STATEMENTS)
@pytest.mark.parametrize("when", ["before_cursor_execute", "after_cursor_execute"])
def test_killed_between_any_two_statements_the_counts_are_right(
    app: Flask, noon: datetime, statement: str, when: str
) -> None:
    put(("c-1", 1, "google", noon), ("c-2", 1, "google", noon))

    def pull_plug(conn: Any, cursor: Any, said: str, *_: Any) -> None:
        if statement in said:
            # As a kill does: the connection is gone, without a rollback of ours.
            cursor.connection.close()
            raise PulledPlug

    event.listen(db.engine, when, pull_plug)
    try:
        with pytest.raises((PulledPlug, OperationalError)):
            drain_batch()
    finally:
        event.remove(db.engine, when, pull_plug)
        db.session.remove()
        db.engine.dispose()
    assert drain() == Drained(2, 2)
    assert counted() == [("2027-03-10", 1, "google", 2)]


def test_drains_at_once_double_nothing(app: Flask, noon: datetime) -> None:
    for row in range(40):
        put(*((f"c-{row}-{number}", number % 3, "google", noon) for number in range(1, 26)))
    totals: list[Drained] = []

    def work() -> None:
        with app.app_context():
            totals.append(drain())

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(total.new for total in totals) == 1000
    assert sum(row[3] for row in counted()) == 1000


def test_a_click_that_cannot_be_stored_is_put_aside_and_the_rest_counts(
    app: Flask, noon: datetime
) -> None:
    put(*((f"c-{number}", number, "google", noon) for number in range(1, 8)))
    put((UNSTORABLE, 99, "google", noon), ("c-8", 8, "google", noon))
    assert drain() == Drained(9, 8)
    assert [row[1] for row in counted()] == [1, 2, 3, 4, 5, 6, 7, 8]
    [dead] = dead_letters.dead_clicks(10)
    assert (dead.offer_id, dead.source) == (99, "google")
    assert "index row" in dead.reason


def test_what_was_put_aside_can_be_tried_again(app: Flask, noon: datetime) -> None:
    put((UNSTORABLE, 99, "google", noon))
    drain()
    with transaction():
        db.session.execute(text("UPDATE click_dead SET click_id = 'shorter'"))
        assert dead_letters.try_again(10) == 1
    assert drain() == Drained(1, 1)
    assert dead_letters.count_dead_clicks() == 0
    assert [row[1] for row in counted()] == [99]


def test_an_error_that_is_not_the_clicks_puts_none_aside(app: Flask, noon: datetime) -> None:
    put(("c-1", 1, "google", noon))
    with transaction():
        db.session.execute(text("ALTER TABLE clicks_daily RENAME TO elsewhere"))
    try:
        with pytest.raises(Exception, match="clicks_daily"):
            drain_batch()
    finally:
        db.session.rollback()
        with transaction():
            db.session.execute(text("ALTER TABLE elsewhere RENAME TO clicks_daily"))
    assert dead_letters.count_dead_clicks() == 0
    assert drain() == Drained(1, 1)


def test_a_month_that_is_missing_is_made_when_a_click_needs_it(app: Flask) -> None:
    moment = datetime(2031, 12, 31, 23, 59, tzinfo=UTC)
    put(("c-1", 1, "google", moment), ("c-2", 1, "google", moment + timedelta(minutes=2)))
    assert drain() == Drained(2, 2)
    with transaction():
        assert {date(2031, 12, 1), date(2032, 1, 1)} <= set(partitions.partitions())


def test_months_are_made_ahead(app: Flask, noon: datetime) -> None:
    jobs.make_partitions()
    with transaction():
        made = set(partitions.partitions())
    wanted = {date(2026, 12, 1), date(2027, 3, 1), date(2027, 6, 1)}
    assert wanted <= made
    assert jobs.make_partitions() == 0


def test_the_job_counts_all_and_wakes_nobody_when_it_is_through(app: Flask, sender: Sender) -> None:
    for number in range(5):
        sender.send(sender.click(f"c-{number}"))
    assert jobs.drain_clicks() == 5
    assert jobs.drain_clicks() == 0
    assert sum(row[3] for row in counted()) == 5


def test_a_worker_that_is_to_end_takes_no_further_batch(
    app: Flask, noon: datetime, change_settings: ChangeSettings
) -> None:
    change_settings(clicks_batch_size=1)
    put(("c-1", 1, "google", noon))
    pump.stopping.set()
    assert jobs.drain_clicks() == 0
    pump.stopping.clear()
    assert jobs.drain_clicks() == 1


def test_what_waits_is_watched(app: Flask, sender: Sender, clock: Clock) -> None:
    assert queries.oldest_waiting_at() is None
    sender.send(sender.click())
    clock.advance(days=400)
    oldest = queries.oldest_waiting_at()
    assert oldest is not None
    assert product_clock.now() - oldest < timedelta(minutes=1)
    assert queries.count_waiting() == 1


class TestRetention:
    @pytest.fixture
    def old_month(self, app: Flask, noon: datetime, clock: Clock) -> date:
        """A month with a click, which CLICK_RETENTION_MONTHS does not keep any more."""
        put(("old", 1, "google", noon))
        drain()
        clock.advance(days=31 * 15)
        return date(2027, 3, 1)

    def test_old_months_are_dropped_and_their_sums_stay(self, old_month: date) -> None:
        with transaction():
            dropped = retention.drop_outdated_partitions()
        assert old_month in dropped
        assert value("SELECT count(*) FROM clicks") == 0
        assert counted() == [("2027-03-10", 1, "google", 1)]
        jobs.make_partitions()

    def test_a_month_that_is_kept_stays(self, app: Flask, noon: datetime) -> None:
        put(("new", 1, "google", noon))
        drain()
        with transaction():
            retention.drop_outdated_partitions()
        assert value("SELECT count(*) FROM clicks") == 1

    def test_an_id_counts_once_until_it_is_forgotten(
        self, app: Flask, noon: datetime, clock: Clock
    ) -> None:
        put(("c-1", 1, "google", noon))
        drain()
        clock.advance(days=179)
        assert jobs.forget_click_ids() == 0
        clock.advance(days=2)
        assert jobs.forget_click_ids() == 1
        assert value("SELECT count(*) FROM click_ids") == 0


Run = Callable[..., str]


class TestCommands:
    @pytest.fixture
    def run(self, app: Flask) -> Run:
        """Runs a command of `flask` and returns what it printed."""

        def run(*arguments: str, status: int = 0) -> str:
            result = app.test_cli_runner().invoke(args=list(arguments))
            assert result.exit_code == status, result.output
            return str(result.output)

        return run

    def test_the_inbox_is_drained_by_hand(self, run: Run, noon: datetime) -> None:
        put(("c-1", 1, "google", noon), ("c-1", 1, "google", noon))
        assert "2 clicks wait" in run("clicks", "drain")
        assert "2 clicks taken, 1 of them new" in run("clicks", "drain", "--inline")

    def test_what_was_put_aside_is_listed_and_retried(self, run: Run, noon: datetime) -> None:
        put((UNSTORABLE, 99, "google", noon))
        drain()
        assert "1 in all" in run("clicks", "dead", "list")
        assert "1 clicks wait again" in run("clicks", "dead", "retry")
        assert "0 in all" in run("clicks", "dead", "list")

    def test_pruning_can_be_looked_at_first(self, run: Run, noon: datetime, clock: Clock) -> None:
        put(("c-1", 1, "google", noon))
        drain()
        clock.advance(days=31 * 15)
        assert "Would drop" in run("clicks", "prune", "--dry-run")
        assert value("SELECT count(*) FROM clicks") == 1
        assert "2027-03" in run("clicks", "prune")
        assert value("SELECT count(*) FROM clicks") == 0

    def test_sources_get_secrets(self, run: Run) -> None:
        assert run("click-source", "add", "partner").startswith("clk_")
        assert "has a secret already" in run("click-source", "add", "partner", status=1)
        assert "partner" in run("click-source", "list")
        assert "common secret" in run("click-source", "remove", "partner")
        assert "No source called" in run("click-source", "remove", "partner", status=1)
        assert "printable" in run("click-source", "add", "a\tb", status=1)
