"""Looking at the periodic work, and bringing Redis into agreement with it."""

import sys

import click
from rich.console import Console
from rich.table import Table

from project.core import clock
from project.core.commands import FriendlyGroup
from project.core.work import scheduler
from project.schedule import schedule

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
