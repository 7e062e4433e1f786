"""Taking credentials out of what people set, before anybody sees it."""

import re

HIDDEN = "***"
_PARAMETER = re.compile(r"(\w*(?:pass|pw|secret|token|key|auth|sign?)\w*=)[^&;#\s]+", re.IGNORECASE)


def without_credentials(text: str) -> str:
    """Return a URL, or what should have been one, without its password and secret parameters.

    The user stays where there is a password besides; alone it may itself be a token.
    """
    head, at, host = text.rpartition("@")
    if at:
        scheme, colon, credentials = head.partition("://") if "://" in head else ("", "", head)
        user, separator, _ = credentials.partition(":")
        if separator:
            user = f"{user}:{HIDDEN}"
        elif not scheme.startswith("postgres"):
            user = HIDDEN
        text = f"{scheme}{colon}{user}@{host}"
    return _PARAMETER.sub(rf"\1{HIDDEN}", text)
