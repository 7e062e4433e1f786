"""What the control API of YooKassa reads from a request."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

from simulator.json_http import bad_request, moment, number, reject_unknown, text, whole_number
from simulator.yookassa.outcomes import CANCELED, REASON, USUAL_REASON, Outcome, parse_outcome
from simulator.yookassa.payments import Payment
from simulator.yookassa.requests import Refused, currency, metadata, money

LONGEST_SETTLE_SECONDS = 3660 * 24 * 3600.0
MOST_OUTCOMES = 10_000
MOST_TIMES = 10

WEB_URL = re.compile(r"https?://[!-~]{1,2000}")

ADDED_FIELDS = frozenset(
    {
        "amount",
        "currency",
        "status",
        "metadata",
        "created_at",
        "payment_method_id",
        "reason",
        "notify",
    }
)


@dataclass(frozen=True, slots=True)
class AddedPayment:
    """A payment to put into the books, with its status and whether a notice goes out."""

    payment: Payment
    outcome: Outcome
    created_at: datetime | None
    notify: bool


def parse_added(data: object) -> AddedPayment:
    """Return a payment that nobody asked for, or answer 400."""
    if not isinstance(data, dict):
        raise bad_request("a payment is not an object")
    reject_unknown(data, ADDED_FIELDS)
    created_at = data.get("created_at")
    method_id = data.get("payment_method_id")
    with _plain_errors():
        payment = Payment(
            value=money(data.get("amount"), "amount"),
            currency=currency(data.get("currency", "RUB"), "currency"),
            metadata=metadata(data.get("metadata")),
            method_id=None if method_id is None else text("payment_method_id", method_id),
            method_saved=method_id is not None,
        )
    return AddedPayment(
        payment,
        outcome=_any_status(data),
        created_at=None if created_at is None else moment("created_at", created_at),
        notify=truth("notify", data.get("notify", False)),
    )


@dataclass(frozen=True, slots=True)
class Tampering:
    """What to change on a payment; None leaves it."""

    value: str | None
    currency: str | None
    metadata: dict[str, str] | None
    outcome: Outcome | None


def parse_tampering(data: Mapping[str, object]) -> Tampering:
    """Return what a body wants to be changed, or answer 400."""
    reject_unknown(data, frozenset({"amount", "currency", "metadata", "status", "reason"}))
    with _plain_errors():
        return Tampering(
            value=money(data["amount"], "amount") if "amount" in data else None,
            currency=currency(data["currency"], "currency") if "currency" in data else None,
            metadata=metadata(data.get("metadata")),
            outcome=_any_status(data) if "status" in data or "reason" in data else None,
        )


@dataclass(frozen=True, slots=True)
class RefundOrder:
    """How much to give back, in hundredths, None for the rest; and whether a notice goes out."""

    minor_units: int | None
    notify: bool


def parse_refund(data: Mapping[str, object]) -> RefundOrder:
    """Return what is to be given back, or answer 400."""
    reject_unknown(data, frozenset({"amount", "notify"}))
    with _plain_errors():
        value = money(data["amount"], "amount") if "amount" in data else None
    return RefundOrder(
        minor_units=None if value is None else int(value.replace(".", "")),
        notify=truth("notify", data.get("notify", True)),
    )


def parse_settlement(data: Mapping[str, object]) -> Outcome:
    """Return how an open payment is to settle, or answer 400."""
    reject_unknown(data, frozenset({"status", "reason"}))
    outcome = _any_status(data)
    if outcome.status not in ("succeeded", "canceled"):
        raise bad_request('status is not "succeeded" or "canceled"')
    return outcome


def outcome_text(name: str, value: object) -> str:
    """Return an outcome as it is scripted, such as canceled:card_expired, or answer 400."""
    given = text(name, value)
    try:
        parse_outcome(given)
    except ValueError as error:
        raise bad_request(f"{name}: {error}") from None
    return given


def outcome_texts(name: str, value: object) -> list[str]:
    """Return a list of outcomes, or answer 400."""
    if not isinstance(value, list) or len(value) > MOST_OUTCOMES:
        raise bad_request(f"{name} is not a list of at most {MOST_OUTCOMES} outcomes")
    return [outcome_text(name, one) for one in value]


def seconds_or_none(name: str, value: object) -> float | None:
    """Return seconds, or answer 400."""
    return None if value is None else number(name, value, 0, LONGEST_SETTLE_SECONDS)


def seed_or_none(name: str, value: object) -> int | None:
    """Return a seed, or answer 400."""
    return None if value is None else whole_number(name, value, -(2**63), 2**63)


def url_or_none(name: str, value: object) -> str | None:
    """Return a web address, or answer 400."""
    if value is None:
        return None
    if not WEB_URL.fullmatch(text(name, value)):
        raise bad_request(f"{name} is not a web address")
    return str(value)


def times(name: str, value: object) -> int:
    """Return how often a notice is sent, or answer 400."""
    return whole_number(name, value, 1, MOST_TIMES)


def truth(name: str, value: object) -> bool:
    """Return true or false, or answer 400."""
    if not isinstance(value, bool):
        raise bad_request(f"{name} is not true or false")
    return value


def _any_status(data: Mapping[str, object]) -> Outcome:
    """Return a status with its reason; one that YooKassa does not have is taken too."""
    status = _word("status", data.get("status", CANCELED if "reason" in data else None))
    if status != CANCELED:
        if data.get("reason") is not None:
            raise bad_request("only a canceled payment has a reason")
        return Outcome(status)
    return Outcome(status, _word("reason", data.get("reason") or USUAL_REASON))


def _word(name: str, value: object) -> str:
    given = text(name, value)
    if not REASON.fullmatch(given):
        raise bad_request(f"{name} is not a word of small letters and underscores")
    return given


@contextmanager
def _plain_errors() -> Iterator[None]:
    """Answer 400 as the control API does where the provider would refuse."""
    try:
        yield
    except Refused as refused:
        raise bad_request(f"{refused.parameter}: {refused.description}") from None
