"""What there is to know about forecasts; nothing here writes."""

from typing import Any

from sqlalchemy import Select, select

from project.weather.models import Forecast


def listed_forecasts(*, is_active: bool | None = None) -> Select[Any]:
    """Select forecasts by gid."""
    statement = select(Forecast).order_by(Forecast.gid)
    return statement if is_active is None else statement.where(Forecast.is_active == is_active)
