"""Sending a day: written to a file in one moment's state, then handed over in one request."""

import asyncio
from collections.abc import Sequence
from datetime import date

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from project.clicks.exports import finance, queries, service
from project.clicks.exports.document import DayNotKept, Spooled, SpoolTooSlow, spooled_day
from project.clicks.exports.service import AnyRow, Delivered, Failed, Outcome
from project.clicks.settings import export_call_seconds
from project.core.work.claims import claim, lease_for
from project.extensions import db


class DaySending:
    """Due exports, as the pump works through them; `only` is the id of a single one."""

    wakeup = service.EXPORTS_DUE
    capacity = 2
    armful = 1

    def __init__(self, only: int | None = None) -> None:
        self._engine = db.engine
        self._only = only

    def claim(self, limit: int) -> Sequence[AnyRow]:
        """Claim the exports that have been due the longest."""
        columns = queries.exports.c
        return claim(
            queries.exports,
            queries.due_exports(limit=limit, only=self._only),
            lease=lease_for(export_call_seconds()),
            returning=[columns.id, columns.day, columns.claim_id, columns.attempts],
        ).rows

    async def call(self, export: AnyRow) -> Outcome:
        """Send one day; the database is read in a thread, so that other calls go on."""
        return await _send(self._engine, export.id, export.day)

    def record(self, results: Sequence[tuple[AnyRow, Outcome]]) -> None:
        """Record what came of it."""
        service.record_outcomes(results)

    def is_anything_due(self) -> bool:
        """Tell whether an export is due that nobody works on."""
        return queries.is_anything_due(self._only)


async def _send(engine: Engine, export_id: int, day: date) -> Outcome:
    spool = spooled_day(engine, day)
    try:
        spooled = await asyncio.to_thread(spool.__enter__)
    except DayNotKept as error:
        return Failed(str(error), is_final=True)
    except (SpoolTooSlow, SQLAlchemyError, OSError) as error:
        reason = str(error).split("\n", 1)[0][:300]
        return Failed(f"the day could not be read: {type(error).__name__}: {reason}")
    try:
        return await _hand_over(spooled, export_id)
    finally:
        await asyncio.to_thread(spool.__exit__, None, None, None)


async def _hand_over(spooled: Spooled, export_id: int) -> Outcome:
    answer = await finance.post_clicks(spooled.file, export_id=export_id, sha256=spooled.sha256)
    problem = finance.failure(answer)
    if problem is not None:
        return Failed(problem, answer.retry_after_seconds)
    return Delivered(spooled.facts.kept, spooled.sha256, spooled.facts.version)
