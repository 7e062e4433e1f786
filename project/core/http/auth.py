"""Operators' credentials: API keys with scopes, kept as SHA-256 only."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import wraps
from typing import Any, TypeVar

from flask import g, request
from sqlalchemy import select

from project.config.environment import get_settings
from project.config.kernel import CoreSettings
from project.core import clock
from project.core.db.models import ApiKey
from project.core.db.transaction import transaction
from project.core.errors import BadRequest, Conflict, Forbidden, NotFound, Unauthorized
from project.core.secrets import new_token, same, token_hash
from project.extensions import db

View = TypeVar("View", bound=Callable[..., Any])
PREFIX_LENGTH = 8


class Scope(StrEnum):
    """What a key may do."""

    READ = "read"
    WRITE = "write"


class Credential(StrEnum):
    """Who may call a route; every route states one, and a test holds it to that."""

    OPERATOR = "operator"
    DEVICE = "device"
    COMPANY = "company"
    COMPANY_OR_OPERATOR = "company or operator"
    SIGNATURE = "signature"
    GATEWAY = "gateway"
    PUBLIC = "public"


@dataclass(frozen=True)
class Principal:
    """Who is calling."""

    name: str
    scopes: frozenset[str]


def operator(scope: Scope) -> Callable[[View], View]:
    """Let operators through whose key has the scope: 401 without a known key, 403 without it."""

    def decorate(view: View) -> View:
        @wraps(view)
        def guarded(*args: Any, **kwargs: Any) -> Any:
            token = bearer_token()
            with transaction():
                g.principal = authenticate_operator(token, scope)
            act_as("operator", token_hash(token).hex())
            return view(*args, **kwargs)

        return requires(Credential.OPERATOR)(guarded)  # type: ignore[return-value]

    return decorate


def is_operator(scope: Scope) -> bool:
    """Tell whether a route that anybody may call is called by an operator with the scope."""
    try:
        authenticate_operator(bearer_token(), scope)
    except (Unauthorized, Forbidden):
        return False
    return True


def act_as(kind: str, key: object) -> None:
    """Note whose request this is: what is kept for one is nobody else's."""
    g.acting = f"{kind} {key}"


def requires(credential: Credential) -> Callable[[View], View]:
    """State which credential a route takes, for the API document and the guard test."""

    def decorate(view: View) -> View:
        view.credential = credential  # type: ignore[attr-defined]
        return view

    return decorate


public = requires(Credential.PUBLIC)


def bearer_token() -> str:
    """Return the token of the Authorization header. Raises Unauthorized if there is none."""
    return token_of(request.headers.get("Authorization"))


def token_of(authorization: str | None) -> str:
    """Return the token that an Authorization header bears. Raises Unauthorized."""
    scheme, _, token = (authorization or "").partition(" ")
    token = token.strip()
    if scheme.lower() != "bearer" or not token:
        raise Unauthorized("Send your API key in the header `Authorization: Bearer <key>`.")
    return token


def authenticate_operator(token: str, scope: Scope) -> Principal:
    """Return whose key it is. Raises Unauthorized, and Forbidden without the scope."""
    principal = _authenticate(token)
    if scope not in principal.scopes:
        raise Forbidden(f"This key has no {scope} scope.")
    return principal


def _authenticate(token: str) -> Principal:
    settings_key = get_settings(CoreSettings).api_key
    if settings_key is not None and same(token, settings_key):
        return Principal("operator", frozenset(Scope))
    key = db.session.scalar(
        select(ApiKey).where(ApiKey.key_hash == token_hash(token), ApiKey.revoked_at.is_(None))
    )
    if key is None:
        raise Unauthorized("This API key is not known or was revoked.")
    return Principal(key.name, frozenset(key.scopes))


def create_api_key(name: str, scopes: Sequence[Scope]) -> tuple[ApiKey, str]:
    """Make a key and return it with its secret, which is not kept.

    Raises BadRequest for an empty name, Conflict for the name of an active key.
    """
    if not name.strip():
        raise BadRequest("A key needs a name, so that people know which one to revoke.")
    if _active_keys(name):
        raise Conflict(f"There is already an active key named {name}. Revoke it first.")
    secret = new_token("pk")
    key = ApiKey(
        name=name,
        prefix=secret[:PREFIX_LENGTH],
        key_hash=token_hash(secret),
        scopes=[str(scope) for scope in scopes],
    )
    db.session.add(key)
    db.session.flush()
    return key, secret


def revoke_api_key(name: str) -> None:
    """Revoke the active key of this name. Raises NotFound."""
    keys = _active_keys(name)
    if not keys:
        raise NotFound(f"There is no active key named {name}.")
    for key in keys:
        key.revoked_at = clock.now()


def all_api_keys() -> Sequence[ApiKey]:
    """Return every key that was ever made, oldest first."""
    return db.session.scalars(select(ApiKey).order_by(ApiKey.id)).all()


def _active_keys(name: str) -> Sequence[ApiKey]:
    return db.session.scalars(
        select(ApiKey).where(ApiKey.name == name, ApiKey.revoked_at.is_(None))
    ).all()
