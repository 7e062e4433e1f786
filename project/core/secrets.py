"""How secrets are made, hashed, compared and encrypted."""

import base64
import hashlib
import hmac
import secrets
from collections.abc import Iterable

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from project.config.environment import get_settings
from project.config.kernel import CoreSettings


def new_token(prefix: str) -> str:
    """Return a random token of 256 bits with a prefix that tells people what it is."""
    return f"{prefix}_{secrets.token_urlsafe(32)}"


def token_hash(token: str) -> bytes:
    """Return the SHA-256 that is kept in the token's place: tokens are random, so no salt."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


def same(one: str, other: str) -> bool:
    """Compare two secrets in constant time."""
    return hmac.compare_digest(one.encode("utf-8", "surrogatepass"), other.encode("utf-8"))


def same_as_any(given: str, others: Iterable[str]) -> bool:
    """Tell whether a text is one of several secrets; all are compared, whichever fits."""
    found = False
    for other in others:
        found |= same(given, other)
    return found


def encrypt(text: str) -> bytes:
    """Encrypt with the first SECRET_KEY."""
    return _cipher().encrypt(text.encode())


def decrypt(sealed: bytes) -> str:
    """Decrypt with any of the SECRET_KEYs. Raises InvalidToken if none of them fits."""
    return _cipher().decrypt(sealed).decode()


_ciphers: dict[tuple[str, ...], MultiFernet] = {}


def _cipher() -> MultiFernet:
    keys = get_settings(CoreSettings).secret_keys
    if keys not in _ciphers:
        _ciphers[keys] = MultiFernet([Fernet(_derive(key)) for key in keys])
    return _ciphers[keys]


def _derive(secret_key: str) -> bytes:
    return base64.urlsafe_b64encode(
        hashlib.sha256(b"perennial/encrypt/" + secret_key.encode()).digest()
    )


__all__ = ["InvalidToken", "decrypt", "encrypt", "new_token", "same", "token_hash"]
