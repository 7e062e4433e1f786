"""Whose webhook is it: an HMAC-SHA256 over the raw body, compared in constant time."""

import hmac
import time
from collections.abc import Iterable, Mapping

from project.clicks.intake import sources
from project.config import get_settings
from project.core.errors import Unauthorized

HEADER = "X-Signature"
PREFIX = "sha256="
SOURCES_KEPT_SECONDS = 5.0

_kept: tuple[float, Mapping[str, str]] = (-SOURCES_KEPT_SECONDS, {})


def signature_of(secret: str, body: bytes) -> str:
    """Return what X-Signature says of a body, as GitHub writes it: sha256=<hex>."""
    return PREFIX + hmac.digest(secret.encode(), body, "sha256").hex()


def is_signed_by(given: str, secrets: Iterable[str], body: bytes) -> bool:
    """Tell whether one of the secrets signed the body; all are tried, whichever fits."""
    written = given.encode("utf-8", "surrogatepass")
    fits = False
    for secret in secrets:
        fits |= hmac.compare_digest(written, signature_of(secret, body).encode())
    return fits


class Signature:
    """A given signature: the common secret's, or that of a source with a secret of its own."""

    def __init__(self, given: str | None, body: bytes) -> None:
        if not given:
            raise Unauthorized(f"Send {HEADER}: {PREFIX}<hex HMAC-SHA256 of the raw body>.")
        self._given = given
        self._body = body
        self.is_common = is_signed_by(given, get_settings().webhook_secrets, body)
        self._own = own_secrets()

    def require_any(self) -> None:
        """Raise Unauthorized unless some secret of ours made it, before the body is read."""
        if not self.is_common and not is_signed_by(self._given, self._own.values(), self._body):
            raise Unauthorized(f"{HEADER} does not fit the body.")

    def covers(self, source: str) -> bool:
        """Tell whether it stands for clicks of this source."""
        secret = self._own.get(source)
        if secret is None:
            return self.is_common
        return is_signed_by(self._given, [secret], self._body)


def own_secrets() -> Mapping[str, str]:
    """Return the secrets of the sources that have their own, at most five seconds old."""
    global _kept
    asked_at, known = _kept
    if time.monotonic() - asked_at >= SOURCES_KEPT_SECONDS:
        known = sources.own_secrets()
        _kept = (time.monotonic(), known)
    return known


def forget_sources() -> None:
    """Look the sources up anew at the next webhook."""
    global _kept
    _kept = (-SOURCES_KEPT_SECONDS, {})
