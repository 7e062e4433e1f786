"""Subscriptions, for operators."""

from typing import Any

from project.billing import queries
from project.billing.schemas import (
    SubscriptionDetailSchema,
    SubscriptionQuerySchema,
    SubscriptionSchema,
)
from project.core.errors import NotFound
from project.core.http.api import Blueprint
from project.core.http.auth import Scope, operator
from project.core.http.pages import data_schema, list_schema, page_of

SHOWN_PAYMENTS = 1000

blueprint = Blueprint(
    "subscriptions", __name__, url_prefix="/api/subscriptions", description="Subscriptions."
)


@blueprint.get("")
@operator(Scope.READ)
@blueprint.arguments(SubscriptionQuerySchema, location="query")
@blueprint.response(200, list_schema(SubscriptionSchema))
def list_subscriptions(query: dict[str, Any]) -> dict[str, Any]:
    """List subscriptions, newest first."""
    page, limit = query.pop("page"), query.pop("limit")
    statement = queries.listed_subscriptions(query)
    return page_of(statement, page=page, limit=limit)


@blueprint.get("/<id:subscription_id>")
@operator(Scope.READ)
@blueprint.response(200, data_schema(SubscriptionDetailSchema))
def show_subscription(subscription_id: int) -> dict[str, Any]:
    """Show a subscription with its payments."""
    found = queries.subscription_by_id(subscription_id)
    if found is None:
        raise NotFound(f"There is no subscription {subscription_id}.")
    payments = queries.payments_of_subscription(subscription_id, at_most=SHOWN_PAYMENTS)
    return {"status": "success", "data": {**found._mapping, "payments": payments}}
