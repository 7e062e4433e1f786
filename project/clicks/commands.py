"""The commands of clicks."""

import sys

import click
from rich.console import Console
from rich.table import Table

from project.clicks import dead_letters, drain, queries, retention
from project.clicks.intake import sources
from project.clicks.intake.inbox import clicks_waiting
from project.core.commands import FriendlyGroup, progress_bar
from project.core.db.transaction import transaction
from project.core.work.queues import wake

SHOWN = 100
AT_MOST = click.option("--limit", type=click.IntRange(min=1), default=SHOWN, show_default=True)

clicks_commands = FriendlyGroup("clicks", help="Accepted clicks: counting, what failed, pruning.")


@clicks_commands.command("drain")
@click.option("--inline", is_flag=True, help="Count them here, with a progress bar.")
def drain_inbox(inline: bool) -> None:
    """Count every click that waits."""
    with transaction():
        waiting = queries.count_waiting()
        if not inline:
            wake(clicks_waiting())
    if not inline:
        click.echo(f"{waiting} clicks wait; the workers have been woken.")
        return
    done = drain.Drained()
    with progress_bar("clicks", waiting) as advance:
        while (drained := drain.drain_batch()).taken:
            done += drained
            advance(drained.taken)
    click.echo(f"{done.taken} clicks taken, {done.new} of them new.")


@clicks_commands.command("prune")
@click.option("--dry-run", is_flag=True, help="Only say what would be dropped.")
def prune(dry_run: bool) -> None:
    """Drop months of clicks over CLICK_RETENTION_MONTHS, and forget old ids; the sums stay."""
    with transaction():
        if dry_run:
            months = list(retention.outdated_partitions())
        else:
            months = retention.drop_outdated_partitions()
    named = ", ".join(f"{month:%Y-%m}" for month in months) or "no month"
    if dry_run:
        click.echo(f"Would drop {named}.")
        return
    forgotten = retention.forget_old_ids()
    click.echo(f"Dropped {named}; forgot {forgotten} click_ids.")


dead_commands = FriendlyGroup("dead", help="Clicks that could not be stored.")
clicks_commands.add_command(dead_commands)


@dead_commands.command("list")
@AT_MOST
def list_dead(limit: int) -> None:
    """List clicks that were put aside, with the reason."""
    table = Table("id", "click_id", "offer_id", "source", "clicked at", "reason")
    with transaction():
        for dead in dead_letters.dead_clicks(limit):
            cells = (dead.id, dead.click_id, dead.offer_id, dead.source, dead.clicked_at)
            table.add_row(*map(str, cells), dead.reason)
        count = dead_letters.count_dead_clicks()
    Console(width=None if sys.stdout.isatty() else 200).print(table)
    click.echo(f"{count} in all.")


@dead_commands.command("retry")
@click.option("--limit", type=click.IntRange(min=1), default=1_000_000, help="At most so many.")
def retry_dead(limit: int) -> None:
    """Put the clicks that were put aside back among those that wait."""
    with transaction():
        count = dead_letters.try_again(limit)
    click.echo(f"{count} clicks wait again.")


source_commands = FriendlyGroup("click-source", help="Sources with a secret of their own.")


@source_commands.command("add")
@click.argument("name")
def add_source(name: str) -> None:
    """Give the source NAME its own secret and print it; it cannot be shown again."""
    with transaction():
        secret = sources.add_source(name)
    click.echo(secret)


@source_commands.command("list")
def list_sources() -> None:
    """List the sources with a secret of their own."""
    with transaction():
        for source in sources.all_sources():
            click.echo(f"{source.name}  since {source.created_at.isoformat()}")


@source_commands.command("remove")
@click.argument("name")
def remove_source(name: str) -> None:
    """Take the secret of the source NAME away; the common one signs for it from then on."""
    with transaction():
        sources.remove_source(name)
    click.echo(f"{name} is signed with the common secret from now on.")
