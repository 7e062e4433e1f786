"""Values as the older services' databases write them."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from project.core.legacy.importer import moment


@pytest.mark.parametrize(
    ("written", "zone", "read"),
    [
        ("2022-05-01 12:00:00", "Asia/Tokyo", datetime(2022, 5, 1, 3, tzinfo=UTC)),
        ("2022-05-01 12:00:00-03", "Asia/Tokyo", datetime(2022, 5, 1, 15, tzinfo=UTC)),
        ("0000-00-00 00:00:00", "UTC", None),
        ("0001-01-01 00:00:00", "Asia/Tokyo", None),
        ("9999-12-31 23:00:00", "America/Lima", None),
        ("9999-12-31 23:00:00-02:00", "UTC", None),
    ],
)
def test_a_moment_that_no_calendar_holds_in_utc_is_none(
    written: str, zone: str, read: datetime | None
) -> None:
    assert moment(written, ZoneInfo(zone)) == read
