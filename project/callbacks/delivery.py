"""Delivery: lanes are claimed, each carries some of its endpoint's due callbacks.

Who holds a lane may have so many requests in flight as the lane's window says, and an endpoint has
two lanes at most, so the limit holds whichever workers send them; and as every lane goes its own
way, one that hangs holds up nobody else's.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, Integer, Row, Uuid, update

from project.callbacks import queries
from project.callbacks.congestion import SUCCESS, Window, rest_after
from project.callbacks.lanes import LANE_SECONDS, Lane, LaneResult, LaneRun, Requests, Sent
from project.callbacks.models import LANES, Endpoint
from project.callbacks.service import CALLBACKS_DUE, secrets_in_force
from project.callbacks.settings import CallbackSettings
from project.callbacks.states import CALLBACK_MOVES, AttemptTrigger, CallbackState
from project.config.environment import get_settings
from project.core import clock
from project.core.db import bulk
from project.core.net.http_client import Answer
from project.core.work.claims import RELEASED, claim, lease_for
from project.extensions import db

MIN_LOAD = 50
ROUNDS_PER_LOAD = 4
"""A lane is given so many times what its window holds: more would be sent twice if it died."""
BATCH_CALLBACKS = 200
"""About so many callbacks are worth a claim and its commit."""
UNSENT_PAUSE_SECONDS = 60
GONE = 410
KEPT_ANSWER_CHARACTERS = 500


class CallbackDelivery:
    """Due callbacks, as the pump works through them; an item is a lane."""

    wakeup = CALLBACKS_DUE

    def __init__(self) -> None:
        settings = get_settings(CallbackSettings)
        self.capacity = settings.callback_concurrency
        self.armful = self._most_lanes = max(2, self.capacity // 4)
        self.suspects_under_way = 0
        self.sent = 0
        self._requests = Requests(limit=self.capacity)

    def claim(self, limit: int) -> list[Lane]:
        """Claim usable lanes and callbacks for each.

        Endpoints that hung last time get at most half of this process's capacity.
        """
        claimed = _claim_lanes(limit, suspected=False)
        suspects_allowed = self.capacity // 2 - self.suspects_under_way
        more = min(limit - len(claimed), suspects_allowed)
        if more > 0:
            suspects = _claim_lanes(more, suspected=True)
            self.suspects_under_way += len(suspects)
            claimed += suspects
        lanes = _with_callbacks(claimed)
        if lanes:
            self._choose_batch_size(lanes)
        return lanes

    def _choose_batch_size(self, lanes: Sequence[Lane]) -> None:
        """Claim fewer lanes at once the more they carry, so that other workers find some too."""
        each = sum(len(lane.callbacks) for lane in lanes) / len(lanes)
        self.armful = min(max(1, round(BATCH_CALLBACKS / max(each, 1))), self._most_lanes)

    async def call(self, lane: Lane) -> LaneResult:
        """Send the lane's callbacks."""
        return await LaneRun(lane, self._requests).finish()

    def record(self, results: Sequence[tuple[Lane, LaneResult]]) -> None:
        """Record every answer, and release what was not sent and the lanes."""
        now = clock.now()
        _record_answers([(lane, sent) for lane, result in results for sent in result.sent], now)
        _release_unsent(results)
        _release_lanes(results, now)
        self.suspects_under_way -= sum(lane.timeouts_in_a_row > 0 for lane, _ in results)
        self.sent += sum(len(result.sent) for _, result in results)

    def is_anything_due(self) -> bool:
        """Tell whether a free lane has a due callback."""
        return queries.is_delivery_possible()


def _lease() -> timedelta:
    """Outlive the longest lane: its budget, and one more call at the full deadline."""
    return lease_for(LANE_SECONDS + get_settings(CallbackSettings).callback_timeout_seconds)


def _claim_lanes(limit: int, *, suspected: bool) -> list[tuple[UUID, Row[Any]]]:
    lanes = queries.lanes
    taken = claim(
        lanes,
        queries.usable_lanes(limit=limit, suspected=suspected),
        lease=_lease(),
        returning=[
            lanes.c.id,
            lanes.c.endpoint_id,
            lanes.c.number,
            lanes.c.timeouts_in_a_row,
            lanes.c.concurrency,
            lanes.c.slow_start_threshold,
        ],
    )
    return [(taken.id, row) for row in taken.rows]


