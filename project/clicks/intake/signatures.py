"""Whose webhook is it: an HMAC-SHA256 over the raw body, compared in constant time."""

import hmac
from collections.abc import Iterable, Mapping

from werkzeug.exceptions import UnsupportedMediaType

from project.clicks.intake import sources
from project.clicks.settings import ClickSettings
from project.config.environment import get_settings
from project.core.errors import Unauthorized
from project.core.fast_path import Call
from project.core.loop import Cached
from project.core.secrets import same_as_any

HEADER = "X-Signature"
PREFIX = "sha256="
SOURCES_KEPT_SECONDS = 5.0


def signature_of(secret: str, body: bytes) -> str:
    """Return what X-Signature says of a body, as GitHub writes it: sha256=<hex>."""
    return PREFIX + hmac.digest(secret.encode(), body, "sha256").hex()


def is_signed_by(given: str, secrets: Iterable[str], body: bytes) -> bool:
    """Tell whether one of the secrets signed the body; all are tried, whichever fits."""
    return same_as_any(given, (signature_of(secret, body) for secret in secrets))


class Signature:
    """A verified signature: the common secret's, or that of a source with a secret of its own.

    Raises Unauthorized unless some secret of ours made it.
    """

    def __init__(self, given: str | None, body: bytes, own: Mapping[str, str]) -> None:
        if not given:
            raise Unauthorized(f"Send {HEADER}: {PREFIX}<hex HMAC-SHA256 of the raw body>.")
        self._given = given
        self._body = body
        self.is_common = is_signed_by(
            given, get_settings(ClickSettings).click_webhook_secrets, body
        )
        self._own = own
        if not self.is_common and not is_signed_by(given, own.values(), body):
            raise Unauthorized(f"{HEADER} does not fit the body.")

    def covers(self, source: str) -> bool:
        """Tell whether it stands for clicks of this source."""
        secret = self._own.get(source)
        if secret is None:
            return self.is_common
        return is_signed_by(self._given, [secret], self._body)


async def verify(call: Call) -> Signature:
    """Return whose call it is, before anything in its body is read.

    Raises Unauthorized, and UnsupportedMediaType if a signed body is not JSON.
    """
    signature = Signature(call.header(HEADER), call.body, await own_secrets.get())
    if not call.is_json:
        raise UnsupportedMediaType
    return signature


own_secrets = Cached(sources.own_secrets, SOURCES_KEPT_SECONDS)
"""The secrets of the sources that have their own, at most five seconds old."""
