"""How many requests an endpoint is given at once: additive increase, multiplicative decrease.

The rule is TCP's (RFC 5681) with requests for segments. A window doubles with each round of good
answers until it reaches the threshold, then grows by one a round. It is halved, once a round, by
answers that are slow or failures, and goes to one when the endpoint hangs or asks to be left alone.
"""

import math
from dataclasses import dataclass, replace
from datetime import timedelta
from enum import Enum, auto

from project.core.net.http_client import Answer

SUCCESS = (200, 201)
SLOW_SHARE = 0.2
"""Of the deadline: an answer that takes longer is slow."""
LIMITING = 429
FIRST_REST = timedelta(seconds=5)
MAX_REST = timedelta(seconds=30)


class Feedback(Enum):
    """What an answer says of how its endpoint copes."""

    GOOD = auto()
    STRAINED = auto()
    LIMITED = auto()
    HUNG = auto()


@dataclass(frozen=True)
class Window:
    """How many requests may be in flight, and up to where the number doubles.

    `cut_at` is when it was last made smaller, in seconds of `time.monotonic()`: answers to requests
    that were sent before then say nothing new.
    """

    size: float
    threshold: float = math.inf
    cut_at: float = -math.inf


@dataclass(frozen=True)
class Rest:
    """For how long an endpoint is left alone, and how often in a row it has hung by then."""

    pause: timedelta
    timeouts_in_a_row: int


def feedback_of(answer: Answer, deadline_seconds: float) -> Feedback:
    """Judge an answer to a request that had so long."""
    if answer.timed_out or answer.excused:
        return Feedback.HUNG
    if answer.status in SUCCESS:
        is_slow = answer.seconds > deadline_seconds * SLOW_SHARE
        return Feedback.STRAINED if is_slow else Feedback.GOOD
    asks_to_wait = answer.status == LIMITING or answer.retry_after_seconds is not None
    return Feedback.LIMITED if asks_to_wait else Feedback.STRAINED


def adapted(
    window: Window,
    feedback: Feedback,
    *,
    sent_at: float,
    now: float,
    was_full: bool,
    ceiling: int,
) -> Window:
    """Return the window after an answer to what was sent at `sent_at`.

    It grows only if it `was_full`: nobody knows how an endpoint copes with what it was not given.
    """
    if feedback is Feedback.GOOD:
        if not was_full:
            return window
        step = 1.0 if window.size < window.threshold else 1 / window.size
        return replace(window, size=min(window.size + step, float(ceiling)))
    if feedback is Feedback.STRAINED and sent_at < window.cut_at:
        return window
    half = window.size / 2
    size = max(half, 1.0) if feedback is Feedback.STRAINED else 1.0
    # At one there is nothing left to learn: an endpoint that was long away doubles as before.
    threshold = max(half, 2.0) if window.size > 1 else window.threshold
    return Window(size, threshold, cut_at=now)


def rest_after(
    feedback: Feedback,
    retry_after_seconds: int | None,
    timeouts_in_a_row: int,
    *,
    at_most: timedelta,
) -> Rest:
    """Return how long to leave an endpoint alone after its last answer.

    One that hangs rests longer each time in a row; one that limits, for as long as it asks for.
    """
    if feedback is Feedback.HUNG:
        pause = min(FIRST_REST * 2 ** min(timeouts_in_a_row, 10), MAX_REST)
        return Rest(pause, timeouts_in_a_row + 1)
    if feedback is Feedback.LIMITED:
        asked = timedelta(seconds=retry_after_seconds) if retry_after_seconds else FIRST_REST
        return Rest(min(asked, at_most), 0)
    return Rest(timedelta(), 0)
