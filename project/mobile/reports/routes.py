"""The daily report, for operators."""

from typing import Any

from marshmallow import Schema, ValidationError, fields, validates_schema

from project.core.http.api import Blueprint
from project.core.http.auth import Scope, operator
from project.core.http.input import Id, PageSchema
from project.core.http.pages import list_schema, page_of
from project.mobile.reports import queries
from project.mobile.states import DeviceOs

blueprint = Blueprint("reports", __name__, url_prefix="/api/reports", description="Reports.")


class ReportQuerySchema(PageSchema):
    """Which days, both ends included, and which app."""

    aliases = {"appId": "app_id"}

    start_date = fields.Date()
    end_date = fields.Date()
    app_id = Id()

    @validates_schema
    def _in_order(self, data: dict[str, Any], **_: object) -> None:
        if "start_date" in data and "end_date" in data and data["start_date"] > data["end_date"]:
            raise ValidationError("Must not be before start_date.", "end_date")


ReportRowSchema = Schema.from_dict(
    {
        "app_id": fields.Integer(required=True),
        "app": fields.String(required=True),
        "day": fields.Date(required=True),
        **{
            f"{os}-{shown}": fields.Integer(required=True)
            for os in DeviceOs
            for shown in queries.SHOWN_NAMES.values()
        },
        "total": fields.Integer(required=True),
    },
    name="ReportRowSchema",
)


@blueprint.get("")
@operator(Scope.READ)
@blueprint.arguments(ReportQuerySchema, location="query")
@blueprint.response(200, list_schema(ReportRowSchema))
def report_purchases(query: dict[str, Any]) -> dict[str, Any]:
    """Report starts, renewals and cancellations per app and day (UTC), newest day first."""
    page, limit = query.pop("page"), query.pop("limit")
    return page_of(
        queries.purchases_per_day(**query),
        page=page,
        limit=limit,
        show=lambda row: dict(row._mapping),
    )