def _with_callbacks(claimed: Sequence[tuple[UUID, Row[Any]]]) -> list[Lane]:
    """Claim what the lanes carry, the longest due first; those of one endpoint share it."""
    if not claimed:
        return []
    endpoints = queries.endpoints_by_id({row.endpoint_id for _, row in claimed})
    windows = queries.windows_of_first_lanes(list(endpoints))
    lanes_of: dict[int, list[Lane]] = {}
    for claim_id, row in claimed:
        lane = _lane(claim_id, row, endpoints[row.endpoint_id], windows[row.endpoint_id])
        lanes_of.setdefault(row.endpoint_id, []).append(lane)
    callbacks = _claim_callbacks({id_: _load(lanes) for id_, lanes in lanes_of.items()})
    return [
        replace(lane, callbacks=callbacks.get(id_, [])[position :: len(lanes)])
        for id_, lanes in lanes_of.items()
        for position, lane in enumerate(lanes)
    ]


def _lane(claim_id: UUID, row: Row[Any], endpoint: Endpoint, window_of_first: int) -> Lane:
    ceiling = _ceiling(row.number)
    size = min(row.concurrency, window_of_first, ceiling)
    threshold = math.inf if row.slow_start_threshold is None else row.slow_start_threshold
    return Lane(
        id=row.id,
        claim_id=claim_id,
        timeouts_in_a_row=row.timeouts_in_a_row,
        window=Window(size, threshold),
        ceiling=ceiling,
        url=endpoint.url,
        secrets=secrets_in_force(endpoint),
        callbacks=(),
    )


def _ceiling(number: int) -> int:
    """Return the share of an endpoint's requests in flight that the lane of this number may have.

    The shares make up the setting, so that the limit holds whoever has which lane.
    """
    return (
        get_settings(CallbackSettings).callback_endpoint_concurrency + LANES - 1 - number
    ) // LANES


def _load(lanes: Sequence[Lane]) -> int:
    """Return how many callbacks to claim for lanes of one endpoint."""
    return max(MIN_LOAD, ROUNDS_PER_LOAD * sum(int(lane.window.size) for lane in lanes))


def _claim_callbacks(wanted: Mapping[int, int]) -> dict[int, list[Row[Any]]]:
    callbacks = queries.callbacks
    taken = claim(
        callbacks,
        queries.due_callbacks(wanted),
        lease=_lease(),
        returning=[
            callbacks.c.id,
            callbacks.c.claim_id,
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
    found: dict[int, list[Row[Any]]] = {}
    for callback in sorted(taken.rows, key=lambda row: (row.due_at, row.id)):
        found.setdefault(callback.endpoint_id, []).append(callback)
    return found


def _record_answers(answers: Sequence[tuple[Lane, Sent]], now: datetime) -> None:
    if not answers:
        return
    callbacks = queries.callbacks
    outcomes = [_outcome(sent, now) for _, sent in answers]
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


def _outcome(sent: Sent, now: datetime) -> dict[str, Any]:
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
        "claim_id": callback.claim_id,
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


def _release_unsent(results: Sequence[tuple[Lane, LaneResult]]) -> None:
    """Release callbacks that were claimed but not sent; they lose no attempt by it."""
    unsent = [callback for _, result in results for callback in result.unsent]
    if not unsent:
        return
    callbacks = queries.callbacks
    released = bulk.rows_of(
        {
            "id": (BigInteger(), [callback.id for callback in unsent]),
            "claim_id": (Uuid(), [callback.claim_id for callback in unsent]),
        }
    )
    db.session.execute(
        update(callbacks)
        .where(callbacks.c.id == released.c.id, callbacks.c.claim_id == released.c.claim_id)
        .values(attempts=callbacks.c.attempts - 1, **RELEASED)
    )


def _release_lanes(results: Sequence[tuple[Lane, LaneResult]], now: datetime) -> None:
    lanes = queries.lanes
    states = [_lane_state(lane, result, now) for lane, result in results]
    types = {column.name: column.type for column in lanes.c}
    state = bulk.rows_of({name: (types[name], [row[name] for row in states]) for name in states[0]})
    db.session.execute(
        update(lanes)
        .where(lanes.c.id == state.c.id, lanes.c.claim_id == state.c.claim_id)
        .values(
            due_at=state.c.due_at,
            timeouts_in_a_row=state.c.timeouts_in_a_row,
            concurrency=state.c.concurrency,
            slow_start_threshold=state.c.slow_start_threshold,
            **RELEASED,
        )
    )


def _lane_state(lane: Lane, result: LaneResult, now: datetime) -> dict[str, Any]:
    retry = timedelta(seconds=get_settings(CallbackSettings).callback_retry_seconds)
    rest = rest_after(
        result.feedback,
        retry_after_seconds=result.retry_after_seconds,
        timeouts_in_a_row=lane.timeouts_in_a_row,
        at_most=retry,
    )
    threshold = result.window.threshold
    return {
        "id": lane.id,
        "claim_id": lane.claim_id,
        "due_at": now + rest.pause,
        "timeouts_in_a_row": rest.timeouts_in_a_row if result.sent else lane.timeouts_in_a_row,
        "concurrency": int(result.window.size),
        "slow_start_threshold": None if math.isinf(threshold) else int(threshold),
    }
