"""Idempotency-Key on POST: the same request again gets the first answer, for 24 hours."""

import hashlib
import json
import re
from collections.abc import Callable
from datetime import timedelta
from functools import wraps
from typing import Any, TypeVar

from flask import Response, current_app, request
from sqlalchemy import delete, select, update
from sqlalchemy.dialects.postgresql import insert

from project.core import clock
from project.core.errors import BadRequest, Conflict
from project.core.input import FORM_TYPES, read_body
from project.core.models import IdempotencyKey
from project.core.secrets import decrypt, encrypt
from project.core.transaction import transaction
from project.extensions import db

HEADER = "Idempotency-Key"
CREDENTIAL_HEADERS = ("Authorization", "X-Client-Token")
KEPT_FOR = timedelta(hours=24)
_ALLOWED = re.compile(r"[\x21-\x7e]{1,255}")
View = TypeVar("View", bound=Callable[..., Any])


def idempotent(view: View) -> View:
    """Honour Idempotency-Key on this view. Raises Conflict for the same key with another body.

    In a view of one transaction, a doubled request waits for the first one's commit. In a view
    with its own transactions it runs again unless the first has answered, so such a view must
    itself be safe to repeat.
    """

    @wraps(view)
    def remembered(*args: Any, **kwargs: Any) -> Any:
        key = request.headers.get(HEADER)
        if key is None:
            return view(*args, **kwargs)
        with transaction():
            row = _take(key)
            if row.answer is not None and row.status is not None:
                return _replay(row)
        response = current_app.make_response(view(*args, **kwargs))
        with transaction():
            _remember(row.id, response)
        return response

    remembered.takes_idempotency_key = True  # type: ignore[attr-defined]
    return remembered  # type: ignore[return-value]


def forget_old_keys() -> int:
    """Delete the keys that are older than 24 hours and return how many there were."""
    with transaction():
        old = delete(IdempotencyKey).where(IdempotencyKey.created_at < clock.now() - KEPT_FOR)
        return len(db.session.execute(old.returning(IdempotencyKey.id)).all())


def _take(key: str) -> IdempotencyKey:
    if not _ALLOWED.fullmatch(key):
        raise BadRequest(f"{HEADER} must be 1 to 255 visible ASCII characters.")
    now = clock.now()
    credentials = [request.headers.get(name, "") for name in CREDENTIAL_HEADERS]
    scope_hash = _digest(request.method, request.path.rstrip("/"), *credentials, key)
    request_hash = _digest(request.mimetype, _sent_body())
    db.session.execute(
        delete(IdempotencyKey).where(
            IdempotencyKey.scope_hash == scope_hash, IdempotencyKey.created_at < now - KEPT_FOR
        )
    )
    db.session.execute(
        insert(IdempotencyKey)
        .values(scope_hash=scope_hash, request_hash=request_hash, created_at=now)
        .on_conflict_do_nothing(index_elements=["scope_hash"])
    )
    row = db.session.scalars(
        select(IdempotencyKey).where(IdempotencyKey.scope_hash == scope_hash)
    ).one()
    if row.request_hash != request_hash:
        raise Conflict(f"This {HEADER} was used with another body.")
    return row


def _sent_body() -> str:
    """Return what was sent, without the boundary that a client draws anew for each try."""
    if request.mimetype in FORM_TYPES:
        return json.dumps(read_body(request), sort_keys=True)
    return request.get_data(cache=True).hex()


def _remember(row_id: int, response: Response) -> None:
    answer = {"body": response.get_data(as_text=True), "type": response.content_type}
    db.session.execute(
        update(IdempotencyKey)
        .where(IdempotencyKey.id == row_id, IdempotencyKey.answer.is_(None))
        .values(status=response.status_code, answer=encrypt(json.dumps(answer)))
    )


def _replay(row: IdempotencyKey) -> Response:
    answer = json.loads(decrypt(row.answer or b""))
    response = Response(answer["body"], status=row.status, content_type=answer["type"])
    response.headers["Idempotency-Replayed"] = "true"
    return response


def _digest(*parts: str) -> bytes:
    return hashlib.sha256("\n".join(parts).encode("utf-8", "surrogatepass")).digest()
