"""The click webhooks: answered 202 once the clicks are on disk."""

from http import HTTPStatus
from typing import Any

import msgspec
from flask import Response, request
from werkzeug.exceptions import UnsupportedMediaType

from project.clicks.intake import inbox, senders
from project.clicks.intake.reading import SHOWN_ERRORS, Window, read_click, read_clicks
from project.clicks.intake.schemas import (
    BatchTakenSchema,
    ClickBatchSchema,
    ClickSchema,
    TakenSchema,
)
from project.clicks.intake.signatures import HEADER, Signature
from project.config import get_settings
from project.core.api import Blueprint, described_by
from project.core.auth import Credential, requires
from project.core.body_limits import takes_body_of
from project.core.errors import ServiceUnavailable
from project.core.express import Call
from project.core.transaction import own_transactions

ACCEPTED = HTTPStatus.ACCEPTED
BACKLOG_RETRY_SECONDS = 30

blueprint = Blueprint("clicks", __name__, url_prefix="/api/webhook/clicks", description="Clicks.")


@blueprint.post("")
@requires(Credential.SIGNATURE)
@described_by(
    blueprint.arguments(ClickSchema),
    blueprint.response(202, TakenSchema),
    blueprint.alt_response(403, description="The address is not on the allow-list."),
)
@own_transactions
def take_click() -> Response:
    """Take a click."""
    return _accepted(take_at_once(_call()))


def take_at_once(call: Call) -> dict[str, Any]:
    """Take the click in a call."""
    # With the check of a purchase the busiest route: it reads and writes by hand.
    _admit(call.address)
    click = read_click(call.body, _window(call))
    inbox.together.put(click)
    return {"status": "success", "message": "Accepted.", "click_id": click.click_id}


@blueprint.post("/batch")
@requires(Credential.SIGNATURE)
@described_by(
    blueprint.arguments(ClickBatchSchema),
    blueprint.response(202, BatchTakenSchema),
    blueprint.alt_response(403, description="The address is not on the allow-list."),
)
@own_transactions
@takes_body_of(lambda: get_settings().webhook_max_body_bytes)
def take_clicks() -> Response:
    """Take up to 10,000 clicks: the good ones are taken, the bad ones are named."""
    _admit(request.remote_addr)
    call = _call()
    good, bad, total = read_clicks(call.body, _window(call))
    if good:
        inbox.write(good)
    return _accepted(
        {
            "status": "success",
            "processed": len(good),
            "failed": len(bad),
            "total": total,
            "errors": bad[:SHOWN_ERRORS],
        }
    )


def _call() -> Call:
    return Call(request.environ, request.get_data(cache=False))


def _admit(address: str | None) -> None:
    """Let a sender in, cheapest check first; nothing of a large body is read before."""
    senders.require_allowed(address)
    senders.allowance.spend(address or "", get_settings().webhook_rate_limit)
    if inbox.backlog.is_over_limit():
        raise ServiceUnavailable(
            "Too many clicks wait to be counted. Send this again later.",
            retry_after=BACKLOG_RETRY_SECONDS,
        )


def _window(call: Call) -> Window:
    """Return what may be in the body. Raises Unauthorized."""
    signature = Signature(call.header(HEADER), call.body)
    signature.require_any()
    if not call.is_json:
        raise UnsupportedMediaType
    return Window(signature.covers)


def _accepted(answer: dict[str, Any]) -> Response:
    return Response(msgspec.json.encode(answer), ACCEPTED, mimetype="application/json")
