"""Moving in from the older services."""

from collections.abc import Callable, Iterable
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import click

from project.billing import legacy as legacy_billing
from project.core.commands import FriendlyGroup
from project.core.db.transaction import transaction
from project.core.legacy.importer import ImportReport
from project.core.legacy.sql_dump import Row, read_dump
from project.mobile import legacy as legacy_mobile

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
