"""What YooKassa reads from a request, and the error objects with which it refuses."""

import base64
import functools
import json
import re
import uuid
from collections.abc import Mapping
from hashlib import blake2b

from aiohttp import web

from simulator.json_http import Handler, json_answer
from simulator.yookassa.payments import Payment

LONGEST_KEY = 64
LONGEST_DESCRIPTION = 128
MOST_METADATA_KEYS = 16
LONGEST_METADATA_KEY = 32
LONGEST_METADATA_VALUE = 512

MONEY = re.compile(r"(0|[1-9][0-9]{0,9})\.[0-9]{2}")
CURRENCY = re.compile(r"[A-Z]{3}")
RETURN_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[!-~]{1,2000}")


class Refused(Exception):
    """An answer with an error object of YooKassa."""

    def __init__(
        self, status: int, code: str, description: str, parameter: str | None = None
    ) -> None:
        super().__init__(description)
        self.status = status
        self.code = code
        self.description = description
        self.parameter = parameter

    def answer(self) -> web.Response:
        """Return the answer."""
        error = {
            "type": "error",
            "id": str(uuid.uuid4()),
            "code": self.code,
            "description": self.description,
        }
        if self.parameter is not None:
            error["parameter"] = self.parameter
        return json_answer(error, self.status)


def refusing(handler: Handler) -> Handler:
    """Return `handler` with its refusals answered as error objects."""

    async def answer(request: web.Request) -> web.StreamResponse:
        try:
            return await handler(request)
        except Refused as refused:
            return refused.answer()

    return answer


def invalid(description: str, parameter: str | None = None) -> Refused:
    """Return the refusal of a request that breaks a rule."""
    return Refused(400, "invalid_request", description, parameter)


def shop_id(request: web.Request) -> str:
    """Return which shop asks; any id with any secret is a shop."""
    found = _shop_id(request.headers.get("Authorization", ""))
    if found is None:
        raise Refused(
            401,
            "invalid_credentials",
            "Basic authentication with shop id and secret key is required",
            "Authorization",
        )
    return found


@functools.lru_cache(maxsize=64)
def _shop_id(header: str) -> str | None:
    scheme, _, encoded = header.partition(" ")
    try:
        name, _, secret = base64.b64decode(encoded, validate=True).decode().partition(":")
    except ValueError:
        return None
    return name if scheme.lower() == "basic" and name and secret else None


def idempotence_key(request: web.Request) -> str:
    """Return the key of a request that makes something."""
    key = request.headers.get("Idempotence-Key", "")
    if not key:
        raise invalid("Idempotence key is required", "Idempotence-Key")
    if len(key) > LONGEST_KEY:
        raise invalid(f"Idempotence key is longer than {LONGEST_KEY}", "Idempotence-Key")
    return key


async def read_body(request: web.Request) -> dict[str, object]:
    """Return the JSON object in the body."""
    try:
        data = json.loads(await request.read())
    except (ValueError, RecursionError):
        raise invalid("The request body is not JSON") from None
    if not isinstance(data, dict):
        raise invalid("The request body is not a JSON object")
    return data


def digest(data: Mapping[str, object]) -> bytes:
    """Return what tells one body from another, whatever the order of its fields."""
    return blake2b(json.dumps(data, sort_keys=True).encode(), digest_size=16).digest()


def parse_payment(data: Mapping[str, object]) -> Payment:
    """Return the payment that a body asks for; fields that do not matter here are not read."""
    amount = data.get("amount")
    if not isinstance(amount, dict):
        raise invalid("Amount is required", "amount")
    method_id = _optional_text(data, "payment_method_id")
    return_url = _return_url(data.get("confirmation"))
    if method_id is None and return_url is None:
        raise invalid("Payment method or confirmation is required", "confirmation")
    return Payment(
        value=money(amount.get("value"), "amount.value"),
        currency=currency(amount.get("currency"), "amount.currency"),
        capture=_flag(data, "capture"),
        description=_optional_text(data, "description", LONGEST_DESCRIPTION),
        metadata=metadata(data.get("metadata")),
        method_id=method_id,
        method_saved=method_id is not None,
        save_method=_flag(data, "save_payment_method"),
        return_url=return_url,
    )


def money(value: object, parameter: str) -> str:
    """Return an amount above zero, with a point and two digits behind it."""
    if not isinstance(value, str) or not MONEY.fullmatch(value):
        raise invalid("Amount is not text such as 10.00", parameter)
    if not value.strip("0."):
        raise invalid("Amount is not above zero", parameter)
    return value


def currency(value: object, parameter: str) -> str:
    """Return a currency."""
    if not isinstance(value, str) or not CURRENCY.fullmatch(value):
        raise invalid("Currency is not a code of three capital letters", parameter)
    return value


def metadata(value: object) -> dict[str, str] | None:
    """Return metadata: at most 16 texts under short names."""
    if value is None:
        return None
    if not isinstance(value, dict):
        raise invalid("Metadata is not an object", "metadata")
    if len(value) > MOST_METADATA_KEYS:
        raise invalid(f"Metadata has more than {MOST_METADATA_KEYS} keys", "metadata")
    for key, content in value.items():
        if len(key) > LONGEST_METADATA_KEY:
            raise invalid(f"A key is longer than {LONGEST_METADATA_KEY}", "metadata")
        if not isinstance(content, str) or len(content) > LONGEST_METADATA_VALUE:
            raise invalid(
                f"A value is not text of at most {LONGEST_METADATA_VALUE}", f"metadata.{key}"
            )
    return value


def _return_url(confirmation: object) -> str | None:
    if confirmation is None:
        return None
    if not isinstance(confirmation, dict):
        raise invalid("Confirmation is not an object", "confirmation")
    if confirmation.get("type") != "redirect":
        raise invalid("Only a confirmation by redirect is offered", "confirmation.type")
    url = confirmation.get("return_url")
    if not isinstance(url, str) or not RETURN_URL.fullmatch(url):
        raise invalid("Return URL is not a URL", "confirmation.return_url")
    return url


def _optional_text(data: Mapping[str, object], name: str, longest: int = 255) -> str | None:
    value = data.get(name)
    if value is None:
        return None
    if not isinstance(value, str) or not 1 <= len(value) <= longest:
        raise invalid(f"Not text of 1 to {longest} characters", name)
    return value


def _flag(data: Mapping[str, object], name: str) -> bool:
    value = data.get(name, False)
    if not isinstance(value, bool):
        raise invalid("Not true or false", name)
    return value
