"""How gateways prove themselves: by the secret in their callback URL, or by Twilio's signature."""

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

from flask import request

from project.config.environment import get_settings
from project.core.errors import Unauthorized
from project.core.http.auth import Credential, requires
from project.core.secrets import same
from project.weather.gateways.registry import twilio_gateways
from project.weather.settings import SmsSettings

HEADER = "X-Callback-Secret"
FIELD = "secret"
TWILIO_HEADER = "X-Twilio-Signature"
View = TypeVar("View", bound=Callable[..., Any])


def gateway(view: View) -> View:
    """Let gateways through; 401 for anybody else."""

    @wraps(view)
    def guarded(*args: Any, **kwargs: Any) -> Any:
        given = request.headers.get(HEADER) or request.args.get(FIELD, "")
        if (
            not same(given, get_settings(SmsSettings).sms_receipt_secret)
            and not _is_signed_by_twilio()
        ):
            raise Unauthorized(
                f"Send the callback secret in the header {HEADER} or as `?{FIELD}=` in the URL."
            )
        return view(*args, **kwargs)

    return requires(Credential.GATEWAY)(guarded)  # type: ignore[return-value]


def _is_signed_by_twilio() -> bool:
    """Tell whether Twilio signed it; the URL is the one that it was given, not what a proxy made.

    The path of an inbound message differs from that of receipts, the rest is the same.
    """
    signature = request.headers.get(TWILIO_HEADER)
    if not signature:
        return False
    base = get_settings(SmsSettings).sms_receipt_url
    path = request.path.rstrip("/")
    if path.endswith("/inbound"):
        base = base.rstrip("/").removesuffix("/callback") + "/inbound"
    query = request.query_string.decode("utf-8", "replace")
    url = f"{base}?{query}" if query else base
    form = request.form.to_dict()
    return any(one.is_signed(url, form, signature) for one in twilio_gateways())
