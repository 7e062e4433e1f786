"""Days as subscribers live them, held for every zone and moment."""

from datetime import UTC, date, datetime, time, timedelta

import pytest
from flask import Flask
from hypothesis import given
from hypothesis import strategies as st

from project.weather import local_time
from project.weather.local_time import is_quiet, local_date, next_message_time

ZONES = st.sampled_from(
    [
        "Europe/Moscow",
        "Europe/Berlin",
        "America/New_York",
        "America/Sao_Paulo",
        "Asia/Kathmandu",
        "Asia/Tokyo",
        "Australia/Lord_Howe",
        "Pacific/Kiritimati",
        "Pacific/Niue",
        "Etc/GMT+12",
        "no such zone",
    ]
)
MOMENTS = st.datetimes(datetime(2024, 1, 1), datetime(2030, 1, 1)).map(
    lambda moment: moment.replace(tzinfo=UTC)
)
WAITS = st.integers(0, 48 * 60).map(lambda minutes: timedelta(minutes=minutes))

pytestmark = pytest.mark.usefixtures("migrated_app")


@given(ZONES, MOMENTS)
def test_the_next_message_is_never_at_night_and_never_for_the_past(
    zone: str, now: datetime
) -> None:
    found = next_message_time(zone, now)
    assert found >= now
    assert not is_quiet(zone, found)
    assert found - now < timedelta(hours=25)


@given(ZONES, MOMENTS)
def test_when_today_is_done_with_the_next_is_of_tomorrow(zone: str, now: datetime) -> None:
    today = local_date(zone, now)
    found = next_message_time(zone, now, after=today)
    assert local_date(zone, found) == today + timedelta(days=1)
    assert found.astimezone(local_time.zone_of(zone)).time() == time(8)


@given(ZONES, MOMENTS, WAITS)
def test_a_try_later_is_on_the_same_day_or_not_at_all(
    zone: str, now: datetime, wait: timedelta
) -> None:
    today = local_date(zone, now)
    found = local_time.later_today(zone, now, today, wait)
    if found is not None:
        assert found >= now + wait
        assert local_date(zone, found) == today
        assert not is_quiet(zone, found)


@given(ZONES, MOMENTS)
def test_the_first_paid_day_has_its_message(zone: str, now: datetime) -> None:
    begins = local_time.paid_from(zone, now)
    assert begins <= now
    assert begins <= next_message_time(zone, now) < begins + timedelta(days=1)


@given(ZONES, MOMENTS)
def test_a_date_ends_when_the_next_begins(zone: str, now: datetime) -> None:
    ends = local_time.day_ends(zone, now)
    assert ends > now
    assert local_date(zone, ends) == local_date(zone, now) + timedelta(days=1)
    assert local_date(zone, ends - timedelta(microseconds=1)) == local_date(zone, now)


def test_hours_may_go_past_midnight(migrated_app: Flask) -> None:
    night = (time(21), time(8))
    assert [local_time.is_in(night, time(hour)) for hour in (20, 21, 0, 7, 8)] == [
        False,
        True,
        True,
        True,
        False,
    ]
    assert local_time.is_in((time(13), time(15)), time(14))
    assert not local_time.is_in((time(13), time(15)), time(15))
    assert date(2027, 1, 1) == local_date(
        "Pacific/Kiritimati", datetime(2026, 12, 31, 11, tzinfo=UTC)
    )
