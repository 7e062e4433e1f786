"""Waiting for what a process cannot begin without."""

import sys
import time
from collections.abc import Callable

import click
from redis import RedisError
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from project.core.db import migrations
from project.extensions import db, redis_client

WAIT_SECONDS = 60


def wait_for_database() -> None:
    """Wait until the database answers; end the command with a sentence if it does not."""
    _wait_for("the database", _database_answers)


def wait_for_services() -> None:
    """Wait until the database is migrated and Redis answers."""
    _wait_for("the migrated database", _database_is_migrated)
    _wait_for("Redis", _redis_answers)


def _database_answers() -> bool:
    try:
        with db.engine.connect() as connection:
            connection.execute(text("SELECT 1"))
    except OperationalError:
        return False
    return True


def _database_is_migrated() -> bool:
    try:
        return migrations.current_revision() == migrations.head_revision()
    except OperationalError:
        return False


def _redis_answers() -> bool:
    try:
        redis_client().ping()
    except RedisError:
        return False
    return True


def _wait_for(what: str, is_there: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not is_there():
        if time.monotonic() > deadline:
            click.echo(f"Waited {WAIT_SECONDS} s for {what}, in vain.", err=True)
            sys.exit(1)
        time.sleep(0.25)
