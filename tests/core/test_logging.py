"""Logs: one line an event, with the request's id, and nothing secret in them."""

import io
import json
import logging
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
import structlog
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from project.config.environment import get_settings
from project.config.kernel import CoreSettings
from project.core import logging as product_logging
from project.extensions import db
from tests.conftest import ChangeSettings

Written = Callable[[], str]
SECRETS = [
    "pk_a-key-for-tests-that-opens-everything",
    "ct_AbCdEf0123456789",
    "whsec_AAAAaaaa+/bbbb==",
    "hunter2hunter2",
]


@pytest.fixture
def written(change_settings: ChangeSettings) -> Iterator[Written]:
    """Log as production does, and return what was written so far."""
    root, before = logging.getLogger(), structlog.get_config()
    handlers, level = root.handlers[:], root.level
    change_settings(log_level="INFO", log_format="json")
    product_logging.configure(get_settings(CoreSettings))
    stream = io.StringIO()
    for handler in root.handlers:
        assert isinstance(handler, logging.StreamHandler)
        handler.setStream(stream)
    yield stream.getvalue
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.configure(**before)


def fresh_logger() -> Any:
    return structlog.get_logger("of a test").bind()


def test_a_line_is_json_with_time_and_level(written: Written) -> None:
    fresh_logger().info("purchase.renewed", purchase_id=7)

    line = json.loads(written())

    assert line["event"] == "purchase.renewed"
    assert line["purchase_id"] == 7
    assert line["level"] == "info"
    assert line["timestamp"].endswith("Z")


@pytest.mark.parametrize(
    "name",
    ["token", "client_token", "callback_secret", "password", "Authorization", "api_key", "receipt"],
)
def test_a_field_with_a_secret_name_is_hidden(written: Written, name: str) -> None:
    fresh_logger().info("it.happened", **{name: "hunter2hunter2"})

    assert json.loads(written())[name] == "[hidden]"


@pytest.mark.parametrize("secret", SECRETS[:3])
def test_what_looks_like_a_secret_is_hidden_wherever_it_stands(
    written: Written, secret: str
) -> None:
    fresh_logger().info(f"got {secret}.", note=f"header was Bearer {secret}")
    logging.getLogger("some.library").error("could not use %s", secret)

    assert secret not in written()
    assert written().count("[hidden]") == 3


@pytest.mark.parametrize("secret", SECRETS[:3])
def test_nor_is_it_shown_inside_of_other_values(written: Written, secret: str) -> None:
    fresh_logger().info("it.happened", headers={"X-Client": [f"Bearer {secret}"]}, all=(secret,))
    fresh_logger().info("it.happened", request={"client-token": "hunter2hunter2"})
    logging.getLogger("some.library").error("could not use %s", {"token": secret})

    assert secret not in written()
    assert "hunter2" not in written()


@pytest.mark.parametrize("secret", SECRETS[:3])
def test_nor_in_a_stack_trace(written: Written, secret: str) -> None:
    try:
        raise ValueError(f"cannot read {secret}")
    except ValueError:
        fresh_logger().exception("it.failed")
        logging.getLogger("some.library").exception("it failed")

    assert secret not in written()
    assert "cannot read [hidden]" in written()


REFUSED = {
    "a duplicate": "INSERT INTO pg_temp.buyers VALUES (:email, :card), (:email, :card)",
    "a rule": "INSERT INTO pg_temp.buyers VALUES (:email, '')",
    "a cast": "SELECT CAST(:card AS integer)",
    "a broken document": "SELECT CAST(:email AS jsonb)",
}
BUYER = {"email": "margarethe of the looms", "card": "card-7731-2931"}


