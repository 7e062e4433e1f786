"""The nearest forecast, by the index and by the tree, against every distance worked out."""

import math

import numpy as np
import pytest
from flask import Flask
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete
from sqlalchemy.dialects import postgresql

from project.config.environment import get_settings
from project.core import clock
from project.core.db import bulk
from project.core.db.rows import table_of
from project.core.db.transaction import transaction
from project.extensions import db
from project.weather.forecasts.nearest import ForecastTree, load_tree, nearest_to
from project.weather.forecasts.queries import forecasts_in_box
from project.weather.models import Forecast
from project.weather.settings import ForecastSettings
from project.weather.sphere import DECIMALS, EARTH_RADIUS_M, box_around, distances_m
from tests.conftest import ChangeSettings

Place = tuple[float, float]

LATITUDES = st.one_of(st.floats(-90, 90), st.sampled_from([-90.0, 0.0, 89.999, 90.0]))
LONGITUDES = st.one_of(st.floats(-180, 180), st.sampled_from([-180.0, -179.99, 179.99, 180.0]))
PLACES = st.tuples(
    LATITUDES.map(lambda degrees: round(degrees, DECIMALS)),
    LONGITUDES.map(lambda degrees: round(degrees, DECIMALS)),
)
SLACK_M = 0.01


def haversine_m(one: Place, other: Place) -> float:
    """The formula as the textbooks have it, and not as the product has it."""
    phi, other_phi = math.radians(one[0]), math.radians(other[0])
    half_phi = (other_phi - phi) / 2
    half_lambda = math.radians(other[1] - one[1]) / 2
    a = math.sin(half_phi) ** 2 + math.cos(phi) * math.cos(other_phi) * math.sin(half_lambda) ** 2
    return 2 * EARTH_RADIUS_M * math.atan2(math.sqrt(a), math.sqrt(1 - min(a, 1)))


def save(places: list[Place], *, is_active: bool = True) -> None:
    now = clock.now()
    rows = [
        {
            "gid": gid,
            "lat": lat,
            "lon": lon,
            "fcat24": "Sun",
            "fcat48": "Rain",
            "is_active": is_active,
            "created_at": now,
            "updated_at": now,
        }
        for gid, (lat, lon) in enumerate(places, start=1)
    ]
    with transaction():
        db.session.execute(delete(Forecast))
        bulk.insert_rows(table_of(Forecast), rows)


def by_index(place: Place) -> int | None:
    with transaction(read_only=True):
        found = nearest_to(*place)
    return found.gid if found else None


def by_tree(place: Place) -> int | None:
    found = load_tree().nearest(np.array([place[0]]), np.array([place[1]])).at(0)
    return found.gid if found else None


