"""Seeded clicks: a month of them, and no more of them when it is done again."""

from datetime import UTC, date, datetime, timedelta

from flask import Flask
from rich.progress import Progress

from seed import Seeder, counts
from tests.clicks.conftest import counted
from tests.time_machine import Clock

CLICKS = 2500
NOON = datetime(2027, 3, 10, 12, tzinfo=UTC)


def seed(number: int = 1) -> None:
    with Progress(disable=True) as progress:
        Seeder(number, progress).clicks(CLICKS)


def test_clicks_of_a_month_are_counted(app: Flask, clock: Clock) -> None:
    clock.set_to(NOON)
    seed()
    rows = counted()

    assert sum(clicks for _, _, _, clicks in rows) == CLICKS == counts()["clicks"]
    days = {date.fromisoformat(day) for day, _, _, _ in rows}
    assert clock.now().date() - min(days) == timedelta(days=30)
    assert len(days) == 31
    assert len({offer for _, offer, _, _ in rows}) > 20
    assert len({source for _, _, source, _ in rows}) == 7


def test_the_same_seed_again_makes_no_doubles_also_on_a_later_day(app: Flask, clock: Clock) -> None:
    seed()
    before = counted()
    seed()
    clock.advance(days=2)
    seed()
    assert counted() == before

    seed(2)
    assert counts()["clicks"] == 2 * CLICKS