@pytest.mark.parametrize("reason", REFUSED)
def test_nor_are_the_values_of_a_statement_that_the_database_refused(
    written: Written, reason: str
) -> None:
    with db.engine.begin() as connection:
        connection.execute(
            text("CREATE TEMP TABLE buyers (email text UNIQUE, card text CHECK (card <> ''))")
        )
        with pytest.raises(DBAPIError) as caught, connection.begin_nested():
            connection.execute(text(REFUSED[reason]), BUYER)
        connection.execute(text("DROP TABLE pg_temp.buyers"))

    log_everywhere(caught.value)

    assert type(caught.value.orig).__name__ in written()
    assert [value for value in BUYER.values() if value in written()] == []


def test_nor_is_the_line_of_a_file_that_cannot_be_copied(written: Written) -> None:
    with db.engine.connect() as connection:
        connection.execute(text("CREATE TEMP TABLE amounts (name text, amount integer)"))
        driver: Any = connection.connection.driver_connection
        with (
            pytest.raises(psycopg.DataError) as caught,
            driver.cursor() as cursor,
            cursor.copy("COPY pg_temp.amounts FROM STDIN") as copy,
        ):
            copy.write_row((BUYER["email"], BUYER["card"]))

    log_everywhere(caught.value)

    assert "invalid input syntax for type integer" in written()
    assert [value for value in BUYER.values() if value in written()] == []


def log_everywhere(error: Exception) -> None:
    """Log as we do, as a library does, and as a program does that knows no logging."""
    try:
        raise RuntimeError("the job failed") from error
    except RuntimeError as failure:
        fresh_logger().exception("it.failed", reason=str(error))
        library = logging.getLogger("some.library")
        library.exception("it failed: %r", error)
        library.error("".join(traceback.format_exception(failure)))


@pytest.mark.parametrize(
    "said",
    [
        "https://gateway.example/send?to=4&secret=hunter2hunter2&x=1",
        "https://gateway.example/?api_key=hunter2hunter2",
        "GET /api/subscribers/callback/?Token=hunter2hunter2 HTTP/1.1",
        "hunter2@hunter2.example is registered already",
        "stored $argon2id$v=19$m=65536,t=3,p=4$hunter2$hunter2hunter2",
    ],
)
def test_nor_what_a_message_holds_of_them(written: Written, said: str) -> None:
    fresh_logger().warning("it.failed", reason=said)
    logging.getLogger("some.library").warning(said)

    assert "hunter2" not in written()
    assert written().count("[hidden]") >= 2


@pytest.mark.parametrize(
    "url",
    [
        "postgresql+psycopg://perennial:hunter2hunter2@db.example.com/perennial",
        "unix://:hunter2hunter2@/run/valkey.sock?db=0",
        "https://user:hunter2hunter2@example.com/",
    ],
)
def test_the_password_in_a_url_is_hidden(written: Written, url: str) -> None:
    fresh_logger().info("connecting", url=url)

    assert "hunter2" not in written()
    assert "[hidden]@" in written()


def test_what_is_not_secret_stays_readable(written: Written) -> None:
    fresh_logger().info("called", url="https://example.com/a:b@c", kind="ct_", count=3)

    line = json.loads(written())

    assert (line["kind"], line["count"]) == ("ct_", 3)
    assert line["url"].startswith("https://example.com/")


def test_lines_of_a_request_carry_its_id(written: Written, app: Flask, client: FlaskClient) -> None:
    answer = client.get("/api/health/live", headers={"X-Request-ID": "a-request-id-of-mine"})
    assert answer.headers["X-Request-ID"] == "a-request-id-of-mine"

    logging.getLogger("some.library").error("something")

    assert json.loads(written())["request_id"] == "a-request-id-of-mine"


@pytest.mark.parametrize("given", ["", "short", "x" * 65, "with space 12345", "<script>alert(1)"])
def test_an_id_that_could_garble_the_logs_is_replaced(client: FlaskClient, given: str) -> None:
    answer = client.get("/api/health/live", headers={"X-Request-ID": given})

    assert answer.headers["X-Request-ID"] != given
    assert len(answer.headers["X-Request-ID"]) == 36
