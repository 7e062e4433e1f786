"""Which sums a report is about, and in which order."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

from sqlalchemy import ColumnElement

from project.clicks.models import ClicksDaily

SORT_COLUMNS: Mapping[str, Any] = {
    "clicks_count": ClicksDaily.clicks,
    "offer_id": ClicksDaily.offer_id,
    "source": ClicksDaily.source,
    "date": ClicksDaily.day,
}
TIES = (ClicksDaily.day, ClicksDaily.offer_id, ClicksDaily.source)


@dataclass(frozen=True)
class ReportFilter:
    """Which sums: days (both ends included), and one offer or source if it is given."""

    start_date: date
    end_date: date
    offer_id: int | None = None
    source: str | None = None

    @property
    def takes_whole_days(self) -> bool:
        """Tell whether every row of a day is wanted."""
        return self.offer_id is None and self.source is None

    def conditions(self) -> list[ColumnElement[bool]]:
        """Return what holds for the wanted rows."""
        wanted: list[ColumnElement[bool]] = [
            ClicksDaily.day.between(self.start_date, self.end_date)
        ]
        if self.offer_id is not None:
            wanted.append(ClicksDaily.offer_id == self.offer_id)
        if self.source is not None:
            wanted.append(ClicksDaily.source == self.source)
        return wanted


@dataclass(frozen=True)
class Sorting:
    """By which column; rows that are equal there stand by date, offer and source, upwards."""

    sort_by: str
    descending: bool

    @property
    def column(self) -> Any:
        """Return the column of the table."""
        return SORT_COLUMNS[self.sort_by]
