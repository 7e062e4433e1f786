"""How long clicks are kept: months of clicks, and the ids that count once. Sums stay for ever."""

from datetime import date, timedelta

from dateutil.relativedelta import relativedelta
from sqlalchemy import text

from project.clicks.partitions import drop_partition, month_of, partitions
from project.clicks.settings import ClickSettings
from project.config.environment import get_settings
from project.core import clock
from project.core.db.transaction import transaction
from project.extensions import db

IDS_AT_ONCE = 20_000
_FORGET = text("""
    DELETE FROM click_ids WHERE ctid = ANY(ARRAY(
        SELECT ctid FROM click_ids WHERE counted_on < :first_kept LIMIT :at_most
    ))
""")


def first_kept_month() -> date:
    """Return the oldest month that CLICK_RETENTION_MONTHS keeps, beside the present one."""
    kept = relativedelta(months=get_settings(ClickSettings).click_retention_months)
    return month_of(month_of(clock.now()) - kept)


def outdated_partitions() -> dict[date, str]:
    """Return the months of clicks that are older than is kept, and their partitions."""
    first = first_kept_month()
    return {month: name for month, name in partitions().items() if month < first}


def drop_outdated_partitions() -> list[date]:
    """Drop the months of clicks that are older than is kept; return which."""
    dropped = outdated_partitions()
    for name in dropped.values():
        drop_partition(name)
    return list(dropped)


def forget_old_ids() -> int:
    """Forget the click_ids that were counted over CLICK_DEDUP_DAYS ago; return how many.

    In small transactions of its own, beside drains that add new ones.
    """
    first_kept = clock.now().date() - timedelta(days=get_settings(ClickSettings).click_dedup_days)
    forgotten = 0
    while True:
        with transaction():
            parameters = {"first_kept": first_kept, "at_most": IDS_AT_ONCE}
            some: int = db.session.execute(_FORGET, parameters).rowcount  # type: ignore[attr-defined]
        forgotten += some
        if some < IDS_AT_ONCE:
            return forgotten
