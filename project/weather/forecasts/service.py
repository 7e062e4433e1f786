"""The rules of forecasts: made, changed, deleted; whoever moves one has subscribers look anew."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import update
from sqlalchemy.exc import IntegrityError

from project.core import clock
from project.core.db.rows import get_current
from project.core.errors import Conflict, NotFound
from project.extensions import db
from project.weather.models import Forecast, Subscriber
from project.weather.tasks import ensure_assignments

PLACE = ("lat", "lon", "is_active")


def create_forecast(values: Mapping[str, Any]) -> Forecast:
    """Make a forecast. Raises Conflict for a gid that is taken."""
    now = clock.now()
    forecast = Forecast(**values, created_at=now, updated_at=now)
    db.session.add(forecast)
    try:
        db.session.flush()
    except IntegrityError as error:
        raise Conflict(
            f"There is already a forecast {forecast.gid}.", {"gid": ["Already taken."]}
        ) from error
    ensure_assignments()
    return forecast


def change_forecast(gid: int, values: Mapping[str, Any]) -> Forecast:
    """Change a forecast. Raises NotFound."""
    forecast = existing_forecast(gid)
    before = [getattr(forecast, name) for name in PLACE]
    for name, value in values.items():
        setattr(forecast, name, value)
    forecast.updated_at = clock.now()
    db.session.flush()
    if [getattr(forecast, name) for name in PLACE] != before:
        ensure_assignments()
    return forecast


def delete_forecast(gid: int) -> None:
    """Delete a forecast; its subscribers get the next one. Raises NotFound."""
    db.session.delete(existing_forecast(gid))
    db.session.flush()
    db.session.execute(
        update(Subscriber)
        .where(Subscriber.forecast_gid == gid)
        .values(forecast_gid=None, distance_m=None)
        .execution_options(synchronize_session=False)
    )
    ensure_assignments()


def existing_forecast(gid: int) -> Forecast:
    """Return the forecast. Raises NotFound."""
    forecast = get_current(Forecast, gid)
    if forecast is None:
        raise NotFound(f"There is no forecast {gid}.")
    return forecast
