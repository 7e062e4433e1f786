"""Endpoints and their secrets, events and the callbacks that tell of them, replays."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any
from uuid import UUID

import uuid_utils.compat
from sqlalchemy import case, select, update

from project.callbacks import queries
from project.callbacks.models import LANES, MAX_FORMER_SECRETS, Callback, DeliveryLane, Endpoint
from project.callbacks.settings import CallbackSettings
from project.callbacks.signing import is_signed, new_signing_secret
from project.callbacks.states import CALLBACK_MOVES, AttemptTrigger, CallbackState
from project.config.environment import get_settings
from project.core import clock
from project.core.db import bulk
from project.core.errors import NotFound
from project.core.secrets import InvalidToken, decrypt, encrypt
from project.core.work.claims import is_free
from project.core.work.queues import QueueName, Wakeup, wake
from project.extensions import db

CALLBACKS_DUE = Wakeup("callbacks", QueueName.HIGH, "project.callbacks.jobs.deliver_due_callbacks")


@dataclass(frozen=True)
class NewEvent:
    """An event to be written, and the endpoint that is to hear of it, if there is one.

    `data` is what the receiver sees beside `id`, `type` and `occurred_at`.
    """

    type: str
    subject_type: str
    subject_id: int
    data: dict[str, Any]
    occurred_at: datetime
    endpoint_id: int | None


def create_endpoint(url: str, *, owner_type: str, owner_id: int) -> tuple[int, str]:
    """Make an endpoint and return its id with its signing secret, which is shown this once."""
    secret = new_signing_secret()
    now = clock.now()
    endpoint = Endpoint(
        owner_type=owner_type, owner_id=owner_id, url=url, secret=encrypt(secret), created_at=now
    )
    db.session.add(endpoint)
    db.session.flush()
    db.session.add_all(
        DeliveryLane(endpoint_id=endpoint.id, number=number, due_at=now) for number in range(LANES)
    )
    return endpoint.id, secret


def change_url(endpoint_id: int, url: str) -> None:
    """Send to another URL from now on, also what is still pending; rest no longer, start slowly."""
    endpoint = _existing_endpoint(endpoint_id)
    if endpoint.url == url:
        return
    endpoint.url = url
    db.session.execute(
        update(DeliveryLane)
        .where(DeliveryLane.endpoint_id == endpoint.id)
        .values(due_at=clock.now(), timeouts_in_a_row=0, concurrency=1, slow_start_threshold=None)
    )


def rotate_secret(endpoint_id: int) -> str:
    """Give the endpoint a new signing secret; each old one signs along for a while (24 h).

    Of more than ten, the oldest end early, or the header would have no end.
    """
    endpoint = _existing_endpoint(endpoint_id)
    secret = new_signing_secret()
    until = clock.now() + timedelta(
        seconds=get_settings(CallbackSettings).callback_secret_overlap_seconds
    )
    newest = {"sealed": endpoint.secret.decode(), "until": until.isoformat()}
    in_force = _former_in_force(endpoint, clock.now())
    endpoint.former_secrets = [newest, *in_force][:MAX_FORMER_SECRETS]
    endpoint.secret = encrypt(secret)
    return secret


def is_signed_by_owner(
    endpoint_id: int, message_id: str, timestamp: int, body: bytes, signature: str
) -> bool:
    """Tell whether whoever has the endpoint's secret signed a message, as we sign callbacks."""
    endpoint = db.session.get_one(Endpoint, endpoint_id)
    return is_signed(message_id, timestamp, body, signature, secrets_in_force(endpoint))


def secrets_in_force(endpoint: Endpoint) -> list[str]:
    """Return the secrets that sign now, the newest first, but those that no SECRET_KEY opens."""
    former = _former_in_force(endpoint, clock.now())
    opened = map(_open_secret, (endpoint.secret, *(secret["sealed"].encode() for secret in former)))
    return [secret for secret in opened if secret is not None]


def _former_in_force(endpoint: Endpoint, now: datetime) -> list[dict[str, str]]:
    return [
        former
        for former in endpoint.former_secrets
        if datetime.fromisoformat(former["until"]) > now
    ]


