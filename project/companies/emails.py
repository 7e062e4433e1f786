"""Email addresses: what looks the same is the same account."""

import unicodedata

from marshmallow import ValidationError

INVISIBLE = ("Cf", "Mn", "Me")
"""Categories of Unicode: format characters, such as a space of no width, and lone marks."""
HAN = ("CJK", "HIRAGANA", "KATAKANA")


def normalised_email(written: str) -> str:
    """Return the address as it is kept: composed (NFKC), nothing invisible, in small letters."""
    composed = unicodedata.normalize("NFKC", written)
    visible = "".join(one for one in composed if unicodedata.category(one) not in INVISIBLE)
    return unicodedata.normalize("NFKC", visible.strip().casefold())


def require_one_script(email: str) -> None:
    """Raise ValidationError for letters of several scripts: an а of Cyrillic is no Latin a."""
    if email.isascii():
        return
    scripts = {_script(one) for one in email if one.isalpha()}
    if len(scripts) > 1:
        raise ValidationError("Must not mix letters of several scripts.")


def _script(letter: str) -> str:
    first = unicodedata.name(letter, "UNKNOWN").split()[0].split("-")[0]
    return HAN[0] if first in HAN else first
