"""Every command of `flask`: what it does, what it says, and how it ends."""

import re
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from click.testing import Result
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import create_engine, text

from project.cli import COMMANDS
from project.config.environment import get_settings
from project.config.kernel import CoreSettings
from project.core import clock as product_clock
from project.core.db.locks import Lock
from project.core.db.migrations import head_revision
from project.core.lazy_command import LazyCommand
from project.core.work.queues import QueueName, rq_queue
from project.core.work.scheduler import AppScheduler
from project.extensions import db, redis_client
from project.mobile.states import PurchaseState
from project.schedule import schedule
from simulator.client import SimulatorClient
from tests.conftest import ChangeSettings
from tests.core.commands import run_flask
from tests.factories import Factory
from tests.time_machine import Clock

Run = Callable[..., Result]


@pytest.fixture
def run(app: Flask) -> Run:
    """Run a command in this process; what it prints is in `stdout` and `stderr`."""
    runner = app.test_cli_runner()

    def invoke(*arguments: str) -> Result:
        return runner.invoke(args=list(arguments), catch_exceptions=False)

    return invoke


def refused(result: Result, sentence: str) -> None:
    """Check that a command ended with an error in one sentence."""
    assert result.exit_code != 0
    assert sentence in result.stderr
    assert "Traceback" not in result.output


@pytest.mark.usefixtures("app")
def test_every_command_is_listed_with_a_sentence() -> None:
    listed = run_flask("--help").stdout

    for name in (
        "api-key",
        "autopayments-run",
        "callbacks-run",
        "clock",
        "expire-payments-run",
        "expire-subscriptions-run",
        "export-clicks",
        "match-pending-payments-run",
        "match-successful-payments-run",
        "purchase-run",
        "reconcile",
        "schedule",
        "scheduler",
        "upgrade",
        "worker",
    ):
        assert re.search(rf"^  {name} +\S+", listed, re.MULTILINE), name


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_what_is_listed_of_a_command_is_what_it_says_of_itself(command: LazyCommand) -> None:
    itself = command.load()

    assert (command.name, command.get_short_help_str(200)) == (
        itself.name,
        itself.get_short_help_str(200),
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ("no-such-command",),
        ("purchase-run", "--limit", "0"),
        ("purchase-run", "--limit", "many"),
        ("purchase-run", "extra"),
        ("callbacks-run", "--limit", "3"),
        ("autopayments-run", "--limit", "3"),
        ("reconcile", "--window", "1h"),
        ("clock",),
        ("clock", "advance"),
        ("clock", "set"),
        ("clock", "rewind"),
        ("api-key", "create"),
        ("api-key", "create", "name", "--scope", "admin"),
        ("api-key", "revoke"),
        ("schedule", "drop"),
        ("worker", "--forever"),
        ("upgrade", "0001"),
    ],
    ids=" ".join,
)
def test_wrong_usage_is_explained(run: Run, arguments: tuple[str, ...]) -> None:
    result = run(*arguments)

    assert result.exit_code == 2
    assert "Usage:" in result.output


class TestPurchaseRun:
    @pytest.fixture
    def three_expired(self, factory: Factory, clock: Clock) -> list[int]:
        ids = [factory.purchase().id for _ in range(3)]
        clock.advance(days=31)
        redis_client().flushall()
        return ids

    def states(self, factory: Factory, ids: list[int]) -> list[bool]:
        now = product_clock.now()
        return [(factory.reloaded(one).expire_date or now) > now for one in ids]

    def test_it_wakes_the_workers(
        self, run: Run, factory: Factory, three_expired: list[int]
    ) -> None:
        result = run("purchase-run")

        assert result.exit_code == 0
        assert result.stdout == "3 purchases are due; the workers have been woken.\n"
        assert len(rq_queue(QueueName.MEDIUM)) == 1
        assert not any(self.states(factory, three_expired))

        assert run_flask("worker", "--burst").returncode == 0
        assert all(self.states(factory, three_expired))

    def test_inline_it_asks_the_stores_here(
        self, run: Run, factory: Factory, three_expired: list[int]
    ) -> None:
        result = run("purchase-run", "--inline")

        assert result.exit_code == 0
        assert "3 purchases done." in result.stdout
        assert "3/3" in result.stderr
        assert all(self.states(factory, three_expired))
        assert "0 purchases done." in run("purchase-run", "--inline").stdout

    def test_it_stops_at_the_limit(
        self, run: Run, factory: Factory, three_expired: list[int]
    ) -> None:
        assert "2 purchases done." in run("purchase-run", "--inline", "--limit", "2").stdout

        assert sum(self.states(factory, three_expired)) == 2
        assert "1 purchases done." in run("purchase-run", "--inline", "--limit", "50").stdout

    def test_a_store_that_refuses_ends_the_subscription(
        self, run: Run, factory: Factory, clock: Clock
    ) -> None:
        purchase = factory.purchase()
        factory.store_says(purchase, "canceled")
        clock.advance(days=31)

        assert run("purchase-run", "--inline").exit_code == 0

        assert factory.reloaded(purchase.id).state == PurchaseState.CANCELED

    def test_as_a_process_it_ends_well(self, factory: Factory, three_expired: list[int]) -> None:
        ended = run_flask("purchase-run", "--inline")

        assert ended.returncode == 0, ended.stderr
        assert "3 purchases done." in ended.stdout
        assert all(self.states(factory, three_expired))


