"""The commands of companies."""

import secrets

import click
from marshmallow import ValidationError

from project.companies import service
from project.companies.passwords import check_password
from project.core.commands import FriendlyGroup
from project.core.db.transaction import transaction

company_commands = FriendlyGroup("company", help="Companies: their passwords.")


@company_commands.command("set-password")
@click.argument("email")
@click.option("--generate", is_flag=True, help="Make a random password and print it.")
def set_password(email: str, generate: bool) -> None:
    """Give the company of EMAIL another password, asked for here; every login of it ends."""
    password = secrets.token_urlsafe(16) if generate else _asked()
    with transaction():
        service.set_password(email, password)
    if generate:
        click.echo(password)
    click.echo(f"The password of {email} was set, and its logins ended.", err=True)


def _asked() -> str:
    password: str = click.prompt(
        "New password", hide_input=True, confirmation_prompt=True, err=True
    )
    try:
        check_password(password)
    except ValidationError as error:
        raise click.ClickException(f"The password: {error.messages[0]}") from error
    return password
