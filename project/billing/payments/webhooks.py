"""Notices of a provider: a hint to ask it, never a source of truth."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

import structlog
from sqlalchemy import or_, select

from project.billing.models import Payment
from project.billing.payments.settlement import apply
from project.billing.providers.base import NotThere, ProviderPayment, Unknown
from project.billing.providers.registry import provider_named
from project.core.db.transaction import transaction
from project.core.errors import BadRequest, ServiceUnavailable
from project.core.net import http_client
from project.extensions import db

log = structlog.get_logger()

ID_NAMED = {
    "payment.succeeded": "id",
    "payment.canceled": "id",
    "payment.waiting_for_capture": "id",
    "refund.succeeded": "payment_id",
}
"""Where the object of a notice names its payment, by the event."""
NOT_OF_PAYMENTS = ("payment_method.", "payout.", "deal.")
MAX_ID_LENGTH = 64


def hear_notice(provider_name: str, notice: Mapping[str, Any]) -> None:
    """Ask the provider about the payment of a notice and record its word.

    Late, doubled and out-of-order notices change nothing that is final. A payment that is not ours
    is left to reconciliation, and what tells of no payment is nothing to us. Raises BadRequest for
    a notice without a payment's id, and ServiceUnavailable when the provider does not answer, so
    that it sends the notice again.
    """
    event = str(notice.get("event"))
    if event.startswith(NOT_OF_PAYMENTS):
        return
    external_id = _external_id(notice, ID_NAMED.get(event))
    word = http_client.start(provider_named(provider_name).get(external_id)).result()
    if isinstance(word, Unknown):
        raise ServiceUnavailable("The provider does not answer; send the notice again later.")
    if isinstance(word, NotThere):
        log.warning("notice.unknown_there", provider=provider_name)
        return
    with transaction():
        payment_id = _our_payment(provider_name, word)
        if payment_id is not None:
            apply([(payment_id, word)])


def _external_id(notice: Mapping[str, Any], name: str | None) -> str:
    told = notice.get("object")
    external_id = told.get(name) if isinstance(told, Mapping) and name is not None else None
    is_text = isinstance(external_id, str) and 0 < len(external_id) <= MAX_ID_LENGTH
    if not is_text:
        raise BadRequest("This is no notice of a payment.", {"object": ["Has no payment id."]})
    written = str(external_id)
    if not written.replace("-", "").isalnum() or not written.isascii():
        raise BadRequest("This is no notice of a payment.", {"object": ["Has no payment id."]})
    return written


def _our_payment(provider_name: str, word: ProviderPayment) -> UUID | None:
    own_id = word.metadata.get("payment_id")
    try:
        wanted = UUID(own_id or "")
    except ValueError:
        wanted = UUID(int=0)
    return db.session.scalar(
        select(Payment.id)
        .where(
            Payment.provider == provider_name,
            or_(Payment.external_id == word.external_id, Payment.id == wanted),
        )
        .limit(1)
    )
