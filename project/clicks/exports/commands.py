"""The command that hands a day over to finance."""

from datetime import date, datetime

import click

from project.clicks.exports import queries, service
from project.clicks.exports.sending import DaySending
from project.clicks.models import ClickExport
from project.clicks.states import ExportState
from project.core.commands import progress_bar
from project.core.db.transaction import transaction
from project.core.errors import AppError
from project.core.work import pump


@click.command("export-clicks")
@click.argument("day", metavar="DATE", type=click.DateTime(["%Y-%m-%d"]))
@click.option("--inline", is_flag=True, help="Send it here and wait for the end.")
def export_clicks(day: datetime, inline: bool) -> None:
    """Send the clicks of DATE, such as 2026-01-31, to the finance service, also once more."""
    try:
        with transaction():
            export, _ = service.request_export(day.date())
    except AppError as error:
        raise click.ClickException(error.detail) from error
    if not inline:
        click.echo(f"{day.date()} is being sent by the workers as export {export.id}.")
        return
    with progress_bar("days", 1) as advance:
        pump.run(DaySending(only=export.id), limit=1, on_progress=advance)
    _tell(day.date())


def _tell(day: date) -> None:
    with transaction():
        export = queries.latest_export(day)
    assert export is not None
    if export.state is ExportState.SUCCEEDED:
        click.echo(f"{export.clicks_sent} clicks of {day} were sent, SHA-256 {export.checksum}.")
        return
    raise click.ClickException(_trouble(export))


def _trouble(export: ClickExport) -> str:
    if export.state is ExportState.FAILED:
        return f"{export.day} was not sent and is given up: {export.last_error}"
    if export.claim_id is not None:
        return f"{export.day} is just being sent by a worker."
    again = f"{export.due_at:%Y-%m-%d %H:%M:%S} UTC"
    return f"{export.day} was not sent and is tried again at {again}: {export.last_error}"
