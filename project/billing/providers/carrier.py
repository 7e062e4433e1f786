"""A mobile carrier that draws money from a phone number's account.

The carrier keeps the prices: it is told a number and a plan and answers whether it charged. Our
payment's id goes along as `Idempotency-Key`, and by it the carrier can be asked what it did.
"""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from project.billing.providers.base import (
    Charge,
    NotThere,
    Page,
    PaymentProvider,
    ProviderPayment,
    ProviderStatus,
    Rejected,
    Unknown,
    Unreadable,
)
from project.core.net import http_client
from project.core.net.http_client import Answer, Request

OK = range(200, 300)
NOT_FOUND = 404
# Answers that say that nothing was done. 429 and 5xx may come after the work.
REJECTED = frozenset({400, 401, 403, 404, 405, 410, 415, 422})
# The words that carriers use, in any case.
STATUSES = dict.fromkeys(("charged", "success", "paid"), ProviderStatus.SUCCEEDED) | dict.fromkeys(
    ("refused", "failure", "declined"), ProviderStatus.CANCELED
)
# Refusals that trying again cannot change.
HARD_REASONS = frozenset({"unknown_subscriber", "barred", "consent_withdrawn"})
PLANS = {"day": "daily", "week": "weekly"}
MAX_REASON_LENGTH = 200
MAX_EVIDENCE_LENGTH = 4000
NO_LISTING = "the carrier lists no payments"


class Carrier(PaymentProvider):
    """A carrier's billing service; the saved payment method of a customer is its number."""

    name = "carrier"
    has_listing = False

    def __init__(
        self, url: str, token: str, *, deadline_seconds: float, max_sends: int | None = None
    ) -> None:
        self.max_sends = max_sends
        self._url = url.rstrip("/")
        self._headers = {"Auth-Key": token}
        self._deadline_seconds = deadline_seconds

    async def create(self, charge: Charge) -> ProviderPayment | Rejected | Unknown:
        """Charge the number for a period of its plan."""
        order = {"msisdn": charge.payment_method_id, "sub_plan": _plan(charge)}
        headers = {
            "Idempotency-Key": str(charge.payment_id),
            "Content-Type": "application/json",
        }
        answer = await self._send("POST", self._url, json.dumps(order).encode(), headers)
        if answer.status in REJECTED:
            return Rejected(f"answered {answer.status}")
        word = payment_in(answer, str(charge.payment_id), (charge.amount, charge.currency))
        return Unknown("has no state of its own request") if isinstance(word, NotThere) else word

    async def get(self, external_id: str) -> ProviderPayment | NotThere | Unknown:
        """Ask what became of the request with our payment's id."""
        answer = await self._send("GET", f"{self._url}/{external_id}")
        if answer.status == NOT_FOUND:
            return NotThere()
        return payment_in(answer, external_id, None)

    async def page(
        self,
        *,
        created_from: datetime,
        created_before: datetime,
        status: ProviderStatus | None = None,
        cursor: str | None = None,
    ) -> Page | Unknown:
        """Say that there is no list to read."""
        return Unknown(NO_LISTING)

    async def _send(
        self, method: str, url: str, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> Answer:
        return await http_client.send(
            Request(
                method,
                url,
                body,
                {**self._headers, **(headers or {})},
                deadline_seconds=self._deadline_seconds,
            )
        )


def _plan(charge: Charge) -> str:
    """Return the carrier's plan: of the period, or for who tells none the last word of the name."""
    return PLANS.get(charge.plan or "") or charge.description.rpartition("-")[2]


def payment_in(
    answer: Answer, external_id: str, asked_for: tuple[int, str] | None
) -> ProviderPayment | NotThere | Unknown:
    """Read what a carrier answers; it says no amount, so it is what was `asked_for`."""
    if answer.status is None:
        return Unknown(answer.error or "no answer")
    if answer.status not in OK:
        return Unknown(f"answered {answer.status}")
    try:
        said = json.loads(answer.body)
    except (ValueError, RecursionError):
        return _unreadable(answer, "answered something that is not JSON")
    word = str(said.get("status")).strip().casefold() if isinstance(said, dict) else ""
    status = STATUSES.get(word)
    if status is None:
        return _unreadable(answer, f"answered no status that is known: {answer.body[:100]!r}")
    reason = _text(said.get("reason"))
    amount, currency = asked_for or (0, "RUB")
    return ProviderPayment(
        external_id=external_id,
        status=status,
        amount=amount,
        currency=currency,
        created_at=_moment(said.get("charged_at")),
        reason=(reason or "refused") if status is ProviderStatus.CANCELED else None,
        is_hard=reason in HARD_REASONS,
        names_amount=False,
    )


def _unreadable(answer: Answer, reason: str) -> Unreadable:
    """An answer that says that something was done, and not what."""
    said = answer.body[:MAX_EVIDENCE_LENGTH].decode("latin-1").replace("\0", "\ufffd")
    return Unreadable(reason, None, said)


def _text(value: Any) -> str | None:
    written = value.replace("\0", "\ufffd") if isinstance(value, str) else ""
    return written[:MAX_REASON_LENGTH] or None


def _moment(value: Any) -> datetime:
    """Return when it was charged; the carrier's word is for people, and need not be there."""
    try:
        moment = datetime.fromisoformat(value)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (TypeError, ValueError, OverflowError):
        return datetime.fromtimestamp(0, UTC)
