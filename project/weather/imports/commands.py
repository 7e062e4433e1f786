"""The command that works through tasks; it is also a periodic job, and safe to run at once."""

import click

from project.core.commands import progress_bar
from project.core.db.transaction import transaction
from project.core.work.queues import wake
from project.weather.imports import runner
from project.weather.tasks import TASKS_DUE


@click.command("tasks-run")
@click.option("--inline", is_flag=True, help="Do it here.")
def tasks_run(inline: bool) -> None:
    """Read the files that wait, and give subscribers their nearest forecast anew."""
    if inline:
        with progress_bar("rows", None) as advance:
            done = runner.run(on_progress=advance)
        click.echo(f"{done} rows done.")
        return
    with transaction():
        wake(TASKS_DUE)
    click.echo("The workers have been woken.")
