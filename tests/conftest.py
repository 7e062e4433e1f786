"""A real Postgres, a real Valkey and a real simulator for every test; emptied between tests.

Nothing here is a stand-in: what a test commits is committed, and what it calls is called over
HTTP. The simulator asks the application for the time, so the test clock moves them together.
"""

import dataclasses
import functools
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from argon2 import PasswordHasher
from flask import Flask
from flask.testing import FlaskClient
from flask_migrate import upgrade
from hypothesis import settings as hypothesis_settings
from schemathesis.pytest.plugin import SchemathesisFunction
from sqlalchemy import create_engine, text
from werkzeug.serving import make_server

from project import redis_pool
from project.application import create_app
from project.areas import read_settings
from project.commands.database import prepare_migrations
from project.companies import passwords
from project.config.environment import Configuration, configuration, get_settings, use_settings
from project.core.http.limiter import limiter
from project.core.work import pump, queues
from project.extensions import db, redis_client
from simulator.client import SimulatorClient
from tests.core.name_server import NameServer
from tests.factories import Factory
from tests.processes import free_port, running_simulator
from tests.support.servers import embedded_postgres, embedded_valkey
from tests.support.settings import AREA_OF
from tests.time_machine import Clock

# The same examples at every run, however slow the machine: `make prove` is there to search.
hypothesis_settings.register_profile("repeatable", derandomize=True, deadline=None, database=None)
hypothesis_settings.load_profile("repeatable")

# On a machine that is busy with tests Redis may be late, which is no failure. The tests of a Redis
# that hangs go by the product's own patience.
REDIS_PATIENCE = {name: getattr(redis_pool, name) for name in ("ANSWER_SECONDS", "SLOW_SECONDS")}
redis_pool.ANSWER_SECONDS = redis_pool.SLOW_SECONDS = 10.0

REAL_HASHER = passwords._hasher
QUICK_HASHER = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
API_KEY = "pk_a-key-for-tests-that-opens-everything"
ChangeSettings = Callable[..., None]
NOT_EMPTIED = {"alembic_version"}
TERMINATE = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
    " WHERE datname = :database AND backend_type = 'client backend'"
)
RESTART_SEQUENCES = """
    PERFORM setval(format('%I.%I', schemaname, sequencename)::regclass, start_value, false)
    FROM pg_sequences WHERE last_value IS NOT NULL
"""


class Caller(FlaskClient):
    """Gives every request an application context of its own, as a server does."""

    def open(self, *args: Any, **kwargs: Any) -> Any:
        with self.application.app_context():
            return super().open(*args, **kwargs)


def pytest_configure(config: pytest.Config) -> None:
    """Let rq-scheduler use old ways of asking for the time; all other warnings are errors."""
    config.addinivalue_line("filterwarnings", "ignore:Version 0.22:FutureWarning:rq_scheduler")
    config.addinivalue_line(
        "filterwarnings", "ignore:.*utc:DeprecationWarning:(rq_scheduler|crontab)"
    )


def pytest_itemcollected(item: pytest.Item) -> None:
    """Tell the tests of one operation from those of another by their ids, which share one name.

    Whoever spreads tests over processes, or names the one that failed, goes by the id.
    """
    if isinstance(item, SchemathesisFunction):
        item._nodeid = f"{item.parent.nodeid}::{item.name}"


@pytest.fixture(scope="session")
def environment() -> Iterator[None]:
    """Start the servers and point the environment at them, as `make run` would."""
    directory = Path(tempfile.mkdtemp(prefix="perennial-tests-"))
    before = dict(os.environ)
    try:
        with (
            embedded_postgres(directory / "postgres") as postgres,
            embedded_valkey(directory / "valkey") as valkey,
        ):
            os.environ.update(
                ENV_FILE=os.devnull,
                FLASK_SKIP_DOTENV="1",
                APP_ENV="testing",
                VAR_DIR=str(directory),
                DATABASE_URL=postgres.url,
                REDIS_URL=valkey.url,
                API_KEY=API_KEY,
                SECRET_KEY="a-secret-key-for-tests-of-32-bytes",
                TEST_CLOCK="1",
                WORKERS="2",
                SIMULATOR_PORT=str(free_port()),
                CALLBACK_ALLOWED_NETWORKS="127.0.0.0/8",
                CALLBACK_TIMEOUT_SECONDS="5",
                STORE_TIMEOUT_SECONDS="5",
                STORE_INTERACTIVE_TIMEOUT_SECONDS="5",
                REGISTER_RATE_LIMIT="100000/minute",
                LOGIN_RATE_LIMIT="100000/minute",
                LOG_LEVEL="WARNING",
                TZ="UTC",
            )
            yield
    finally:
        os.environ.clear()
        os.environ.update(before)
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="session")
def standard_settings(environment: None) -> Configuration:
    """What the environment says, read once for all tests.

    Threads of the server and of pools live on between tests. Were the settings read again when
    such a thread asks, it would read the environment of whatever test runs at that moment.
    """
    return read_settings()


