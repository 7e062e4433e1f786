"""Places and distances on the sphere. Degrees are no plane: the poles make longitudes shrink."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from project.core.lazy_module import LazyModule

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike, NDArray
else:
    np = LazyModule("numpy")

Floats: TypeAlias = "NDArray[np.float64]"

DECIMALS = 9
"""Degrees are kept to a tenth of a millimetre: sines of what is next to nothing are no numbers."""

EARTH_RADIUS_M = 6_371_008.8
"""The mean radius of the Earth (IUGG)."""

SLACK_DEGREES = 1e-6
"""More than what is lost by rounding: a tenth of a metre."""


def canonical(lat: ArrayLike, lon: ArrayLike) -> tuple[Floats, Floats]:
    """Return places in degrees as they are compared: each of them in one way.

    Longitudes of -180 and 180 are one place, and so are all longitudes at a pole.
    """
    lats: Floats = np.asarray(lat, np.float64).round(DECIMALS)
    lons: Floats = np.asarray(lon, np.float64).round(DECIMALS)
    lons = np.where(lons == -180, np.float64(180), lons)
    return lats, np.where(np.abs(lats) == 90, np.float64(0), lons)


@dataclass(frozen=True)
class Box:
    """A part of the sphere in degrees; `longitudes` are two ranges over the 180th meridian."""

    south: float
    north: float
    longitudes: list[tuple[float, float]]


def box_around(lat: float, lon: float, radius_m: float) -> Box:
    """Return a box that holds all places within the radius, and others.

    Where it reaches a pole it goes all around. Elsewhere its longitudes are those of the tangents
    of the circle: sin(width / 2) = sin(radius) / cos(lat), the radius as an angle.
    """
    degrees = math.degrees(radius_m / EARTH_RADIUS_M) + SLACK_DEGREES
    south, north = max(lat - degrees, -90), min(lat + degrees, 90)
    if south == -90 or north == 90:
        return Box(south, north, [(-180, 180)])
    ratio = math.sin(math.radians(degrees)) / math.cos(math.radians(lat))
    width = math.degrees(math.asin(min(ratio, 1))) + SLACK_DEGREES
    west, east = lon - width, lon + width
    if west < -180:
        return Box(south, north, [(west + 360, 180), (-180, east)])
    if east > 180:
        return Box(south, north, [(west, 180), (-180, east - 360)])
    return Box(south, north, [(west, east)])


def unit_vectors(lat: ArrayLike, lon: ArrayLike) -> Floats:
    """Return points of the unit sphere, shape (n, 3), for degrees of latitude and longitude.

    The straight line between two of them grows with the way over the sphere, so the nearest by
    the one is the nearest by the other, also at the poles and over the 180th meridian.
    """
    phi, theta = np.radians(np.asarray(lat)), np.radians(np.asarray(lon))
    around = np.cos(phi)
    return np.column_stack((around * np.cos(theta), around * np.sin(theta), np.sin(phi)))


def distances_m(
    lat: ArrayLike, lon: ArrayLike, other_lat: ArrayLike, other_lon: ArrayLike
) -> Floats:
    """Return the ways over the sphere in metres, by the haversine formula."""
    phi, other_phi = np.radians(np.asarray(lat)), np.radians(np.asarray(other_lat))
    half_phi = (other_phi - phi) / 2
    half_theta = np.radians(np.asarray(other_lon) - np.asarray(lon)) / 2
    haversine = np.sin(half_phi) ** 2 + np.cos(phi) * np.cos(other_phi) * np.sin(half_theta) ** 2
    return np.asarray(2 * EARTH_RADIUS_M * np.arcsin(np.sqrt(np.minimum(haversine, 1))))
