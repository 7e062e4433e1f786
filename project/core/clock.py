"""The only source of time: aware, in UTC, and movable where TEST_CLOCK=1."""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from sqlalchemy import func, select, update
from sqlalchemy.dialects.postgresql import insert

from project.config.environment import get_settings
from project.config.kernel import CoreSettings
from project.core.db.models import Claimable, ClockOffset
from project.core.db.transaction import transaction
from project.core.errors import BadRequest, NotFound
from project.core.fast_path.reading import PreparedQuery
from project.extensions import Model, db

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_DURATION = re.compile(r"([0-9]{1,9})([smhdw])")
MAX_OFFSET = timedelta(days=365 * 200)
SetBackHook = Callable[[datetime], None]
_when_set_back: list[SetBackHook] = []
_OFFSET = PreparedQuery(select(ClockOffset.offset_seconds))


def now() -> datetime:
    """Return the product's present moment in UTC."""
    real = datetime.now(UTC)
    return real + read_offset() if get_settings(CoreSettings).test_clock else real


async def current() -> datetime:
    """Return what `now` does; an event loop that runs this does not wait for it."""
    if not get_settings(CoreSettings).test_clock:
        return datetime.now(UTC)
    row = await _OFFSET.read({})
    return datetime.now(UTC) + timedelta(seconds=row[0] if row else 0)


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
    _move(offset)
    return moment


def reset() -> datetime:
    """Return the test clock to real time."""
    require_test_clock()
    _move(timedelta(0))
    return datetime.now(UTC)


def when_set_back(hook: SetBackHook) -> SetBackHook:
    """Have the function called with the new moment, in the transaction that sets the clock back."""
    _when_set_back.append(hook)
    return hook


def _move(offset: timedelta) -> None:
    with transaction():
        before = db.session.scalar(select(ClockOffset.offset_seconds).with_for_update()) or 0
        statement = insert(ClockOffset).values(id=1, offset_seconds=offset.total_seconds())
        db.session.execute(
            statement.on_conflict_do_update(
                index_elements=["id"], set_={"offset_seconds": statement.excluded.offset_seconds}
            )
        )
        back = timedelta(seconds=before) - offset
        if back > timedelta(0):
            _take_pauses_along(datetime.now(UTC) + offset, back)


def _take_pauses_along(now: datetime, back: timedelta) -> None:
    """Leave every pause its length, or what rests would rest until the clock is there again."""
    for mapper in Model.registry.mappers:
        work = mapper.class_
        if issubclass(work, Claimable):
            db.session.execute(
                update(work)
                .where(work.due_at > now, work.is_pausing(now))
                .values(due_at=func.greatest(work.due_at - back, now))
                .execution_options(synchronize_session=False)
            )
    for hook in _when_set_back:
        hook(now)


def require_test_clock() -> None:
    """Raise NotFound unless this copy runs with TEST_CLOCK=1."""
    if not get_settings(CoreSettings).test_clock:
        raise NotFound("This copy runs on real time; start it with TEST_CLOCK=1 to move the clock.")
