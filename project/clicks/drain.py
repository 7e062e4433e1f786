"""The drain: accepted clicks become clicks that count, once, in one transaction per batch.

Nothing outside is called, so the lock on the inbox's rows is the claim: whoever dies in the
middle leaves everything as it was. One drain works at a time. It counts some ten thousand clicks
a second, and so two never wait for each other's sums.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import structlog
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, OperationalError

from project.clicks.partitions import ensure_partitions, month_of
from project.config import get_settings
from project.core import clock
from project.core.transaction import transaction
from project.extensions import db

log = structlog.get_logger()

LOCK = 7_265_309_119
MAX_REASON_LENGTH = 500
CHECK_VIOLATION = "23514"

_NEXT = text("SELECT id, size FROM click_inbox ORDER BY id LIMIT :rows")
# `new` holds the clicks whose id counts for the first time; of doubles in one batch the first.
_COUNT = text("""
    WITH taken AS (
        DELETE FROM click_inbox WHERE id = ANY(:ids) RETURNING *
    ), arrived AS MATERIALIZED (
        SELECT taken.id, taken.received_at, one.*
        FROM taken, unnest(click_ids, offer_ids, sources, clicked_at, signatures)
            WITH ORDINALITY AS one(click_id, offer_id, source, clicked_at, signature, place)
    ), counted AS (
        INSERT INTO click_ids (click_id, counted_on)
        SELECT DISTINCT click_id, CAST(:today AS date) FROM arrived
        ON CONFLICT (click_id) DO NOTHING
        RETURNING click_id
    ), new AS MATERIALIZED (
        SELECT DISTINCT ON (arrived.click_id) arrived.*
        FROM arrived JOIN counted USING (click_id)
        ORDER BY arrived.click_id, arrived.id, arrived.place
    ), stored AS (
        INSERT INTO clicks (clicked_at, click_id, offer_id, source, signature, received_at)
        SELECT clicked_at, click_id, offer_id, source, signature, received_at FROM new
    ), summed AS (
        INSERT INTO clicks_daily AS known (day, offer_id, source, clicks)
        SELECT CAST(clicked_at AT TIME ZONE 'UTC' AS date), offer_id, source, count(*) FROM new
        GROUP BY 1, 2, 3
        ON CONFLICT (day, offer_id, source) DO UPDATE SET clicks = known.clicks + excluded.clicks
    ), days AS (
        INSERT INTO click_days AS known (day, clicks, version)
        SELECT CAST(clicked_at AT TIME ZONE 'UTC' AS date), count(*), 1 FROM new GROUP BY 1
        ON CONFLICT (day) DO UPDATE
        SET clicks = known.clicks + excluded.clicks, version = known.version + 1
    )
    SELECT (SELECT count(*) FROM arrived), (SELECT count(*) FROM new)
""")
_MONTHS = text("""
    SELECT DISTINCT date_trunc('month', moment AT TIME ZONE 'UTC')
    FROM click_inbox, unnest(clicked_at) AS moment WHERE id = ANY(:ids)
""")
_SPLIT = text("""
    WITH halved AS (
        DELETE FROM click_inbox WHERE id = :id RETURNING *
    )
    INSERT INTO click_inbox
        (click_ids, offer_ids, sources, clicked_at, signatures, size, received_at)
    SELECT click_ids[a:z], offer_ids[a:z], sources[a:z], clicked_at[a:z], signatures[a:z],
        z - a + 1, received_at
    FROM halved, LATERAL (VALUES (1, size / 2), (size / 2 + 1, size)) AS half(a, z)
    RETURNING id, size
""")
_PUT_ASIDE = text("""
    WITH broken AS (
        DELETE FROM click_inbox WHERE id = :id RETURNING *
    )
    INSERT INTO click_dead
        (click_id, offer_id, source, clicked_at, signature, received_at, reason)
    SELECT click_ids[1], offer_ids[1], sources[1], clicked_at[1], signatures[1], received_at,
        :reason
    FROM broken
""")


@dataclass(frozen=True)
class Drained:
    """What one batch came to; of the clicks that left the inbox, those that were new count."""

    taken: int = 0
    new: int = 0

    def __add__(self, other: "Drained") -> "Drained":
        return Drained(self.taken + other.taken, self.new + other.new)


@dataclass(frozen=True)
class InboxRow:
    """A row of the inbox and how many clicks are in it."""

    id: int
    size: int


def drain_batch(at_most: int | None = None) -> Drained:
    """Count the longest-waiting clicks, about CLICKS_BATCH_SIZE of them, in one transaction.

    A click that cannot be stored is found by halving and put aside; the others are counted.
    """
    limit = at_most or get_settings().clicks_batch_size
    with transaction():
        db.session.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": LOCK})
        rows = _next_rows(limit)
        return _count(rows) if rows else Drained()


def _next_rows(limit: int) -> Sequence[InboxRow]:
    """Return rows that hold `limit` clicks together, or one row if it alone holds more."""
    rows: list[InboxRow] = []
    clicks = 0
    for id_, size in db.session.execute(_NEXT, {"rows": limit}):
        if rows and clicks + size > limit:
            break
        rows.append(InboxRow(id_, size))
        clicks += size
    return rows


def _count(rows: Sequence[InboxRow]) -> Drained:
    try:
        return _count_together(rows)
    except OperationalError:
        # A database that is away or busy is no fault of the clicks.
        raise
    except DBAPIError as error:
        if getattr(error.orig, "sqlstate", None) == CHECK_VIOLATION and _make_partitions(rows):
            return _count(rows)
        return _halve(rows, str(error.orig))


def _count_together(rows: Sequence[InboxRow]) -> Drained:
    with db.session.begin_nested():
        parameters = {"ids": [row.id for row in rows], "today": clock.now().date()}
        taken, new = db.session.execute(_COUNT, parameters).one()
    return Drained(taken, new)


def _make_partitions(rows: Sequence[InboxRow]) -> int:
    months = db.session.scalars(_MONTHS, {"ids": [row.id for row in rows]})
    return ensure_partitions(month_of(month) for month in months)


def _halve(rows: Sequence[InboxRow], reason: str) -> Drained:
    if len(rows) > 1:
        middle = len(rows) // 2
        return _count(rows[:middle]) + _count(rows[middle:])
    [row] = rows
    if row.size > 1:
        halves = [InboxRow(*half) for half in db.session.execute(_SPLIT, {"id": row.id})]
        return _count(halves[:1]) + _count(halves[1:])
    log.error("clicks.put_aside", inbox_id=row.id, reason=reason)
    db.session.execute(_PUT_ASIDE, {"id": row.id, "reason": reason[:MAX_REASON_LENGTH]})
    return Drained(taken=1)
