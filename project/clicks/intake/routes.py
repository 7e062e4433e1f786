"""The click webhooks: answered 202 once the clicks are on disk."""

from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

from flask import Response

from project.clicks.intake import inbox, rate_limit, signatures
from project.clicks.intake.parsing import (
    SHOWN_ERRORS,
    BadClick,
    Click,
    Window,
    read_click,
    read_clicks,
)
from project.clicks.intake.schemas import (
    BatchTakenSchema,
    ClickBatchSchema,
    ClickSchema,
    TakenSchema,
)
from project.clicks.intake.signatures import Signature
from project.clicks.settings import ClickSettings
from project.config.environment import get_settings
from project.core import clock
from project.core.db.transaction import own_transactions
from project.core.errors import ServiceUnavailable
from project.core.fast_path import Call, flask_response
from project.core.http.api import Blueprint, described_by
from project.core.http.auth import Credential, requires
from project.core.http.body_limits import takes_body_of

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
    return flask_response(take_one, ACCEPTED)


async def take_one(call: Call) -> dict[str, Any]:
    """Take the click in a call."""
    # With the check of a purchase the busiest route: it reads and writes by hand.
    await _admit(call.address)
    signature = await signatures.verify(call)
    click = read_click(call.body, await _window(signature))
    await inbox.singles.put(click)
    return {"status": "success", "message": "Accepted.", "click_id": click.click_id}


@blueprint.post("/batch")
@requires(Credential.SIGNATURE)
@described_by(
    blueprint.arguments(ClickBatchSchema),
    blueprint.response(202, BatchTakenSchema),
    blueprint.alt_response(403, description="The address is not on the allow-list."),
)
@own_transactions
@takes_body_of(lambda: get_settings(ClickSettings).click_webhook_max_body_bytes)
def take_clicks() -> Response:
    """Take up to 10,000 clicks: the good ones are taken, the bad ones are named."""
    return flask_response(take_many, ACCEPTED)


async def take_many(call: Call) -> dict[str, Any]:
    """Take the clicks in a call."""
    await _admit(call.address)
    signature = await signatures.verify(call)
    good, bad, total = read_clicks(call.body, await _window(signature))
    refused = await inbox.write(good) if good else []
    if any(refused):
        bad = _with_refused(good, refused, bad, total)
    return {
        "status": "success",
        "processed": total - len(bad),
        "failed": len(bad),
        "total": total,
        "errors": bad[:SHOWN_ERRORS],
    }


def _with_refused(
    good: Sequence[Click],
    refused: Sequence[Exception | None],
    bad: Sequence[BadClick],
    total: int,
) -> list[BadClick]:
    """Return the bad clicks of a batch, with those that the database would not have."""
    told = {click.index for click in bad}
    places = [index for index in range(total) if index not in told]
    more = [
        BadClick(index, click.click_id, {"click": ["Has a value that cannot be stored."]})
        for index, click, error in zip(places, good, refused, strict=True)
        if error is not None
    ]
    return sorted([*bad, *more], key=lambda click: click.index)


async def _admit(address: str) -> None:
    """Let a sender in, cheapest check first; nothing in a large body is read before."""
    rate_limit.require_allowed(address)
    await rate_limit.allowance.spend(address, get_settings(ClickSettings).click_webhook_rate_limit)
    if await inbox.backlog.get() >= get_settings(ClickSettings).click_backlog_limit:
        raise ServiceUnavailable(
            "Too many clicks wait to be counted. Send this again later.",
            retry_after=BACKLOG_RETRY_SECONDS,
        )


async def _window(signature: Signature) -> Window:
    return Window(signature.covers, await clock.current())
