"""The command that delivers what is due."""

import click

from project.callbacks import queries
from project.callbacks.delivery import CallbackDelivery
from project.core.commands import COUNT_AT_MOST, run_due


@click.command("callbacks-run")
@click.option("--inline", is_flag=True, help="Deliver here, with a progress bar.")
def callbacks_run(inline: bool) -> None:
    """Deliver every callback that is due."""
    run_due(CallbackDelivery(), _due_callbacks, "callbacks", inline=inline, limit=None)


def _due_callbacks() -> int:
    return queries.count_due(at_most=COUNT_AT_MOST)
