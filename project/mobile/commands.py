"""The command that asks the stores."""

import click

from project.core.commands import COUNT_AT_MOST, run_due
from project.mobile.purchases import queries
from project.mobile.purchases.verification import PurchaseVerification


@click.command("purchase-run")
@click.option("--inline", is_flag=True, help="Ask the stores here, with a progress bar.")
@click.option("--limit", type=click.IntRange(min=1), help="At most so many; goes with --inline.")
def purchase_run(inline: bool, limit: int | None) -> None:
    """Ask the stores about every purchase whose expire-date has passed."""
    run_due(PurchaseVerification(), _due_purchases, "purchases", inline=inline, limit=limit)


def _due_purchases() -> int:
    return queries.count_due(at_most=COUNT_AT_MOST)
