"""Which payments a list of YooKassa asks for."""

import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from simulator.json_http import parse_moment
from simulator.yookassa.outcomes import STATUSES
from simulator.yookassa.payments import NEWEST, OLDEST, Order, Payment
from simulator.yookassa.requests import invalid

USUAL_LIMIT = 10
HIGHEST_LIMIT = 100

LIMIT = re.compile(r"[0-9]{1,4}", re.ASCII)
CURSOR = re.compile(r"([0-9a-f]{1,12})-([0-9a-f]{1,12})")
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

COMPARISONS: dict[str, Callable[[datetime, datetime], bool]] = {
    "gte": operator.ge,
    "gt": operator.gt,
    "lte": operator.le,
    "lt": operator.lt,
}
TIME_FILTERS = frozenset(
    f"{name}.{comparison}" for name in ("created_at", "captured_at") for comparison in COMPARISONS
)
KNOWN_FILTERS = TIME_FILTERS | {"status", "limit", "cursor"}


@dataclass(slots=True)
class ListQuery:
    """Which payments are asked for: those from `low` on and before `high`."""

    status: str | None = None
    low: Order = OLDEST
    high: Order = NEWEST
    captured: list[tuple[Callable[[datetime, datetime], bool], datetime]] = field(
        default_factory=list
    )
    limit: int = USUAL_LIMIT

    def accepts(self, payment: Payment) -> bool:
        """Whether a payment in the range of creation was captured in the right time."""
        at = payment.captured_at
        return not self.captured or (
            at is not None and all(compare(at, moment) for compare, moment in self.captured)
        )


def parse_query(given: Mapping[str, str]) -> ListQuery:
    """Return which payments a query asks for."""
    query = ListQuery()
    for name, value in given.items():
        if name in TIME_FILTERS:
            _filter_by_time(query, name, value)
        elif name not in KNOWN_FILTERS:
            raise invalid("Unknown parameter", name)
    query.status = given.get("status")
    if query.status is not None and query.status not in STATUSES:
        raise invalid(f"Status is none of {', '.join(STATUSES)}", "status")
    limit = given.get("limit", str(USUAL_LIMIT))
    if not LIMIT.fullmatch(limit) or not 1 <= int(limit) <= HIGHEST_LIMIT:
        raise invalid(f"Limit is not between 1 and {HIGHEST_LIMIT}", "limit")
    query.limit = int(limit)
    if "cursor" in given:
        query.high = min(query.high, _read_cursor(given["cursor"]))
    return query


def cursor(payment: Payment) -> str:
    """Return the cursor for what comes after `payment`; it holds when others come or go."""
    created_at, payment_number = payment.order
    milliseconds = (created_at - EPOCH) // timedelta(milliseconds=1)
    return f"{milliseconds:x}-{int(payment_number):x}"


def _read_cursor(text: str) -> Order:
    match = CURSOR.fullmatch(text)
    if match is None:
        raise invalid("Cursor is not one that was given", "cursor")
    try:
        created_at = EPOCH + timedelta(milliseconds=int(match[1], 16))
    except OverflowError:
        raise invalid("Cursor is not one that was given", "cursor") from None
    return created_at, int(match[2], 16)


def _filter_by_time(query: ListQuery, name: str, value: str) -> None:
    attribute, _, comparison = name.partition(".")
    try:
        moment = parse_moment(value)
    except (ValueError, OverflowError):
        raise invalid("Not an ISO 8601 time", name) from None
    if attribute == "captured_at":
        query.captured.append((COMPARISONS[comparison], moment))
    elif comparison in ("gte", "gt"):
        query.low = max(query.low, _edge(moment, behind_equal=comparison == "gt"))
    else:
        query.high = min(query.high, _edge(moment, behind_equal=comparison == "lte"))


def _edge(moment: datetime, *, behind_equal: bool) -> Order:
    """Return the place before or behind all payments of a moment."""
    return moment, NEWEST[1] if behind_equal else OLDEST[1]
