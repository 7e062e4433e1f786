"""Operators' keys."""

import sys

import click
from rich.console import Console
from rich.table import Table

from project.core.commands import FriendlyGroup
from project.core.db.transaction import transaction
from project.core.http import auth

api_key_commands = FriendlyGroup("api-key", help="Operators' keys.")


@api_key_commands.command("create")
@click.argument("name")
@click.option(
    "--scope",
    "scopes",
    type=click.Choice([str(scope) for scope in auth.Scope]),
    multiple=True,
    help="What it may do; both if not given.",
)
def api_key_create(name: str, scopes: tuple[str, ...]) -> None:
    """Make a key called NAME and print it; it cannot be shown again."""
    wanted = [auth.Scope(scope) for scope in scopes] or list(auth.Scope)
    with transaction():
        _, secret = auth.create_api_key(name, wanted)
    click.echo(secret)


@api_key_commands.command("list")
def api_key_list() -> None:
    """List the keys, without their secrets."""
    table = Table("name", "begins with", "scopes", "created", "revoked")
    with transaction():
        for key in auth.all_api_keys():
            revoked = key.revoked_at.isoformat() if key.revoked_at else ""
            created = key.created_at.isoformat()
            table.add_row(key.name, key.prefix, ", ".join(key.scopes), created, revoked)
    Console(width=None if sys.stdout.isatty() else 200).print(table)


@api_key_commands.command("revoke")
@click.argument("name")
def api_key_revoke(name: str) -> None:
    """Revoke the key called NAME at once."""
    with transaction():
        auth.revoke_api_key(name)
    click.echo(f"{name} is revoked.")
