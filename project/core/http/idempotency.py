"""Idempotency-Key on POST: the same request again gets the first answer, for 24 hours."""

import hashlib
import json
import re
import time
from collections.abc import Callable
from datetime import timedelta
from functools import wraps
from typing import Any, TypeVar

from flask import Response, current_app, g, request
from sqlalchemy import and_, delete, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert

from project.core import clock
from project.core.db.models import IdempotencyKey
from project.core.db.transaction import is_open, transaction
from project.core.errors import PROBLEM_JSON, BadRequest, Conflict
from project.core.http.input import FORM_TYPES, read_body
from project.core.http.limiter import sender_key
from project.core.secrets import decrypt, encrypt
from project.extensions import db

HEADER = "Idempotency-Key"
KEPT_FOR = timedelta(hours=24)
LEASE = timedelta(seconds=60)
"""Longer than any view takes; one that was cut short holds its key so long."""
WAIT_SECONDS = 2.0
POLL_SECONDS = 0.05
_ALLOWED = re.compile(r"[\x21-\x7e]{1,255}")
View = TypeVar("View", bound=Callable[..., Any])


def idempotent(view: View) -> View:
    """Honour Idempotency-Key on this view, for whoever the view's guard has let in.

    Raises Conflict for the same key with another body, and for one whose first request is still
    at work after two seconds. A request that fails leaves its key as if it had never been used,
    unless the error is an outcome (see `AppError.is_outcome`): then it is the answer that is kept.
    """
    return _remembering(view, lambda: str(g.acting))


def idempotent_by(*identity: str) -> Callable[[View], View]:
    """Honour Idempotency-Key on a view that is open to all.

    The key is its sender's: that of an address, and there of what these fields of the body name.
    """

    def whose() -> str:
        body = read_body(request)
        return json.dumps([sender_key(), *(str(body.get(name)) for name in identity)])

    return lambda view: _remembering(view, whose)


def _remembering(view: View, whose: Callable[[], str]) -> View:
    @wraps(view)
    def remembered(*args: Any, **kwargs: Any) -> Any:
        key = request.headers.get(HEADER)
        if key is None:
            return view(*args, **kwargs)
        if not _ALLOWED.fullmatch(key):
            raise BadRequest(f"{HEADER} must be 1 to 255 visible ASCII characters.")
        row = _take(_Request(whose(), key))
        if row.answer is not None:
            return _replay(row)
        return _answer(row.id, lambda: view(*args, **kwargs))

    remembered.takes_idempotency_key = True  # type: ignore[attr-defined]
    return remembered  # type: ignore[return-value]


class _Request:
    """What a request is known by: whose it is and under which key, and what was sent."""

    def __init__(self, whose: str, key: str) -> None:
        self.scope_hash = _digest(request.method, request.path.rstrip("/"), whose, key)
        self.request_hash = _digest(request.mimetype, _sent_body())


def forget_old_keys() -> int:
    """Delete the keys that are older than 24 hours and return how many there were."""
    with transaction():
        old = delete(IdempotencyKey).where(IdempotencyKey.created_at < clock.now() - KEPT_FOR)
        return len(db.session.execute(old.returning(IdempotencyKey.id)).all())


def _take(wanted: _Request) -> IdempotencyKey:
    """Return the key's row: with its answer, or else claimed for this request.

    In a view of one transaction, a doubled request waits for the first one's commit. In one with
    its own transactions it looks again and again, in none of its own meanwhile.
    """
    give_up_at = time.monotonic() + WAIT_SECONDS
    while True:
        with transaction():
            row, is_ours = _claimed_row(wanted)
        if is_ours or row.answer is not None:
            return row
        if time.monotonic() >= give_up_at:
            raise Conflict(
                f"The first request with this {HEADER} is still at work. Try again in a moment.",
                headers={"Retry-After": "2"},
            )
        time.sleep(POLL_SECONDS)


def _claimed_row(wanted: _Request) -> tuple[IdempotencyKey, bool]:
    now = clock.now()
    mine = IdempotencyKey.scope_hash == wanted.scope_hash
    lease_end = func.now() + LEASE
    db.session.execute(
        delete(IdempotencyKey).where(mine, IdempotencyKey.created_at < now - KEPT_FOR)
    )
    made = insert(IdempotencyKey).values(
        scope_hash=wanted.scope_hash,
        request_hash=wanted.request_hash,
        created_at=now,
        claimed_until=lease_end,
    )
    taken_over = made.on_conflict_do_update(
        index_elements=["scope_hash"],
        set_={"claimed_until": lease_end},
        where=and_(
            IdempotencyKey.answer.is_(None),
            IdempotencyKey.request_hash == wanted.request_hash,
            or_(IdempotencyKey.claimed_until.is_(None), IdempotencyKey.claimed_until < func.now()),
        ),
    )
    ours = db.session.scalar(taken_over.returning(IdempotencyKey.id))
    row = db.session.scalars(
        select(IdempotencyKey).where(mine).execution_options(populate_existing=True)
    ).one()
    if row.request_hash != wanted.request_hash:
        raise Conflict(f"This {HEADER} was used with another body.")
    return row, ours is not None


def _answer(row_id: int, view: Callable[[], Any]) -> Response:
    try:
        response = current_app.make_response(view())
    except Exception as error:
        if is_open():
            # The view's one transaction takes the key back with all the rest.
            raise
        if not getattr(error, "is_outcome", False):
            with transaction():
                db.session.execute(delete(IdempotencyKey).where(IdempotencyKey.id == row_id))
            raise
        response = current_app.make_response(current_app.handle_user_exception(error))
    with transaction():
        _remember(row_id, response)
    return response


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
    body = answer["body"]
    if answer["type"] == PROBLEM_JSON:
        # A problem names the request that it answers, for whoever looks it up in the logs.
        body = json.dumps(json.loads(body) | {"request_id": g.request_id}, ensure_ascii=False)
    response = Response(body, status=row.status, content_type=answer["type"])
    response.headers["Idempotency-Replayed"] = "true"
    return response


def _digest(*parts: str) -> bytes:
    return hashlib.sha256("\n".join(parts).encode("utf-8", "surrogatepass")).digest()
