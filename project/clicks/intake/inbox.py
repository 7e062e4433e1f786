"""Accepted clicks on disk: those that arrive together share one row and one commit."""

from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import bindparam, func, insert, select

from project.clicks.intake.parsing import Click
from project.clicks.models import click_inbox
from project.config.environment import get_settings
from project.config.kernel import WorkSettings
from project.core.errors import UNUSABLE_VALUE
from project.core.fast_path.reading import PreparedQuery
from project.core.loop import Cached, GroupCommit
from project.core.work.queues import Wakeup, wake_soon

BACKLOG_KEPT_SECONDS = 2.0

CLICKS_WAITING = "project.clicks.jobs.drain_clicks"
_ARRAYS = ("click_ids", "offer_ids", "sources", "clicked_at", "signatures")
# Clicks that are written twice, because a connection broke, are counted once all the same.
_INSERT = PreparedQuery(
    insert(click_inbox)
    .values({name: bindparam(name) for name in (*_ARRAYS, "size")})
    .returning(click_inbox.c.id)
)
_BACKLOG = PreparedQuery(select(func.coalesce(func.sum(click_inbox.c.size), 0)))


def clicks_waiting() -> Wakeup:
    """Return what wakes the drain, on the queue that the settings name."""
    return Wakeup("clicks", get_settings(WorkSettings).clicks_queue_name, CLICKS_WAITING)


async def write(clicks: Sequence[Click]) -> list[Exception | None]:
    """Put the clicks on disk as one row, committed when this returns.

    Returns for each why it was not taken, or None. A value that the database will not have is
    found by halves, and costs no other click anything.
    """
    try:
        await _INSERT.read(_row(clicks))
    except UNUSABLE_VALUE as error:
        if len(clicks) == 1:
            return [error]
        half = len(clicks) // 2
        return await write(clicks[:half]) + await write(clicks[half:])
    wake_soon(clicks_waiting())
    return [None] * len(clicks)


def _row(clicks: Sequence[Click]) -> dict[str, Any]:
    return {
        "click_ids": _array([click.click_id for click in clicks]),
        "offer_ids": _array([click.offer_id for click in clicks]),
        "sources": _array([click.source for click in clicks]),
        "clicked_at": _array([click.timestamp for click in clicks]),
        "signatures": _array([click.signature for click in clicks]),
        "size": len(clicks),
    }


def _array(values: Sequence[object]) -> str:
    """Return the values as Postgres writes an array: {"a","b",null}.

    Inside the brackets that is JSON, as long as no text holds a control character, which would
    be escaped in another way. The driver's own writer takes twenty times as long.
    """
    return "{" + msgspec.json.encode(values)[1:-1].decode() + "}"


async def _count_waiting() -> int:
    row = await _BACKLOG.read({})
    return int(row[0]) if row else 0


singles = GroupCommit(write)
backlog = Cached(_count_waiting, BACKLOG_KEPT_SECONDS)
"""How many accepted clicks wait to be counted, as known a moment ago."""
