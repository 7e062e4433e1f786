"""Distances on the sphere. Degrees are no plane: a degree of longitude shrinks to the poles."""

from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats: TypeAlias = NDArray[np.float64]

DECIMALS = 9
"""Degrees are kept to a tenth of a millimetre: sines of what is next to nothing are no numbers."""

EARTH_RADIUS_M = 6_371_008.8
"""The mean radius of the Earth (IUGG)."""


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
