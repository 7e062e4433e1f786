"""Devices: registration for everybody, the list for operators."""

from typing import Any

from flask import request

from project.config.environment import get_settings
from project.config.kernel import HttpSettings
from project.core.http.api import Blueprint
from project.core.http.auth import Scope, operator, public
from project.core.http.idempotency import idempotent_by
from project.core.http.limiter import limiter
from project.core.http.pages import data_schema, list_schema, page_of
from project.mobile.devices import service
from project.mobile.devices.auth import HEADER
from project.mobile.devices.schemas import (
    DeviceQuerySchema,
    DeviceRegisteredSchema,
    DeviceRegisterSchema,
    DeviceSchema,
)

blueprint = Blueprint("devices", __name__, url_prefix="/api/devices", description="Devices.")


@blueprint.post("/register")
@public
@limiter.limit(lambda: get_settings(HttpSettings).register_rate_limit)
@idempotent_by("appId", "app_id", "uid")
@blueprint.arguments(DeviceRegisterSchema)
@blueprint.response(200, DeviceRegisteredSchema)
@blueprint.alt_response(401, description="The app requires a proof, and this is none.")
@blueprint.alt_response(404, description="There is no such app.")
def register_device(body: dict[str, Any]) -> dict[str, Any]:
    """Register a device; again with the same uid and app, it gets a new client-token.

    The old one is good until the new one is used.
    """
    _, token = service.register_device(
        body["app_id"],
        body["uid"],
        language=body["language"],
        os=body["os"],
        click_id=body.get("click_id"),
        old_token=body.get("client_token") or request.headers.get(HEADER),
        proof=body.get("proof"),
    )
    return {"status": "success", "register": "OK", "client_token": token}


@blueprint.get("")
@operator(Scope.READ)
@blueprint.arguments(DeviceQuerySchema, location="query")
@blueprint.response(200, list_schema(DeviceSchema))
def list_devices(query: dict[str, Any]) -> dict[str, Any]:
    """List devices, oldest first."""
    page, limit = query.pop("page"), query.pop("limit")
    return page_of(
        service.listed_devices(**query), page=page, limit=limit, show=lambda row: row.Device
    )


@blueprint.get("/<id:device_id>")
@operator(Scope.READ)
@blueprint.response(200, data_schema(DeviceSchema))
def show_device(device_id: int) -> dict[str, Any]:
    """Show a device."""
    return {"status": "success", "data": service.existing_device(device_id)}
