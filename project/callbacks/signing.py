"""Signatures as Standard Webhooks 1.0 asks for them: headers webhook-id, -timestamp, -signature."""

import base64
import hashlib
import hmac
import secrets
from collections.abc import Sequence
from datetime import datetime

from project.core.secrets import same_as_any

SECRET_PREFIX = "whsec_"
SECRET_BYTES = 32


def new_signing_secret() -> str:
    """Return a random secret in the standard's spelling: `whsec_` and base64."""
    return SECRET_PREFIX + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()


def signing_headers(
    message_id: str, body: bytes, secrets_in_force: Sequence[str], sent_at: datetime
) -> dict[str, str]:
    """Return the headers for a message; each secret in force adds its signature."""
    timestamp = int(sent_at.timestamp())
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(_signatures(message_id, timestamp, body, secrets_in_force)),
    }


def is_signed(
    message_id: str, timestamp: int, body: bytes, signature: str, secrets_in_force: Sequence[str]
) -> bool:
    """Tell whether one of the secrets made this signature of a message."""
    return same_as_any(signature, _signatures(message_id, timestamp, body, secrets_in_force))


def _signatures(
    message_id: str, timestamp: int, body: bytes, secrets_in_force: Sequence[str]
) -> list[str]:
    """Return the signature that each secret makes of a message."""
    signed = b".".join((message_id.encode(), str(timestamp).encode(), body))
    return [f"v1,{_signature(secret, signed)}" for secret in secrets_in_force]


def _signature(secret: str, signed: bytes) -> str:
    key = base64.b64decode(secret.removeprefix(SECRET_PREFIX))
    return base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()