class TestCallbacksRun:
    def test_inline_it_delivers_here(
        self, run: Run, factory: Factory, simulator: SimulatorClient
    ) -> None:
        app = factory.app()
        for _ in range(2):
            factory.purchase(factory.device(app))

        result = run("callbacks-run", "--inline")

        assert result.exit_code == 0
        assert "2 callbacks done." in result.stdout
        assert simulator.inbox(app.inbox)["count"] == 2
        assert "0 callbacks done." in run("callbacks-run", "--inline").stdout

    def test_it_wakes_the_workers(
        self, run: Run, factory: Factory, simulator: SimulatorClient
    ) -> None:
        app = factory.app()
        factory.purchase(factory.device(app))
        redis_client().flushall()

        result = run("callbacks-run")

        assert result.stdout == "1 callbacks are due; the workers have been woken.\n"
        assert len(rq_queue(QueueName.HIGH)) == 1
        assert simulator.inbox(app.inbox)["count"] == 0


class TestBilling:
    WORK = (
        ("autopayments-run", "subscriptions"),
        ("expire-payments-run", "payments"),
        ("match-pending-payments-run", "payments"),
    )

    @pytest.mark.parametrize(("name", "kind"), WORK)
    def test_with_nothing_due_nothing_is_done(self, run: Run, name: str, kind: str) -> None:
        assert run(name).stdout == f"0 {kind} are due; the workers have been woken.\n"
        assert f"0 {kind} done." in run(name, "--inline").stdout

    @pytest.mark.parametrize(
        ("name", "told"),
        [
            ("expire-subscriptions-run", "0 subscriptions expired."),
            ("match-successful-payments-run", "0 payments read; cases: none."),
        ],
    )
    def test_work_that_counts_nothing_beforehand(
        self, run: Run, simulator: SimulatorClient, name: str, told: str
    ) -> None:
        assert run(name).stdout == "The workers have been woken.\n"
        assert told in run(name, "--inline").stdout

    def test_the_books_are_compared_for_as_long_as_is_asked(
        self, run: Run, simulator: SimulatorClient
    ) -> None:
        long_ago = (datetime.now(UTC) - timedelta(days=20)).isoformat()
        added = {"amount": "10.00", "status": "succeeded", "created_at": long_ago}
        simulator.control("POST", "/yookassa/payments", added)

        assert run("reconcile").stdout == "0 payments read; cases: none.\n"
        told = "1 payments read; cases: 1 paid_there_missing_here.\n"
        assert run("reconcile", "--since", "30d").stdout == told

    def test_what_cannot_be_compared_is_explained(
        self, run: Run, simulator: SimulatorClient
    ) -> None:
        refused(run("reconcile", "--since", "soon"), "A duration is written like 25h")
        simulator.add_fault("/yookassa/v3/payments", status=500)
        refused(run("reconcile"), "The provider's books could not be read")


