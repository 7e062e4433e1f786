"""Every command of `flask`."""

import sys
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import click
from flask import Flask, current_app
from flask_migrate import upgrade as alembic_upgrade
from redis import RedisError
from rich.console import Console
from rich.table import Table
from sqlalchemy import Connection, text
from sqlalchemy.exc import OperationalError

from project.billing import commands as billing
from project.billing import installation
from project.billing import legacy as legacy_billing
from project.callbacks import queries as callback_queries
from project.callbacks.delivery import CallbackDelivery
from project.clicks import commands as clicks
from project.clicks.exports import commands as click_exports
from project.companies import commands as companies
from project.config.environment import get_settings
from project.config.kernel import WorkSettings
from project.core import clock
from project.core.commands import COUNT_AT_MOST, FriendlyGroup, run_due
from project.core.db.locks import Lock
from project.core.db.transaction import transaction
from project.core.http import auth, health
from project.core.legacy.importer import ImportReport
from project.core.legacy.sql_dump import Row, read_dump
from project.core.work import scheduler, worker
from project.core.work.queues import QueueName, queue_names
from project.extensions import db, redis_client, wait_as_long_as_it_takes
from project.mobile import legacy as legacy_mobile
from project.mobile.purchases import queries as purchase_queries
from project.mobile.purchases.verification import PurchaseVerification
from project.schedule import schedule
from project.weather.imports import commands as weather_imports
from project.weather.messages import commands as weather_messages

WAIT_SECONDS = 60


def register(app: Flask) -> None:
    """Add every command to the application."""
    for command in (
        upgrade,
        run_worker,
        run_scheduler,
        purchase_run,
        callbacks_run,
        *billing.COMMANDS,
        *companies.COMMANDS,
        *clicks.COMMANDS,
        *click_exports.COMMANDS,
        *weather_imports.COMMANDS,
        *weather_messages.COMMANDS,
    ):
        app.cli.add_command(command)
    for group in (clock_commands, api_key_commands, schedule_commands, legacy_commands):
        app.cli.add_command(group)


@click.command("upgrade")
def upgrade() -> None:
    """Wait for the database and migrate it; safe to run on many machines at once."""
    _wait_for("the database", _database_answers)
    with _own_connection() as connection:
        # Another machine's migration may take longer than any statement of ours should.
        wait_as_long_as_it_takes(connection)
        connection.execute(text("SET statement_timeout = 0"))
        connection.execute(text("SELECT pg_advisory_lock(:id)"), {"id": Lock.MIGRATION})
        try:
            alembic_upgrade()
        finally:
            connection.execute(text("SELECT pg_advisory_unlock(:id)"), {"id": Lock.MIGRATION})
            connection.execute(text("RESET statement_timeout"))
    with transaction():
        # Made before anything can be backed up: a restored copy must know its own payments.
        installation.installation_key()
    click.echo(f"The database is at {health.head_revision()}.")


@click.command("worker")
@click.argument("queues", nargs=-1)
@click.option("--burst", is_flag=True, help="End when the queues are empty.")
def run_worker(queues: tuple[str, ...], burst: bool) -> None:
    """Take jobs from the QUEUES, in their order (high, medium, default)."""
    known = queue_names()
    unknown = sorted(set(queues) - set(known))
    if unknown:
        raise click.ClickException(f"No such queue: {', '.join(unknown)}. There are {known}.")
    _wait_for("the migrated database", _database_is_migrated)
    _wait_for("Redis", _redis_answers)
    taken = list(queues) or known
    if QueueName.DEFAULT in taken:
        # Also a queue that clicks have to themselves, which no configuration file names.
        taken = list(dict.fromkeys([*taken, get_settings(WorkSettings).clicks_queue_name]))
    worker.run_worker(current_app._get_current_object(), taken, burst=burst)  # type: ignore[attr-defined]


