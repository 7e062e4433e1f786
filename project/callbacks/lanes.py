"""A claimed lane on the event loop: its callbacks are sent, so many at once."""

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Row

from project.callbacks.congestion import Feedback, Window, adapted, feedback_of
from project.callbacks.settings import CallbackSettings
from project.callbacks.signing import signing_headers
from project.config.environment import get_settings
from project.core import clock
from project.core.net import http_client
from project.core.net.http_client import Answer, Request

LANE_SECONDS = 2.0
"""For so long a lane sends before its answers are recorded."""
UNSENT_EXCUSED_FOR = timedelta(hours=24)
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


@dataclass(frozen=True)
class Lane:
    """A claimed lane with the callbacks that it carries; its window may grow to `ceiling`."""

    id: int
    claim_id: UUID
    timeouts_in_a_row: int
    window: Window
    ceiling: int
    url: str
    secrets: Sequence[str]
    callbacks: Sequence[Row[Any]]


@dataclass(frozen=True)
class LaneResult:
    """What came of a lane: what was sent, what was not, and how the endpoint copes.

    `feedback` is what the lane ended with.
    """

    sent: Sequence[Sent]
    unsent: Sequence[Row[Any]]
    window: Window
    feedback: Feedback
    retry_after_seconds: int | None


@dataclass
class Requests:
    """The requests that this process has in flight; counted on the event loop alone."""

    limit: int
    in_flight: int = 0

    @property
    def has_room(self) -> bool:
        """Tell whether a lane may have one more beside its first."""
        return self.in_flight < self.limit


class LaneRun:
    """One pass over a lane's callbacks: what is unsent, in flight and answered."""

    def __init__(self, lane: Lane, requests: Requests) -> None:
        self._lane = lane
        self._requests = requests
        self._unsent = deque(lane.callbacks)
        self._sent: list[Sent] = []
        self._in_flight = 0
        self._window = lane.window
        self._feedback = Feedback.GOOD
        self._retry_after_seconds: int | None = None
        self._stop_at = time.monotonic() + LANE_SECONDS

    async def finish(self) -> LaneResult:
        """Send until all is sent, it takes long, or the endpoint hangs or asks to be left alone."""
        async with asyncio.TaskGroup() as slots:
            self._open(slots)
        return LaneResult(
            self._sent, self._unsent, self._window, self._feedback, self._retry_after_seconds
        )

    @property
    def _may_send(self) -> bool:
        has_stopped = self._feedback in (Feedback.HUNG, Feedback.LIMITED)
        return bool(self._unsent) and not has_stopped and time.monotonic() <= self._stop_at

    def _open(self, slots: asyncio.TaskGroup) -> None:
        """Send as many more at once as the window and the process have room for; one always."""
        while self._may_send and self._in_flight < int(self._window.size):
            if self._in_flight and not self._requests.has_room:
                return
            self._in_flight += 1
            self._requests.in_flight += 1
            slots.create_task(self._send_in_turn(slots))

    async def _send_in_turn(self, slots: asyncio.TaskGroup) -> None:
        try:
            while self._may_send and self._in_flight <= int(self._window.size):
                await self._send(self._unsent.popleft())
                self._open(slots)
        finally:
            self._in_flight -= 1
            self._requests.in_flight -= 1

    async def _send(self, callback: Row[Any]) -> None:
        sent_at = clock.real_now()
        if self._lane.secrets:
            answer = await http_client.send(_request(self._lane, callback, sent_at))
        else:
            answer = UNSIGNABLE
        self._sent.append(Sent(callback, answer, sent_at))
        self._adapt(answer)

    def _adapt(self, answer: Answer) -> None:
        now = time.monotonic()
        feedback = feedback_of(answer, get_settings(CallbackSettings).callback_timeout_seconds)
        self._window = adapted(
            self._window,
            feedback,
            sent_at=now - answer.seconds,
            now=now,
            was_full=self._in_flight >= int(self._window.size),
            ceiling=self._lane.ceiling,
        )
        if feedback is Feedback.LIMITED:
            self._retry_after_seconds = answer.retry_after_seconds
        # What is answered well afterwards was in flight already, and takes nothing back.
        if self._feedback not in (Feedback.HUNG, Feedback.LIMITED) or feedback is Feedback.HUNG:
            self._feedback = feedback


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