class TestBothWays:
    @pytest.fixture(autouse=True)
    def everywhere(self, change_settings: ChangeSettings) -> None:
        change_settings(forecast_max_km=20_100.0)

    @settings(
        max_examples=60,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture],
    )
    @given(
        places=st.lists(PLACES, min_size=1, max_size=30),
        asked=st.lists(PLACES, min_size=1, max_size=5),
    )
    def test_find_a_forecast_that_no_other_is_nearer_than(
        self, app: Flask, places: list[Place], asked: list[Place]
    ) -> None:
        save(places)
        tree = load_tree()
        for place in asked:
            least = min(haversine_m(place, other) for other in places)
            for found in (by_index(place), by_tree(place)):
                assert found is not None
                assert haversine_m(place, places[found - 1]) <= least + SLACK_M
        assigned = tree.nearest(
            np.array([place[0] for place in asked]), np.array([place[1] for place in asked])
        )
        for place, gid in zip(asked, assigned.gids, strict=True):
            least = min(haversine_m(place, other) for other in places)
            assert haversine_m(place, places[int(gid) - 1]) <= least + SLACK_M

    @settings(max_examples=300, deadline=None)
    @given(one=PLACES, other=PLACES)
    def test_distances_are_those_of_the_textbook(self, one: Place, other: Place) -> None:
        found = float(distances_m(one[0], one[1], other[0], other[1]))

        assert found == pytest.approx(haversine_m(one, other), abs=1, rel=1e-9)

    def test_degrees_are_no_plane(self, app: Flask) -> None:
        north = (70.0, 25.0)
        save([(70.0, 27.0), (71.5, 25.0)])

        assert haversine_m(north, (70.0, 27.0)) < haversine_m(north, (71.5, 25.0))
        assert (by_index(north), by_tree(north)) == (1, 1)

    def test_the_180th_meridian_is_no_edge(self, app: Flask) -> None:
        save([(0.0, 170.0), (0.0, -179.9)])

        assert (by_index((0.0, 179.9)), by_tree((0.0, 179.9))) == (2, 2)

    @pytest.mark.parametrize(
        "places",
        [
            [(0.0, 180.0), (0.0, -180.0)],
            [(0.0, -180.0), (0.0, 180.0)],
            [(66.5, -180.0), (66.5, 180.0), (66.5, -180.0)],
            [(90.0, 12.0), (90.0, -180.0), (90.0, 0.0)],
            [(-90.0, 180.0), (-90.0, -77.7), (-90.0, 180.0)],
        ],
    )
    @pytest.mark.parametrize("longitude", [-180.0, -179.9, 0.0, 33.3, 179.9, 180.0])
    def test_places_that_are_written_in_two_ways_are_one(
        self, app: Flask, places: list[Place], longitude: float
    ) -> None:
        save([(places[0][0] / 2, 90.0), *places])
        asked = (places[0][0] * 0.999, longitude)
        if abs(places[0][0]) < 90:
            asked = (asked[0], math.copysign(179.5, longitude))

        assert (by_index(asked), by_tree(asked)) == (2, 2)
        assert (by_index(places[-1]), by_tree(places[-1])) == (2, 2)

    def test_among_forecasts_at_one_place_the_lowest_gid_is_taken(self, app: Flask) -> None:
        save([(50.0, 10.0), (10.0, 10.0), (10.0, 10.0), (10.0, 10.0)])

        assert (by_index((11.0, 10.0)), by_tree((11.0, 10.0))) == (2, 2)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    center=st.sampled_from([(90.0, 0.0), (-89.5, 0.0), (0.0, 180.0), (70.0, -179.0), (48.0, 11.0)]),
    offsets=st.lists(st.tuples(st.floats(-3, 3), st.floats(-6, 6)), min_size=2, max_size=30),
)
def test_what_is_near_is_found_and_what_is_beyond_the_limit_is_not(
    app: Flask, center: Place, offsets: list[Place]
) -> None:
    asked, *places = [
        (
            round(max(-90.0, min(90.0, center[0] + north)), DECIMALS),
            round((center[1] + east + 180) % 360 - 180, DECIMALS),
        )
        for north, east in offsets
    ]
    limit_m = get_settings(ForecastSettings).forecast_max_km * 1000
    save(places)
    least = min(haversine_m(asked, other) for other in places)

    for found in (by_index(asked), by_tree(asked)):
        if found is None:
            assert least >= limit_m - SLACK_M
        else:
            assert haversine_m(asked, places[found - 1]) <= min(least, limit_m) + SLACK_M


def test_a_forecast_farther_than_the_limit_is_none(app: Flask) -> None:
    degrees = get_settings(ForecastSettings).forecast_max_km * 1000 / EARTH_RADIUS_M * 180 / math.pi
    save([(0.0, 0.0)])

    within, beyond = (0.0, degrees * 0.999), (0.0, degrees * 1.001)
    assert (by_index(within), by_tree(within)) == (1, 1)
    assert (by_index(beyond), by_tree(beyond)) == (None, None)


def test_forecasts_that_are_not_active_are_passed_over(app: Flask) -> None:
    save([(0.0, 0.0)], is_active=False)

    assert (by_index((0.0, 0.0)), by_tree((0.0, 0.0))) == (None, None)


def test_without_forecasts_nobody_gets_one(app: Flask) -> None:
    tree = ForecastTree(np.zeros(0, np.int64), np.zeros(0), np.zeros(0))

    assert by_index((0.0, 0.0)) is None
    assert tree.nearest(np.array([1.0]), np.array([1.0])).at(0) is None


@pytest.mark.parametrize("place", [(1.0, 2.0), (59.9, 179.99), (-60.0, -179.99), (89.95, 7.0)])
def test_the_database_uses_its_index(app: Flask, place: Place) -> None:
    save([(lat, lon) for lat in range(-90, 91, 2) for lon in range(-180, 180, 2)])
    statement = forecasts_in_box(box_around(*place, 20_000))
    explained = statement.compile(
        dialect=postgresql.dialect(), compile_kwargs={"literal_binds": True}
    )
    with transaction():
        db.session.execute(db.text("ANALYZE forecasts"))
        plan = db.session.scalars(db.text(f"EXPLAIN {explained}")).all()

    assert any("ix_forecasts_place" in line for line in plan), plan
    assert not any("Seq Scan" in line for line in plan), plan
