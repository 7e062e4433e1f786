"""Advisory locks: what one process at a time may do, in all processes on all machines.

Each has its number here and nowhere else, so that no two share one unseen.
"""

from enum import IntEnum, unique

from sqlalchemy import func, select

from project.extensions import db


@unique
class Lock(IntEnum):
    """What is done by one at a time."""

    MIGRATION = 7_265_309_118
    CLICK_DRAIN = 7_265_309_119
    CLICK_PARTITIONS = 7_265_309_120
    FORECAST_BILLING = 7_265_309_121
    MESSAGE_MAKING = 7_265_309_122
    ABSENT_SUBSCRIBERS = 7_265_309_131


def hold(lock: Lock) -> None:
    """Wait for a lock and hold it until the present transaction ends."""
    db.session.execute(select(func.pg_advisory_xact_lock(lock)))


def hold_shared(lock: Lock) -> None:
    """Wait until nobody holds a lock alone, and keep it so until the present transaction ends."""
    db.session.execute(select(func.pg_advisory_xact_lock_shared(lock)))


def try_to_hold(lock: Lock) -> bool:
    """Hold a lock until the present transaction ends, unless another does; tell which."""
    return bool(db.session.scalar(select(func.pg_try_advisory_xact_lock(lock))))
