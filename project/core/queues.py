"""The queues, and how work is woken: a job carries nothing but "look whether something is due"."""

import threading
from dataclasses import dataclass
from enum import StrEnum

import structlog
from redis import RedisError
from rq import Queue

from project.config import get_settings
from project.core.transaction import after_commit
from project.extensions import redis_client

log = structlog.get_logger()

JOB_TIMEOUT_SECONDS = 180
RESULT_TTL_SECONDS = 60
FAILURE_TTL_SECONDS = 7 * 86_400
QUEUED_MARK_SECONDS = 30
SOON_SECONDS = 0.5

_soon: set[str] = set()
_soon_lock = threading.Lock()


class QueueName(StrEnum):
    """The queues, in the order in which workers take from them."""

    HIGH = "high"
    MEDIUM = "medium"
    DEFAULT = "default"


@dataclass(frozen=True)
class Wakeup:
    """A kind of due work: its name, its queue and the dotted path of the job that does it."""

    name: str
    queue: str
    job: str


def queue_names() -> list[str]:
    """Return the queues in the order in which workers take from them.

    Clicks wait in one of the three, or in one of their own that comes last.
    """
    return list(dict.fromkeys([*map(str, QueueName), get_settings().clicks_queue_name]))


def rq_queue(name: str) -> Queue:
    """Return the RQ queue of this name."""
    return Queue(name, connection=redis_client(), default_timeout=JOB_TIMEOUT_SECONDS)


def wake(work: Wakeup) -> None:
    """See to it that a worker looks for due work of this kind after the present commit.

    Wake-ups of one kind that wait in the queue together are one job. Redis may be away: the row
    is what counts, and the sweep in `schedule.py` finds it within a minute.
    """
    after_commit(lambda: _enqueue(work))


def wake_soon(work: Wakeup) -> None:
    """Wake the work a moment after what was committed now, together with what is till then.

    For what comes thousands of times a second; call it after the commit. If this process ends
    before the moment, the sweep in `schedule.py` stands in.
    """
    with _soon_lock:
        if work.name in _soon:
            return
        _soon.add(work.name)
    timer = threading.Timer(SOON_SECONDS, _enqueue_soon, (work,))
    timer.daemon = True
    timer.start()


def _enqueue_soon(work: Wakeup) -> None:
    with _soon_lock:
        _soon.discard(work.name)
    _enqueue(work)


def _enqueue(work: Wakeup) -> None:
    try:
        if redis_client().set(_mark(work), 1, nx=True, ex=QUEUED_MARK_SECONDS):
            rq_queue(work.queue).enqueue(
                work.job, result_ttl=RESULT_TTL_SECONDS, failure_ttl=FAILURE_TTL_SECONDS
            )
    except RedisError as error:
        log.warning("wakeup.lost", kind=work.name, error=type(error).__name__)


def wakeup_taken(work: Wakeup) -> None:
    """Say that the queued wake-up has begun, so that the next one is queued anew."""
    redis_client().delete(_mark(work))


def _mark(work: Wakeup) -> str:
    return f"wakeup:{work.name}"
