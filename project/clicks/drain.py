"""The drain: accepted clicks become clicks that count, once, in one transaction per batch.

Nothing outside is called, so the lock on the inbox's rows is the claim: whoever dies in the
middle leaves everything as it was. One drain works at a time: two would wait for each other's sums.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import structlog
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from project.clicks.partitions import ensure_partitions, month_of
from project.clicks.settings import ClickSettings
from project.config.environment import get_settings
from project.core import clock
from project.core.db.locks import Lock, hold
from project.core.db.transaction import transaction
from project.core.http.input import MAX_CLICK_ID_LENGTH
from project.extensions import db

log = structlog.get_logger()

MAX_REASON_LENGTH = 500
CHECK_VIOLATION = "23514"
# Classes of SQLSTATE: data exception, integrity violation, limit exceeded. Any other error is
# not held against the clicks.
CAUSED_BY_VALUES = ("22", "23", "54")

_NEXT = text("SELECT id, size FROM click_inbox ORDER BY id LIMIT :rows")
# `fresh` holds each click_id once, the first of doubles; `new` those that were never counted.
# Nobody else writes to click_ids meanwhile, so to look first is as safe as ON CONFLICT, at half
# the price. In the order of the ids, the index there is filled page after page. An entry has
# 2,704 bytes at most, so a long id is known by its SHA-256, after a character that no id has.
_COUNT = text("""
    WITH gone AS (
        DELETE FROM click_inbox WHERE id = ANY(:ids) RETURNING size
    ), fresh AS MATERIALIZED (
        SELECT DISTINCT ON (known_as.key)
            known_as.key, one.click_id, one.offer_id, one.source, one.clicked_at,
            one.signature, inbox.received_at,
            CAST(one.clicked_at AT TIME ZONE 'UTC' AS date) AS day
        FROM click_inbox AS inbox,
            unnest(click_ids, offer_ids, sources, clicked_at, signatures)
            WITH ORDINALITY AS one(click_id, offer_id, source, clicked_at, signature, place),
            LATERAL (SELECT CASE
                WHEN octet_length(one.click_id) <= 1000 OR length(one.click_id) > :longest
                THEN one.click_id
                ELSE E'\\x01' || encode(sha256(convert_to(one.click_id, 'UTF8')), 'hex')
                END COLLATE "C" AS key) AS known_as
        WHERE inbox.id = ANY(:ids)
        ORDER BY known_as.key, inbox.id, one.place
    ), new AS MATERIALIZED (
        SELECT * FROM fresh WHERE (SELECT known.click_id FROM click_ids AS known
                                    WHERE known.click_id = fresh.key) IS NULL
    ), counted AS (
        INSERT INTO click_ids (click_id, counted_on) SELECT key, CAST(:today AS date) FROM new
    ), stored AS (
        INSERT INTO clicks (clicked_at, click_id, offer_id, source, signature, received_at)
        SELECT clicked_at, click_id, offer_id, source, signature, received_at FROM new
    ), summed AS (
        INSERT INTO clicks_daily AS known (day, offer_id, source, clicks)
        SELECT day, offer_id, source, count(*) FROM new GROUP BY day, offer_id, source
        ON CONFLICT (day, offer_id, source) DO UPDATE SET clicks = known.clicks + excluded.clicks
    ), days AS (
        INSERT INTO click_days AS known (day, clicks, version)
        SELECT day, count(*), 1 FROM new GROUP BY day
        ON CONFLICT (day) DO UPDATE
        SET clicks = known.clicks + excluded.clicks, version = known.version + 1
    )
    SELECT (SELECT sum(size) FROM gone), (SELECT count(*) FROM new)
""")
# The planner cannot know how many clicks the arrays hold. Taking them for few, it would compare
# each with each. Nor does it know how fast click_ids grows: taking it for empty, as it was when it
# was analyzed, it would read all of it for each click.
_PLAN = text("""
    SELECT set_config('enable_nestloop', 'off', true), set_config('enable_seqscan', 'off', true)
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
    limit = at_most or get_settings(ClickSettings).clicks_batch_size
    with transaction():
        hold(Lock.CLICK_DRAIN)
        db.session.execute(_PLAN)
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
    except DBAPIError as error:
        sqlstate = str(getattr(error.orig, "sqlstate", None))
        if not sqlstate.startswith(CAUSED_BY_VALUES):
            raise
        if sqlstate == CHECK_VIOLATION and _make_partitions(rows):
            return _count(rows)
        return _halve(rows, str(error.orig))


def _count_together(rows: Sequence[InboxRow]) -> Drained:
    with db.session.begin_nested():
        parameters = {
            "ids": [row.id for row in rows],
            "today": clock.now().date(),
            "longest": MAX_CLICK_ID_LENGTH,
        }
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
