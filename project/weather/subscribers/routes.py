"""Subscribers, for operators."""

from typing import Any

from project.core.http.api import Blueprint
from project.core.http.auth import Scope, operator
from project.core.http.idempotency import idempotent
from project.core.http.pages import data_schema, list_schema, page_of
from project.weather.input import read_msisdn
from project.weather.subscribers import queries, service
from project.weather.subscribers.schemas import (
    SubscriberChangeSchema,
    SubscriberCreateSchema,
    SubscriberQuerySchema,
    SubscriberReplaceSchema,
    SubscriberSchema,
)

blueprint = Blueprint("subscribers", __name__, description="Subscribers of the forecast SMS.")


@blueprint.get("")
@operator(Scope.READ)
@blueprint.arguments(SubscriberQuerySchema, location="query")
@blueprint.response(200, list_schema(SubscriberSchema))
def list_subscribers(query: dict[str, Any]) -> dict[str, Any]:
    """List subscribers, newest first."""
    page, limit = query.pop("page"), query.pop("limit")
    found = page_of(queries.listed_subscribers(query), page=page, limit=limit)
    return {**found, "data": queries.shown([row.Subscriber for row in found["data"]])}


@blueprint.post("")
@operator(Scope.WRITE)
@idempotent
@blueprint.arguments(SubscriberCreateSchema)
@blueprint.response(201, data_schema(SubscriberSchema))
@blueprint.alt_response(409, description="The number is active already, or said STOP.")
def create_subscriber(body: dict[str, Any]) -> dict[str, Any]:
    """Add a number, or start one again that left; its billing starts."""
    return _shown(service.create_subscriber(body))


@blueprint.get("/<msisdn:msisdn>")
@operator(Scope.READ)
@blueprint.response(200, data_schema(SubscriberSchema))
def show_subscriber(msisdn: str) -> dict[str, Any]:
    """Show a subscriber."""
    return _shown(service.existing_subscriber(read_msisdn(msisdn)))


@blueprint.put("/<msisdn:msisdn>")
@operator(Scope.WRITE)
@blueprint.arguments(SubscriberReplaceSchema)
@blueprint.response(200, data_schema(SubscriberSchema))
@blueprint.alt_response(409, description="The number said STOP.")
def replace_subscriber(body: dict[str, Any], msisdn: str) -> dict[str, Any]:
    """Say anew where a subscriber is and what it takes."""
    return _shown(service.change_subscriber(read_msisdn(msisdn), body))


@blueprint.patch("/<msisdn:msisdn>")
@operator(Scope.WRITE)
@blueprint.arguments(SubscriberChangeSchema)
@blueprint.response(200, data_schema(SubscriberSchema))
@blueprint.alt_response(409, description="The number said STOP.")
def change_subscriber(body: dict[str, Any], msisdn: str) -> dict[str, Any]:
    """Move a subscriber, change its plan, cancel it or start it again."""
    return _shown(service.change_subscriber(read_msisdn(msisdn), body))


@blueprint.delete("/<msisdn:msisdn>")
@operator(Scope.WRITE)
@blueprint.response(204)
def delete_subscriber(msisdn: str) -> None:
    """Forget a subscriber and end its billing; its payments and a STOP are kept."""
    service.delete_subscriber(read_msisdn(msisdn))


def _shown(subscriber: Any) -> dict[str, Any]:
    return {"status": "success", "data": queries.shown([subscriber])[0]}
