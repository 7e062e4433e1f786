"""Shapes of the forecasts' routes."""

from typing import Any

from marshmallow import Schema, ValidationError, fields, validates_schema

from project.core.http.input import Id, InputSchema, PageSchema
from project.weather.input import Degrees, Flag, ForecastText


class ForecastSchema(Schema):
    """A forecast."""

    gid = fields.Integer(required=True)
    lat = fields.Float(required=True)
    lon = fields.Float(required=True)
    fcat24 = fields.String(required=True)
    fcat48 = fields.String(required=True)
    is_active = fields.Boolean(required=True)


class ForecastQuerySchema(PageSchema):
    """Which forecasts to list."""

    is_active = Flag()


class ForecastValuesSchema(InputSchema):
    """All that is said of a forecast."""

    lat = Degrees(90, required=True)
    lon = Degrees(180, required=True)
    fcat24 = ForecastText(required=True)
    fcat48 = ForecastText(required=True)
    is_active = Flag(load_default=True)


class ForecastReplaceSchema(ForecastValuesSchema):
    """All of a forecast, as it is shown; its gid stays."""

    gid = Id()


class ForecastCreateSchema(ForecastValuesSchema):
    """A new forecast; its gid is the caller's."""

    gid = Id(required=True)


class ForecastChangeSchema(InputSchema):
    """What is to change of a forecast."""

    document = {"minProperties": 1}

    lat = Degrees(90)
    lon = Degrees(180)
    fcat24 = ForecastText()
    fcat48 = ForecastText()
    is_active = Flag()

    @validates_schema
    def _something_changes(self, data: dict[str, Any], **_: Any) -> None:
        if not data:
            raise ValidationError("Give at least one field to change.", "lat")
