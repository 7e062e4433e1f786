"""What a file would change: everything is done as it would be, and taken back."""

from dataclasses import dataclass, field
from typing import Any

from psycopg.errors import QueryCanceled
from sqlalchemy.exc import OperationalError

from project.config.environment import get_settings
from project.core.db.transaction import transaction
from project.weather.forecasts.nearest import load_tree
from project.weather.imports.duplicates import scan
from project.weather.imports.files import Chunk, FileError, MissingColumnsError, Pieces
from project.weather.imports.importers import KINDS, FileKind, Read
from project.weather.imports.queries import bad_row
from project.weather.imports.validation import Problem
from project.weather.settings import ImportSettings
from project.weather.states import TaskKind
from project.weather.tasks import Counts, Reading, nothing_taken

SHOWN_PROBLEMS = 20


class _TakenBackError(Exception):
    """Ends a transaction whose changes are not wanted."""


@dataclass
class Preview:
    """What would happen."""

    total: int = 0
    created: int = 0
    updated: int = 0
    skipped: int = 0
    failed: int = 0
    doubles: int = 0
    blank: int = 0
    encoding: str | None = None
    note: str | None = None
    missing_columns: list[str] = field(default_factory=list)
    error: str | None = None
    bad_rows: list[Problem] = field(default_factory=list)


def preview(kind: TaskKind, pieces: Pieces, reading: Reading) -> Preview:
    """Return what a file of this kind would change; nothing is written."""
    found = Preview()
    try:
        _look_at(KINDS[kind](reading), pieces, found)
    except FileError as error:
        found.error = str(error)
        if isinstance(error, MissingColumnsError):
            found.missing_columns = error.missing
    return found


def _look_at(kind: FileKind[Any], pieces: Pieces, found: Preview) -> None:
    settings = get_settings(ImportSettings)
    table = kind.open(pieces)
    kind.tree = load_tree() if kind.uses_tree else None
    found.encoding, found.note = table.encoding.name, kind.note_on(table)
    kind.scan = scan(table, kind.key, kind.check, max_bad=settings.import_max_errors)
    found.total = kind.scan.total
    for chunk in table.chunks(settings.import_chunk_rows):
        _look_at_rows(kind, chunk, found)
        if found.failed > settings.import_max_errors:
            raise FileError(f"More than {settings.import_max_errors} rows are bad.")
    if found.bad_rows:
        first = found.bad_rows[0]
        shown = bad_row(first.row, first.column, first.reason)
        found.error = nothing_taken(Counts(found.total, failed=found.failed), shown)


def _look_at_rows(kind: FileKind[Any], chunk: Chunk, found: Preview) -> None:
    read = kind.read(chunk)
    try:
        counts = _tried(kind, read)
    except OperationalError as error:
        if not isinstance(error.orig, QueryCanceled) or len(chunk.rows) < 2:
            raise
        # As in the import: fewer rows take less of a statement's time.
        for half in chunk.halves():
            _look_at_rows(kind, half, found)
        return
    _add(found, counts, read)


def _tried(kind: FileKind[Any], read: Read[Any]) -> Counts:
    try:
        with transaction():
            counts = kind.apply(read)
            raise _TakenBackError
    except _TakenBackError:
        return counts


def _add(found: Preview, counts: Counts, read: Read[Any]) -> None:
    found.created += counts.created
    found.updated += counts.updated
    found.skipped += counts.skipped
    found.failed += counts.failed
    found.blank += counts.blank
    problems = read.checked.problems
    found.doubles += read.checked.doubles
    bad = [one for one in problems if not one.is_note]
    found.bad_rows += bad[: SHOWN_PROBLEMS - len(found.bad_rows)]
