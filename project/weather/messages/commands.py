"""The commands of billing and messages; each is also a periodic job, and safe to run at once."""

import click

from project.core.db.transaction import transaction
from project.core.work import pump
from project.core.work.queues import wake
from project.weather.billing_sync import BILLING_DUE
from project.weather.messages import jobs
from project.weather.messages.delivery import MessageDelivery
from project.weather.messages.generate import MESSAGES_DUE, MESSAGES_PLANNED

INLINE = click.option("--inline", is_flag=True, help="Do it here.")


@click.command("forecast-billing-run")
@INLINE
def forecast_billing_run(inline: bool) -> None:
    """Bring billing into agreement with subscribers that came, left or changed their plan."""
    if inline:
        click.echo(f"{jobs.follow_plans()} subscribers followed.")
        return
    with transaction():
        wake(BILLING_DUE)
    click.echo("The workers have been woken.")


@click.command("messages-run")
@INLINE
def messages_run(inline: bool) -> None:
    """Make the messages whose time has come, and send what is due."""
    if inline:
        made = jobs.make_messages()
        click.echo(f"{made} messages made, {pump.run(MessageDelivery())} sent.")
        return
    with transaction():
        wake(MESSAGES_PLANNED)
        wake(MESSAGES_DUE)
    click.echo("The workers have been woken.")
