"""The months of `clicks`: each a partition, made ahead of its time and dropped after it."""

from collections.abc import Iterable
from datetime import UTC, date, datetime

from dateutil.relativedelta import relativedelta
from sqlalchemy import text

from project.clicks.settings import ClickSettings
from project.config.environment import get_settings
from project.core import clock
from project.core.db.locks import Lock, hold
from project.core.db.transaction import transaction
from project.extensions import db

SCHEMA = "clicks_by_month"
MONTHS_AHEAD = 3


def month_of(moment: date) -> date:
    """Return the first day of the month of a day or of a moment in UTC."""
    return date(moment.year, moment.month, 1)


def make_partitions_ahead() -> int:
    """Make the partitions of all clicks that may be accepted in the next months; return how many.

    Safe to run twice at once. A month that is missing all the same is made when a click needs it.
    """
    now = clock.now()
    oldest = month_of(now - relativedelta(days=get_settings(ClickSettings).click_max_age_days))
    last = month_of(now) + relativedelta(months=MONTHS_AHEAD)
    months = [oldest]
    while months[-1] < last:
        months.append(months[-1] + relativedelta(months=1))
    with transaction():
        return ensure_partitions(months)


def ensure_partitions(months: Iterable[date]) -> int:
    """Make the partitions of these months that are not there yet; return how many were made."""
    hold(Lock.CLICK_PARTITIONS)
    there = partitions()
    missing = sorted(set(months) - set(there))
    for month in missing:
        db.session.execute(text(_creation(month)))
    return len(missing)


def _creation(month: date) -> str:
    start, end = _midnight(month), _midnight(month + relativedelta(months=1))
    return (
        f"CREATE TABLE {SCHEMA}.clicks_{month:%Y_%m} PARTITION OF clicks"
        f" FOR VALUES FROM ('{start}') TO ('{end}')"
    )


def _midnight(day: date) -> str:
    return datetime(day.year, day.month, day.day, tzinfo=UTC).isoformat()


def partitions() -> dict[date, str]:
    """Return the month and the name of every partition, the oldest first."""
    names = db.session.scalars(
        text("SELECT tablename FROM pg_tables WHERE schemaname = :schema ORDER BY tablename"),
        {"schema": SCHEMA},
    )
    return {datetime.strptime(name, "clicks_%Y_%m").date(): name for name in names}


def drop_partition(name: str) -> None:
    """Drop a month of clicks for good."""
    db.session.execute(text(f"DROP TABLE {SCHEMA}.{name}"))
