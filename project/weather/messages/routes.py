"""Messages for operators; receipts and inbound messages from gateways."""

import json
from datetime import date
from typing import Any
from uuid import UUID

from flask import request

from project.core.db.transaction import own_transactions, transaction
from project.core.errors import BadRequest, NotFound
from project.core.http.api import Blueprint
from project.core.http.auth import Scope, operator
from project.core.http.input import read_body
from project.core.http.pages import data_schema, list_schema, page_of
from project.weather.gateways.auth import gateway
from project.weather.messages import queries, service
from project.weather.messages.schemas import (
    InboundAnswerSchema,
    InboundSchema,
    MessageQuerySchema,
    MessageRunSchema,
    MessageSchema,
    MessageWithEventsSchema,
    ReceiptSchema,
    RunBegunSchema,
    shown_with_events,
)

messages = Blueprint("messages", __name__, description="Messages and what became of them.")
sending = Blueprint(
    "subscriber_messages", __name__, description="Sending by hand; what gateways call."
)
MAX_KEPT = 2000
MAX_MSGID = 200


@messages.get("")
@operator(Scope.READ)
@messages.arguments(MessageQuerySchema, location="query")
@messages.response(200, list_schema(MessageSchema))
def list_messages(query: dict[str, Any]) -> dict[str, Any]:
    """List messages, newest first."""
    page, limit = query.pop("page"), query.pop("limit")
    statement = queries.listed_messages(query)
    return page_of(statement, page=page, limit=limit, show=lambda row: row.Message)


@messages.get("/<uuid:message_id>")
@operator(Scope.READ)
@messages.response(200, data_schema(MessageWithEventsSchema))
def show_message(message_id: UUID) -> dict[str, Any]:
    """Show a message with every gateway answer and receipt."""
    message = queries.message_by_id(message_id)
    if message is None:
        raise NotFound(f"There is no message {message_id}.")
    return {
        "status": "success",
        "data": shown_with_events(message, queries.events_of(message_id)),
    }


@messages.get("/runs/<string:day>")
@operator(Scope.READ)
@messages.response(200, data_schema(MessageRunSchema))
def show_run(day: str) -> dict[str, Any]:
    """Count what became of the messages of a date (YYYY-MM-DD)."""
    try:
        parsed = date.fromisoformat(day)
    except ValueError as error:
        raise NotFound("There is no such day. One is written like 2027-01-31.") from error
    return {"status": "success", "data": queries.run_of(parsed)}


@sending.route("/trigger_send_sms", methods=["GET", "POST"])
@operator(Scope.WRITE)
@sending.response(202, RunBegunSchema)
@own_transactions
def trigger_send_sms() -> dict[str, Any]:
    """Send today's messages now to everybody who has paid and has none, but in quiet hours."""
    with transaction():
        run, due = service.begin_run()
    return {"status": "success", "run_id": run.id, "due": due}


@sending.post("/callback")
@gateway
@sending.arguments(ReceiptSchema)
@sending.response(204)
def hear_receipt(receipt: dict[str, str]) -> str:
    """Take a delivery receipt; late, doubled, out of order or for an unknown msgid, it is kept."""
    msgid = receipt.get("msgid") or request.args.get("msgid", "")
    if not 0 < len(msgid) <= MAX_MSGID or not msgid.isprintable():
        raise BadRequest("A receipt says which message it is of.", {"msgid": ["Not given."]})
    service.hear_receipt(msgid, receipt["status"], _kept_body(), reason=receipt.get("reason"))
    return ""


@sending.post("/inbound")
@gateway
@sending.arguments(InboundSchema)
@sending.response(200, InboundAnswerSchema)
def hear_inbound(inbound: dict[str, str]) -> dict[str, str]:
    """Take a message from a number: STOP, DUR or СТОП ends its subscription for ever."""
    stopped = service.hear_inbound(inbound["msisdn"], inbound["text"])
    return {"status": "success", "action": "stopped" if stopped else "ignored"}


def _kept_body() -> str:
    return json.dumps(read_body(request), ensure_ascii=True)[:MAX_KEPT]
