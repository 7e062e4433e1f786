"""Apps, for operators."""

from typing import Any

from project.core.db.transaction import own_transactions, transaction
from project.core.http.api import Blueprint
from project.core.http.auth import Scope, operator
from project.core.http.idempotency import idempotent
from project.core.http.input import PageSchema
from project.core.http.pages import data_schema, list_schema, page_of
from project.core.net.http_client import check_endpoint
from project.mobile.apps import service
from project.mobile.apps.schemas import (
    AppChangeSchema,
    AppCreateSchema,
    AppSchema,
    AppSecretSchema,
    CreatedAppSchema,
)

blueprint = Blueprint("apps", __name__, url_prefix="/api/apps", description="Apps.")


@blueprint.get("")
@operator(Scope.READ)
@blueprint.arguments(PageSchema, location="query")
@blueprint.response(200, list_schema(AppSchema))
def list_apps(query: dict[str, Any]) -> dict[str, Any]:
    """List apps, oldest first."""
    return page_of(service.listed_apps(), **query)


@blueprint.post("")
@operator(Scope.WRITE)
@idempotent
@blueprint.arguments(AppCreateSchema)
@blueprint.response(201, data_schema(CreatedAppSchema))
@blueprint.alt_response(200, schema=data_schema(AppSchema), description="The app was there.")
@blueprint.alt_response(409, description="The name is taken, with another endpoint.")
@own_transactions
def create_app(body: dict[str, Any]) -> Any:
    """Register an app and the URL that its callbacks go to."""
    check_endpoint(body["endpoint"])
    with transaction():
        app = service.create_app(
            body["name"], body["endpoint"], require_proof=body.get("require_proof")
        )
    answer = {"status": "success", "data": _shown(app)}
    return (answer, 201) if app.callback_secret else (answer, 200)


@blueprint.get("/<id:app_id>")
@operator(Scope.READ)
@blueprint.response(200, data_schema(AppSchema))
def show_app(app_id: int) -> dict[str, Any]:
    """Show an app."""
    return {"status": "success", "data": service.listed_app(app_id)}


@blueprint.patch("/<id:app_id>")
@operator(Scope.WRITE)
@blueprint.arguments(AppChangeSchema)
@blueprint.response(200, data_schema(AppSchema))
@blueprint.alt_response(409, description="Another app has the name.")
@own_transactions
def change_app(body: dict[str, Any], app_id: int) -> dict[str, Any]:
    """Change an app's name, endpoint or proof; what is pending goes to the new endpoint."""
    if "endpoint" in body:
        check_endpoint(body["endpoint"])
    with transaction():
        service.change_app(
            app_id,
            name=body.get("name"),
            endpoint=body.get("endpoint"),
            require_proof=body.get("require_proof"),
        )
        return {"status": "success", "data": service.listed_app(app_id)}


@blueprint.post("/<id:app_id>/secret")
@operator(Scope.WRITE)
@idempotent
@blueprint.response(201, data_schema(AppSecretSchema))
def rotate_secret(app_id: int) -> dict[str, Any]:
    """Make a new signing secret; the old one signs along for 24 hours."""
    secret = service.rotate_secret(app_id)
    return {"status": "success", "data": {"id": app_id, "callback_secret": secret}}


def _shown(app: service.CreatedApp) -> dict[str, Any]:
    names = ("id", "name", "endpoint", "require_proof", "created_at")
    shown = {name: getattr(app, name) for name in names}
    return shown | ({"callback_secret": app.callback_secret} if app.callback_secret else {})
