"""Periods: counted from the anchor, so that short months shift nothing for ever."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from project.billing.periods import Period, boundary, period_at, period_from
from project.billing.states import PeriodUnit

DAY, WEEK, MONTH, YEAR = PeriodUnit.DAY, PeriodUnit.WEEK, PeriodUnit.MONTH, PeriodUnit.YEAR


def moment(written: str) -> datetime:
    return datetime.fromisoformat(written).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("anchor", "unit", "count", "ends"),
    [
        ("2027-01-28", MONTH, 1, ["2027-02-28", "2027-03-28", "2027-04-28"]),
        ("2027-01-29", MONTH, 1, ["2027-02-28", "2027-03-29", "2027-04-29"]),
        ("2027-01-30", MONTH, 1, ["2027-02-28", "2027-03-30", "2027-04-30"]),
        ("2027-01-31", MONTH, 1, ["2027-02-28", "2027-03-31", "2027-04-30", "2027-05-31"]),
        ("2028-01-29", MONTH, 1, ["2028-02-29", "2028-03-29"]),
        ("2028-01-30", MONTH, 1, ["2028-02-29", "2028-03-30"]),
        ("2028-01-31", MONTH, 1, ["2028-02-29", "2028-03-31"]),
        ("2028-02-29", MONTH, 1, ["2028-03-29", "2028-04-29"]),
        ("2028-02-29", YEAR, 1, ["2029-02-28", "2030-02-28", "2031-02-28", "2032-02-29"]),
        ("2028-02-29", MONTH, 12, ["2029-02-28", "2030-02-28", "2031-02-28", "2032-02-29"]),
        ("2099-02-28", YEAR, 1, ["2100-02-28", "2101-02-28"]),
        ("2096-02-29", YEAR, 4, ["2100-02-28", "2104-02-29"]),
        ("2027-11-30", MONTH, 3, ["2028-02-29", "2028-05-30", "2028-08-30"]),
        ("2027-12-31", MONTH, 1, ["2028-01-31", "2028-02-29", "2028-03-31"]),
        ("2027-12-31", DAY, 1, ["2028-01-01", "2028-01-02"]),
        ("2027-12-28", WEEK, 1, ["2028-01-04", "2028-01-11"]),
        ("2028-02-22", WEEK, 2, ["2028-03-07", "2028-03-21"]),
        ("2028-02-28", DAY, 2, ["2028-03-01", "2028-03-03"]),
        ("2027-03-01", DAY, 366, ["2028-03-01", "2029-03-02"]),
        ("2027-08-31", MONTH, 6, ["2028-02-29", "2028-08-31", "2029-02-28"]),
    ],
)
def test_renewals_end_on_the_anchors_day_or_on_the_last_of_a_shorter_month(
    anchor: str, unit: PeriodUnit, count: int, ends: list[str]
) -> None:
    start = moment(anchor)
    found = []
    for _ in ends:
        start = period_from(moment(anchor), unit, count, start).end
        found.append(start.date().isoformat())
    assert found == ends


def test_twelve_renewals_from_the_31st_come_back_to_the_31st() -> None:
    anchor = moment("2027-01-31T13:45:10.123456")
    ends = []
    start = anchor
    for _ in range(12):
        period = period_from(anchor, MONTH, 1, start)
        assert period.start == start
        start = period.end
        ends.append(start)
    assert [end.day for end in ends] == [28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31, 31]
    assert ends[-1] == anchor.replace(year=2028)
    assert {end.timetz() for end in ends} == {anchor.timetz()}


@pytest.mark.parametrize(
    ("at", "start", "end"),
    [
        ("2027-01-31T10:00", "2027-01-31T10:00", "2027-02-28T10:00"),
        ("2027-02-28T09:59:59.999999", "2027-01-31T10:00", "2027-02-28T10:00"),
        ("2027-02-28T10:00", "2027-02-28T10:00", "2027-03-31T10:00"),
        ("2027-03-30T23:00", "2027-02-28T10:00", "2027-03-31T10:00"),
        ("2028-02-29T10:00", "2028-02-29T10:00", "2028-03-31T10:00"),
    ],
)
def test_a_period_holds_its_start_and_not_its_end(at: str, start: str, end: str) -> None:
    found = period_at(moment("2027-01-31T10:00"), MONTH, 1, moment(at))
    assert found == Period(moment(start), moment(end))


anchors = st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))
units = st.sampled_from(PeriodUnit)
counts = st.one_of(st.integers(1, 24), st.just(366))


@given(anchors, units, counts, st.integers(0, 60))
def test_periods_tile_time_without_gap_or_overlap(
    anchor: datetime, unit: PeriodUnit, count: int, number: int
) -> None:
    number = number % 8 if unit is YEAR else number
    number = number if count < 366 or unit is DAY else number % 3
    start = boundary(anchor, unit, count, number)
    period = period_from(anchor, unit, count, start)
    assert period.start == start < period.end
    assert period.end == boundary(anchor, unit, count, number + 1)
    assert period_from(anchor, unit, count, period.end).start == period.end
    last = period.end - timedelta(microseconds=1)
    middle = start + (period.end - start) / 2
    for inside in (start, middle, last):
        assert period_at(anchor, unit, count, inside) == period
    assert period_at(anchor, unit, count, period.end).start == period.end
