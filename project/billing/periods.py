"""Billing periods, counted from the anchor: 31 January, 28 February, 31 March."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from dateutil.relativedelta import relativedelta

from project.billing.states import PeriodUnit

EXPIRED_AFTER = timedelta(days=3)
"""How long after its period's end a subscription waits for the money of somebody who was asked."""


@dataclass(frozen=True)
class Period:
    """A stretch of time that is paid for: from `start` up to, not including, `end`."""

    start: datetime
    end: datetime


def boundary(anchor: datetime, unit: PeriodUnit, count: int, number: int) -> datetime:
    """Return the end of the anchor's period of this number; number 0 is the anchor itself.

    Counted from the anchor and not from the last boundary, so that a short month does not shift
    the day for ever.
    """
    amount = count * number
    match unit:
        case PeriodUnit.DAY:
            return anchor + timedelta(days=amount)
        case PeriodUnit.WEEK:
            return anchor + timedelta(weeks=amount)
        case PeriodUnit.MONTH:
            shifted: datetime = anchor + relativedelta(months=amount)
        case PeriodUnit.YEAR:
            shifted = anchor + relativedelta(years=amount)
    return shifted


def period_from(anchor: datetime, unit: PeriodUnit, count: int, start: datetime) -> Period:
    """Return the period that begins at `start`, which is the anchor or one of its boundaries."""
    return Period(start, _first_boundary_after(anchor, unit, count, start))


def period_at(anchor: datetime, unit: PeriodUnit, count: int, moment: datetime) -> Period:
    """Return the anchor's period in which the moment lies; the moment is not before the anchor."""
    number = _number_after(anchor, unit, count, moment)
    return Period(boundary(anchor, unit, count, number - 1), boundary(anchor, unit, count, number))


def _first_boundary_after(
    anchor: datetime, unit: PeriodUnit, count: int, moment: datetime
) -> datetime:
    return boundary(anchor, unit, count, _number_after(anchor, unit, count, moment))


_DAYS = {PeriodUnit.DAY: 1, PeriodUnit.WEEK: 7, PeriodUnit.MONTH: 31, PeriodUnit.YEAR: 366}


def _number_after(anchor: datetime, unit: PeriodUnit, count: int, moment: datetime) -> int:
    """Return the number of the first boundary after the moment."""
    longest = _DAYS[unit] * count
    number = max((moment - anchor).days // longest, 0)
    while boundary(anchor, unit, count, number) <= moment:
        number += 1
    return max(number, 1)
