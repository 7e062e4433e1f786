"""Purchases: buying and checking for devices, the list for operators."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from flask import g, request

from project.callbacks import queries as callbacks
from project.core import clock
from project.core.db.transaction import own_transactions, transaction
from project.core.errors import PaymentRequired
from project.core.fast_path import Call
from project.core.http.api import Blueprint, described_by
from project.core.http.auth import Scope, operator
from project.core.http.idempotency import idempotent
from project.core.http.input import parse_object, read_body, require_known_fields
from project.core.http.pages import data_schema, list_schema, page_of
from project.core.loop import finish
from project.mobile.devices.auth import FIELDS, HEADER, device, given_token, known_device
from project.mobile.devices.service import authenticate_device, put_in_force, unknown_token
from project.mobile.models import Purchase
from project.mobile.purchases import queries, service, verification
from project.mobile.purchases.schemas import (
    DeviceCredentialSchema,
    EntitlementSchema,
    PurchaseCreateSchema,
    PurchaseDetailSchema,
    PurchaseQuerySchema,
    PurchaseSchema,
    PurchaseStateSchema,
)
from project.mobile.states import PurchaseState
from project.mobile.stores.base import Refused, Verified

RECEIPT_ENDS = 4

blueprint = Blueprint("purchases", __name__, url_prefix="/api", description="Purchases.")


@blueprint.post("/purchase")
@device
@known_device
@idempotent
@blueprint.arguments(PurchaseCreateSchema)
@blueprint.response(200, PurchaseStateSchema)
@blueprint.alt_response(
    202, schema=PurchaseStateSchema, description="The store is to be asked again; nothing is lost."
)
@blueprint.alt_response(402, description="The store refuses the receipt.")
@blueprint.alt_response(409, description="The receipt belongs to another app.")
@own_transactions
def buy(body: dict[str, Any]) -> Any:
    """Verify a receipt with the device's store and record the purchase."""
    with transaction():
        buyer = authenticate_device(g.client_token)
        purchase_id, claimed = service.submit_receipt(buyer, body["receipt"])
    answer = verification.ask_store_now(claimed) if claimed else None
    with transaction():
        purchase = service.existing_purchase(purchase_id)
    if purchase.app_id != buyer.app_id:
        # Another app handed it in while the store was asked, and has it.
        raise service.belongs_to_another_app()
    if isinstance(answer, (Refused, Verified)) and purchase.state is PurchaseState.CANCELED:
        raise PaymentRequired(
            f"The receipt is not good: {purchase.reason}.", {"receipt": ["Refused by the store."]}
        )
    state = queries.effective_state(purchase.state, purchase.expire_date, clock.now())
    if state is not PurchaseState.ACTIVE:
        return {"status": "success", "state": PurchaseState.PENDING}, 202
    return {"status": "success", "state": state, "expire_date": purchase.expire_date}


@blueprint.post("/purchase/check")
@device
@described_by(
    blueprint.arguments(DeviceCredentialSchema), blueprint.response(200, EntitlementSchema)
)
@own_transactions
def check() -> dict[str, Any]:
    """Tell whether the device's subscription is active, and until when."""
    return finish(_entitlement(read_body(request), g.client_token))


async def check_at_once(call: Call) -> dict[str, Any]:
    """Do the same for a call that is plainly in order."""
    body = parse_object(call.body)
    return await _entitlement(body, given_token(body, call.header(HEADER)))


async def _entitlement(body: Mapping[str, Any], client_token: str) -> dict[str, Any]:
    # The busiest route by far: it reads and writes by hand what schemas do elsewhere.
    require_known_fields(body, FIELDS)
    found = await queries.entitlement(client_token)
    if found is None:
        await put_in_force(client_token)
        found = await queries.entitlement(client_token)
    if found is None:
        raise unknown_token()
    if found.state is None:
        return {"status": "success", "active": False, "state": None, "expire-date": None}
    state = queries.effective_state(found.state, found.expire_date, await clock.current())
    expire_date = found.expire_date and found.expire_date.astimezone(UTC).isoformat()
    return {
        "status": "success",
        "active": state is PurchaseState.ACTIVE,
        "state": state,
        "expire-date": expire_date,
    }


@blueprint.get("/purchases")
@operator(Scope.READ)
@blueprint.arguments(PurchaseQuerySchema, location="query")
@blueprint.response(200, list_schema(PurchaseSchema))
def list_purchases(query: dict[str, Any]) -> dict[str, Any]:
    """List purchases, newest first."""
    page, limit = query.pop("page"), query.pop("limit")
    now = clock.now()
    return page_of(
        queries.listed_purchases(query),
        page=page,
        limit=limit,
        show=lambda row: _shown(row.Purchase, now),
    )


@blueprint.get("/purchases/<id:purchase_id>")
@operator(Scope.READ)
@blueprint.response(200, data_schema(PurchaseDetailSchema))
def show_purchase(purchase_id: int) -> dict[str, Any]:
    """Show a purchase with its events."""
    purchase = service.existing_purchase(purchase_id)
    events = callbacks.events_of(service.SUBJECT_TYPE, purchase_id)
    return {"status": "success", "data": {**_shown(purchase, clock.now()), "events": events}}


def _shown(purchase: Purchase, now: datetime) -> dict[str, Any]:
    state = queries.effective_state(purchase.state, purchase.expire_date, now)
    return {
        "id": purchase.id,
        "app_id": purchase.app_id,
        "device_id": purchase.device_id,
        "os": purchase.os,
        "receipt": f"…{purchase.receipt[-RECEIPT_ENDS:]}",
        "state": state,
        "reason": purchase.reason,
        "expire_date": purchase.expire_date,
        "next_check_at": purchase.due_at,
        "started_at": purchase.started_at,
        "canceled_at": purchase.canceled_at,
        "checked_at": purchase.checked_at,
        "created_at": purchase.created_at,
    }
