"""Giving all subscribers their nearest forecast anew, a thousand at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

from sqlalchemy import func, select

from project.core.db.transaction import transaction
from project.core.lazy_module import LazyModule
from project.extensions import db
from project.weather import tasks
from project.weather.forecasts.nearest import ForecastTree
from project.weather.models import Subscriber
from project.weather.subscribers.changes import assign_forecasts
from project.weather.tasks import Counts

if TYPE_CHECKING:
    import numpy as np
else:
    np = LazyModule("numpy")

SUBSCRIBERS_AT_ONCE = 5000


def assign_some(tree: ForecastTree, task_id: UUID, claim_id: UUID) -> int:
    """Look at the next subscribers and return how many there were. Raises ClaimLostError.

    They are locked while their place is read and their forecast written, so that nobody who
    moves meanwhile is given what was nearest before.
    """
    with transaction():
        task = tasks.hold(task_id, claim_id)
        if task.total is None:
            task.total = db.session.scalar(select(func.count()).select_from(Subscriber))
        rows = db.session.execute(
            select(Subscriber.id, Subscriber.lat, Subscriber.lon)
            .where(Subscriber.id > task.next_row)
            .order_by(Subscriber.id)
            .limit(SUBSCRIBERS_AT_ONCE)
            .with_for_update()
        ).all()
        if not rows:
            return 0
        lat = np.array([row.lat for row in rows], np.float64)
        lon = np.array([row.lon for row in rows], np.float64)
        nearest = tree.nearest(lat, lon)
        updated = assign_forecasts([(row.id, nearest.at(at)) for at, row in enumerate(rows)])
        counts = Counts(len(rows), updated=updated, skipped=len(rows) - updated)
        tasks.record_step(task, counts, next_row=rows[-1].id)
        return len(rows)
