"""Forecasts, for operators."""

from typing import Any

from project.core.http.api import Blueprint
from project.core.http.auth import Scope, operator
from project.core.http.idempotency import idempotent
from project.core.http.pages import data_schema, list_schema, page_of
from project.weather.forecasts import queries, service
from project.weather.forecasts.schemas import (
    ForecastChangeSchema,
    ForecastCreateSchema,
    ForecastQuerySchema,
    ForecastReplaceSchema,
    ForecastSchema,
)

blueprint = Blueprint("forecasts", __name__, description="Forecasts by place.")


@blueprint.get("")
@operator(Scope.READ)
@blueprint.arguments(ForecastQuerySchema, location="query")
@blueprint.response(200, list_schema(ForecastSchema))
def list_forecasts(query: dict[str, Any]) -> dict[str, Any]:
    """List forecasts by gid."""
    page, limit = query.pop("page"), query.pop("limit")
    statement = queries.listed_forecasts(**query)
    return page_of(statement, page=page, limit=limit, show=lambda row: row.Forecast)


@blueprint.post("")
@operator(Scope.WRITE)
@idempotent
@blueprint.arguments(ForecastCreateSchema)
@blueprint.response(201, data_schema(ForecastSchema))
@blueprint.alt_response(409, description="The gid is taken.")
def create_forecast(body: dict[str, Any]) -> dict[str, Any]:
    """Make a forecast; subscribers to whom it is nearest get it from now on."""
    return {"status": "success", "data": service.create_forecast(body)}


@blueprint.get("/<id:gid>")
@operator(Scope.READ)
@blueprint.response(200, data_schema(ForecastSchema))
def show_forecast(gid: int) -> dict[str, Any]:
    """Show a forecast."""
    return {"status": "success", "data": service.existing_forecast(gid)}


@blueprint.put("/<id:gid>")
@operator(Scope.WRITE)
@blueprint.arguments(ForecastReplaceSchema)
@blueprint.response(200, data_schema(ForecastSchema))
def replace_forecast(body: dict[str, Any], gid: int) -> dict[str, Any]:
    """Say all of a forecast anew; its gid is the one in the path."""
    body.pop("gid", None)
    return {"status": "success", "data": service.change_forecast(gid, body)}


@blueprint.patch("/<id:gid>")
@operator(Scope.WRITE)
@blueprint.arguments(ForecastChangeSchema)
@blueprint.response(200, data_schema(ForecastSchema))
def change_forecast(body: dict[str, Any], gid: int) -> dict[str, Any]:
    """Change a forecast."""
    return {"status": "success", "data": service.change_forecast(gid, body)}


@blueprint.delete("/<id:gid>")
@operator(Scope.WRITE)
@blueprint.response(204)
def delete_forecast(gid: int) -> None:
    """Delete a forecast; its subscribers get the next one."""
    service.delete_forecast(gid)
