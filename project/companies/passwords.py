"""Passwords: argon2id, long enough, and none of the common ones."""

import hashlib
from functools import cache
from typing import Any

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from marshmallow import ValidationError

from project.companies.emails import normalised_email
from project.core.lazy_module import LazyModule

frequency_lists: Any = LazyModule("zxcvbn.frequency_lists")

MIN_LENGTH = 10
MAX_LENGTH = 200
# RFC 9106, the second recommended option: 64 MiB, for servers that hash many at once.
_hasher = PasswordHasher(time_cost=3, memory_cost=65_536, parallelism=1)
# Verified against when there is no such account, so that the answer takes as long. Nobody has its
# password: its salt and its hash are random bytes.
_DUMMY_HASH = (
    "$argon2id$v=19$m=65536,t=3,p=1$k7WKiecBVQ5GMC2K+lHKWQ"
    "$nTVkWTaJmbTRrdHJsxeOcz1s6hgp//9zTtEvWNOJRxw"
)


def check_password(password: str) -> None:
    """Raise ValidationError for a password that is too short, too long or too common."""
    if len(password) < MIN_LENGTH:
        raise ValidationError(f"Must have at least {MIN_LENGTH} characters.")
    if len(password) > MAX_LENGTH:
        raise ValidationError(f"Must have at most {MAX_LENGTH} characters.")
    if is_common(password):
        raise ValidationError("Is one of the most common passwords.")


def is_common(password: str) -> bool:
    """Tell whether it is a common password, or one repeated or lengthened by digits."""
    plain = password.lower()
    stem = plain.rstrip("0123456789!?.")
    halves = plain[: len(plain) // 2], plain[len(plain) // 2 :]
    common = _common_passwords()
    return (
        plain in common
        or len(set(plain)) <= 3
        or stem in common
        or (halves[0] == halves[1] and halves[0] in common)
    )


@cache
def _common_passwords() -> frozenset[str]:
    return frozenset(frequency_lists.FREQUENCY_LISTS["passwords"])


def account_key(email: str) -> str:
    """Return what an account's logins are counted under: any text, also one that is no email."""
    plain = normalised_email(email).encode("utf-8", "surrogatepass")
    return hashlib.sha256(plain).hexdigest()


def hash_password(password: str) -> str:
    """Return the argon2id hash that is kept."""
    return _hasher.hash(password)


def is_password(password: str, password_hash: str | None) -> bool:
    """Tell whether it is the password; takes as long when there is no account."""
    try:
        matches = _hasher.verify(password_hash or _DUMMY_HASH, password)
    except (VerificationError, InvalidHashError):
        return False
    return matches and password_hash is not None
