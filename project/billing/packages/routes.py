"""Packages: read by everybody, made and changed by operators."""

from typing import Any

from project.billing.packages import service
from project.billing.packages.schemas import (
    PackageChangeSchema,
    PackageCreateSchema,
    PackageQuerySchema,
    PackageSchema,
)
from project.core.http.api import Blueprint
from project.core.http.auth import Scope, is_operator, operator, public
from project.core.http.idempotency import idempotent
from project.core.http.pages import data_schema, list_schema, page_of

blueprint = Blueprint("packages", __name__, url_prefix="/api/packages", description="Packages.")


@blueprint.get("")
@public
@blueprint.arguments(PackageQuerySchema, location="query")
@blueprint.response(200, list_schema(PackageSchema))
def list_packages(query: dict[str, Any]) -> dict[str, Any]:
    """List packages, oldest first; an operator sees internal ones too."""
    page, limit = query.pop("page"), query.pop("limit")
    statement = service.listed_packages(**query, with_internal=is_operator(Scope.READ))
    return page_of(statement, page=page, limit=limit, show=lambda row: row.Package)


@blueprint.post("")
@operator(Scope.WRITE)
@idempotent
@blueprint.arguments(PackageCreateSchema)
@blueprint.response(201, data_schema(PackageSchema))
@blueprint.alt_response(409, description="The name is taken.")
def create_package(body: dict[str, Any]) -> dict[str, Any]:
    """Make a package."""
    return {"status": "success", "data": service.create_package(body)}


@blueprint.patch("/<id:package_id>")
@operator(Scope.WRITE)
@blueprint.arguments(PackageChangeSchema)
@blueprint.response(200, data_schema(PackageSchema))
@blueprint.alt_response(403, description="The package is internal.")
@blueprint.alt_response(409, description="The name is taken, or somebody has the package.")
def change_package(body: dict[str, Any], package_id: int) -> dict[str, Any]:
    """Change a package; a new price counts from each subscription's next period on.

    Its period and currency stay as they are once somebody has taken it.
    """
    return {"status": "success", "data": service.change_package(package_id, body)}