@click.command("scheduler")
def run_scheduler() -> None:
    """Queue periodic work at its time; more than one may run, one acts."""
    _wait_for("the migrated database", _database_is_migrated)
    _wait_for("Redis", _redis_answers)
    scheduler.new_scheduler(schedule()).run()


@click.command("purchase-run")
@click.option("--inline", is_flag=True, help="Ask the stores here, with a progress bar.")
@click.option("--limit", type=click.IntRange(min=1), help="At most so many; goes with --inline.")
def purchase_run(inline: bool, limit: int | None) -> None:
    """Ask the stores about every purchase whose expire-date has passed."""
    run_due(PurchaseVerification(), _due_purchases, "purchases", inline=inline, limit=limit)


@click.command("callbacks-run")
@click.option("--inline", is_flag=True, help="Deliver here, with a progress bar.")
def callbacks_run(inline: bool) -> None:
    """Deliver every callback that is due."""
    run_due(CallbackDelivery(), _due_callbacks, "callbacks", inline=inline, limit=None)


def _due_purchases() -> int:
    return purchase_queries.count_due(at_most=COUNT_AT_MOST)


def _due_callbacks() -> int:
    return callback_queries.count_due(at_most=COUNT_AT_MOST)


clock_commands = FriendlyGroup("clock", help="Show and move the test clock (TEST_CLOCK=1).")


@clock_commands.command("show")
def clock_show() -> None:
    """Show the product's time and how far it stands from the real one."""
    click.echo(f"{clock.now().isoformat()}")


@clock_commands.command("advance")
@click.argument("duration")
@click.option("--run", is_flag=True, help="Also run the periodic work of the time in between.")
def clock_advance(duration: str, run: bool) -> None:
    """Move the clock forward by DURATION, such as 25h or 30d12h."""
    clock.require_test_clock()
    by = clock.parse_duration(duration)
    start = clock.now()
    if not run:
        click.echo(f"It is now {clock.advance(by).isoformat()}.")
        return
    ran = scheduler.run_between(schedule(), start, start + by)
    for name, times in sorted(ran.items()):
        click.echo(f"{name}: ran {times} times")
    click.echo(f"It is now {clock.now().isoformat()}.")


@clock_commands.command("set")
@click.argument("moment")
def clock_set(moment: str) -> None:
    """Set the clock to MOMENT (ISO 8601; UTC if it has no offset)."""
    try:
        parsed = datetime.fromisoformat(moment)
        parsed = parsed.replace(tzinfo=parsed.tzinfo or UTC).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise click.ClickException("A moment is written like 2026-01-31T12:00:00Z.") from error
    click.echo(f"It is now {clock.set_to(parsed).isoformat()}.")


@clock_commands.command("reset")
def clock_reset() -> None:
    """Return the clock to real time."""
    click.echo(f"It is now {clock.reset().isoformat()}.")


api_key_commands = FriendlyGroup("api-key", help="Operators' keys.")


@api_key_commands.command("create")
@click.argument("name")
@click.option(
    "--scope",
    "scopes",
    type=click.Choice([str(scope) for scope in auth.Scope]),
    multiple=True,
    help="What it may do; both if not given.",
)
def api_key_create(name: str, scopes: tuple[str, ...]) -> None:
    """Make a key called NAME and print it; it cannot be shown again."""
    wanted = [auth.Scope(scope) for scope in scopes] or list(auth.Scope)
    with transaction():
        _, secret = auth.create_api_key(name, wanted)
    click.echo(secret)


@api_key_commands.command("list")
def api_key_list() -> None:
    """List the keys, without their secrets."""
    table = Table("name", "begins with", "scopes", "created", "revoked")
    with transaction():
        for key in auth.all_api_keys():
            revoked = key.revoked_at.isoformat() if key.revoked_at else ""
            created = key.created_at.isoformat()
            table.add_row(key.name, key.prefix, ", ".join(key.scopes), created, revoked)
    Console(width=None if sys.stdout.isatty() else 200).print(table)


