"""What the reports are asked, and what they answer."""

from typing import Any

from marshmallow import Schema, ValidationError, fields, validate, validates_schema

from project.clicks.models import MAX_SOURCE_LENGTH
from project.config.environment import get_settings
from project.config.kernel import CoreSettings
from project.core.http.input import Id, InputSchema, PageSchema, Text
from project.core.http.pages import PaginationSchema

SORTABLE = ("clicks_count", "offer_id", "source", "date")


def _usual_order() -> str:
    return "clicks_count" if "report-order" in get_settings(CoreSettings).compatibility else "date"


class DaysMixin(InputSchema):
    """The days that a report is about, both included."""

    start_date = fields.Date(required=True)
    end_date = fields.Date(required=True)

    @validates_schema
    def _in_order(self, data: dict[str, Any], **_: object) -> None:
        if data["start_date"] > data["end_date"]:
            raise ValidationError("Must not be before start_date.", "end_date")


class SummaryQuerySchema(DaysMixin):
    """Which days."""


class AggregatedQuerySchema(DaysMixin, PageSchema):
    """Which days, offer and source, in which order, and how it is written."""

    offer_id = Id()
    source = Text(validate=validate.Length(1, MAX_SOURCE_LENGTH))
    sort_by = fields.String(
        validate=validate.OneOf(SORTABLE),
        load_default=_usual_order,
        metadata={"default": "date"},
    )
    sort_direction = fields.String(validate=validate.OneOf(["asc", "desc"]), load_default="desc")
    format = fields.String(
        validate=validate.OneOf(["json", "csv"]),
        load_default="json",
        metadata={"description": "csv: every row of the filter, whatever page and limit say."},
    )


class ClicksOfDaySchema(Schema):
    """How many clicks an offer got from a source on a day (UTC)."""

    date = fields.Date(required=True)
    offer_id = fields.Integer(required=True)
    source = fields.String(required=True)
    clicks_count = fields.Integer(required=True)


class DateRangeSchema(Schema):
    """Days, both included."""

    start_date = fields.Date(required=True)
    end_date = fields.Date(required=True)


class FiltersSchema(DateRangeSchema):
    """What was asked for; null where everything is."""

    offer_id = fields.Integer(required=True, allow_none=True)
    source = fields.String(required=True, allow_none=True)


class SortingSchema(Schema):
    """The order of the rows."""

    sort_by = fields.String(required=True)
    sort_direction = fields.String(required=True)


class AggregatedReportSchema(Schema):
    """A page of the report."""

    status = fields.String(required=True)
    data = fields.List(fields.Nested(ClicksOfDaySchema), required=True)
    pagination = fields.Nested(PaginationSchema, required=True)
    filters = fields.Nested(FiltersSchema, required=True)
    sorting = fields.Nested(SortingSchema, required=True)


class SummarySchema(Schema):
    """What the days come to."""

    total_clicks = fields.Integer(required=True)
    unique_offers = fields.Integer(required=True)
    unique_sources = fields.Integer(required=True)
    date_range = fields.Nested(DateRangeSchema, required=True)


class SummaryReportSchema(Schema):
    """The summary."""

    status = fields.String(required=True)
    summary = fields.Nested(SummarySchema, required=True)
