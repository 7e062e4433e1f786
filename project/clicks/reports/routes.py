"""Reports of clicks, for operators."""

from typing import Any

from flask import Response

from project.clicks.reports import queries
from project.clicks.reports.filters import ReportFilter, Sorting
from project.clicks.reports.schemas import (
    AggregatedQuerySchema,
    AggregatedReportSchema,
    SummaryQuerySchema,
    SummaryReportSchema,
)
from project.clicks.reports.spreadsheet import csv_chunks
from project.core.db.snapshot import streamed
from project.core.db.transaction import own_transactions
from project.core.http.api import Blueprint
from project.core.http.auth import Scope, operator
from project.core.http.pages import pagination

blueprint = Blueprint(
    "click_reports", __name__, url_prefix="/api/reports", description="Reports of clicks."
)
CSV_ANSWER = {"content": {"text/csv": {"schema": {"type": "string"}}}}


@blueprint.get("/aggregated")
@operator(Scope.READ)
@blueprint.arguments(AggregatedQuerySchema, location="query")
@blueprint.response(200, AggregatedReportSchema)
@blueprint.doc(responses={200: CSV_ANSWER})
@own_transactions
def report_clicks(query: dict[str, Any]) -> dict[str, Any] | Response:
    """Report clicks per day (UTC), offer and source; newest day first if nothing else is asked."""
    filters: dict[str, Any] = {
        name: query.get(name) for name in ("start_date", "end_date", "offer_id", "source")
    }
    wanted = ReportFilter(**filters)
    order = {name: query[name] for name in ("sort_by", "sort_direction")}
    sorting = Sorting(query["sort_by"], query["sort_direction"] == "desc")
    if query["format"] == "csv":
        name = f"clicks_{wanted.start_date}_{wanted.end_date}.csv"
        batches = queries.report_rows(wanted, sorting)
        return streamed(csv_chunks(batches), mimetype="text/csv", filename=name)
    page, limit = query["page"], query["limit"]
    rows, total = queries.report_page(wanted, sorting, offset=(page - 1) * limit, limit=limit)
    return {
        "status": "success",
        "data": rows,
        "pagination": pagination(total, page=page, limit=limit),
        "filters": filters,
        "sorting": order,
    }


@blueprint.get("/summary")
@operator(Scope.READ)
@blueprint.arguments(SummaryQuerySchema, location="query")
@blueprint.response(200, SummaryReportSchema)
def summarize_clicks(query: dict[str, Any]) -> dict[str, Any]:
    """Report how many clicks, offers and sources the days had in all."""
    found = queries.totals(query["start_date"], query["end_date"])
    return {"status": "success", "summary": {**found._mapping, "date_range": query}}
