"""Accepted clicks on disk: those that arrive together share one row and one commit."""

import threading
import time
from collections.abc import Callable, Sequence

import msgspec
from sqlalchemy import bindparam, func, insert, select

from project.clicks.intake.reading import Click
from project.clicks.models import click_inbox
from project.config import get_settings
from project.core.queues import Wakeup, wake_soon
from project.core.reading import PreparedQuery

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
    return Wakeup("clicks", get_settings().clicks_queue_name, CLICKS_WAITING)


def write(clicks: Sequence[Click]) -> None:
    """Put the clicks on disk as one row, committed when this returns."""
    _INSERT.one(
        {
            "click_ids": _array([click.click_id for click in clicks]),
            "offer_ids": _array([click.offer_id for click in clicks]),
            "sources": _array([click.source for click in clicks]),
            "clicked_at": _array([click.timestamp for click in clicks]),
            "signatures": _array([click.signature for click in clicks]),
            "size": len(clicks),
        }
    )
    wake_soon(clicks_waiting())


def _array(values: Sequence[object]) -> str:
    """Return the values as Postgres writes an array: {"a","b",null}.

    Inside the brackets that is JSON, as long as no text holds a control character, which would
    be escaped in another way. The driver's own writer takes twenty times as long.
    """
    return "{" + msgspec.json.encode(values)[1:-1].decode() + "}"


class _Batch:
    def __init__(self) -> None:
        self.clicks: list[Click] = []
        self.error: Exception | None = None
        self.is_written = False


class GroupCommit:
    """Lets requests that arrive together share a commit.

    While one request writes, the others gather; the next one to get its turn writes for all that
    have gathered. So a single request waits for nobody, and many need few commits.
    """

    def __init__(self, write: Callable[[Sequence[Click]], None]) -> None:
        self._write = write
        self._turn = threading.Lock()
        self._gathering = _Batch()
        self._gate = threading.Lock()

    def put(self, click: Click) -> None:
        """Return when the click is committed; raise what the write raised."""
        with self._gate:
            batch = self._gathering
            batch.clicks.append(click)
        with self._turn:
            if not batch.is_written:
                self._write_batch(batch)
        if batch.error is not None:
            raise batch.error

    def _write_batch(self, batch: _Batch) -> None:
        with self._gate:
            self._gathering = _Batch()
        try:
            self._write(batch.clicks)
        except Exception as error:
            batch.error = error
        batch.is_written = True


class Backlog:
    """How many accepted clicks wait to be counted, as known a moment ago."""

    def __init__(self) -> None:
        self._known = 0
        self._asked_at = -BACKLOG_KEPT_SECONDS

    def is_over_limit(self) -> bool:
        """Tell whether more wait than should; one request in two seconds looks."""
        now = time.monotonic()
        if now - self._asked_at >= BACKLOG_KEPT_SECONDS:
            self._asked_at = now
            row = _BACKLOG.one({})
            self._known = int(row[0]) if row else 0
        return self._known >= get_settings().click_backlog_limit

    def forget(self) -> None:
        """Look anew at the next request."""
        self._asked_at = -BACKLOG_KEPT_SECONDS


together = GroupCommit(write)
backlog = Backlog()
