"""Logs: one line an event, with the request's id, and nothing secret in them."""

import io
import json
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import structlog
from flask import Flask
from flask.testing import FlaskClient

from project import config
from project.core import logging as product_logging
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
    product_logging.configure(config.get_settings())
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
