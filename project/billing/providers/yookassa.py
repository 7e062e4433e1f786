"""YooKassa: its SDK makes the requests and reads the answers, our client carries them.

The SDK's own transport has a global configuration, no deadline on its requests and a session for
each; its request and response classes have none of that, so they are what is used of it.
"""

import base64
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode
from uuid import UUID, uuid5

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
from project.core.lazy_module import LazyModule
from project.core.money import from_decimal_text, to_decimal_text
from project.core.net import http_client
from project.core.net.http_client import Answer, Request

sdk_requests: Any = LazyModule("yookassa.domain.request")
sdk_responses: Any = LazyModule("yookassa.domain.response")

PAGE_SIZE = 100
MAX_ANSWER_BYTES = 4_000_000
MAX_ID_LENGTH = 64
MAX_REASON_LENGTH = 500
MAX_EVIDENCE_LENGTH = 4000
# All of them have hundredths, as its amounts do; of these there are ten digits before the point.
# As the SDK's `Currency` lists them; a test compares.
CURRENCIES = frozenset(
    ["AMD", "AZN", "BYN", "CNY", "EUR", "INR", "KZT", "MDL", "RUB", "TRY", "UAH", "USD", "UZS"]
)
MAX_AMOUNT = 10**12 - 1
OK = 200
ANSWERED = frozenset(range(200, 300)) - {202}
"""202 says that the request is still worked on; what any other 2xx says is said for good."""
FORBIDDEN = 403
NOT_FOUND = 404
ONCE = "once"
BAD_REQUEST = 400
# Answers that say that nothing was done. 429 and 5xx may come after the work.
REJECTED = frozenset({400, 401, 403, 404, 405, 410, 415})
# Reasons for which trying again cannot help: YooKassa's guide, "Payment cancellation".
HARD_REASONS = frozenset(
    {
        "card_expired",
        "country_forbidden",
        "fraud_suspected",
        "identification_required",
        "invalid_card_number",
        "invalid_csc",
        "payment_method_restricted",
        "permission_revoked",
        "unsupported_mobile_operator",
    }
)


