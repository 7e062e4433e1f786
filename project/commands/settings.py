"""Looking at the settings."""

import sys

import click

from project.areas import LISTED
from project.config.report import report_on

WIDTHS = (34, 40)


@click.command("settings")
def show_settings() -> None:
    """Show every setting in force and where it comes from; secrets only as set or not set."""
    report = report_on(LISTED)
    for title, lines in report.sections.items():
        click.secho(title, bold=True)
        for line in lines:
            name, value = line.name.ljust(WIDTHS[0]), line.value.ljust(WIDTHS[1])
            click.echo(f"  {name}  {value}  {line.source}")
        click.echo()
    for note in report.notes:
        click.echo(note)
    for problem in report.problems:
        click.secho(problem, fg="red", err=True)
    if report.problems:
        sys.exit(1)
