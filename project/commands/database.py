"""Migrating the database: `flask upgrade`, and Flask-Migrate's own commands as `flask db`."""

from typing import Any

import click
from flask import Flask, current_app
from flask.cli import AppGroup
from flask_migrate import Migrate
from flask_migrate import upgrade as alembic_upgrade
from flask_migrate.cli import db as flask_migrate_commands
from sqlalchemy import Connection, text

from project.billing import installation
from project.commands.waiting import wait_for_database
from project.config.kernel import MIGRATIONS_DIR
from project.core.db import migrations
from project.core.db.locks import Lock
from project.core.db.transaction import transaction
from project.extensions import db, wait_as_long_as_it_takes


def prepare_migrations(app: Flask) -> None:
    """Tell Flask-Migrate of the database and where its migrations are."""
    Migrate(app, db, directory=str(MIGRATIONS_DIR), compare_type=True)


@click.command("upgrade")
def upgrade() -> None:
    """Wait for the database and migrate it; safe to run on many machines at once."""
    wait_for_database()
    prepare_migrations(current_app)
    with _own_connection() as connection:
        # Another machine's migration may take longer than any statement of ours should.
        wait_as_long_as_it_takes(connection)
        connection.execute(text("SET statement_timeout = 0"))
        connection.execute(text("SELECT pg_advisory_lock(:id)"), {"id": Lock.MIGRATION})
        try:
            alembic_upgrade()
        finally:
            connection.execute(text("SELECT pg_advisory_unlock(:id)"), {"id": Lock.MIGRATION})
            connection.execute(text("RESET statement_timeout"))
    with transaction():
        # Made before anything can be backed up: a restored copy must know its own payments.
        installation.installation_key()
    click.echo(f"The database is at {migrations.head_revision()}.")


def _own_connection() -> Connection:
    return db.engine.connect().execution_options(isolation_level="AUTOCOMMIT")


class MigrationGroup(AppGroup):
    """Commands that need to know where the migrations are."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        prepare_migrations(current_app)
        return super().invoke(ctx)


db_commands = MigrationGroup(
    "db",
    help=flask_migrate_commands.help,
    commands=flask_migrate_commands.commands,
    params=flask_migrate_commands.params,
    callback=flask_migrate_commands.callback,
)