class YooKassa(PaymentProvider):
    """Payments at YooKassa; one object per shop, nothing global."""

    name = "yookassa"
    currencies = CURRENCIES
    max_amount = MAX_AMOUNT
    lists_by_capture = True

    def __init__(self, url: str, shop_id: str, secret_key: str, *, deadline_seconds: float) -> None:
        self._url = url.rstrip("/")
        credentials = base64.b64encode(f"{shop_id}:{secret_key}".encode()).decode()
        self._headers = {"Authorization": f"Basic {credentials}"}
        self._deadline_seconds = deadline_seconds

    async def create(self, charge: Charge) -> ProviderPayment | Rejected | Unknown:
        """Draw money, or begin a payment that the customer confirms."""
        order, key = _body(charge), charge.payment_id
        answer = await self._order(order, key)
        if answer.status == FORBIDDEN and charge.payment_method_id is None:
            # A shop may have no recurring payments: then nothing is saved, but this one is paid.
            answer = await self._order({**order, "save_payment_method": False}, uuid5(key, ONCE))
        if answer.status in REJECTED:
            return Rejected(_described(answer), is_key_used=_is_key_used(answer))
        return _payment_in(answer)

    async def get(self, external_id: str) -> ProviderPayment | NotThere | Unknown:
        """Return a payment."""
        answer = await self._send("GET", f"/payments/{external_id}")
        if answer.status == NOT_FOUND and _says_not_found(answer):
            return NotThere()
        return _payment_in(answer)

    async def page(
        self,
        *,
        created_from: datetime,
        created_before: datetime,
        status: ProviderStatus | None = None,
        cursor: str | None = None,
        captured_from: datetime | None = None,
    ) -> Page | Unknown:
        """Return one page of the payments made in a stretch of time, newest first."""
        query = {
            "created_at.gte": _written(created_from),
            "created_at.lt": _written(created_before),
            "limit": str(PAGE_SIZE),
        }
        if status is not None:
            query["status"] = str(status)
        if captured_from is not None:
            query["captured_at.gte"] = _written(captured_from)
        if cursor is not None:
            query["cursor"] = cursor
        answer = await self._send("GET", f"/payments?{urlencode(query)}")
        listed = _object_in(answer)
        if isinstance(listed, Unknown):
            return listed
        items = listed.get("items")
        if not isinstance(items, list):
            return Unknown("the list of payments has no items")
        return _page(items, listed.get("next_cursor"))

    async def _order(self, order: Mapping[str, Any], key: UUID) -> Answer:
        headers = {"Idempotence-Key": str(key), "Content-Type": "application/json"}
        return await self._send("POST", "/payments", json.dumps(order).encode(), headers)

    async def _send(
        self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> Answer:
        return await http_client.send(
            Request(
                method,
                self._url + path,
                body,
                {**self._headers, **(headers or {})},
                deadline_seconds=self._deadline_seconds,
                max_answer_bytes=MAX_ANSWER_BYTES,
            )
        )


def _body(charge: Charge) -> dict[str, Any]:
    params: dict[str, Any] = {
        "amount": {
            "value": to_decimal_text(charge.amount, charge.currency),
            "currency": charge.currency,
        },
        "capture": True,
        "description": charge.description[:128],
        "metadata": dict(charge.metadata),
    }
    if charge.payment_method_id is not None:
        params["payment_method_id"] = charge.payment_method_id
    else:
        params["save_payment_method"] = True
        params["confirmation"] = {"type": "redirect", "return_url": charge.return_url}
    request = sdk_requests.PaymentRequest(params)
    request.validate()
    # The SDK makes a float of the amount; ours is exact.
    return {**dict(request), "amount": params["amount"]}


def _says_not_found(answer: Answer) -> bool:
    """Tell whether YooKassa itself says so; anybody on the way may answer 404 to a wrong path."""
    try:
        said = json.loads(answer.body)
    except (ValueError, RecursionError):
        return False
    return isinstance(said, dict) and said.get("code") == "not_found"


def _is_key_used(answer: Answer) -> bool:
    """Tell whether a request was refused because its key has made another payment before."""
    described = _described(answer).casefold()
    return answer.status == BAD_REQUEST and "idempotence" in described and "duplicat" in described


def _described(answer: Answer) -> str:
    said = _object_in(Answer(OK, answer.body, answer.headers, None, False, answer.seconds))
    description = None if isinstance(said, Unknown) else said.get("description")
    return f"answered {answer.status}: {description or 'no description'}"[:500]


def _object_in(answer: Answer) -> dict[str, Any] | Unknown:
    if answer.status is None:
        return Unknown(answer.error or "no answer")
    if answer.status not in ANSWERED:
        return Unknown(f"answered {answer.status}")
    try:
        said = json.loads(answer.body)
    except (ValueError, RecursionError):
        return Unknown("answered something that is not JSON")
    return said if isinstance(said, dict) else Unknown("answered something that is no object")


def _payment_in(answer: Answer) -> ProviderPayment | Unknown:
    said = _object_in(answer)
    if not isinstance(said, Unknown):
        return read_payment(said)
    if answer.status not in ANSWERED:
        return said
    return Unreadable(said.reason, None, _kept(answer.body[:MAX_EVIDENCE_LENGTH].decode("latin-1")))


def _page(items: list[Any], next_cursor: Any) -> Page:
    read = [read_payment(item) for item in items]
    return Page(
        [payment for payment in read if isinstance(payment, ProviderPayment)],
        [payment for payment in read if isinstance(payment, Unreadable)],
        next_cursor if isinstance(next_cursor, str) and next_cursor else None,
    )


def read_payment(said: Any) -> ProviderPayment | Unreadable:
    """Read a payment object; what cannot be read is Unreadable, never guessed."""
    try:
        payment = sdk_responses.PaymentResponse(said)
        method = payment.payment_method
        # The SDK makes "unknown" of a reason that is newer than itself.
        details = said.get("cancellation_details") or {}
        reason = _text(details["reason"]) if details.get("reason") is not None else None
        return ProviderPayment(
            external_id=_text(payment.id),
            status=ProviderStatus(payment.status),
            amount=from_decimal_text(_text(said["amount"]["value"]), payment.amount.currency),
            currency=_text(payment.amount.currency),
            created_at=datetime.fromisoformat(_text(said["created_at"])).astimezone(UTC),
            metadata={_kept(key): _kept(value) for key, value in (payment.metadata or {}).items()},
            reason=reason,
            is_hard=reason in HARD_REASONS,
            saved_method_id=method.id if method and method.saved else None,
            confirmation_url=getattr(payment.confirmation, "confirmation_url", None),
            refunded_amount=_refunded(said.get("refunded_amount"), payment.amount.currency),
        )
    except (ArithmeticError, AttributeError, KeyError, TypeError, ValueError) as error:
        return _unreadable(said, error)


def _refunded(said: Any, currency: str) -> int:
    """Return what was given back; it has a currency of its own, which must be the payment's."""
    if said is None:
        return 0
    if said["currency"] != currency:
        raise ValueError(f"refunded in {said['currency']!r}, paid in {currency}")
    return from_decimal_text(_text(said["value"]), currency)


def _unreadable(said: Any, error: Exception) -> Unreadable:
    external_id = said.get("id") if isinstance(said, Mapping) else None
    is_id = isinstance(external_id, str) and 0 < len(external_id) <= MAX_ID_LENGTH
    reason = f"a payment that cannot be read ({type(error).__name__}: {error})"
    return Unreadable(
        _kept(reason[:MAX_REASON_LENGTH]),
        _kept(external_id) if is_id else None,
        _kept(json.dumps(said, ensure_ascii=True)[:MAX_EVIDENCE_LENGTH]),
    )


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError(f"{value!r} is not a text")
    return value


def _kept(value: Any) -> str:
    """Return a text without the one character that Postgres cannot keep."""
    return str(value).replace("\0", "\ufffd")


def _written(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
