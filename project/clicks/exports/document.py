"""A day's clicks as the JSON document that finance gets, made piece by piece."""

import hashlib
import tempfile
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, BinaryIO

import msgspec
from sqlalchemy import Connection, Engine, Row

from project.clicks.exports import queries
from project.clicks.exports.queries import DayFacts
from project.clicks.settings import EXPORT_SPOOL_SECONDS
from project.core.db.snapshot import in_batches, snapshot
from project.core.errors import NotFound


class Click(msgspec.Struct):
    """A click as finance expects it."""

    click_id: str
    offer_id: int
    source: str
    timestamp: datetime
    signature: str | None


class DayNotKept(Exception):
    """Clicks of the day were counted but are no longer kept, so it cannot be told as it was."""


class SpoolTooSlow(Exception):
    """The day could not be read in the time there is."""


@dataclass(frozen=True)
class Spooled:
    """A day's document in a file, as it stood at one moment."""

    file: BinaryIO
    sha256: str
    facts: DayFacts


def document_chunks(
    connection: Connection, day: date, facts: DayFacts
) -> Generator[bytes, None, None]:
    """Write {date, total_clicks, clicks: [...]} in pieces, in the transaction of the facts."""
    yield b'{"date":"%s","total_clicks":%d,"clicks":[' % (str(day).encode(), facts.kept)
    between = b""
    for batch in in_batches(connection, queries.clicks_of_day(day)):
        yield between + _written(batch)
        between = b","
    yield b"]}"


def _written(rows: Sequence[Row[*tuple[Any, ...]]]) -> bytes:
    encode = msgspec.json.encode
    return b",".join(encode(Click(*row)) for row in rows)


def streamed_day(engine: Engine, day: date) -> Generator[bytes, None, None]:
    """Write the document straight from the database. Raises NotFound for a day no longer kept."""
    with snapshot(engine) as connection:
        facts = queries.facts_of_day(connection, day)
        if not facts.is_whole:
            raise NotFound(f"The clicks of {day} are not all kept any more.")
        yield from document_chunks(connection, day, facts)


@contextmanager
def spooled_day(engine: Engine, day: date) -> Iterator[Spooled]:
    """Hold the document in a file that is gone afterwards. Raises DayNotKept and SpoolTooSlow."""
    with tempfile.TemporaryFile(prefix="perennial-export-") as file:
        yield _spool(engine, day, file)


def _spool(engine: Engine, day: date, file: BinaryIO) -> Spooled:
    ends_at = time.monotonic() + EXPORT_SPOOL_SECONDS
    digest = hashlib.sha256()
    with snapshot(engine) as connection:
        facts = queries.facts_of_day(connection, day)
        if not facts.is_whole:
            raise DayNotKept(f"{facts.counted} clicks were counted, {facts.kept} are kept")
        for chunk in document_chunks(connection, day, facts):
            digest.update(chunk)
            file.write(chunk)
            if time.monotonic() > ends_at:
                raise SpoolTooSlow(f"the day was not read within {EXPORT_SPOOL_SECONDS} s")
    file.flush()
    return Spooled(file, digest.hexdigest(), facts)
