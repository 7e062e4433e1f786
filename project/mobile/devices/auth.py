"""The device's credential: its client-token, in the body or in a header."""

from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, TypeVar

from flask import g, request

from project.core.db.transaction import transaction
from project.core.errors import Unauthorized
from project.core.http.auth import Credential, act_as, requires
from project.core.http.input import read_body
from project.mobile.devices.service import authenticate_device, unknown_token
from project.mobile.models import MAX_TOKEN_LENGTH

HEADER = "X-Client-Token"
FIELDS = ("client-token", "client_token")
View = TypeVar("View", bound=Callable[..., Any])


def device(view: View) -> View:
    """Take the client-token into `g.client_token`; without one, answer 401.

    Whether it is known is asked in the transaction that uses it.
    """

    @wraps(view)
    def guarded(*args: Any, **kwargs: Any) -> Any:
        g.client_token = given_token(read_body(request), request.headers.get(HEADER))
        return view(*args, **kwargs)

    return requires(Credential.DEVICE)(guarded)  # type: ignore[return-value]


def known_device(view: View) -> View:
    """Answer 401 unless the client-token is in force, before a kept answer is given to it."""

    @wraps(view)
    def guarded(*args: Any, **kwargs: Any) -> Any:
        with transaction(read_only=True):
            device = authenticate_device(g.client_token)
        act_as("device", device.id)
        return view(*args, **kwargs)

    return guarded  # type: ignore[return-value]


def given_token(body: Mapping[str, Any], header: str | None) -> str:
    """Return the token in the body, or else in the header. Raises Unauthorized."""
    given = [body[name] for name in FIELDS if name in body]
    token = given[0] if given else header
    if token is None or token == "":
        raise Unauthorized(
            "Send the client-token in the body, or in the header X-Client-Token.",
            {"client-token": ["Missing."]},
        )
    if not isinstance(token, str) or len(token) > MAX_TOKEN_LENGTH:
        raise unknown_token()
    return token