@api_key_commands.command("revoke")
@click.argument("name")
def api_key_revoke(name: str) -> None:
    """Revoke the key called NAME at once."""
    with transaction():
        auth.revoke_api_key(name)
    click.echo(f"{name} is revoked.")


schedule_commands = FriendlyGroup("schedule", help="Periodic work.")


@schedule_commands.command("list")
def schedule_list() -> None:
    """List the periodic work and when it runs next (UTC)."""
    table = Table("name", "cron", "queue", "next", "job")
    now = clock.real_now()
    for entry in schedule():
        next_time = entry.next_time(now).isoformat()
        table.add_row(entry.name, entry.cron, entry.queue, next_time, entry.job)
    Console(width=None if sys.stdout.isatty() else 200).print(table)


@schedule_commands.command("sync")
def schedule_sync() -> None:
    """Bring Redis into agreement with the list, as the scheduler does every few seconds."""
    written, removed = scheduler.reconcile(scheduler.new_scheduler(schedule()), schedule())
    click.echo(f"{written} written, {removed} removed, {len(schedule())} in all.")


def _own_connection() -> Connection:
    return db.engine.connect().execution_options(isolation_level="AUTOCOMMIT")


def _database_answers() -> bool:
    try:
        with db.engine.connect() as connection:
            connection.execute(text("SELECT 1"))
    except OperationalError:
        return False
    return True


def _database_is_migrated() -> bool:
    try:
        return health.current_revision() == health.head_revision()
    except OperationalError:
        return False


def _redis_answers() -> bool:
    try:
        redis_client().ping()
    except RedisError:
        return False
    return True


def _wait_for(what: str, is_there: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not is_there():
        if time.monotonic() > deadline:
            click.echo(f"Waited {WAIT_SECONDS} s for {what}, in vain.", err=True)
            sys.exit(1)
        time.sleep(0.25)


legacy_commands = FriendlyGroup(
    "import-legacy", help="Move in from the older services, out of their SQL dumps."
)
DUMP = click.argument("dump", type=click.Path(exists=True, dir_okay=False, path_type=Path))
ZONE = click.option(
    "--timezone", default="UTC", show_default=True, help="In which the older service wrote times."
)
DRY_RUN = click.option("--dry-run", is_flag=True, help="Say what would be imported; keep nothing.")


@legacy_commands.command("mobile")
@DUMP
@ZONE
@DRY_RUN
def import_legacy_mobile(dump: Path, timezone: str, dry_run: bool) -> None:
    """Import apps, devices and purchases, under their ids, from a MySQL DUMP."""
    rows = read_dump(dump, legacy_mobile.TABLES, is_mysql=True)
    _import_legacy(legacy_mobile.import_mobile, rows, timezone, dry_run)


@legacy_commands.command("subscriptions")
@DUMP
@ZONE
@DRY_RUN
def import_legacy_subscriptions(dump: Path, timezone: str, dry_run: bool) -> None:
    """Import plans, subscriptions and payments from a Postgres DUMP (pg_dump's plain format)."""
    rows = read_dump(dump, legacy_billing.TABLES)
    _import_legacy(legacy_billing.import_subscriptions, rows, timezone, dry_run)


class _DryRun(Exception):
    """Takes back what a command has done, because it was only to say it."""


def _import_legacy(
    work: Callable[..., ImportReport],
    rows: Iterable[tuple[str, Row]],
    timezone: str,
    dry_run: bool,
) -> None:
    try:
        zone = ZoneInfo(timezone)
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise click.BadParameter(f"There is no time zone {timezone!r}.") from error
    try:
        with transaction():
            report = work(rows, zone=zone)
            for line in report.lines():
                click.echo(line)
            if dry_run:
                raise _DryRun
    except _DryRun:
        click.echo("Nothing was kept: this was a dry run.")
