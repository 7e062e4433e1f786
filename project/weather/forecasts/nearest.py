"""The nearest active forecast: for one place by the database's index, for many by a k-d tree.

The index is a B-tree of whole degrees of latitude and of longitude: what it costs to write does not
depend on the order of places, as it does where a tree of boxes has to split them (GiST). Of the
forecasts in a box around the place the distances are worked out, so both ways are exact; among
forecasts at the same place the lowest gid is taken. None is given beyond FORECAST_MAX_KM.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import select, text

from project.config.environment import get_settings
from project.core.db.transaction import transaction
from project.core.lazy_module import LazyModule
from project.extensions import db
from project.weather.forecasts.queries import forecasts_in_box
from project.weather.models import Forecast
from project.weather.settings import ForecastSettings
from project.weather.sphere import (
    Floats,
    box_around,
    canonical,
    distances_m,
    unit_vectors,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
else:
    np = LazyModule("numpy")
pykdtree: Any = LazyModule("pykdtree.kdtree")

READ_AT_ONCE = 20_000
NO_GID = 0
FIRST_RADIUS_M = 10_000
WIDER = 10


@dataclass(frozen=True)
class Nearest:
    """A forecast and how far away it is."""

    gid: int
    distance_m: float


def nearest_to(lat: float, lon: float) -> Nearest | None:
    """Return the forecast for one place, asked of the database: near by first, then farther."""
    farthest_m = _farthest_m()
    radius_m = min(FIRST_RADIUS_M, farthest_m)
    while True:
        found = _nearest_in_box(lat, lon, radius_m)
        if found is not None and found.distance_m <= radius_m:
            return found
        if radius_m >= farthest_m:
            return None
        # What lies in a corner of the box may be farther than what lies outside it.
        wider_m = radius_m * WIDER if found is None else found.distance_m
        radius_m = min(wider_m, farthest_m)


def _nearest_in_box(lat: float, lon: float, radius_m: float) -> Nearest | None:
    rows = db.session.execute(forecasts_in_box(box_around(lat, lon, radius_m))).all()
    if not rows:
        return None
    gids, lats, lons = zip(*rows, strict=True)
    distances = distances_m(*canonical(lat, lon), *canonical(lats, lons)).tolist()
    distance, gid = min(zip(distances, gids, strict=True))
    return Nearest(gid, distance)


@dataclass(frozen=True)
class Assigned:
    """A forecast for each of many places; NO_GID where there is none near enough."""

    gids: NDArray[np.int64]
    distances_m: Floats

    def at(self, index: int) -> Nearest | None:
        """Return the forecast for the place of this index."""
        gid = int(self.gids[index])
        return None if gid == NO_GID else Nearest(gid, float(self.distances_m[index]))


class ForecastTree:
    """The active forecasts as they were when it was made, for many questions at once."""

    def __init__(self, gids: NDArray[np.int64], lat: Floats, lon: Floats) -> None:
        lat, lon = canonical(lat, lon)
        first_of_each = _first_at_each_place(gids, lat, lon)
        self.gids, self.lat, self.lon = gids[first_of_each], lat[first_of_each], lon[first_of_each]
        vectors = unit_vectors(self.lat, self.lon)
        self.tree = pykdtree.KDTree(vectors) if len(self.gids) else None

    @property
    def is_empty(self) -> bool:
        """Tell whether there was no active forecast at all."""
        return self.tree is None

    def nearest(self, lat: Floats, lon: Floats) -> Assigned:
        """Return the forecast for each place."""
        if self.tree is None or not len(lat):
            return Assigned(np.zeros(len(lat), np.int64), np.zeros(len(lat)))
        lat, lon = canonical(lat, lon)
        _, found = self.tree.query(unit_vectors(lat, lon))
        distances = distances_m(lat, lon, self.lat[found], self.lon[found])
        gids = np.where(distances <= _farthest_m(), self.gids[found], NO_GID)
        return Assigned(gids, distances)


def load_tree() -> ForecastTree:
    """Read the active forecasts, a piece at a time."""
    parts: list[NDArray[np.float64]] = []
    gids: list[NDArray[np.int64]] = []
    last = -(2**63)
    while True:
        with transaction(read_only=True):
            rows = db.session.execute(
                select(Forecast.gid, Forecast.lat, Forecast.lon)
                .where(Forecast.is_active, Forecast.gid > last)
                .order_by(Forecast.gid)
                .limit(READ_AT_ONCE)
            ).all()
        if rows:
            last = rows[-1].gid
            gids.append(np.array([row.gid for row in rows], np.int64))
            parts.append(np.array([(row.lat, row.lon) for row in rows], np.float64))
        if len(rows) < READ_AT_ONCE:
            break
    places = np.concatenate(parts) if parts else np.zeros((0, 2))
    return ForecastTree(
        np.concatenate(gids) if gids else np.zeros(0, np.int64), places[:, 0], places[:, 1]
    )


def forecasts_version() -> tuple[int, str]:
    """Return what changes whenever the places of the active forecasts do."""
    row = db.session.execute(
        text(
            "SELECT count(*), coalesce(sum(hashtextextended(gid || ' ' || lat || ' ' || lon, 0)),"
            " 0)::text FROM forecasts WHERE is_active"
        )
    ).one()
    return int(row[0]), str(row[1])


def _first_at_each_place(gids: NDArray[np.int64], lat: Floats, lon: Floats) -> NDArray[np.int64]:
    order = np.lexsort((gids, lon, lat))
    sorted_lat, sorted_lon = lat[order], lon[order]
    is_first = np.ones(len(order), bool)
    is_first[1:] = (sorted_lat[1:] != sorted_lat[:-1]) | (sorted_lon[1:] != sorted_lon[:-1])
    return np.asarray(order[is_first], np.int64)


def _farthest_m() -> float:
    return get_settings(ForecastSettings).forecast_max_km * 1000
