"""Callbacks as operators see them: the list, one with its attempts, replays."""

from typing import Any

from project.callbacks import queries, service
from project.callbacks.schemas import (
    CallbackDetailSchema,
    CallbackQuerySchema,
    CallbackSchema,
    ReplayedSchema,
    ReplayManySchema,
)
from project.core.errors import NotFound
from project.core.http.api import Blueprint
from project.core.http.auth import Scope, operator
from project.core.http.idempotency import idempotent
from project.core.http.pages import data_schema, list_schema, page_of

blueprint = Blueprint(
    "callbacks",
    __name__,
    url_prefix="/api/callbacks",
    description="Callbacks sent.",
)


@blueprint.get("")
@operator(Scope.READ)
@blueprint.arguments(CallbackQuerySchema, location="query")
@blueprint.response(200, list_schema(CallbackSchema))
def list_callbacks(query: dict[str, Any]) -> dict[str, Any]:
    """List callbacks, newest first."""
    page, limit = query.pop("page"), query.pop("limit")
    return page_of(queries.listed_callbacks(**query), page=page, limit=limit, show=_shown)


@blueprint.get("/<id:callback_id>")
@operator(Scope.READ)
@blueprint.response(200, data_schema(CallbackDetailSchema))
def show_callback(callback_id: int) -> dict[str, Any]:
    """Show a callback with its body and every attempt."""
    row = queries.callback_by_id(callback_id)
    if row is None:
        raise NotFound(f"There is no callback {callback_id}.")
    attempts = queries.attempts_of(callback_id)
    return {
        "status": "success",
        "data": {**_shown(row), "body": row.body, "attempt_history": attempts},
    }


@blueprint.post("/<id:callback_id>/replay")
@operator(Scope.WRITE)
@idempotent
@blueprint.response(202, ReplayedSchema)
def replay_callback(callback_id: int) -> dict[str, Any]:
    """Send a callback once more, with the same webhook-id and body."""
    return {"status": "success", "replayed": service.replay(callback_id)}


@blueprint.post("/replay")
@operator(Scope.WRITE)
@idempotent
@blueprint.arguments(ReplayManySchema)
@blueprint.response(202, ReplayedSchema)
def replay_callbacks(body: dict[str, Any]) -> dict[str, Any]:
    """Send again every callback of a state that was made since a time."""
    return {"status": "success", "replayed": service.replay_many(**body)}


def _shown(row: Any) -> dict[str, Any]:
    return {
        "id": row.id,
        "webhook_id": str(row.event_id),
        "type": row.type,
        "app_id": row.owner_id if row.owner_type == "app" else None,
        "company_id": row.owner_id if row.owner_type == "company" else None,
        "endpoint": row.url,
        "state": row.state,
        "attempts": row.attempts,
        "next_attempt_at": row.due_at,
        "last_status": row.last_status,
        "last_error": row.last_error,
        "created_at": row.created_at,
        "delivered_at": row.delivered_at,
    }