class TestClock:
    def test_it_is_shown_moved_and_reset(self, run: Run) -> None:
        assert run("clock", "set", "2030-01-31T12:00:00Z").stdout.startswith("It is now 2030-01-31")
        assert run("clock", "show").stdout.startswith("2030-01-31T12:00:")
        assert run("clock", "advance", "1d12h").stdout.startswith("It is now 2030-02-02T00:00:")

        assert run("clock", "reset").exit_code == 0

        assert abs(product_clock.now() - datetime.now(UTC)) < timedelta(seconds=5)

    @pytest.mark.parametrize(
        ("written", "meant"),
        [
            ("2030-01-01", "2030-01-01T00:00:00"),
            ("2030-01-01T06:00:00", "2030-01-01T06:00:00"),
            ("2030-01-01T06:00:00+06:00", "2030-01-01T00:00:00"),
        ],
    )
    def test_moments_are_utc_unless_they_say_otherwise(
        self, run: Run, written: str, meant: str
    ) -> None:
        run("clock", "set", written)

        assert run("clock", "show").stdout.startswith(meant[:16])

    @pytest.mark.parametrize(
        ("arguments", "sentence"),
        [
            (("advance", "soon"), "A duration is written like 25h"),
            (("advance", "25"), "A duration is written like 25h"),
            (("advance", "99999w"), "too far"),
            (("set", "yesterday"), "A moment is written like 2026"),
            (("set", "2030-02-30"), "A moment is written like 2026"),
            (("set", "9999-12-31T23:59:59"), "too far"),
            (("set", "0001-01-01T00:00:00+05:00"), "A moment is written like 2026"),
        ],
    )
    def test_what_cannot_be_is_refused(
        self, run: Run, arguments: tuple[str, ...], sentence: str
    ) -> None:
        refused(run("clock", *arguments), sentence)

    @pytest.mark.parametrize(
        "arguments",
        [("advance", "1h"), ("advance", "1h", "--run"), ("set", "2030-01-01"), ("reset",)],
    )
    def test_without_test_clock_it_does_not_move(
        self,
        run: Run,
        change_settings: ChangeSettings,
        arguments: tuple[str, ...],
    ) -> None:
        change_settings(test_clock=False)

        refused(run("clock", *arguments), "start it with TEST_CLOCK=1")

    def test_with_run_the_work_of_the_time_between_is_done(
        self, run: Run, factory: Factory, simulator: SimulatorClient
    ) -> None:
        app = factory.app()
        purchase = factory.purchase(factory.device(app))

        result = run("clock", "advance", "31d", "--run")

        assert result.exit_code == 0
        assert "purchase-run: ran 1 times" in result.stdout
        assert "forget-idempotency-keys: ran 31 times" in result.stdout
        renewed = factory.reloaded(purchase.id)
        assert renewed.expire_date is not None
        assert renewed.expire_date > product_clock.now()
        assert simulator.inbox(app.inbox)["count"] == 2


class TestApiKeys:
    def status(self, client: FlaskClient, secret: str, method: str = "GET") -> int:
        headers = {"Authorization": f"Bearer {secret}"}
        return client.open("/api/apps", method=method, headers=headers).status_code

    def test_a_key_is_printed_alone_and_works_until_it_is_revoked(
        self, run: Run, client: FlaskClient
    ) -> None:
        secret = run("api-key", "create", "deploy").stdout.strip()
        assert re.fullmatch(r"pk_[\w-]{43}", secret)
        assert self.status(client, secret) == 200
        assert self.status(client, secret, "POST") == 400

        assert run("api-key", "revoke", "deploy").stdout == "deploy is revoked.\n"

        assert self.status(client, secret) == 401

    def test_scopes_are_what_was_asked_for(self, run: Run, client: FlaskClient) -> None:
        reader = run("api-key", "create", "reader", "--scope", "read").stdout.strip()

        assert self.status(client, reader) == 200
        assert self.status(client, reader, "POST") == 403

    def test_the_list_shows_everything_but_the_secret(self, run: Run) -> None:
        secret = run("api-key", "create", "a key of ours", "--scope", "read").stdout.strip()
        run("api-key", "create", "another")
        run("api-key", "revoke", "another")

        listed = run("api-key", "list").stdout

        assert secret not in listed
        assert secret[8:] not in listed
        ours = next(line for line in listed.splitlines() if "a key of ours" in line)
        assert secret[:8] in ours
        assert "read" in ours
        assert "write" not in ours
        assert "another" in listed

    def test_what_cannot_be_is_refused(self, run: Run) -> None:
        run("api-key", "create", "taken")

        refused(run("api-key", "create", "taken"), "already an active key named taken")
        refused(run("api-key", "revoke", "nobody"), "no active key named nobody")

    @pytest.mark.parametrize("name", ["", "   "])
    def test_a_key_needs_a_name(self, run: Run, name: str) -> None:
        refused(run("api-key", "create", name), "name")


