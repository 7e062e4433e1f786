"""Handing a day's clicks to finance, for operators."""

from datetime import date
from typing import Any

from flask import Response

from project.clicks.exports import finance, service
from project.clicks.exports.document import streamed_day
from project.clicks.exports.schemas import (
    ExportedDaySchema,
    ExportQuerySchema,
    ExportStatusSchema,
    ForwardedSchema,
    ForwardSchema,
)
from project.core.db.snapshot import streamed
from project.core.db.transaction import own_transactions, transaction
from project.core.errors import NotFound, ServiceUnavailable
from project.core.http.api import Blueprint
from project.core.http.auth import Scope, operator
from project.core.http.idempotency import idempotent
from project.core.http.pages import data_schema
from project.extensions import db

blueprint = Blueprint(
    "click_exports", __name__, url_prefix="/api", description="A day's clicks for finance."
)
FINANCE_RETRY_SECONDS = 60


@blueprint.post("/export/forward")
@operator(Scope.WRITE)
@idempotent
@blueprint.arguments(ForwardSchema)
@blueprint.response(202, ForwardedSchema)
@blueprint.alt_response(200, schema=ForwardedSchema, description="It was already under way.")
@own_transactions
def forward_day(body: dict[str, Any]) -> tuple[dict[str, Any], int]:
    """Send a day's clicks to finance, which is asked for its health first: 503 if it is not well.

    The same day again while it is under way is the same export.
    """
    day = body["date"]
    service.require_past_or_present(day)
    health = finance.ask_health()
    if health["status"] != "ok":
        raise ServiceUnavailable(
            f"The finance service is not well: {health['error']}.",
            retry_after=FINANCE_RETRY_SECONDS,
        )
    with transaction():
        export, is_new = service.request_export(day)
    begun = "is being sent" if is_new else "was already being sent"
    return {
        "status": "success",
        "message": f"{day} {begun} to the finance service.",
        "date": day,
        "export_id": export.id,
    }, 202 if is_new else 200


@blueprint.get("/export/status")
@operator(Scope.READ)
@blueprint.arguments(ExportQuerySchema, location="query")
@blueprint.response(200, data_schema(ExportStatusSchema))
@own_transactions
def show_export(query: dict[str, Any]) -> dict[str, Any]:
    """Show how a day's newest export stands, and whether finance is well."""
    available = finance.is_available()
    with transaction():
        status = service.status_of(query["date"])
    return {"status": "success", "data": {**status, "finance_service_available": available}}


@blueprint.get("/exports/<day>.json")
@operator(Scope.READ)
@blueprint.response(200, ExportedDaySchema)
@own_transactions
def pull_day(day: str) -> Response:
    """Show a day's clicks as finance gets them, for finance to pull."""
    return streamed(streamed_day(db.engine, _day_in_path(day)), mimetype="application/json")


def _day_in_path(written: str) -> date:
    """Return the day of a path. Raises NotFound for what is no day, or none that has begun."""
    try:
        day = date.fromisoformat(written)
    except ValueError:
        day = date.max
    if day > service.today() or str(day) != written:
        raise NotFound("There is no such day. One is written like 2026-01-31.")
    return day
