"""Files that are uploaded, and the tasks that read them, for operators."""

from typing import Any
from uuid import UUID

from flask import Response, jsonify, request, stream_with_context

from project.core.db.transaction import own_transactions, transaction
from project.core.http.api import Blueprint
from project.core.http.auth import Scope, operator
from project.core.http.body_limits import takes_body_of
from project.core.http.idempotency import idempotent
from project.core.http.input import read_body
from project.core.http.pages import data_schema, list_schema, page_of
from project.weather import tasks
from project.weather.imports import queries, service
from project.weather.imports.schemas import (
    MAX_ID_LENGTH,
    AcceptedFileSchema,
    EventsQuerySchema,
    ForecastsQuerySchema,
    PreviewSchema,
    TaskQuerySchema,
    TaskReferenceQuerySchema,
    TaskSchema,
    TaskStatusSchema,
    read_reference,
)
from project.weather.imports.uploads import most_upload_bytes, taken_upload
from project.weather.states import TaskKind
from project.weather.tasks import Reading

forecast_imports = Blueprint("forecast_imports", __name__, description="Forecasts by CSV.")
subscriber_imports = Blueprint("subscriber_imports", __name__, description="Subscribers by CSV.")
task_list = Blueprint("tasks", __name__, description="Work in the background.")

FILE = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": ["file"],
                "properties": {"file": {"type": "string", "format": "binary"}},
            }
        },
        "text/csv": {"schema": {"type": "string"}},
    },
}


def _upload_route(blueprint: Blueprint, path: str, kind: TaskKind, summary: str) -> None:
    query_schema = ForecastsQuerySchema if kind is TaskKind.FORECASTS else EventsQuerySchema

    @blueprint.post(path, endpoint=f"upload_{kind}")
    @blueprint.doc(summary=summary)
    @operator(Scope.WRITE)
    @blueprint.arguments(query_schema, location="query")
    @blueprint.doc(requestBody=FILE)
    @blueprint.response(202, AcceptedFileSchema)
    @blueprint.alt_response(
        200, schema=data_schema(PreviewSchema), description="With dry_run: what would happen."
    )
    @own_transactions
    @takes_body_of(most_upload_bytes)
    def upload(query: dict[str, Any]) -> Any:
        """Keep the file and read it in the background, or only look at it."""
        dry_run = query.pop("dry_run")
        reading = Reading(**query)
        with taken_upload(request) as file:
            if dry_run:
                found = {"status": "success", "data": service.preview_file(kind, file, reading)}
                return jsonify(data_schema(PreviewSchema)().dump(found))
            with transaction():
                task = service.take_file(kind, file, reading)
        return {"status": "success", "task_id": task.id}


_upload_route(
    forecast_imports, "/upload_csv", TaskKind.FORECASTS, "Read forecasts from a CSV file."
)
_upload_route(
    subscriber_imports,
    "/upload_additions_csv",
    TaskKind.ADDITIONS,
    "Read numbers to be added from a CSV file.",
)
_upload_route(
    subscriber_imports,
    "/upload_cancellations_csv",
    TaskKind.CANCELLATIONS,
    "Read numbers to be canceled from a CSV file.",
)
_upload_route(
    subscriber_imports,
    "/upload_updates_csv",
    TaskKind.UPDATES,
    "Read numbers that are somewhere else from a CSV file.",
)


_TASK_ID = {
    "schema": {
        "type": "object",
        "properties": {"task_id": {"type": "string", "minLength": 1, "maxLength": MAX_ID_LENGTH}},
        "additionalProperties": False,
    }
}
REFERENCE = {
    "required": False,
    "content": {"application/json": _TASK_ID, "application/x-www-form-urlencoded": _TASK_ID},
}


def _status_routes(blueprint: Blueprint) -> None:
    @blueprint.get("/task_status")
    @operator(Scope.READ)
    @blueprint.arguments(TaskReferenceQuerySchema, location="query")
    @blueprint.response(200, TaskStatusSchema)
    def show_task_status(query: dict[str, Any]) -> dict[str, Any]:
        """Tell how far a task is; its id may also come in a JSON body."""
        return {"status": "success", **service.task_status(_task_id(query))}

    @blueprint.post("/task_status")
    @operator(Scope.READ)
    @blueprint.arguments(TaskReferenceQuerySchema, location="query")
    @blueprint.doc(requestBody=REFERENCE)
    @blueprint.response(200, TaskStatusSchema)
    def ask_task_status(query: dict[str, Any]) -> dict[str, Any]:
        """Tell how far a task is, its id being in the body or in the query."""
        return {"status": "success", **service.task_status(_task_id(query))}


def _task_id(query: dict[str, Any]) -> str:
    # A client may name a content type although it sends no body.
    has_body = bool(request.get_data(cache=True))
    given = read_reference(read_body(request)) if has_body or not query else query
    task_id: str = given["task_id"]
    return task_id


_status_routes(forecast_imports)
_status_routes(subscriber_imports)


@task_list.get("")
@operator(Scope.READ)
@task_list.arguments(TaskQuerySchema, location="query")
@task_list.response(200, list_schema(TaskSchema))
def list_tasks(query: dict[str, Any]) -> dict[str, Any]:
    """List tasks, newest first."""
    page, limit = query.pop("page"), query.pop("limit")
    statement = queries.listed_tasks(**query)
    return page_of(statement, page=page, limit=limit, show=lambda row: row.Task)


@task_list.get("/<uuid:task_id>")
@operator(Scope.READ)
@task_list.response(200, data_schema(TaskSchema))
def show_task(task_id: UUID) -> dict[str, Any]:
    """Show a task."""
    return {"status": "success", "data": tasks.existing_task(task_id)}


@task_list.get("/<uuid:task_id>/errors.csv")
@operator(Scope.READ)
@task_list.response(
    200, {"type": "string"}, content_type="text/csv", description="The rows that were not taken."
)
@own_transactions
def show_task_errors(task_id: UUID) -> Response:
    """List the rows that were not taken, and notes on others, for a spreadsheet."""
    with transaction(read_only=True):
        tasks.existing_task(task_id)
    lines = stream_with_context(service.errors_csv(task_id))
    name = f'attachment; filename="errors-{task_id}.csv"'
    return Response(lines, mimetype="text/csv", headers={"Content-Disposition": name})


@task_list.post("/<uuid:task_id>/resume")
@operator(Scope.WRITE)
@idempotent
@task_list.response(202, data_schema(TaskSchema))
@task_list.alt_response(409, description="The task has not failed, or its file is kept no more.")
def resume_task(task_id: UUID) -> dict[str, Any]:
    """Have a failed or canceled task go on at the row where it stopped."""
    return {"status": "success", "data": tasks.resume(task_id)}


@task_list.post("/<uuid:task_id>/cancel")
@operator(Scope.WRITE)
@idempotent
@task_list.response(200, data_schema(TaskSchema))
@task_list.alt_response(409, description="The task has ended already.")
def cancel_task(task_id: UUID) -> dict[str, Any]:
    """End a task; rows that were taken stay."""
    return {"status": "success", "data": tasks.cancel(task_id)}
