"""Delivery: lanes are claimed, each carries its endpoint's due callbacks one after another.

An endpoint has two lanes, so it never has more than two requests in flight, whichever workers
send them; and as every lane goes its own way, one that hangs holds up nobody else's.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, Integer, Row, Uuid, update

from project.callbacks import queries
from project.callbacks.models import Endpoint
from project.callbacks.service import CALLBACKS_DUE, secrets_in_force
from project.callbacks.settings import CallbackSettings
from project.callbacks.signing import signing_headers
from project.callbacks.states import CALLBACK_MOVES, AttemptTrigger, CallbackState
from project.config.environment import get_settings
from project.core import clock
from project.core.db import bulk
from project.core.db.models import Timestamp
from project.core.net import http_client
from project.core.net.http_client import Answer, Request
from project.core.work.claims import RELEASED, claim, lease_for
from project.extensions import db

PER_ENDPOINT = 50
LANE_SECONDS = 2.0
REST_SECONDS = 5
MAX_REST_SECONDS = 30
UNSENT_PAUSE_SECONDS = 60
UNSENT_EXCUSED_FOR = timedelta(hours=24)
SUCCESS = (200, 201)
GONE = 410
KEPT_ANSWER_CHARACTERS = 500
UNSIGNABLE = Answer(
    status=None,
    body=b"",
    headers={},
    error="not sent: SECRET_KEY does not open the endpoint's signing secret",
    timed_out=False,
    seconds=0,
    connected=False,
    excused=True,
)


@dataclass(frozen=True)
class Sent:
    """A callback that was sent, and what was answered."""

    callback: Row[Any]
    answer: Answer
    sent_at: datetime

    def is_attempt(self, now: datetime) -> bool:
        """Tell whether this used an attempt.

        A request that could not be sent, for a reason that is not known to be the endpoint's, uses
        none until it has been so for a day.
        """
        since = self.callback.unsent_since
        return not self.answer.excused or (since is not None and now - since >= UNSENT_EXCUSED_FOR)


@dataclass
class Lane:
    """A claimed lane with its load."""

    id: int
    claim_id: UUID
    timeouts_in_a_row: int
    url: str
    secrets: Sequence[str]
    callbacks_claim_id: UUID
    load: list[Row[Any]] = field(default_factory=list)


class CallbackDelivery:
    """Due callbacks, as the pump works through them; an item is a lane."""

    wakeup = CALLBACKS_DUE

    def __init__(self) -> None:
        settings = get_settings(CallbackSettings)
        self.capacity = settings.callback_concurrency
        self.armful = max(2, self.capacity // 4)
        self.suspects_under_way = 0
        self.sent = 0

    def claim(self, limit: int) -> list[Lane]:
        """Claim usable lanes and a load for each.

        Endpoints that hung last time get at most half of this process's capacity.
        """
        claimed = self._claim_lanes(limit, suspected=False)
        suspects_allowed = self.capacity // 2 - self.suspects_under_way
        more = min(limit - len(claimed), suspects_allowed)
        if more > 0:
            suspects = self._claim_lanes(more, suspected=True)
            self.suspects_under_way += len(suspects)
            claimed += suspects
        return _load(claimed)

    def _claim_lanes(self, limit: int, *, suspected: bool) -> list[tuple[UUID, Row[Any]]]:
        lanes = queries.lanes
        taken = claim(
            lanes,
            queries.usable_lanes(limit=limit, suspected=suspected),
            lease=_lease(),
            returning=[lanes.c.id, lanes.c.endpoint_id, lanes.c.timeouts_in_a_row],
        )
        return [(taken.id, row) for row in taken.rows]

    async def call(self, lane: Lane) -> list[Sent]:
        """Send the lane's load in order; stop when it takes long, or when the endpoint hangs."""
        sent: list[Sent] = []
        stop_at = time.monotonic() + LANE_SECONDS
        for callback in lane.load:
            sent_at = clock.real_now()
            answer = (
                await http_client.send(_request(lane, callback, sent_at))
                if lane.secrets
                else UNSIGNABLE
            )
            sent.append(Sent(callback, answer, sent_at))
            if _is_suspicious(answer) or time.monotonic() > stop_at:
                break
        return sent

    def record(self, results: Sequence[tuple[Lane, list[Sent]]]) -> None:
        """Record every answer, give back what was not sent, and free the lanes."""
        now = clock.now()
        _record_answers([(lane, sent) for lane, all_sent in results for sent in all_sent], now)
        _give_back(
            [
                (lane.callbacks_claim_id, callback.id)
                for lane, all_sent in results
                for callback in lane.load[len(all_sent) :]
            ]
        )
        _free_lanes(results, now)
        self.suspects_under_way -= sum(lane.timeouts_in_a_row > 0 for lane, _ in results)
        self.sent += sum(len(all_sent) for _, all_sent in results)

    def is_anything_due(self) -> bool:
        """Tell whether a free lane has a due callback."""
        return queries.is_delivery_possible()


