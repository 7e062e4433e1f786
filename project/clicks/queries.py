"""What waits to be counted."""

from datetime import datetime

from sqlalchemy import func, select

from project.clicks.models import click_inbox
from project.core import clock
from project.extensions import db


def count_waiting() -> int:
    """Return how many accepted clicks wait to be counted."""
    return int(db.session.scalar(select(func.coalesce(func.sum(click_inbox.c.size), 0))) or 0)


def oldest_waiting_at() -> datetime | None:
    """Return since when the longest-waiting click waits, by the product's clock."""
    received_at = db.session.scalar(
        select(click_inbox.c.received_at).order_by(click_inbox.c.id).limit(1)
    )
    return None if received_at is None else clock.now() - (clock.real_now() - received_at)
