"""Bare extension instances, bound to the application in `configure_extensions`."""

import time
from typing import TYPE_CHECKING, Any

import psycopg
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from redis import Redis
from sqlalchemy import Connection, Engine, MetaData, event
from sqlalchemy.exc import DisconnectionError
from sqlalchemy.orm import DeclarativeBase

from project.config.environment import get_settings
from project.config.kernel import CoreSettings, HttpSettings, StorageSettings
from project.redis_pool import shared_pool

PING_AFTER_SECONDS = 1.0
PATIENCE_BEYOND_SECONDS = 2.0
LOOK_SECONDS = 0.1
NAMING_CONVENTION = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}


class Base(DeclarativeBase):
    """What every table of the product is declared on."""

    metadata = MetaData(naming_convention=NAMING_CONVENTION)


db = SQLAlchemy(model_class=Base, session_options={"expire_on_commit": False})

if TYPE_CHECKING:
    Model = Base
else:
    Model = db.Model

_redis: dict[str, Redis] = {}


class PatientConnection(psycopg.Connection[Any]):
    """A connection that waits for Postgres a little longer than Postgres lets a statement run.

    A server that is stopped, or behind a broken network, ends no statement by itself. Without an
    end here, every thread would wait for it in turn, and for ever.
    """

    patience_seconds: float | None = None
    """How long to wait for an answer; None: as long as it takes."""

    def wait(self, gen: Any, interval: float = LOOK_SECONDS, timeout: float | None = None) -> Any:
        """Wait for an answer. Raises OperationalError if there is none in time."""
        try:
            return super().wait(gen, interval, timeout or self.patience_seconds)
        except psycopg.errors._WaitTimeout as error:
            self.give_up()
            raise psycopg.OperationalError("Postgres gave no answer in time") from error

    def give_up(self) -> None:
        """Cut the connection: whatever may still come on it is for nobody."""
        self.pgconn.finish()


def guard(engine: Engine) -> None:
    """Have the engine's connections never wait for ever, and prove themselves after lying idle.

    SQLAlchemy's own `pool_pre_ping` asks at every checkout, a round trip of its own each time; a
    connection that was in use a moment ago needs none.
    """
    settings = get_settings(StorageSettings)
    patience = settings.statement_timeout_seconds + PATIENCE_BEYOND_SECONDS

    @event.listens_for(engine, "do_connect")
    def connect(_dialect: Any, _record: Any, arguments: Any, parameters: Any) -> Any:
        connection = PatientConnection.connect(*arguments, **parameters)
        connection.patience_seconds = patience
        return connection

    @event.listens_for(engine, "checkin")
    def note_time(connection: Any, record: Any) -> None:
        record.info["idle_since"] = time.monotonic()
        if connection is not None:
            connection.patience_seconds = patience

    @event.listens_for(engine, "checkout")
    def prove(connection: Any, record: Any, _proxy: Any) -> None:
        idle_since = record.info.get("idle_since")
        if idle_since is None or time.monotonic() - idle_since < PING_AFTER_SECONDS:
            return
        connection.patience_seconds = settings.database_connect_timeout_seconds
        try:
            engine.dialect.do_ping(connection)
        except engine.dialect.loaded_dbapi.Error as error:
            raise DisconnectionError from error
        finally:
            connection.patience_seconds = patience


def wait_as_long_as_it_takes(connection: Connection) -> None:
    """Let this connection, whose statements may run for long, wait for every answer."""
    driver: Any = connection.connection.driver_connection
    driver.patience_seconds = None


def redis_client() -> Redis:
    """Return this process's Redis client; it fails fast, because Redis only wakes people up."""
    url = get_settings(StorageSettings).redis_url
    if url not in _redis:
        _redis[url] = Redis(connection_pool=shared_pool(url))
    return _redis[url]


def flask_config() -> dict[str, Any]:
    """Return what Flask and its extensions read from `app.config`."""
    storage, longest = get_settings(StorageSettings), get_settings(HttpSettings).max_body_bytes
    return {
        "SECRET_KEY": get_settings(CoreSettings).secret_keys[0],
        "MAX_CONTENT_LENGTH": longest,
        "MAX_FORM_MEMORY_SIZE": longest,
        "SQLALCHEMY_DATABASE_URI": storage.database_url,
        "SQLALCHEMY_ENGINE_OPTIONS": storage.engine_options(),
        # The `limits` library has a spelling of its own for sockets.
        "RATELIMIT_STORAGE_URI": storage.redis_url.replace("unix://", "redis+unix://", 1),
        "RATELIMIT_IN_MEMORY_FALLBACK_ENABLED": True,
        "RATELIMIT_HEADERS_ENABLED": False,
        "RATELIMIT_KEY_PREFIX": "limit",
    }


def configure_extensions(app: Flask) -> None:
    """Bind every extension to the application."""
    app.config.from_mapping(flask_config())
    db.init_app(app)
    with app.app_context():
        guard(db.engine)