@lru_cache(maxsize=4096)
def _open_secret(sealed: bytes) -> str | None:
    """Return a signing secret; None if it cannot be read, which must not stop the others."""
    try:
        return decrypt(sealed)
    except InvalidToken:
        return None


def emit(events: Sequence[NewEvent]) -> list[UUID]:
    """Write the events, and a callback with a frozen body for each that has an endpoint.

    Part of the caller's transaction: what happened and the telling of it are recorded together
    or not at all. Returns the ids in the order of the events.
    """
    if not events:
        return []
    ids = [uuid_utils.compat.uuid7() for _ in events]
    bulk.insert_rows(queries.events, [_event_row(*pair) for pair in zip(ids, events, strict=True)])
    callbacks = [
        _callback_row(event_id, event, event.endpoint_id)
        for event_id, event in zip(ids, events, strict=True)
        if event.endpoint_id is not None
    ]
    if callbacks:
        bulk.insert_rows(queries.callbacks, callbacks)
        wake(CALLBACKS_DUE)
    return ids


def _event_row(event_id: UUID, event: NewEvent) -> dict[str, Any]:
    return {
        "id": event_id,
        "type": event.type,
        "subject_type": event.subject_type,
        "subject_id": event.subject_id,
        "data": json.dumps(event.data),
        "occurred_at": event.occurred_at,
    }


def _callback_row(event_id: UUID, event: NewEvent, endpoint_id: int) -> dict[str, Any]:
    body = {"id": str(event_id), "type": event.type, **event.data}
    body["occurred_at"] = event.occurred_at.isoformat()
    return {
        "event_id": event_id,
        "endpoint_id": endpoint_id,
        "type": event.type,
        "body": json.dumps(body, separators=(",", ":")),
        "state": CallbackState.PENDING,
        "attempts": 0,
        "attempts_allowed": get_settings(CallbackSettings).callback_max_attempts,
        "due_at": event.occurred_at,
        "created_at": event.occurred_at,
    }


def replay(callback_id: int) -> int:
    """Ask for one more attempt now and return how many were asked for. Raises NotFound.

    The attempt has the same id and body and does not use up the scheduled ones. A callback that
    is under way at this moment is left to that attempt.
    """
    if not queries.callback_exists(callback_id):
        raise NotFound(f"There is no callback {callback_id}.")
    return _replay_where(Callback.id == callback_id)


def replay_many(
    *,
    since: datetime,
    app_id: int | None = None,
    company_id: int | None = None,
    state: CallbackState = CallbackState.FAILED,
) -> int:
    """Replay every callback of the state that was made since then; return how many."""
    conditions = [Callback.created_at >= since, Callback.state == state]
    if app_id is not None:
        conditions.append(Callback.endpoint_id.in_(queries.endpoint_ids_of_app(app_id)))
    if company_id is not None:
        conditions.append(Callback.endpoint_id.in_(queries.endpoint_ids_of_company(company_id)))
    return _replay_where(*conditions)


def _replay_where(*conditions: Any) -> int:
    replayable = {*CALLBACK_MOVES.before(CallbackState.PENDING), CallbackState.PENDING}
    replayed = db.session.execute(
        update(Callback)
        .where(*conditions, Callback.state.in_(replayable), is_free(queries.callbacks))
        .values(
            state=CallbackState.PENDING,
            trigger=AttemptTrigger.REPLAY,
            due_at=clock.now(),
            unsent_since=None,
            attempts_allowed=case(
                (Callback.attempts_allowed > Callback.attempts, Callback.attempts_allowed),
                else_=Callback.attempts,
            )
            + 1,
        )
        .returning(Callback.id)
    ).all()
    if replayed:
        wake(CALLBACKS_DUE)
    return len(replayed)


def _existing_endpoint(endpoint_id: int) -> Endpoint:
    return db.session.scalars(
        select(Endpoint).where(Endpoint.id == endpoint_id).with_for_update()
    ).one()
