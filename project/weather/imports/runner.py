"""Working through a task: a chunk of rows per transaction, with how far it is in the same one.

Whoever is killed in between leaves the task at a row boundary; the next worker goes on there.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from typing import Any
from uuid import UUID

import structlog
from psycopg.errors import CheckViolation, NotNullViolation, QueryCanceled
from sqlalchemy import func, select
from sqlalchemy.exc import DBAPIError

from project.config.environment import get_settings
from project.config.kernel import WorkSettings
from project.core.db import bulk
from project.core.db.rows import table_of
from project.core.db.transaction import transaction
from project.core.errors import UNUSABLE_VALUE
from project.core.work import pump
from project.core.work.queues import wake, wakeup_taken
from project.extensions import db
from project.weather import tasks
from project.weather.forecasts.nearest import forecasts_version, load_tree
from project.weather.imports import queries
from project.weather.imports.assignment import assign_some
from project.weather.imports.duplicates import scan
from project.weather.imports.files import Chunk, FileError, Table
from project.weather.imports.importers import KINDS, FileKind, Read
from project.weather.imports.prefetch import ahead
from project.weather.imports.validation import Problem
from project.weather.models import Task, TaskChunk, TaskError
from project.weather.settings import ImportSettings
from project.weather.states import TaskKind
from project.weather.subscribers.changes import ChangedMeanwhileError
from project.weather.tasks import ClaimLostError

log = structlog.get_logger()

TRIES_PER_CHUNK = 3
UNUSABLE_ROW = (*UNUSABLE_VALUE, CheckViolation, NotNullViolation)
NOT_TAKEN = "The database does not take what this row says."
TOO_LATE = "The database had no time for this row, however often it was tried."

Progress = Callable[[int], object]


def run_in_worker() -> int:
    """Work through due tasks as a woken job; return how many rows were looked at."""
    wakeup_taken(tasks.TASKS_DUE)
    with pump.place(tasks.TASKS_DUE) as keep_place:
        if keep_place is None:
            return 0
        done = run(seconds=get_settings(WorkSettings).pump_seconds, on_progress=keep_place)
    with transaction():
        if queries.is_anything_due():
            wake(tasks.TASKS_DUE)
    return done


def run(*, seconds: float | None = None, on_progress: Progress = lambda count: None) -> int:
    """Work through due tasks until none is due or the time is up; return the count of rows."""
    ends_at = None if seconds is None else time.monotonic() + seconds
    done = 0
    while ends_at is None or time.monotonic() < ends_at:
        with transaction():
            claimed = tasks.claim_next()
        if claimed is None:
            return done
        task, claim_id = claimed
        done += _run_safely(_Run(task, claim_id, ends_at, on_progress))
    return done


def _run_safely(this: "_Run") -> int:
    try:
        this.work()
    except ClaimLostError:
        log.info("task.claim_lost", task=str(this.id))
    except FileError as error:
        with transaction():
            tasks.fail(tasks.hold(this.id, this.claim_id), str(error))
    except Exception as error:
        log.exception("task.failed", task=str(this.id))
        with transaction():
            reason = f"{type(error).__name__} after row {this.next_row + 1}"
            tasks.retry_later(tasks.hold(this.id, this.claim_id), reason)
    return this.done


class _Run:
    """One worker's go at one task."""

    def __init__(
        self, task: Task, claim_id: UUID, ends_at: float | None, on_progress: Progress
    ) -> None:
        self.id = task.id
        self.kind = task.kind
        self.next_row = task.next_row
        self.reading = tasks.reading_of(task)
        self.claim_id = claim_id
        self.ends_at = ends_at
        self.on_progress = on_progress
        self.done = 0
        self.most_rows = get_settings(ImportSettings).import_chunk_rows
        self.is_last_try = tasks.is_last_try(task)

    def work(self) -> None:
        """Go on where the task is, to its end or until the time is up. Raises FileError."""
        if self.kind is TaskKind.ASSIGNMENTS:
            self._assign()
        else:
            self._read_file()

    def _is_time_up(self) -> bool:
        is_late = self.ends_at is not None and time.monotonic() >= self.ends_at
        return is_late or pump.stopping.is_set()

    def _keep(self) -> None:
        """Show that somebody is at it while nothing is written yet."""
        self.on_progress(0)
        with transaction():
            tasks.hold(self.id, self.claim_id)

    def _read_file(self) -> None:
        kind, table = self._open()
        chunks = table.chunks(get_settings(ImportSettings).import_chunk_rows, start=self.next_row)
        # The next chunk is read and checked while the database is at the last one.
        with closing(ahead(kind.read(chunk) for chunk in chunks)) as reads:
            for read in reads:
                # Whatever took the time may be over.
                self.most_rows = min(
                    self.most_rows * 2, get_settings(ImportSettings).import_chunk_rows
                )
                if not self._take(kind, read):
                    return
                if self._is_time_up():
                    with transaction():
                        tasks.pause(tasks.hold(self.id, self.claim_id))
                    return
        self._finish(kind)

    def _open(self) -> tuple[FileKind[Any], Table]:
        kind = KINDS[self.kind](self.reading)
        self._keep()
        table = kind.open(self._pieces)
        limit = get_settings(ImportSettings).import_max_errors
        kind.scan = scan(table, kind.key, kind.check, max_bad=limit, on_progress=self._keep)
        if kind.uses_tree:
            with transaction():
                self.version = forecasts_version()
            kind.tree = load_tree()
        with transaction():
            task = tasks.hold(self.id, self.claim_id)
            task.encoding, task.delimiter = table.encoding.name, table.delimiter
            task.note = kind.note_on(table)
            task.total = kind.scan.total
        return kind, table

    def _pieces(self) -> Iterator[bytes]:
        number = 0
        while True:
            with transaction(read_only=True):
                piece = db.session.scalar(
                    select(TaskChunk.content).where(
                        TaskChunk.task_id == self.id, TaskChunk.number == number
                    )
                )
            if piece is None:
                return
            yield piece
            number += 1

    def _take(self, kind: FileKind[Any], read: Read[Any]) -> bool:
        """Take a chunk and tell whether to go on: not when there are too many bad rows."""
        chunk = read.checked.chunk
        if len(chunk.rows) > self.most_rows:
            return self._take_halves(kind, chunk)
        for attempt in range(1, TRIES_PER_CHUNK + 1):
            try:
                return self._try_to_take(kind, read)
            except ChangedMeanwhileError:
                if attempt == TRIES_PER_CHUNK:
                    raise
            except (DBAPIError, *UNUSABLE_VALUE) as error:
                return self._take_less(kind, chunk, error)
            read = kind.read(chunk)
        return False

    def _take_less(self, kind: FileKind[Any], chunk: Chunk, error: Exception) -> bool:
        """Take the halves of a chunk that could not be written, or refuse the one row it has.

        Raises the error where it is the database's trouble, which another try may not have; a
        single row for which there is no time is refused only if it was the trouble of all tries.
        """
        cause = error.orig if isinstance(error, DBAPIError) else error
        is_late = isinstance(cause, QueryCanceled)
        if not is_late and not isinstance(cause, UNUSABLE_ROW):
            raise error
        self._keep()
        if len(chunk.rows) > 1:
            if is_late:
                # The statement had no more time: fewer rows take less of it.
                self.most_rows = len(chunk.rows) // 2
            return self._take_halves(kind, chunk)
        if is_late and not self.is_last_try:
            raise error
        read = kind.read(chunk)
        reason = TOO_LATE if is_late else NOT_TAKEN
        read.checked.refuse(0, kind.key, reason, chunk.column(kind.key)[0])
        return self._try_to_take(kind, replace(read, rows=[]))

    def _take_halves(self, kind: FileKind[Any], chunk: Chunk) -> bool:
        return all(self._take(kind, kind.read(half)) for half in chunk.halves())

    def _try_to_take(self, kind: FileKind[Any], read: Read[Any]) -> bool:
        chunk = read.checked.chunk
        with transaction():
            task = tasks.hold(self.id, self.claim_id)
            counts = kind.apply(read)
            _write_problems(task, read.checked.problems)
            tasks.record_step(task, counts, next_row=chunk.next_row)
            is_too_bad = task.failed > get_settings(ImportSettings).import_max_errors
            if is_too_bad:
                limit = get_settings(ImportSettings).import_max_errors
                tasks.fail(task, f"More than {limit} rows are bad; nothing after them was read.")
        self.next_row = chunk.next_row
        self.is_last_try = False
        self.done += counts.done
        self.on_progress(counts.done)
        return not is_too_bad

    def _finish(self, kind: FileKind[Any]) -> None:
        with transaction():
            task = tasks.hold(self.id, self.claim_id)
            tasks.finish(task, tasks.nothing_taken(task, queries.first_bad_row(task.id)))
            is_stale = kind.uses_tree and self.version != forecasts_version()
            if is_stale or (self.kind is TaskKind.FORECASTS and task.created + task.updated):
                tasks.ensure_assignments()

    def _assign(self) -> None:
        self._keep()
        tree = load_tree()
        while not self._is_time_up():
            step = assign_some(tree, self.id, self.claim_id)
            self.done += step
            self.on_progress(step)
            if not step:
                with transaction():
                    tasks.finish(tasks.hold(self.id, self.claim_id))
                return
        with transaction():
            tasks.pause(tasks.hold(self.id, self.claim_id))


def _write_problems(task: Task, problems: list[Problem]) -> None:
    """Keep what is wrong with rows; of notes no more than of bad rows are kept."""
    notes = [one for one in problems if one.is_note]
    if notes:
        kept = db.session.scalar(
            select(func.count()).where(TaskError.task_id == task.id, TaskError.is_note)
        )
        room = max(0, get_settings(ImportSettings).import_max_errors - (kept or 0))
        problems = [one for one in problems if not one.is_note] + notes[:room]
    rows = [
        {
            "task_id": task.id,
            "row": one.row,
            "column": one.column,
            "reason": one.reason,
            "value": one.value,
            "is_note": one.is_note,
        }
        for one in problems
    ]
    bulk.insert_rows(table_of(TaskError), rows, skip_conflicts=True)
