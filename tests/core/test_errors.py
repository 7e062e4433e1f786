"""Errors: one shape for all, written for people, and nothing of our insides in them."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import String, bindparam, literal, select, text
from sqlalchemy.pool import QueuePool
from werkzeug.test import TestResponse

from project.core import errors
from project.core.fast_path.reading import PreparedQuery
from project.extensions import db
from tests.conftest import ChangeSettings, closed_database
from tests.factories import Factory

INSIDES = ("Traceback", "psycopg", "sqlalchemy", "SELECT", "project/", "site-packages", "<html")


def problem_of(answer: TestResponse, status: int) -> dict[str, Any]:
    """Check the shape of a problem and return it."""
    assert answer.status_code == status, answer.get_data(as_text=True)
    assert answer.mimetype == "application/problem+json"
    told: dict[str, Any] = answer.get_json()
    assert {"type", "title", "status", "detail", "request_id"} <= told.keys()
    assert told["status"] == status
    assert told["title"]
    assert told["detail"].endswith(".")
    assert told["request_id"] == answer.headers["X-Request-ID"]
    assert answer.headers["Cache-Control"] == "no-store"
    assert not [word for word in INSIDES if word in answer.get_data(as_text=True)]
    return told


@pytest.fixture
def a_table_is_gone(app: Flask) -> Iterator[None]:
    """Something that nobody thought of: a table is not where it should be."""
    with db.engine.begin() as connection:
        connection.execute(text("ALTER TABLE apps RENAME TO apps_gone"))
    yield
    db.session.rollback()
    with db.engine.begin() as connection:
        connection.execute(text("ALTER TABLE apps_gone RENAME TO apps"))


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/"), ("GET", "/api/nothing"), ("POST", "/nothing/at/all")]
)
def test_nothing_at_this_address(client: FlaskClient, method: str, path: str) -> None:
    problem_of(client.open(path, method=method), 404)


@pytest.mark.parametrize("number", ["0", "-1", "1.5", "abc", "9223372036854775808", "9" * 400])
def test_an_id_that_can_be_nothings_is_not_found(operator: FlaskClient, number: str) -> None:
    problem_of(operator.get(f"/api/apps/{number}"), 404)


def test_a_method_that_an_address_does_not_take(operator: FlaskClient) -> None:
    answer = operator.delete("/api/apps")

    problem_of(answer, 405)
    assert {"GET", "POST"} <= set(answer.headers["Allow"].replace(" ", "").split(","))


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"{'single': 1}",
        b'{"name": NaN}',
        b'{"name": Infinity}',
        b"[" * 100_000,
        b'{"a":' * 50_000,
        b"[]",
        b'"text"',
        b"null",
        b"17",
        b"",
        b"\x00",
        b"\xff\xfe",
        b'{"name": "\xff"}',
    ],
)
def test_a_body_that_is_no_json_object(operator: FlaskClient, body: bytes) -> None:
    answer = operator.post("/api/apps", data=body, content_type="application/json")

    problem_of(answer, 400)


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({}, {"name", "endpoint"}),
        ({"name": None, "endpoint": None}, {"name", "endpoint"}),
        ({"name": 7, "endpoint": ["x"]}, {"name", "endpoint"}),
        ({"name": "", "endpoint": "https://example.com/"}, {"name"}),
        ({"name": "x" * 201, "endpoint": "https://example.com/"}, {"name"}),
        ({"name": "nul \x00", "endpoint": "https://example.com/"}, {"name"}),
        ({"name": "half \ud800", "endpoint": "https://example.com/"}, {"name"}),
        ({"name": "A", "endpoint": "https://example.com/", "color": "red"}, {"color"}),
    ],
)
def test_bad_fields_are_named(
    operator: FlaskClient, body: dict[str, Any], fields: set[str]
) -> None:
    told = problem_of(operator.post("/api/apps", json=body), 400)

    assert set(told["errors"]) == fields
    assert all(isinstance(said, list) and said for said in told["errors"].values())


@pytest.mark.parametrize("where", ["json", "form", "query", "check"])
def test_an_answer_does_not_grow_with_the_fields_that_are_not_known(
    operator: FlaskClient, where: str
) -> None:
    def answer(count: int) -> TestResponse:
        fields = {f"{'f' * 300}{number}": "x" for number in range(count)}
        match where:
            case "json":
                return operator.post("/api/apps", json=fields)
            case "form":
                return operator.post("/api/apps", data=fields)
            case "query":
                return operator.get("/api/apps", query_string=fields)
        return operator.post("/api/purchase/check", json={"client-token": "ct_x"} | fields)

    few, many = answer(30), answer(900)

    told = problem_of(many, 400)
    assert len(told["errors"]) == errors.SHOWN_ERRORS + 1
    assert "more" in told["errors"]["..."][0]
    assert abs(len(many.get_data()) - len(few.get_data())) < 100


@pytest.mark.parametrize("content_type", ["text/plain", "application/xml", "image/png", None])
def test_a_body_of_another_type(operator: FlaskClient, content_type: str | None) -> None:
    answer = operator.post("/api/apps", data=b"name=x", content_type=content_type)

    problem_of(answer, 415)


@pytest.mark.parametrize("kind", ["application/json", "application/x-www-form-urlencoded"])
def test_a_body_over_the_limit(operator: FlaskClient, kind: str) -> None:
    answer = operator.post("/api/apps", data=b"x" * 1_100_000, content_type=kind)

    problem_of(answer, 413)


def test_a_form_over_the_limit(operator: FlaskClient) -> None:
    problem_of(operator.post("/api/apps", data={"name": "x" * 1_100_000}), 413)


def test_no_credential(client: FlaskClient) -> None:
    answer = client.get("/api/apps")

    problem_of(answer, 401)
    assert answer.headers["WWW-Authenticate"] == 'Bearer realm="perennial"'


def test_too_many_requests_say_when_to_come_back(
    client: FlaskClient, factory: Factory, change_settings: ChangeSettings
) -> None:
    app = factory.app()
    change_settings(register_rate_limit="2/minute")
    body = {"uid": "u", "appId": app.id, "language": "en", "os": "ios"}

    answers = [client.post("/api/devices/register", json=body) for _ in range(3)]

    assert [answer.status_code for answer in answers] == [200, 200, 429]
    problem_of(answers[2], 429)
    assert 0 < int(answers[2].headers["Retry-After"]) <= 60


@pytest.mark.usefixtures("redis_away")
def test_the_limit_holds_without_redis_too(client: FlaskClient, factory: Factory) -> None:
    body = {"uid": "u", "appId": factory.app().id, "language": "en", "os": "ios"}

    assert client.post("/api/devices/register", json=body).status_code == 200


@pytest.mark.usefixtures("a_table_is_gone")
def test_an_unexpected_error_shows_nothing_of_our_insides(
    operator: FlaskClient, logs: list[dict[str, Any]]
) -> None:
    told = problem_of(operator.get("/api/apps"), 500)

    assert "errors" not in told
    assert "request_id" in told["detail"]
    (entry,) = [entry for entry in logs if entry["event"] == "request.failed"]
    assert "UndefinedTable" in repr(entry["exc_info"])


RAISING = "DO $$ BEGIN RAISE EXCEPTION 'about secret-value' USING ERRCODE = '{}'; END $$"
DATABASE_ERRORS = [
    ("SELECT 'secret-value'::int", 400),
    ("SELECT 9223372036854775807 + 1", 400),
    ("SELECT 1 / 0", 400),
    ("SELECT timestamptz '2026-01-01T00:00:00+16:00'", 400),
    ("SELECT convert('\\xe282ac', 'UTF8', 'LATIN1')", 400),
    (RAISING.format("22021"), 400),
    (RAISING.format("54000"), 400),
    (RAISING.format("23505"), 409),
    (RAISING.format("23503"), 409),
    (RAISING.format("23514"), 409),
    (RAISING.format("40001"), 503),
    (RAISING.format("40P01"), 503),
    (RAISING.format("55P03"), 503),
    (RAISING.format("57P01"), 503),
    (RAISING.format("53100"), 503),
    (RAISING.format("53300"), 503),
    (RAISING.format("25006"), 503),
    ("SELECT set_config('statement_timeout', '30', true); SELECT pg_sleep(9)", 503),
    ("SELECT pg_terminate_backend(pg_backend_pid())", 503),
]


def by_session(statement: str) -> None:
    db.session.execute(text(statement.replace(":", "\\:")))


def by_driver(statement: str) -> None:
    connection = db.engine.raw_connection()
    try:
        connection.cursor().execute(statement)
    finally:
        connection.invalidate()


@pytest.mark.parametrize("ask", [by_session, by_driver])
@pytest.mark.parametrize(("statement", "status"), DATABASE_ERRORS)
def test_what_the_database_refuses_is_a_problem_in_one_line_without_values(
    operator: FlaskClient,
    monkeypatch: pytest.MonkeyPatch,
    logs: list[dict[str, Any]],
    ask: Callable[[str], None],
    statement: str,
    status: int,
) -> None:
    views = operator.application.view_functions
    monkeypatch.setitem(views, "apps.list_apps", lambda: ask(statement))

    answer = operator.get("/api/apps")

    problem_of(answer, status)
    assert ("Retry-After" in answer.headers) == (status == 503)
    assert len(logs) == 1
    assert "secret-value" not in repr(logs)
    assert "exc_info" not in logs[0]


@pytest.mark.parametrize("value", ["half \ud83d", "nul \0"])
def test_a_text_that_the_driver_does_not_take_is_bad_input(
    operator: FlaskClient, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    prepared = PreparedQuery(select(bindparam("given", type_=String)))
    by_each = [
        lambda: prepared.one({"given": value}),
        lambda: db.session.execute(select(literal(value))),
    ]
    for ask in by_each:
        monkeypatch.setitem(operator.application.view_functions, "apps.list_apps", ask)
        problem_of(operator.get("/api/apps"), 400)


def test_a_pool_that_is_used_up_asks_to_come_back(
    operator: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = db.engine.pool
    assert isinstance(pool, QueuePool)
    monkeypatch.setattr(pool, "_timeout", 0.05)
    with ExitStack() as held:
        for _ in range(pool.size() + pool._max_overflow):
            held.enter_context(db.engine.connect())
        problem_of(operator.get("/api/apps"), 503)

    assert operator.get("/api/apps").status_code == 200


@pytest.mark.usefixtures("database_away")
@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/api/apps/1", None),
        ("POST", "/api/apps", {"name": "A", "endpoint": "https://8.8.8.8/"}),
        ("POST", "/api/purchase/check", {"client-token": "ct_unknown"}),
        ("POST", "/api/clock", {"advance": "1h"}),
    ],
)
def test_while_the_database_is_away_it_asks_to_come_back(
    operator: FlaskClient, method: str, path: str, body: Any
) -> None:
    started = time.monotonic()

    answer = operator.open(path, method=method, json=body)

    problem_of(answer, 503)
    assert int(answer.headers["Retry-After"]) == errors.RETRY_AFTER_SECONDS
    assert time.monotonic() - started < 5


def test_once_it_is_back_all_is_as_before(operator: FlaskClient) -> None:
    assert operator.get("/api/apps").status_code == 200
    with closed_database():
        assert operator.get("/api/apps").status_code == 503

    assert operator.get("/api/apps").status_code == 200


def test_connections_that_died_meanwhile_are_replaced(
    operator: FlaskClient, cut_connections: Callable[[], None]
) -> None:
    assert operator.get("/api/apps").status_code == 200

    cut_connections()

    statuses = [operator.get("/api/apps").status_code for _ in range(3)]
    assert set(statuses) <= {200, 503}
    assert statuses[-1] == 200


@pytest.mark.parametrize("path", ["//api/health/live", "/api//apps", "/api/apps/../health"])
def test_odd_spellings_of_a_path_get_no_html(client: FlaskClient, path: str) -> None:
    answer = client.open(path, method="GET", environ_overrides={"PATH_INFO": path})

    assert "text/html" not in answer.content_type


def test_every_answer_forbids_guessing_its_type(client: FlaskClient) -> None:
    for path in ("/api/health/live", "/api/nothing", "/docs", "/openapi.json"):
        assert client.get(path).headers["X-Content-Type-Options"] == "nosniff"
