"""Operators' keys: known, in force, and with the scope that the call takes."""

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import text

from project.extensions import db
from tests.api.problems import assert_problem
from tests.conftest import API_KEY, ChangeSettings
from tests.factories import Factory

READS = [
    "/api/apps",
    "/api/apps/1",
    "/api/devices",
    "/api/devices/1",
    "/api/purchases",
    "/api/purchases/1",
    "/api/reports",
    "/api/callbacks",
    "/api/callbacks/1",
    "/api/companies",
    "/api/payments",
    "/api/reconciliation/cases",
    "/api/subscriptions",
]
WRITES = [
    ("POST", "/api/apps"),
    ("PATCH", "/api/apps/1"),
    ("POST", "/api/apps/1/secret"),
    ("POST", "/api/callbacks/1/replay"),
    ("POST", "/api/callbacks/replay"),
    ("POST", "/api/clock"),
    ("POST", "/api/packages"),
    ("PATCH", "/api/packages/1"),
    ("POST", "/api/payments"),
    ("POST", "/api/reconciliation/cases/1/resolve"),
    ("POST", "/api/companies/packages"),
    ("POST", "/api/companies/packages/cancel"),
    ("POST", "/api/companies/packages/pay"),
]
OPERATOR_CALLS = [("GET", path) for path in READS] + WRITES


def key_of(app: Flask, name: str, *scopes: str) -> dict[str, str]:
    options = [part for scope in scopes for part in ("--scope", scope)]
    made = app.test_cli_runner().invoke(args=["api-key", "create", name, *options])
    assert made.exit_code == 0, made.output
    return {"Authorization": f"Bearer {made.stdout.strip()}"}


@pytest.mark.parametrize(("method", "path"), OPERATOR_CALLS)
@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        "Bearer wrong",
        f"Bearer {API_KEY}x",
        f"Bearer {API_KEY[:-1]}",
        f"Bearer {API_KEY.upper()}",
        f"Basic {API_KEY}",
        API_KEY,
        "Bearer ' OR 1=1 --",
        "Bearer é",
        "Bearer " + "x" * 10_000,
    ],
)
def test_nobody_gets_through_without_a_known_key(
    client: FlaskClient, method: str, path: str, authorization: str | None
) -> None:
    headers = {} if authorization is None else {"Authorization": authorization}
    answer = client.open(path, method=method, headers=headers)
    assert_problem(answer, 401)
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")


def test_a_key_in_the_query_is_no_key(client: FlaskClient) -> None:
    assert_problem(client.get(f"/api/apps?api_key={API_KEY}"), 401)


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_the_scheme_may_be_written_in_any_case(client: FlaskClient, scheme: str) -> None:
    headers = {"Authorization": f"{scheme} {API_KEY}"}
    assert client.get("/api/apps", headers=headers).status_code == 200


@pytest.mark.parametrize("path", READS)
def test_a_key_that_may_read_reads(
    app: Flask, client: FlaskClient, factory: Factory, path: str
) -> None:
    factory.purchase()
    reader, writer = key_of(app, "reader", "read"), key_of(app, "writer", "write")
    assert client.get(path, headers=reader).status_code == 200
    assert_problem(client.get(path, headers=writer), 403)


@pytest.mark.parametrize(("method", "path"), WRITES)
def test_a_key_that_may_only_read_writes_nothing(
    app: Flask, client: FlaskClient, factory: Factory, method: str, path: str
) -> None:
    factory.purchase()
    reader, writer = key_of(app, "reader", "read"), key_of(app, "writer", "write")
    assert_problem(client.open(path, method=method, headers=reader, json={}), 403)
    assert client.open(path, method=method, headers=writer, json={}).status_code not in (401, 403)


def test_a_key_without_a_named_scope_may_both(app: Flask, client: FlaskClient) -> None:
    headers = key_of(app, "both")
    body = {"name": "Weather", "endpoint": "http://127.0.0.1:9/"}
    assert client.post("/api/apps", json=body, headers=headers).status_code == 201
    assert client.get("/api/apps/1", headers=headers).status_code == 200


def test_a_revoked_key_is_dead_at_once_and_its_name_is_free(
    app: Flask, client: FlaskClient
) -> None:
    flask = app.test_cli_runner()
    headers = key_of(app, "partner")
    assert client.get("/api/apps", headers=headers).status_code == 200
    twice = flask.invoke(args=["api-key", "create", "partner"])
    assert twice.exit_code == 1
    assert "already an active key named partner" in twice.output
    assert flask.invoke(args=["api-key", "revoke", "partner"]).exit_code == 0
    assert_problem(client.get("/api/apps", headers=headers), 401)
    again = flask.invoke(args=["api-key", "revoke", "partner"])
    assert again.exit_code == 1
    assert "no active key" in again.output
    assert client.get("/api/apps", headers=key_of(app, "partner")).status_code == 200


def test_keys_are_listed_without_what_opens_anything(app: Flask) -> None:
    secret = key_of(app, "partner", "read")["Authorization"].removeprefix("Bearer ")
    listed = app.test_cli_runner().invoke(args=["api-key", "list"])
    assert "partner" in listed.output
    assert secret[:8] in listed.output
    assert secret not in listed.output
    assert secret[8:] not in listed.output
    rows = str(db.session.execute(text("SELECT api_keys::text FROM api_keys")).all())
    assert "partner" in rows
    assert secret not in rows


def test_without_an_api_key_in_the_settings_only_made_keys_open(
    app: Flask, client: FlaskClient, change_settings: ChangeSettings
) -> None:
    headers = key_of(app, "partner")
    change_settings(api_key=None)
    assert client.get("/api/apps", headers=headers).status_code == 200
    for key in (API_KEY, "None", "null"):
        assert_problem(client.get("/api/apps", headers={"Authorization": f"Bearer {key}"}), 401)


def test_a_wrong_key_is_refused_before_its_body_is_looked_at(client: FlaskClient) -> None:
    answer = client.post("/api/apps", data=b"{", content_type="application/json")
    assert_problem(answer, 401)
