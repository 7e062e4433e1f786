"""The only source of time: aware, in UTC, and movable where TEST_CLOCK=1."""

import re
from datetime import UTC, datetime, timedelta

from sqlalchemy import delete, select
from sqlalchemy.dialects.postgresql import insert

from project.config import get_settings
from project.core.errors import BadRequest, NotFound
from project.core.models import ClockOffset
from project.core.reading import PreparedQuery
from project.core.transaction import transaction
from project.extensions import db

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_DURATION = re.compile(r"([0-9]{1,9})([smhdw])")
MAX_OFFSET = timedelta(days=365 * 200)
_OFFSET = PreparedQuery(select(ClockOffset.offset_seconds))


def now() -> datetime:
    """Return the product's present moment in UTC."""
    real = datetime.now(UTC)
    return real + read_offset() if get_settings().test_clock else real


def real_now() -> datetime:
    """Return the real moment, for what outsiders compare with their own clocks."""
    return datetime.now(UTC)


def read_offset() -> timedelta:
    """Return how far the test clock stands from the real one.

    Read on a connection of its own, so that the answer neither waits for nor depends on the
    transaction that asks: a move is seen by every process at once.
    """
    row = _OFFSET.one({})
    return timedelta(seconds=row[0] if row else 0)


def parse_duration(written: str) -> timedelta:
    """Read `25h`, `90m` or `1d12h`; units are s, m, h, d and w. Raises BadRequest."""
    parts = _DURATION.findall(written)
    if not parts or "".join(number + unit for number, unit in parts) != written:
        raise BadRequest(
            "A duration is written like 25h, 90m or 1d12h.", {"advance": ["Not a duration."]}
        )
    seconds = sum(int(number) * _UNITS[unit] for number, unit in parts)
    if seconds > MAX_OFFSET.total_seconds():
        raise BadRequest("That is too far to move the clock.", {"advance": ["Too long."]})
    return timedelta(seconds=seconds)


def advance(by: timedelta) -> datetime:
    """Move the test clock forward and return the new present moment."""
    return set_to(now() + by)


def set_to(moment: datetime) -> datetime:
    """Set the test clock to a moment, from which it runs on. Raises NotFound."""
    require_test_clock()
    offset = moment - datetime.now(UTC)
    if abs(offset) > MAX_OFFSET:
        raise BadRequest("That is too far to move the clock.", {"set": ["Too far."]})
    values = {"id": 1, "offset_seconds": offset.total_seconds()}
    with transaction():
        statement = insert(ClockOffset).values(values)
        db.session.execute(
            statement.on_conflict_do_update(
                index_elements=["id"], set_={"offset_seconds": statement.excluded.offset_seconds}
            )
        )
    return moment


def reset() -> datetime:
    """Return the test clock to real time."""
    require_test_clock()
    with transaction():
        db.session.execute(delete(ClockOffset))
    return datetime.now(UTC)


def require_test_clock() -> None:
    """Raise NotFound unless this copy runs with TEST_CLOCK=1."""
    if not get_settings().test_clock:
        raise NotFound("This copy runs on real time; start it with TEST_CLOCK=1 to move the clock.")
