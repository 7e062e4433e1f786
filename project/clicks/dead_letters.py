"""Clicks that could not be stored: to be looked at, and tried again."""

from collections.abc import Sequence

from sqlalchemy import func, select, text

from project.clicks.intake.inbox import clicks_waiting
from project.clicks.models import DeadClick
from project.core.work.queues import wake
from project.extensions import db

_TRY_AGAIN = text("""
    WITH revived AS (
        DELETE FROM click_dead WHERE id = ANY(:ids) RETURNING *
    )
    INSERT INTO click_inbox
        (click_ids, offer_ids, sources, clicked_at, signatures, size, received_at)
    SELECT ARRAY[click_id], ARRAY[offer_id], ARRAY[source], ARRAY[clicked_at], ARRAY[signature],
        1, received_at
    FROM revived ORDER BY id
""")


def dead_clicks(limit: int) -> Sequence[DeadClick]:
    """Return clicks that were put aside, the oldest first."""
    return db.session.scalars(select(DeadClick).order_by(DeadClick.id).limit(limit)).all()


def count_dead_clicks() -> int:
    """Return how many clicks were put aside."""
    return int(db.session.scalar(select(func.count()).select_from(DeadClick)) or 0)


def try_again(limit: int) -> int:
    """Put so many of the oldest back into the inbox, and wake the drain; return how many."""
    ids = list(db.session.scalars(select(DeadClick.id).order_by(DeadClick.id).limit(limit)))
    db.session.execute(_TRY_AGAIN, {"ids": ids})
    wake(clicks_waiting())
    return len(ids)