class TestSchedule:
    def test_the_list_names_every_entry_and_its_next_time(self, run: Run) -> None:
        before = datetime.now(UTC)
        listed = run("schedule", "list").stdout
        after = datetime.now(UTC)

        for entry in schedule():
            line = next(line for line in listed.splitlines() if entry.name in line)
            assert entry.job in line
            assert str(entry.queue) in line
            possible = {entry.next_time(moment).isoformat()[:13] for moment in (before, after)}
            assert any(hour in line for hour in possible)

    def test_sync_brings_redis_into_agreement(self, run: Run) -> None:
        count = len(schedule())
        assert run("schedule", "sync").stdout == f"{count} written, 0 removed, {count} in all.\n"
        assert run("schedule", "sync").stdout == f"0 written, 0 removed, {count} in all.\n"
        assert redis_client().zcard(AppScheduler.scheduled_jobs_key) == count

    def test_crons_are_in_utc_whatever_the_machines_zone(self, app: Flask) -> None:
        before = datetime.now(UTC)
        ended = run_flask("schedule", "sync", TZ="America/New_York")
        after = datetime.now(UTC)

        assert ended.returncode == 0, ended.stderr
        for entry in schedule():
            score = redis_client().zscore(AppScheduler.scheduled_jobs_key, entry.job_id)
            assert score is not None
            planned = datetime.fromtimestamp(score, UTC)
            assert entry.next_time(before) <= planned <= entry.next_time(after)


class TestWorker:
    def test_an_unknown_queue_is_named(self, run: Run) -> None:
        refused(run("worker", "high", "urgent"), "No such queue: urgent")

    def test_with_nothing_to_do_a_burst_ends(self, app: Flask) -> None:
        assert run_flask("worker", "--burst", "medium").returncode == 0


class TestUpgrade:
    @pytest.fixture
    def empty_database(self, app: Flask) -> Any:
        """Another database of the same server, without any table."""
        server = create_engine(db.engine.url.set(database="postgres"), isolation_level="AUTOCOMMIT")
        url = db.engine.url.set(database="to_be_migrated")
        with server.connect() as connection:
            connection.execute(text("DROP DATABASE IF EXISTS to_be_migrated WITH (FORCE)"))
            connection.execute(text("CREATE DATABASE to_be_migrated"))
            yield url.render_as_string(hide_password=False)
            connection.execute(text("DROP DATABASE to_be_migrated WITH (FORCE)"))
        server.dispose()

    def test_it_migrates_and_says_where_it_stands(self, empty_database: str) -> None:
        for _ in range(2):
            ended = run_flask("upgrade", DATABASE_URL=empty_database)

            assert ended.returncode == 0, ended.stderr
            assert ended.stdout == f"The database is at {head_revision()}.\n"

    def test_three_at_once_migrate_once(self, empty_database: str) -> None:
        endings: list[Any] = []
        threads = [
            threading.Thread(
                target=lambda: endings.append(run_flask("upgrade", DATABASE_URL=empty_database))
            )
            for _ in range(3)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert [ended.returncode for ended in endings] == [0, 0, 0], endings
        engine = create_engine(empty_database)
        with engine.connect() as connection:
            found = connection.execute(text("SELECT version_num FROM alembic_version")).scalars()
            assert found.all() == [head_revision()]
            made = connection.execute(text("SELECT count(*) FROM installation"))
            assert made.scalar() == 1, "its payments are known as its own from the first backup on"
        engine.dispose()

    def test_it_waits_for_another_machine_longer_than_a_statement_may_take(
        self, app: Flask
    ) -> None:
        endings: list[Any] = []
        upgrade = threading.Thread(
            target=lambda: endings.append(run_flask("upgrade", STATEMENT_TIMEOUT_SECONDS="1"))
        )
        with db.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as other:
            other.execute(text("SELECT pg_advisory_lock(:id)"), {"id": Lock.MIGRATION})
            try:
                upgrade.start()
                self._wait_until_somebody_waits(other)
                time.sleep(1.3)
            finally:
                other.execute(text("SELECT pg_advisory_unlock(:id)"), {"id": Lock.MIGRATION})
        upgrade.join()

        assert endings[0].returncode == 0, endings[0].stderr

    def _wait_until_somebody_waits(self, connection: Any) -> None:
        waiting = text("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")
        deadline = time.monotonic() + 20
        while not connection.scalar(waiting):
            assert time.monotonic() < deadline
            time.sleep(0.02)


def test_settings_of_the_tests_reach_the_commands(app: Flask) -> None:
    """Otherwise the processes above would work on somebody else's database."""
    shown = run_flask("clock", "set", "2033-03-03T03:03:03")

    assert shown.returncode == 0, shown.stderr
    assert product_clock.now().year == 2033
    assert get_settings(CoreSettings).test_clock