def _lease() -> timedelta:
    """Outlive the longest lane: its budget, and one more call at the full deadline."""
    return lease_for(LANE_SECONDS + get_settings(CallbackSettings).callback_timeout_seconds)


def _load(claimed: Sequence[tuple[UUID, Row[Any]]]) -> list[Lane]:
    if not claimed:
        return []
    callbacks = queries.callbacks
    endpoint_ids = sorted({row.endpoint_id for _, row in claimed})
    taken = claim(
        callbacks,
        queries.due_callbacks(endpoint_ids, each=PER_ENDPOINT),
        lease=_lease(),
        returning=[
            callbacks.c.id,
            callbacks.c.event_id,
            callbacks.c.endpoint_id,
            callbacks.c.body,
            callbacks.c.attempts,
            callbacks.c.attempts_allowed,
            callbacks.c.trigger,
            callbacks.c.due_at,
            callbacks.c.unsent_since,
        ],
    )
    endpoints = queries.endpoints_by_id(endpoint_ids)
    lanes_of: dict[int, list[Lane]] = {}
    for claim_id, row in claimed:
        lane = _lane(claim_id, row, endpoints[row.endpoint_id], taken.id)
        lanes_of.setdefault(row.endpoint_id, []).append(lane)
    for position, callback in enumerate(sorted(taken.rows, key=lambda row: (row.due_at, row.id))):
        lanes = lanes_of[callback.endpoint_id]
        lanes[position % len(lanes)].load.append(callback)
    return [lane for lanes in lanes_of.values() for lane in lanes]


def _lane(claim_id: UUID, row: Row[Any], endpoint: Endpoint, callbacks_claim_id: UUID) -> Lane:
    secrets = secrets_in_force(endpoint)
    return Lane(row.id, claim_id, row.timeouts_in_a_row, endpoint.url, secrets, callbacks_claim_id)


def _request(lane: Lane, callback: Row[Any], sent_at: datetime) -> Request:
    settings = get_settings(CallbackSettings)
    body = callback.body.encode()
    headers = signing_headers(str(callback.event_id), body, lane.secrets, sent_at)
    headers["Content-Type"] = "application/json"
    return Request(
        "POST",
        lane.url,
        body,
        headers,
        deadline_seconds=settings.callback_timeout_seconds,
        max_answer_bytes=settings.callback_max_answer_bytes,
        guarded=True,
        needs_body=False,
    )


def _is_suspicious(answer: Answer) -> bool:
    """Tell whether the endpoint, or the way to it, hangs: its lane rests, and others come first."""
    return answer.timed_out or answer.excused


def _record_answers(answers: Sequence[tuple[Lane, Sent]], now: datetime) -> None:
    if not answers:
        return
    callbacks = queries.callbacks
    outcomes = [_outcome(lane, sent, now) for lane, sent in answers]
    types = {"unused_attempts": Integer()} | {column.name: column.type for column in callbacks.c}
    outcome = bulk.rows_of(
        {name: (types[name], [row[name] for row in outcomes]) for name in outcomes[0]}
    )
    db.session.execute(
        update(callbacks)
        .where(callbacks.c.id == outcome.c.id, callbacks.c.claim_id == outcome.c.claim_id)
        .values(
            state=outcome.c.state,
            due_at=outcome.c.due_at,
            last_status=outcome.c.last_status,
            last_error=outcome.c.last_error,
            delivered_at=outcome.c.delivered_at,
            trigger=outcome.c.trigger,
            attempts=callbacks.c.attempts - outcome.c.unused_attempts,
            unsent_since=outcome.c.unsent_since,
            **RELEASED,
        )
    )
    attempts = [_attempt(lane, sent, now) for lane, sent in answers if sent.is_attempt(now)]
    if attempts:
        bulk.insert_rows(queries.attempts, attempts)


