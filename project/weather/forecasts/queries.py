"""What there is to know about forecasts; nothing here writes."""

import math
from typing import Any

from sqlalchemy import ARRAY, Double, Select, any_, func, literal, or_, select

from project.weather.models import Forecast
from project.weather.sphere import Box


def listed_forecasts(*, is_active: bool | None = None) -> Select[Any]:
    """Select forecasts by gid."""
    statement = select(Forecast).order_by(Forecast.gid)
    return statement if is_active is None else statement.where(Forecast.is_active == is_active)


def forecasts_in_box(box: Box) -> Select[int, float, float]:
    """Select gid, lat and lon of the active forecasts in a box, by the index of places."""
    bands = [float(band) for band in range(math.floor(box.south), math.floor(box.north) + 1)]
    return select(Forecast.gid, Forecast.lat, Forecast.lon).where(
        Forecast.is_active,
        func.floor(Forecast.lat) == any_(literal(bands, ARRAY(Double()))),
        or_(*(Forecast.lon.between(west, east) for west, east in box.longitudes)),
        Forecast.lat.between(box.south, box.north),
    )
