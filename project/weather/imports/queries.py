"""What there is to know about tasks; nothing here writes."""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Select, exists, select, tuple_

from project.config.environment import get_settings
from project.core import clock
from project.core.db.rows import get_current, table_of
from project.core.db.transaction import transaction
from project.core.work.claims import is_due, is_free
from project.extensions import db
from project.weather.models import Task, TaskError
from project.weather.settings import ImportSettings
from project.weather.states import TaskKind, TaskState

tasks = table_of(Task)

ERRORS_AT_ONCE = 5000


def listed_tasks(*, kind: TaskKind | None = None, state: TaskState | None = None) -> Select[Any]:
    """Select tasks, newest first."""
    statement = select(Task).order_by(Task.created_at.desc(), Task.id.desc())
    if kind is not None:
        statement = statement.where(Task.kind == kind)
    if state is not None:
        statement = statement.where(Task.state == state)
    return statement


def task_still_told(task_id: UUID) -> Task | None:
    """Return the task unless it ended longer ago than TASK_TIMEOUT."""
    task = get_current(Task, task_id)
    if task is None or task.finished_at is None:
        return task
    oldest = clock.now() - timedelta(seconds=get_settings(ImportSettings).task_timeout_seconds)
    return task if task.finished_at >= oldest else None


def problems_of(task_id: UUID) -> Iterator[Sequence[TaskError]]:
    """Give what was wrong with rows of a task, by row, some at a time."""
    last = (-1, "")
    while True:
        with transaction(read_only=True):
            found = db.session.scalars(
                select(TaskError)
                .where(
                    TaskError.task_id == task_id,
                    tuple_(TaskError.row, TaskError.column) > last,
                )
                .order_by(TaskError.row, TaskError.column)
                .limit(ERRORS_AT_ONCE)
            ).all()
        if not found:
            return
        yield found
        last = (found[-1].row, found[-1].column)


def first_bad_row(task_id: UUID) -> str:
    """Return where and why the first row of a task was not taken."""
    found = db.session.scalars(
        select(TaskError)
        .where(TaskError.task_id == task_id, ~TaskError.is_note)
        .order_by(TaskError.row, TaskError.column)
        .limit(1)
    ).one_or_none()
    return bad_row(found.row, found.column, found.reason) if found else ""


def bad_row(row: int, column: str, reason: str) -> str:
    """Return where and why a row was not taken, in one line."""
    return f"row {row}{', ' if column else ''}{column}: {reason}"


def is_anything_due() -> bool:
    """Tell whether a task is due that nobody works on."""
    return bool(db.session.scalar(select(exists().where(is_due(tasks, clock.now())))))


def oldest_due_at() -> datetime | None:
    """Return when the longest-waiting task that nobody works on was or will be due."""
    statement = (
        select(tasks.c.due_at)
        .where(tasks.c.due_at.is_not(None), is_free(tasks))
        .order_by(tasks.c.due_at)
        .limit(1)
    )
    return db.session.scalar(statement)
