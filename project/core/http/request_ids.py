"""An id for every request, which its answer and its log lines carry."""

import re

import structlog
import uuid_utils.compat

_REQUEST_ID = re.compile(r"[A-Za-z0-9._\-]{8,64}")


def is_request_id(given: str) -> bool:
    """Tell whether a caller's id looks like one."""
    return _REQUEST_ID.fullmatch(given) is not None


def new_request_id() -> str:
    """Return an id that no other request has."""
    return str(uuid_utils.compat.uuid7())


def request_id_for(given: str) -> str:
    """Return the caller's own id, if it looks like one, or a new one."""
    return given if is_request_id(given) else new_request_id()


def begin_request(given: str) -> str:
    """Have all that is logged carry the caller's own id, if it looks like one, or a new one.

    Returns that id; what an earlier request left in the context of the log is forgotten.
    """
    request_id = request_id_for(given)
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(request_id=request_id)
    return request_id