@pytest.fixture(scope="session")
def migrated_app(standard_settings: Configuration) -> Iterator[Flask]:
    """The application over migrated tables; one for all tests."""
    # A real hash takes a tenth of a second; hundreds of tests register a company.
    passwords._hasher = QUICK_HASHER
    use_settings(standard_settings)
    app = create_app()
    app.test_client_class = Caller
    prepare_migrations(app)
    with app.app_context():
        upgrade()
    yield app
    with app.app_context():
        db.engine.dispose()


@pytest.fixture(scope="session")
def api_url(migrated_app: Flask) -> Iterator[str]:
    """The application's address, served over real HTTP."""
    server = make_server("127.0.0.1", 0, migrated_app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="session")
def _simulator(api_url: str) -> Iterator[SimulatorClient]:
    port = int(os.environ["SIMULATOR_PORT"])
    with running_simulator(port=port, clock_url=f"{api_url}/api/clock") as (client, _):
        yield client


@pytest.fixture
def simulator(_simulator: SimulatorClient) -> Iterator[SimulatorClient]:
    """The outside world, as it is at the start."""
    _simulator.reset()
    yield _simulator
    _simulator.reset()


@pytest.fixture
def app(migrated_app: Flask, standard_settings: Configuration) -> Iterator[Flask]:
    """The application with empty tables and an empty Redis, in its context."""
    with migrated_app.app_context():
        _empty_everything()
        pump.stopping.clear()
        yield migrated_app
        db.session.rollback()
    use_settings(standard_settings)


def _empty_everything() -> None:
    for thread in threading.enumerate():
        # What a test before woke for a moment later must not be queued in the next one.
        if isinstance(thread, threading.Timer) and thread.function is queues._enqueue_soon:
            thread.cancel()
            thread.join()
    queues._soon.clear()
    redis_client().flushall()
    limiter.reset()
    with db.engine.begin() as connection:
        connection.execute(text(_emptying()))


@functools.cache
def _emptying() -> str:
    """Return all of it as one statement: a trip per table would be a tenth of all testing."""
    tables = [table for table in db.metadata.sorted_tables if table.name not in NOT_EMPTIED]
    # For the few rows of a test, DELETE takes a tenth of the time of TRUNCATE.
    deletes = "".join(f"DELETE FROM {table.fullname};" for table in reversed(tables))
    return f"SET LOCAL synchronous_commit = off; DO $$ BEGIN {deletes} {RESTART_SEQUENCES}; END $$"


@pytest.fixture
def change_settings(app: Flask) -> ChangeSettings:
    """Give single settings another value for the rest of the test."""

    def change(**changes: Any) -> None:
        for name, value in changes.items():
            changed = dataclasses.replace(get_settings(AREA_OF[name]), **{name: value})
            use_settings(configuration().replaced(changed))

    return change


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    """A caller without any credential."""
    return app.test_client()


@pytest.fixture
def operator(app: Flask) -> FlaskClient:
    """A caller with the operator's key."""
    caller = app.test_client()
    caller.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {API_KEY}"
    return caller


@pytest.fixture
def clock(app: Flask) -> Clock:
    """The test clock."""
    return Clock()


@pytest.fixture
def factory(app: Flask, simulator: SimulatorClient) -> Factory:
    """Makes apps, devices and purchases through the services."""
    return Factory(simulator)


@contextmanager
def closed_database() -> Iterator[None]:
    """Have Postgres throw everybody out and let nobody in, as in a restart that takes long."""
    ours = db.engine.url.database
    beside = create_engine(db.engine.url.set(database="postgres"), isolation_level="AUTOCOMMIT")
    try:
        with beside.connect() as connection:
            connection.execute(text(f'ALTER DATABASE "{ours}" WITH ALLOW_CONNECTIONS false'))
            try:
                connection.execute(text(TERMINATE), {"database": ours})
                yield
            finally:
                connection.execute(text(f'ALTER DATABASE "{ours}" WITH ALLOW_CONNECTIONS true'))
    finally:
        beside.dispose()


@pytest.fixture
def database_away(app: Flask) -> Iterator[None]:
    """Postgres takes no connections."""
    with closed_database():
        yield
    db.engine.dispose()


@pytest.fixture
def cut_connections(app: Flask) -> Iterator[Callable[[], None]]:
    """Ends every connection to the database, as a failover does."""

    def cut() -> None:
        with closed_database():
            pass

    yield cut
    db.engine.dispose()


@pytest.fixture
def names(change_settings: ChangeSettings) -> Iterator[NameServer]:
    """The name server at which the names in users' URLs are looked up."""
    server = NameServer({"here.test": "127.0.0.1", "inside.test": "10.1.2.3"})
    change_settings(callback_dns_servers=(server.address,))
    yield server
    server.stop()


@pytest.fixture
def redis_away(change_settings: ChangeSettings) -> None:
    """Redis does not answer: nobody listens where it is said to be."""
    change_settings(redis_url=f"redis://127.0.0.1:{free_port()}/0")
