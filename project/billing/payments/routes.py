"""Payments, for operators; and the provider's notices, believed only after asking back."""

from typing import Any
from uuid import UUID

from flask import request

from project.billing import queries
from project.billing.payments import service
from project.billing.payments.webhooks import hear_notice
from project.billing.schemas import (
    NoticeSchema,
    PaymentQuerySchema,
    PaymentSchema,
    PurchaseBeginSchema,
    PurchaseBegunSchema,
)
from project.core.db.transaction import own_transactions
from project.core.http.api import Blueprint
from project.core.http.auth import Scope, operator, public
from project.core.http.idempotency import idempotent
from project.core.http.input import read_body
from project.core.http.limiter import limiter
from project.core.http.pages import data_schema, list_schema, page_of
from project.core.net.network_guard import check_url

blueprint = Blueprint("payments", __name__, url_prefix="/api/payments", description="Payments.")


@blueprint.get("")
@operator(Scope.READ)
@blueprint.arguments(PaymentQuerySchema, location="query")
@blueprint.response(200, list_schema(PaymentSchema))
def list_payments(query: dict[str, Any]) -> dict[str, Any]:
    """List payments, newest first."""
    page, limit = query.pop("page"), query.pop("limit")
    statement = queries.listed_payments(query)
    return page_of(statement, page=page, limit=limit, show=lambda row: row.Payment)


@blueprint.post("")
@operator(Scope.WRITE)
@idempotent
@blueprint.arguments(PurchaseBeginSchema)
@blueprint.response(201, PurchaseBegunSchema)
@blueprint.alt_response(402, description="The provider did not take it.")
@blueprint.alt_response(404, description="There is no such package.")
@own_transactions
def begin_purchase(body: dict[str, Any]) -> dict[str, Any]:
    """Begin a payment that the customer confirms at the provider."""
    check_url(body["return_url"], field="return_url")
    payment = service.purchase(body["customer"], body["package_id"], body["return_url"])
    return service.confirmation(payment)


@blueprint.get("/<uuid:payment_id>")
@operator(Scope.READ)
@blueprint.response(200, data_schema(PaymentSchema))
def show_payment(payment_id: UUID) -> dict[str, Any]:
    """Show a payment."""
    return {"status": "success", "data": service.existing_payment(payment_id)}


@blueprint.post("/webhooks/yookassa")
@public
@limiter.limit("600/minute")
@blueprint.response(200, NoticeSchema)
@own_transactions
def hear_yookassa() -> dict[str, str]:
    """Take a notice of YooKassa: the provider is asked for the payment before it is believed."""
    hear_notice("yookassa", read_body(request))
    return {"status": "success"}
