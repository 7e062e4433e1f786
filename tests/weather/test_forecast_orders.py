"""What it costs to write forecasts does not depend on the order in which their places come."""

import random
from collections.abc import Callable, Sequence

import pytest
from flask import Flask

from project.core.db.transaction import transaction
from project.extensions import db
from project.weather.forecasts.bulk_upsert import ForecastRow, save_forecasts

Place = tuple[float, float]

COUNT = 3_000
CHUNK = 750


def meridian(count: int) -> list[Place]:
    return [(50 - at / 50, -101.25) for at in range(count)]


def parallel(count: int) -> list[Place]:
    return [(61.5, -170 + at / 10) for at in range(count)]


def road(count: int) -> list[Place]:
    bends = random.Random(3)
    return [(-20 + at / 100, 14.8 + bends.uniform(-0.001, 0.001)) for at in range(count)]


def diagonal(count: int) -> list[Place]:
    return [(-40 + at / 60, -80 + at / 30) for at in range(count)]


def grid_by_columns(count: int) -> list[Place]:
    return [(44 + at % 60 / 10, 5 + at // 60 / 10) for at in range(count)]


def grid_by_rows(count: int) -> list[Place]:
    return [(44 + at // 60 / 10, 5 + at % 60 / 10) for at in range(count)]


def anywhere(count: int) -> list[Place]:
    places = random.Random(4)
    return [(places.uniform(-90, 90), places.uniform(-180, 180)) for _ in range(count)]


def from_south_to_north(count: int) -> list[Place]:
    return sorted(anywhere(count))


def clusters(count: int) -> list[Place]:
    near, centers = random.Random(5), anywhere(15)
    return [
        (max(-90, min(90, north + near.gauss(0, 0.05))), max(-180, min(180, east)))
        for north, east in centers
        for _ in range(count // 15)
    ]


def one_place(count: int) -> list[Place]:
    return [(12.5, 77.5)] * count


ORDERS = [
    meridian,
    parallel,
    road,
    diagonal,
    grid_by_columns,
    grid_by_rows,
    from_south_to_north,
    clusters,
    one_place,
]


def rows_at(places: Sequence[Place], first_gid: int) -> list[ForecastRow]:
    return [
        ForecastRow(gid, lat, lon, "Sun", "Rain", True)
        for gid, (lat, lon) in enumerate(places, start=first_gid)
    ]


FETCHED = "pg_stat_get_xact_blocks_fetched(indexrelid)"
"""Counted since the server last took over what a session has counted, which is between two
transactions: differences within one are right."""
PAGES = "pg_relation_size(indexrelid) / 8192"


def cost(rows: Sequence[ForecastRow]) -> tuple[int, int]:
    """Write the rows, a chunk at a time; return the pages of indexes looked at, and those added."""
    fetched, pages = 0, of_indexes(PAGES)
    for at in range(0, len(rows), CHUNK):
        with transaction():
            before = of_indexes(FETCHED)
            save_forecasts(rows[at : at + CHUNK])
            fetched += of_indexes(FETCHED) - before
    return fetched, of_indexes(PAGES) - pages


def of_indexes(measure: str) -> int:
    statement = f"SELECT sum({measure}) FROM pg_index WHERE indrelid = 'forecasts'::regclass"
    with transaction():
        return int(db.session.scalar(db.text(statement)) or 0)


def empty() -> None:
    with transaction():
        db.session.execute(db.text("TRUNCATE forecasts"))


@pytest.mark.parametrize("held", [0, 2_000], ids=["an empty table", "a table with rows"])
@pytest.mark.parametrize("places", ORDERS, ids=lambda order: order.__name__)
def test_places_in_a_row_cost_no_more_than_twice_the_same_shuffled(
    app: Flask, places: Callable[[int], list[Place]], held: int
) -> None:
    in_order = places(COUNT)
    shuffled = random.Random(6).sample(in_order, COUNT)
    costs = []
    for order in (in_order, shuffled):
        empty()
        if held:
            cost(rows_at(anywhere(held), COUNT + 1))
        made = cost(rows_at(order, 1))
        moved = cost(rows_at([(lat * 0.99, lon * 0.99) for lat, lon in order], 1))
        costs.append((*made, *moved))

    for of_order, of_shuffled in zip(*costs, strict=True):
        assert of_order <= 2 * of_shuffled + 8, costs
