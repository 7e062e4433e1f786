"""The rules of uploaded files, as the API knows them."""

import csv
import io
from collections.abc import Iterator
from typing import Any
from uuid import UUID

from project.weather import tasks
from project.weather.imports import queries
from project.weather.imports.preview import Preview, preview
from project.weather.imports.uploads import Upload
from project.weather.models import Task, TaskError
from project.weather.states import EXPIRED_TASK, TASK_STATUSES, TaskKind
from project.weather.tasks import Reading

BYTE_ORDER_MARK = "\ufeff"
STARTS_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def take_file(kind: TaskKind, upload: Upload, reading: Reading) -> Task:
    """Keep a file and have it read in the background."""
    return tasks.store_file(kind, upload.name, upload.pieces(), reading)


def preview_file(kind: TaskKind, upload: Upload, reading: Reading) -> Preview:
    """Return what a file would change. No transaction must be open."""
    return preview(kind, upload.pieces, reading)


def task_status(task_id: str) -> dict[str, Any]:
    """Return how far a task is, in the words of older clients; EXPIRED if it is not known."""
    try:
        task = queries.task_still_told(UUID(task_id))
    except ValueError:
        task = None
    if task is None:
        return {"task_status": EXPIRED_TASK, "task_id": task_id}
    return {
        **{name: getattr(task, name) for name in PROGRESS},
        "task_status": TASK_STATUSES.get(task.state, task.state.name),
        "task_id": task.id,
        "message": _message(task),
    }


def _message(task: Task) -> str | None:
    if not task.failed:
        return None
    where = f"GET /api/tasks/{task.id}/errors.csv tells which and why"
    return f"{task.failed} of {task.total or task.done} rows were not taken; {where}."


PROGRESS = (
    "total",
    "done",
    "created",
    "updated",
    "skipped",
    "failed",
    "blank",
    "encoding",
    "note",
    "error",
    "started_at",
    "finished_at",
)


def errors_csv(task_id: UUID) -> Iterator[str]:
    """Give what was wrong with the rows of a task as CSV that spreadsheets may open."""
    yield BYTE_ORDER_MARK + _line(["row", "column", "reason", "value", "kind"])
    for found in queries.problems_of(task_id):
        yield "".join(_line(_cells(one)) for one in found)


def _cells(one: TaskError) -> list[str]:
    kind = "note" if one.is_note else "error"
    return [str(one.row), *(_inert(text) for text in (one.column, one.reason, one.value)), kind]


def _inert(text: str) -> str:
    """Keep a spreadsheet from taking a text for a formula."""
    return f"'{text}" if text.startswith(STARTS_FORMULA) else text


def _line(cells: list[str]) -> str:
    written = io.StringIO()
    csv.writer(written).writerow(cells)
    return written.getvalue()
