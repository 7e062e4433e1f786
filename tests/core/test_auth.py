"""API keys: made once, listed without their secret, revoked at once; scopes hold."""

from datetime import UTC, datetime, timedelta

import pytest
from flask.testing import FlaskClient
from sqlalchemy import text

from project.core.db.transaction import transaction
from project.core.errors import Conflict, NotFound
from project.core.http.auth import Scope, all_api_keys, create_api_key, revoke_api_key
from project.extensions import db
from tests.conftest import API_KEY, ChangeSettings


def make_key(name: str = "a key", *scopes: Scope) -> str:
    with transaction():
        _, secret = create_api_key(name, scopes or list(Scope))
    return secret


def status(client: FlaskClient, authorization: str | None, method: str = "GET") -> int:
    headers = {} if authorization is None else {"Authorization": authorization}
    json = {"name": "An app", "endpoint": "http://127.0.0.1:9/"} if method == "POST" else None
    return client.open("/api/apps", method=method, headers=headers, json=json).status_code


def test_a_key_opens_what_its_scopes_say(client: FlaskClient) -> None:
    reader, writer = make_key("reader", Scope.READ), make_key("writer", Scope.WRITE)

    assert status(client, f"Bearer {reader}") == 200
    assert status(client, f"Bearer {reader}", "POST") == 403
    assert status(client, f"Bearer {writer}") == 403
    assert status(client, f"Bearer {writer}", "POST") == 201


def test_the_answer_names_the_missing_scope(client: FlaskClient) -> None:
    reader = make_key("reader", Scope.READ)

    answer = client.post("/api/apps", headers={"Authorization": f"Bearer {reader}"})

    assert answer.get_json()["detail"] == "This key has no write scope."


def test_the_settings_key_may_do_everything(
    client: FlaskClient, change_settings: ChangeSettings
) -> None:
    assert status(client, f"Bearer {API_KEY}") == 200
    assert status(client, f"Bearer {API_KEY}", "POST") == 201

    change_settings(api_key=None)

    assert status(client, f"Bearer {API_KEY}") == 401


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        "Bearer None",
        "Bearer pk_unknown",
        f"Basic {API_KEY}",
        f"Token {API_KEY}",
        API_KEY,
        f"Bearer {API_KEY}x",
        f"Bearer {API_KEY[:-1]}",
        f"Bearer {API_KEY} {API_KEY}",
        "Bearer ' OR 1=1 --",
        "Bearer pk_é",
        "Bearer " + "x" * 10_000,
    ],
)
def test_without_a_known_key_nothing_opens(client: FlaskClient, authorization: str | None) -> None:
    headers = {} if authorization is None else {"Authorization": authorization}

    answer = client.get("/api/apps", headers=headers)

    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    assert answer.mimetype == "application/problem+json"


@pytest.mark.parametrize("scheme", ["bearer", "BEARER", "Bearer "])
def test_the_scheme_is_read_as_http_writes_it(client: FlaskClient, scheme: str) -> None:
    assert status(client, f"{scheme} {API_KEY}") == 200


def test_a_revoked_key_opens_nothing_more(client: FlaskClient) -> None:
    secret = make_key()

    with transaction():
        revoke_api_key("a key")

    assert status(client, f"Bearer {secret}") == 401
    with transaction():
        (key,) = all_api_keys()
    assert key.revoked_at is not None
    assert datetime.now(UTC) - key.revoked_at < timedelta(seconds=10)


@pytest.mark.usefixtures("app")
def test_only_a_hash_of_the_secret_is_kept() -> None:
    secret = make_key()

    with db.engine.connect() as connection:
        row = connection.execute(text("SELECT api_keys::text FROM api_keys")).scalar_one()

    assert secret not in row
    assert secret[9:] not in row
    assert len(secret) > 40


@pytest.mark.usefixtures("app")
def test_keys_are_listed_oldest_first() -> None:
    make_key("one", Scope.READ)
    make_key("two")

    with transaction():
        listed = [(key.name, key.scopes) for key in all_api_keys()]

    assert listed == [("one", ["read"]), ("two", ["read", "write"])]


@pytest.mark.usefixtures("app")
def test_a_name_is_given_to_one_active_key_at_a_time() -> None:
    make_key("deploy")
    with pytest.raises(Conflict, match="already an active key named deploy"):
        make_key("deploy")

    with transaction():
        revoke_api_key("deploy")

    assert make_key("deploy").startswith("pk_")


@pytest.mark.usefixtures("app")
def test_what_is_not_there_cannot_be_revoked() -> None:
    make_key("gone")
    with transaction():
        revoke_api_key("gone")

    for name in ("gone", "never there"):
        with pytest.raises(NotFound), transaction():
            revoke_api_key(name)
