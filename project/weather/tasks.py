"""Tasks: made, claimed, moved on, finished; each change of state goes through `move`."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

import uuid_utils.compat
from sqlalchemy import delete, func, insert, select, update

from project.config.environment import get_settings
from project.core import clock
from project.core.db.rows import get_current, table_of
from project.core.errors import Conflict, NotFound
from project.core.work.claims import RELEASED, claim, due, lease_for
from project.core.work.queues import QueueName, Wakeup, wake
from project.extensions import db
from project.weather.models import Task, TaskChunk, TaskError
from project.weather.settings import ImportSettings
from project.weather.states import TASK_MOVES, TaskKind, TaskState
from project.weather.timestamps import TimeFormat

TASKS_DUE = Wakeup("tasks", QueueName.DEFAULT, "project.weather.imports.jobs.run_due_tasks")
PIECE_BYTES = 1024**2
LONGEST_STEP_SECONDS = 20
FIRST_RETRY_SECONDS = 30

tasks = table_of(Task)


class ClaimLostError(Exception):
    """Somebody else has the task now, or it was canceled: nothing more is written for it."""


@dataclass
class Counts:
    """What became of rows."""

    done: int = 0
    created: int = 0
    updated: int = 0
    skipped: int = 0
    failed: int = 0
    blank: int = 0


@dataclass(frozen=True)
class Reading:
    """How a file is to be read, where whoever sends it says so."""

    encoding: str | None = None
    ts_format: str | None = None
    ts_timezone: str | None = None

    @property
    def times(self) -> TimeFormat:
        """How its times are written."""
        return TimeFormat(self.ts_format, self.ts_timezone)


def store_file(
    kind: TaskKind, name: str | None, pieces: Iterable[bytes], reading: Reading | None = None
) -> Task:
    """Keep an uploaded file, piece by piece, and have it read in the background."""
    reading = reading or Reading()
    task = _new(
        kind,
        file_name=(name or "")[:200] or None,
        file_bytes=0,
        has_file=True,
        stated_encoding=reading.encoding,
        ts_format=reading.ts_format,
        ts_timezone=reading.ts_timezone,
    )
    size = 0
    for number, piece in enumerate(pieces):
        db.session.execute(
            insert(TaskChunk),
            {"task_id": task.id, "number": number, "content": piece},
        )
        size += len(piece)
    task.file_bytes = size
    db.session.flush()
    return task


def reading_of(task: Task) -> Reading:
    """Return how the file of a task is to be read."""
    return Reading(task.stated_encoding, task.ts_format, task.ts_timezone)


def ensure_assignments() -> None:
    """See to it that all subscribers are given their nearest forecast anew.

    One task that has not begun serves everybody who asks for it meanwhile.
    """
    waiting = select(Task.id).where(
        Task.kind == TaskKind.ASSIGNMENTS, Task.state == TaskState.PENDING
    )
    if db.session.scalar(waiting.where(Task.next_row == 0).limit(1)) is None:
        _new(TaskKind.ASSIGNMENTS, has_file=False)
    wake(TASKS_DUE)


def _new(kind: TaskKind, **values: Any) -> Task:
    now = clock.now()
    task = Task(
        id=uuid_utils.compat.uuid7(),
        kind=kind,
        state=TaskState.PENDING,
        created_at=now,
        due_at=now,
        **values,
    )
    db.session.add(task)
    db.session.flush()
    wake(TASKS_DUE)
    return task


def move(task: Task, state: TaskState) -> None:
    """Change the state. Raises ForbiddenMoveError for a move that is not allowed."""
    TASK_MOVES.require(task.state, state)
    task.state = state
    if state not in TaskState.unfinished():
        task.due_at = None
        task.finished_at = clock.now()
        _release(task)


def existing_task(task_id: UUID) -> Task:
    """Return the task. Raises NotFound."""
    task = get_current(Task, task_id)
    if task is None:
        raise NotFound(f"There is no task {task_id}.")
    return task


def claim_next() -> tuple[Task, UUID] | None:
    """Claim the longest-due task and say that it has begun."""
    claimed = claim(
        tasks,
        due(tasks, now=clock.now(), limit=1),
        lease=lease_for(LONGEST_STEP_SECONDS),
        returning=[tasks.c.id],
    )
    if not claimed.rows:
        return None
    task = _locked(claimed.rows[0].id)
    move(task, TaskState.STARTED)
    task.started_at = task.started_at or clock.now()
    db.session.flush()
    return task, claimed.id


def hold(task_id: UUID, claim_id: UUID) -> Task:
    """Lock the task of this claim for a step and lengthen its lease. Raises ClaimLostError."""
    task = _locked(task_id)
    if task.claim_id != claim_id or task.state is not TaskState.STARTED:
        raise ClaimLostError
    lease = func.clock_timestamp() + lease_for(LONGEST_STEP_SECONDS)
    db.session.execute(update(tasks).where(tasks.c.id == task_id).values(claimed_until=lease))
    return task


def record_step(task: Task, counts: Counts, *, next_row: int) -> None:
    """Write down how far the task is, in the transaction of what the step changed."""
    task.done += counts.done
    task.created += counts.created
    task.updated += counts.updated
    task.skipped += counts.skipped
    task.failed += counts.failed
    task.blank += counts.blank
    task.next_row = next_row
    # What goes on is not in trouble: only tries in a row that come no further count.
    task.attempts = 1


def pause(task: Task) -> None:
    """Give the task back for whoever has time: nothing went wrong, so nothing is counted."""
    task.attempts = 0
    task.due_at = clock.now()
    _release(task)
    wake(TASKS_DUE)


def fail(task: Task, reason: str) -> None:
    """End the task for a reason that another try would not change."""
    task.error = reason[:1000]
    move(task, TaskState.FAILURE)


def is_last_try(task: Task) -> bool:
    """Tell whether no other try follows this one, if it comes no further either."""
    return task.attempts > get_settings(ImportSettings).task_max_retries


def retry_later(task: Task, reason: str) -> None:
    """Try the task again after a while, up to MAX_TASK_RETRY times, from where it is."""
    if is_last_try(task):
        fail(task, f"Given up after {task.attempts} tries: {reason}")
        return
    task.error = reason[:1000]
    pause_seconds = FIRST_RETRY_SECONDS * 2 ** (task.attempts - 1)
    task.due_at = clock.now() + timedelta(seconds=pause_seconds)
    _release(task)


def finish(task: Task, reason: str | None = None) -> None:
    """End the task, every row of it having been read: as failed if there is a reason."""
    task.error = reason
    task.total = task.done
    move(task, TaskState.FAILURE if reason else TaskState.SUCCESS)


def nothing_taken(counts: Counts | Task, first_bad: str) -> str | None:
    """Return what is told of a file of whose rows none was taken, None for any other."""
    if not counts.failed or counts.failed < counts.done:
        return None
    return f"None of the {counts.failed} rows was taken; the first: {first_bad}"[:1000]


def resume(task_id: UUID) -> Task:
    """Have a failed or canceled task go on where it stopped. Raises NotFound and Conflict."""
    task = _locked(task_id)
    if not TASK_MOVES.allows(task.state, TaskState.PENDING) or _is_under_way(task):
        raise Conflict(f"The task is {task.state}; only a failed or canceled one is resumed.")
    if task.file_bytes is not None and not task.has_file:
        raise Conflict("The file of this task is kept no more; upload it again.")
    move(task, TaskState.PENDING)
    task.due_at = clock.now()
    task.finished_at = None
    task.error = None
    task.attempts = 0
    if task.done == task.failed:
        _begin_anew(task)
    wake(TASKS_DUE)
    return task


def _begin_anew(task: Task) -> None:
    """Have a file of which nothing was taken read from its first row: what was bad may be good."""
    task.next_row = task.done = task.failed = task.blank = 0
    db.session.execute(delete(TaskError).where(TaskError.task_id == task.id))


def cancel(task_id: UUID) -> Task:
    """End a task that is not done; rows that were taken stay. Raises NotFound and Conflict."""
    task = _locked(task_id)
    if not _is_under_way(task):
        raise Conflict(f"The task is {task.state} already.")
    task.error = "Canceled."
    move(task, TaskState.CANCELED)
    return task


def drop_old_files(limit: int = 20) -> int:
    """Drop the files of tasks that ended IMPORT_FILE_DAYS ago; return of how many."""
    before = clock.now() - timedelta(days=get_settings(ImportSettings).import_file_days)
    some = (
        select(Task)
        .where(Task.finished_at < before, Task.has_file)
        .order_by(Task.finished_at)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    old = db.session.scalars(some).all()
    for task in old:
        db.session.execute(delete(TaskChunk).where(TaskChunk.task_id == task.id))
        task.has_file = False
    return len(old)


def _is_under_way(task: Task) -> bool:
    return task.state in TaskState.unfinished()


def _release(task: Task) -> None:
    for name, value in RELEASED.items():
        setattr(task, name, value)


def _locked(task_id: UUID) -> Task:
    task = get_current(Task, task_id, lock=True)
    if task is None:
        raise NotFound(f"There is no task {task_id}.")
    return task
