"""An id for every request, which its answer and its log lines carry."""

import re

import uuid_utils.compat

_REQUEST_ID = re.compile(r"[A-Za-z0-9._\-]{8,64}")


def request_id_from(given: str) -> str:
    """Return the caller's own id, if it looks like one, or a new one."""
    return given if _REQUEST_ID.fullmatch(given) else str(uuid_utils.compat.uuid7())
