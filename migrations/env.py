"""How migrations reach the database: online, in one transaction, never waiting long for a lock."""

from alembic import context
from flask import current_app
from sqlalchemy import text

from project.core.db.types import render_type
from project.extensions import wait_as_long_as_it_takes

LOCK_TIMEOUT = "5s"
STATEMENT_TIMEOUT = "15min"


def run_migrations() -> None:
    """Run the migrations on the application's database."""
    database = current_app.extensions["migrate"].db
    with database.engine.connect() as connection:
        wait_as_long_as_it_takes(connection)
        connection.execute(text(f"SET lock_timeout = '{LOCK_TIMEOUT}'"))
        connection.execute(text(f"SET statement_timeout = '{STATEMENT_TIMEOUT}'"))
        connection.commit()
        context.configure(
            connection=connection,
            target_metadata=database.metadata,
            compare_type=True,
            compare_server_default=True,
            render_item=render_type,
        )
        with context.begin_transaction():
            context.run_migrations()


run_migrations()
