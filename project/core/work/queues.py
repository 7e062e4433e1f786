"""The queues, and how work is woken: a job carries nothing but "look whether something is due"."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

import structlog
from redis import RedisError
from rq import Queue
from rq.worker_registration import REDIS_WORKER_KEYS

from project.config.environment import get_settings
from project.config.kernel import WorkSettings
from project.core.db.transaction import after_commit
from project.extensions import redis_client

log = structlog.get_logger()

JOB_TIMEOUT_SECONDS = 180
RESULT_TTL_SECONDS = 60
FAILURE_TTL_SECONDS = 7 * 86_400
QUEUED_MARK_SECONDS = 30
SOON_SECONDS = 0.5
AGAIN_SECONDS = 1.0

_soon: set[tuple[str, bool]] = set()
_soon_lock = threading.Lock()


class QueueName(StrEnum):
    """The queues, in the order in which workers take from them."""

    HIGH = "high"
    MEDIUM = "medium"
    DEFAULT = "default"


@dataclass(frozen=True)
class Wakeup:
    """A kind of due work: its name, its queue and the dotted path of the job that does it.

    `timeout_seconds` is asked at each wake-up, because it may depend on the settings.
    """

    name: str
    queue: str
    job: str
    timeout_seconds: Callable[[], int] = lambda: JOB_TIMEOUT_SECONDS


def queue_names() -> list[str]:
    """Return the queues in the order in which workers take from them.

    Clicks wait in one of the three, or in one of their own that comes last.
    """
    return list(dict.fromkeys([*map(str, QueueName), get_settings(WorkSettings).clicks_queue_name]))


def rq_queue(name: str) -> Queue:
    """Return the RQ queue of this name."""
    return Queue(name, connection=redis_client(), default_timeout=JOB_TIMEOUT_SECONDS)


def count_live_workers() -> int:
    """Count the workers that are enrolled and have shown in time that they live.

    Raises RedisError. rq's `Worker.all` would change the timeouts of the client it is given.
    """
    enrolled = redis_client().smembers(REDIS_WORKER_KEYS)
    with redis_client().pipeline(transaction=False) as pipeline:
        for key in enrolled:
            pipeline.exists(key)
        return sum(pipeline.execute()) if enrolled else 0


def wake(work: Wakeup) -> None:
    """See to it that a worker looks for due work of this kind after the present commit.

    Wake-ups of one kind that wait in the queue together are one job. Redis may be away: this
    process tries again each second until it is back, and should it end before, the sweep in
    `schedule.py` finds the row, which is what counts.
    """
    after_commit(lambda: _enqueue(work))


def wake_soon(work: Wakeup) -> None:
    """Wake the work a moment after what was committed now, together with what is till then.

    For what comes thousands of times a second; call it after the commit. If this process ends
    before the moment, the sweep in `schedule.py` stands in.
    """
    _enqueue_later(work, SOON_SECONDS, again=False)


def _enqueue_later(work: Wakeup, seconds: float, *, again: bool) -> None:
    with _soon_lock:
        if (work.name, again) in _soon:
            return
        _soon.add((work.name, again))
    timer = threading.Timer(seconds, _enqueue_soon, (work, again))
    timer.daemon = True
    timer.start()


def _enqueue_soon(work: Wakeup, again: bool) -> None:
    with _soon_lock:
        _soon.discard((work.name, again))
    _enqueue(work, again=again)


def _enqueue(work: Wakeup, *, again: bool = False) -> None:
    """Queue the wake-up unless one waits. The second time it is not known whether one does."""
    try:
        if redis_client().set(_mark(work), 1, nx=not again, ex=QUEUED_MARK_SECONDS):
            rq_queue(work.queue).enqueue(
                work.job,
                job_timeout=work.timeout_seconds(),
                result_ttl=RESULT_TTL_SECONDS,
                failure_ttl=FAILURE_TTL_SECONDS,
            )
    except RedisError as error:
        if not again:
            log.warning("wakeup.put_off", kind=work.name, error=type(error).__name__)
        _enqueue_later(work, AGAIN_SECONDS, again=True)


def wakeup_taken(work: Wakeup) -> None:
    """Say that the queued wake-up has begun, so that the next one is queued anew."""
    try:
        redis_client().delete(_mark(work))
    except RedisError as error:
        log.warning("wakeup.mark_kept", kind=work.name, error=type(error).__name__)


def _mark(work: Wakeup) -> str:
    return f"wakeup:{work.name}"