def _outcome(lane: Lane, sent: Sent, now: datetime) -> dict[str, Any]:
    callback, answer, is_attempt = sent.callback, sent.answer, sent.is_attempt(now)
    state = state_after(callback, answer) if is_attempt else CallbackState.PENDING
    pause = timedelta(seconds=get_settings(CallbackSettings).callback_retry_seconds)
    # A test clock that was set back may have left a later moment.
    unsent_since = min(callback.unsent_since or now, now) if answer.excused else None
    if unsent_since is not None and not is_attempt:
        # Soon at first, then at ever longer intervals: for a quarter of the time it has taken.
        soon = max(timedelta(seconds=UNSENT_PAUSE_SECONDS), (now - unsent_since) / 4)
        pause = min(pause, soon)
    CALLBACK_MOVES.require(CallbackState.PENDING, state)
    return {
        "id": callback.id,
        "claim_id": lane.callbacks_claim_id,
        "state": state,
        "due_at": now + pause if state is CallbackState.PENDING else None,
        "last_status": answer.status,
        "last_error": failure(answer),
        "delivered_at": now if state is CallbackState.DELIVERED else None,
        "trigger": AttemptTrigger.SCHEDULE if is_attempt else callback.trigger,
        "unused_attempts": 0 if is_attempt else 1,
        "unsent_since": unsent_since,
    }


def state_after(callback: Row[Any], answer: Answer) -> CallbackState:
    """Return where an attempt leads: 200 or 201 delivers, the last failure closes.

    410 closes at once if CALLBACK_CLOSE_ON_410 says so.
    """
    if answer.status in SUCCESS:
        return CallbackState.DELIVERED
    is_gone = answer.status == GONE and get_settings(CallbackSettings).callback_close_on_410
    if is_gone or callback.attempts >= callback.attempts_allowed:
        return CallbackState.FAILED
    return CallbackState.PENDING


def failure(answer: Answer) -> str | None:
    """Return why the attempt failed, for people; None if it did not."""
    if answer.status in SUCCESS:
        return None
    return answer.error or f"answered {answer.status}, not 200 or 201"


def _attempt(lane: Lane, sent: Sent, now: datetime) -> dict[str, Any]:
    text = sent.answer.body[:KEPT_ANSWER_CHARACTERS].decode("utf-8", "replace")
    return {
        "callback_id": sent.callback.id,
        "number": sent.callback.attempts,
        "trigger": sent.callback.trigger,
        "url": lane.url,
        "status": sent.answer.status,
        "error": failure(sent.answer),
        "answer": text.replace("\x00", "\N{REPLACEMENT CHARACTER}") or None,
        "duration_ms": round(sent.answer.seconds * 1000),
        "attempted_at": now - timedelta(seconds=(clock.real_now() - sent.sent_at).total_seconds()),
    }


def _give_back(unsent: Sequence[tuple[UUID, int]]) -> None:
    """Free callbacks that were claimed but not sent; they lose no attempt by it."""
    callbacks = queries.callbacks
    by_claim: dict[UUID, list[int]] = {}
    for claim_id, callback_id in unsent:
        by_claim.setdefault(claim_id, []).append(callback_id)
    for claim_id, ids in by_claim.items():
        db.session.execute(
            update(callbacks)
            .where(callbacks.c.id.in_(ids), callbacks.c.claim_id == claim_id)
            .values(attempts=callbacks.c.attempts - 1, **RELEASED)
        )


def _free_lanes(results: Sequence[tuple[Lane, list[Sent]]], now: datetime) -> None:
    lanes = queries.lanes
    freed = []
    for lane, all_sent in results:
        hung = bool(all_sent) and _is_suspicious(all_sent[-1].answer)
        timeouts = lane.timeouts_in_a_row + 1 if hung else 0
        if not all_sent:
            timeouts = lane.timeouts_in_a_row
        rest = min(REST_SECONDS * 2 ** min(timeouts - 1, 10), MAX_REST_SECONDS) if hung else 0
        freed.append((lane.id, lane.claim_id, now + timedelta(seconds=rest), timeouts))
    state = bulk.rows_of(
        {
            "id": (BigInteger(), [row[0] for row in freed]),
            "claim_id": (Uuid(), [row[1] for row in freed]),
            "due_at": (Timestamp, [row[2] for row in freed]),
            "timeouts": (Integer(), [row[3] for row in freed]),
        }
    )
    db.session.execute(
        update(lanes)
        .where(lanes.c.id == state.c.id, lanes.c.claim_id == state.c.claim_id)
        .values(due_at=state.c.due_at, timeouts_in_a_row=state.c.timeouts, **RELEASED)
    )
