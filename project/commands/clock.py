"""Showing and moving the test clock."""

from datetime import UTC, datetime

import click

from project.core import clock
from project.core.commands import FriendlyGroup
from project.core.work import scheduler
from project.schedule import schedule

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
