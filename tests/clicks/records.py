"""Clicks that are there already, as counting would have left them."""

import itertools
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any

from sqlalchemy import text

from project.clicks.partitions import ensure_partitions, month_of
from project.core.db.transaction import transaction

ADD_TO_DAY = """
    INSERT INTO click_days (day, clicks, version) VALUES (:day, :clicks, 1)
    ON CONFLICT (day) DO UPDATE
       SET clicks = click_days.clicks + :clicks, version = click_days.version + 1
"""
ADD_TO_SUM = """
    INSERT INTO clicks_daily (day, offer_id, source, clicks)
    VALUES (:day, :offer_id, :source, :clicks)
    ON CONFLICT (day, offer_id, source) DO UPDATE
       SET clicks = clicks_daily.clicks + :clicks
"""
ADD_CLICK = """
    INSERT INTO clicks (clicked_at, click_id, offer_id, source, signature, received_at)
    VALUES (:clicked_at, :click_id, :offer_id, :source, :signature, :clicked_at)
"""
ADD_MANY = """
    INSERT INTO clicks (clicked_at, click_id, offer_id, source, signature, received_at)
    SELECT :start + n * interval '1 millisecond', 'click-' || lpad(n::text, 40, '0'),
           1 + n % 500, 'source-' || n % 20, md5(n::text) || md5(n::text), now()
      FROM generate_series(1, :count) AS n
"""


class Clicks:
    """Writes clicks and their sums, in one transaction as counting does."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)

    def summed(self, day: date, offer_id: int, source: str, clicks: int) -> None:
        """Have so many clicks in the daily sums; the clicks themselves are not there."""
        with transaction() as session:
            values = {"day": day, "offer_id": offer_id, "source": source, "clicks": clicks}
            session.execute(text(ADD_TO_SUM), values)
            session.execute(text(ADD_TO_DAY), {"day": day, "clicks": clicks})

    def clicked(
        self, moment: datetime, *, offer_id: int = 1, source: str = "mail", **fields: Any
    ) -> Mapping[str, Any]:
        """Have one click, counted; return it as finance is to get it."""
        name = f"click-{next(self._numbers)}"
        click = {"click_id": name, "signature": f"signature of {name}", **fields}
        click |= {"offer_id": offer_id, "source": source}
        day = moment.astimezone(UTC).date()
        with transaction() as session:
            ensure_partitions([month_of(day)])
            session.execute(text(ADD_CLICK), {**click, "clicked_at": moment})
            values = {"day": day, "offer_id": offer_id, "source": source, "clicks": 1}
            session.execute(text(ADD_TO_SUM), values)
            session.execute(text(ADD_TO_DAY), {"day": day, "clicks": 1})
        return {**click, "timestamp": moment}

    def many(self, day: date, count: int) -> None:
        """Have many clicks on a day."""
        start = datetime(day.year, day.month, day.day, tzinfo=UTC)
        assert timedelta(milliseconds=count) < timedelta(days=1)
        with transaction() as session:
            ensure_partitions([month_of(day)])
            session.execute(text(ADD_MANY), {"start": start, "count": count})
            session.execute(text(ADD_TO_DAY), {"day": day, "clicks": count})
