"""Values as spreadsheets and their users write them, made plain; what is plain already is quick."""

import re
from collections.abc import Sequence

_INVISIBLE = re.compile("[\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff\x1a]")
_NOTHING = re.compile("[\\s\\x00]*")
_AS_TEXT = re.compile(r'="(.*)"')
_WHOLE = re.compile(r"([+-]?[0-9]+)[.,]0+")
_BETWEEN_DIGITS = re.compile(r"[\s()/\u2010-\u2015-]+")
_MINUS = re.compile(r"\W*[-\u2010-\u2015\u2212]")
_SHORTENED = re.compile(r"[0-9]+([.,][0-9]+)?[eE]\+?[0-9]+")


def bare(value: str) -> str:
    """Return a value without what nobody sees, and without what keeps a spreadsheet off it."""
    value = _INVISIBLE.sub("", value).strip()
    quoted = _AS_TEXT.fullmatch(value)
    return quoted[1].strip() if quoted else value.removeprefix("'")


def is_blank(row: Sequence[str]) -> bool:
    """Tell whether nothing stands in any field of a row."""
    if not any(row):
        return True
    return (
        not row[0][:1].isalnum()
        and _NOTHING.fullmatch(_INVISIBLE.sub("", "".join(row))) is not None
    )


def whole(value: str) -> str:
    """Return the digits of a whole number: 7 of 7.0, as it is written where a cell was empty."""
    value = bare(value)
    found = _WHOLE.fullmatch(value)
    return found[1] if found else value


def phone_number(value: str) -> str:
    """Return a number without what people and spreadsheets put between and around its digits.

    A dash before all of them is a minus: what a spreadsheet has worked out is no phone number.
    """
    value = whole(value)
    if _MINUS.match(value):
        return value
    value = _BETWEEN_DIGITS.sub("", value)
    digits = value.removeprefix("+")
    return digits[2:] if digits.startswith("00") else value


def is_shortened(value: str) -> bool:
    """Tell whether a spreadsheet has kept only some digits of a long number: 9.05E+11."""
    return _SHORTENED.fullmatch(bare(value)) is not None


def decimal(value: str) -> str:
    """Return a number with a decimal point where it has a comma, and a plain minus sign."""
    value = bare(value).replace("\u2212", "-")
    return value.replace(",", ".") if value.count(",") == 1 and "." not in value else value
