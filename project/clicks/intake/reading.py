"""A webhook's body as clicks: msgspec where all is well, field by field where it is not.

Marshmallow takes milliseconds for a thousand clicks, msgspec half of one.
"""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from project.clicks.intake.sources import MAX_SOURCE_LENGTH
from project.config import get_settings
from project.core import clock
from project.core.errors import BadRequest, FieldErrors
from project.core.input import MAX_BIGINT, has_control_characters

MAX_CLICKS = 10_000
MAX_ID_LENGTH = 200
MAX_SIGNATURE_LENGTH = 512
MAX_AHEAD = timedelta(minutes=5)
SHOWN_ERRORS = 1_000

ClickId = Annotated[str, Meta(min_length=1, max_length=MAX_ID_LENGTH)]
Source = Annotated[str, Meta(min_length=1, max_length=MAX_SOURCE_LENGTH)]
Moment = Annotated[datetime, Meta(tz=True)]
BodySignature = Annotated[str, Meta(max_length=MAX_SIGNATURE_LENGTH)] | None


class Click(Struct):
    """A click as it is sent; other fields are passed over, senders like to add some."""

    click_id: ClickId
    offer_id: int | str
    source: Source
    timestamp: Moment
    signature: BodySignature = None


class _Clicks(Struct):
    clicks: Annotated[list[Click], Meta(max_length=MAX_CLICKS)]


class _RawClicks(Struct):
    clicks: list[msgspec.Raw]


class BadClick(Struct):
    """A click of a batch that is not taken, and why; `index` counts from 0."""

    index: int
    click_id: str | None
    errors: FieldErrors


_FIELDS: dict[str, Any] = {
    "click_id": ClickId,
    "offer_id": int | str,
    "source": Source,
    "timestamp": Moment,
    "signature": BodySignature,
}
_NEEDED = frozenset(_FIELDS) - {"signature"}
_one = msgspec.json.Decoder(Click)
_many = msgspec.json.Decoder(_Clicks)
_raw_many = msgspec.json.Decoder(_RawClicks)
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_NOT_JSON = "The body is not valid JSON."


class Window:
    """From when to when a click may have been made, and who may send it."""

    def __init__(self, covers: Callable[[str], bool]) -> None:
        now = clock.now()
        self.oldest = now - timedelta(days=get_settings().click_max_age_days)
        self.newest = now + MAX_AHEAD
        self.covers = covers


def read_click(body: bytes, window: Window) -> Click:
    """Return the click in a body. Raises BadRequest, naming the fields."""
    try:
        click = _one.decode(body)
        errors = _errors_of(click, window)
    except msgspec.ValidationError:
        errors = _explain(_anything(body), window)
    except _UNREADABLE as error:
        raise BadRequest(_NOT_JSON) from error
    if errors:
        raise BadRequest("The click cannot be taken.", errors)
    return click


def read_clicks(body: bytes, window: Window) -> tuple[Sequence[Click], Sequence[BadClick], int]:
    """Return the good clicks of a batch, the bad ones with their errors, and how many came.

    Raises BadRequest if it is no batch at all: not JSON, no list, empty or too long.
    """
    try:
        return _sorted_out(_many.decode(body).clicks, window)
    except msgspec.ValidationError:
        return _one_by_one(body, window)
    except _UNREADABLE as error:
        raise BadRequest(_NOT_JSON) from error


def _anything(body: bytes | msgspec.Raw) -> Any:
    try:
        return msgspec.json.decode(body)
    except _UNREADABLE as error:
        raise BadRequest(_NOT_JSON) from error


def _sorted_out(
    clicks: Sequence[Click], window: Window
) -> tuple[Sequence[Click], Sequence[BadClick], int]:
    _require_length(len(clicks))
    good, bad = [], []
    for index, click in enumerate(clicks):
        errors = _errors_of(click, window)
        if errors:
            bad.append(BadClick(index, click.click_id, errors))
        else:
            good.append(click)
    return good, bad, len(clicks)


def _one_by_one(body: bytes, window: Window) -> tuple[Sequence[Click], Sequence[BadClick], int]:
    try:
        raws = _raw_many.decode(body).clicks
    except msgspec.ValidationError as error:
        raise BadRequest(
            "The body must be an object with a list of clicks.", {"clicks": [str(error)]}
        ) from error
    _require_length(len(raws))
    good: list[Click] = []
    bad: list[BadClick] = []
    for index, raw in enumerate(raws):
        try:
            click = _one.decode(raw)
            errors = _errors_of(click, window)
        except _UNREADABLE:
            given = _anything(raw)
            bad.append(BadClick(index, _id_of(given), _explain(given, window)))
            continue
        if errors:
            bad.append(BadClick(index, click.click_id, errors))
        else:
            good.append(click)
    return good, bad, len(raws)


def _require_length(length: int) -> None:
    if not 0 < length <= MAX_CLICKS:
        raise BadRequest(
            f"A batch has 1 to {MAX_CLICKS:,} clicks.", {"clicks": [f"Has {length:,}."]}
        )


def _id_of(given: Any) -> str | None:
    found = given.get("click_id") if isinstance(given, dict) else None
    return found[:MAX_ID_LENGTH] if isinstance(found, str) else None


def _errors_of(click: Click, window: Window) -> FieldErrors:
    """Check what types do not say; the offer's number is put in place of its digits."""
    errors: dict[str, Any] = {}
    offer_id = click.offer_id
    if isinstance(offer_id, str):
        is_number = offer_id.isascii() and offer_id.isdigit() and len(offer_id) <= 19
        click.offer_id = offer_id = int(offer_id) if is_number else 0
    if not 0 < offer_id <= MAX_BIGINT:
        errors["offer_id"] = ["Must be a positive whole number of 64 bits."]
    for name in ("click_id", "source", "signature"):
        text = getattr(click, name)
        # What is printable holds no control character: the common case is told at once.
        if text and not text.isprintable() and has_control_characters(text):
            errors[name] = ["Must be valid Unicode without control characters."]
    if not window.oldest <= click.timestamp <= window.newest:
        errors["timestamp"] = [_why_not(click.timestamp, window)]
    if not window.covers(click.source):
        errors["source"] = ["Must be signed with the secret of this source."]
    return errors


def _why_not(moment: datetime, window: Window) -> str:
    if moment > window.newest:
        return "Lies more than 5 minutes in the future."
    return f"Is older than {get_settings().click_max_age_days} days."


def _explain(given: Any, window: Window) -> FieldErrors:
    """Return what is wrong with something that is no click, for every field."""
    if not isinstance(given, dict):
        return {"click": ["Must be a JSON object."]}
    errors: dict[str, Any] = {
        name: ["Missing data for required field."] for name in _NEEDED if name not in given
    }
    fields: dict[str, Any] = {}
    for name, kind in _FIELDS.items():
        if name in given:
            try:
                fields[name] = msgspec.convert(given[name], kind)
            except (msgspec.ValidationError, OverflowError) as error:
                errors[name] = [str(error)]
    if not errors:
        return _errors_of(Click(**fields), window)
    return dict(sorted(errors.items()))
