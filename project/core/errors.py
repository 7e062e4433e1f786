"""One way to report an error: RFC 9457 problem documents, written for people."""

import json
from collections.abc import Mapping
from http import HTTPStatus
from itertools import islice
from typing import Any

import psycopg
import structlog
from flask import Flask, Response, g, request
from marshmallow import ValidationError
from psycopg.errors import ProgramLimitExceeded
from sqlalchemy.exc import DBAPIError, PendingRollbackError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from werkzeug.exceptions import HTTPException

from project.config.environment import get_settings
from project.config.kernel import CoreSettings

log = structlog.get_logger()

PROBLEM_JSON = "application/problem+json"
RETRY_AFTER_SECONDS = 5
SHOWN_ERRORS = 20
SHOWN_CHARACTERS = 500
"""Of a name or a sentence in an answer."""
FieldErrors = Mapping[str, Any]
DATABASE_ERRORS = (
    DBAPIError,
    psycopg.Error,
    PoolTimeout,
    PendingRollbackError,
    UnicodeEncodeError,
)
"""What the database, its driver and its pool raise, also where SQLAlchemy does not stand between;
the last is the driver's word for a text that is no Unicode."""
UNUSABLE_VALUE = (psycopg.DataError, ProgramLimitExceeded, UnicodeEncodeError)


class AppError(Exception):
    """An expected error; the subclass states its status, the instance what was wrong.

    `is_outcome`: it is what the request came to, and stays it when the request is sent again.
    """

    status = HTTPStatus.INTERNAL_SERVER_ERROR
    title = "Internal error"
    is_outcome = False

    def __init__(
        self,
        detail: str,
        errors: FieldErrors | None = None,
        *,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.errors = errors
        self.headers = dict(headers or {})


class BadRequest(AppError):
    """The input cannot be used as it is."""

    status = HTTPStatus.BAD_REQUEST
    title = "Bad request"


class Unauthorized(AppError):
    """No credential, or one that is not known."""

    status = HTTPStatus.UNAUTHORIZED
    title = "Not authenticated"


class PaymentRequired(AppError):
    """The store or the payment provider refused."""

    status = HTTPStatus.PAYMENT_REQUIRED
    title = "Refused"


class ChargeRefused(PaymentRequired):
    """A charge was made and refused; another one is for the customer to ask for."""

    is_outcome = True


class Forbidden(AppError):
    """A known credential that may not do this."""

    status = HTTPStatus.FORBIDDEN
    title = "Not allowed"


class NotFound(AppError):
    """There is no such thing, or not for this caller."""

    status = HTTPStatus.NOT_FOUND
    title = "Not found"


class Conflict(AppError):
    """The request contradicts what is there."""

    status = HTTPStatus.CONFLICT
    title = "Conflict"


class TooManyRequests(AppError):
    """More than the limit allows, for the moment."""

    status = HTTPStatus.TOO_MANY_REQUESTS
    title = "Too many requests"

    def __init__(self, detail: str, *, retry_after: int) -> None:
        super().__init__(detail, headers={"Retry-After": str(retry_after)})


class ServiceUnavailable(AppError):
    """Something this answer needs is away for a moment."""

    status = HTTPStatus.SERVICE_UNAVAILABLE
    title = "Service unavailable"

    def __init__(self, detail: str, *, retry_after: int = RETRY_AFTER_SECONDS) -> None:
        super().__init__(detail, headers={"Retry-After": str(retry_after)})


def problem(
    status: int,
    title: str,
    detail: str,
    errors: FieldErrors | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """Build a problem document: type, title, status, detail, errors {field: [...]}, request_id."""
    return Response(
        problem_document(status, title, detail, errors, request_id=g.get("request_id")),
        status=int(status),
        headers=dict(headers or {}),
        mimetype=PROBLEM_JSON,
    )


def problem_document(
    status: int,
    title: str,
    detail: str,
    errors: FieldErrors | None = None,
    *,
    request_id: str | None,
) -> bytes:
    """Return the body of a problem document, which needs no application around it."""
    detail, errors = _shortened(detail), _bounded(errors)
    body: dict[str, Any] = {
        "type": "about:blank",
        "title": title,
        "status": int(status),
        "detail": detail,
        "request_id": request_id,
    }
    if errors:
        body["errors"] = errors
    if "error-words" in get_settings(CoreSettings).compatibility:
        body |= {"error": detail, "message": detail, "details": errors or {}}
    # A field's name may hold half of a surrogate pair, which has no place in UTF-8.
    return json.dumps(body, ensure_ascii=False).encode("utf-8", "replace")


def _bounded(errors: Any) -> Any:
    """Return so much of the errors that an answer never grows with what was sent."""
    if isinstance(errors, Mapping):
        shown = {
            _shortened(str(name)): _bounded(said)
            for name, said in islice(errors.items(), SHOWN_ERRORS)
        }
        if len(errors) > SHOWN_ERRORS:
            shown["..."] = [f"and {len(errors) - SHOWN_ERRORS:,} more."]
        return shown
    if isinstance(errors, (list, tuple)):
        return [_bounded(said) for said in errors[:SHOWN_ERRORS]]
    return _shortened(errors) if isinstance(errors, str) else errors


def _shortened(text: str) -> str:
    return text if len(text) <= SHOWN_CHARACTERS else text[:SHOWN_CHARACTERS] + "…"


def register(app: Flask) -> None:
    """Answer every error of the application with a problem document."""
    app.register_error_handler(AppError, _app_error)
    app.register_error_handler(HTTPException, _http_error)
    for kind in DATABASE_ERRORS:
        app.register_error_handler(kind, _database_error)
    app.register_error_handler(Exception, _unexpected_error)


def _app_error(error: AppError) -> Response:
    headers = error.headers
    if error.status == HTTPStatus.UNAUTHORIZED:
        headers = {"WWW-Authenticate": 'Bearer realm="perennial"', **headers}
    return problem(error.status, error.title, error.detail, error.errors, headers)


_HTTP_DETAILS = {
    404: "There is nothing at this address. See /docs for what there is.",
    405: "This address does not take this method; the Allow header names those it takes.",
    413: "The body is larger than this service accepts.",
    415: "Send the body as application/json or as a form.",
}


def _http_error(error: HTTPException) -> Response:
    if error.code is None or error.response is not None:
        return error.get_response()  # type: ignore[return-value]
    data = getattr(error, "data", None) or {}
    errors = _field_errors(data.get("messages"))
    detail = _HTTP_DETAILS.get(error.code) or error.description or error.name
    if errors:
        detail = "The input has errors; see `errors` for each field."
    headers = {
        name: value
        for name, value in error.get_headers()
        if name.lower() not in ("content-type", "content-length")
    }
    if error.code == HTTPStatus.TOO_MANY_REQUESTS:
        detail = "Too many requests from this address. Wait a little and try again."
        headers.setdefault("Retry-After", "60")
    return problem(error.code, error.name, detail, errors, headers)


def _field_errors(messages: Any) -> FieldErrors | None:
    """Flatten webargs' {location: {field: [...]}} to {field: [...]}."""
    if not isinstance(messages, dict):
        return None
    flat: dict[str, Any] = {}
    for location, fields in messages.items():
        if isinstance(fields, dict):
            flat.update({str(field): texts for field, texts in fields.items()})
        else:
            flat[str(location)] = fields
    return flat or None


def _database_error(error: Exception) -> Response:
    """Answer what the database raised. What its messages quote is input, so none is logged."""
    cause = getattr(error, "orig", None) or error
    if isinstance(cause, UNUSABLE_VALUE):
        _log_database("database.refused_value", cause)
        return problem(400, "Bad request", "A value is outside of what can be stored.")
    if isinstance(cause, psycopg.IntegrityError):
        _log_database("database.conflict", cause)
        return problem(409, "Conflict", "This contradicts what is there, or has just been changed.")
    if isinstance(cause, psycopg.ProgrammingError):
        return _unexpected_error(error)
    _log_database("database.away", cause)
    return problem(
        503,
        "Service unavailable",
        "The database does not answer at the moment. Nothing was recorded; try again.",
        headers={"Retry-After": str(RETRY_AFTER_SECONDS)},
    )


def _log_database(event: str, cause: BaseException) -> None:
    sqlstate = getattr(cause, "sqlstate", None)
    known = getattr(cause, "diag", None)
    noted = {
        "error": type(cause).__name__,
        "sqlstate": sqlstate,
        "table": getattr(known, "table_name", None),
        "constraint": getattr(known, "constraint_name", None),
    }
    if sqlstate is None and not isinstance(cause, UNUSABLE_VALUE):
        # It never got as far as a statement: why a server cannot be reached.
        noted["reason"] = str(cause).partition("\n")[0]
    log.warning(event, path=request.path, **{k: v for k, v in noted.items() if v is not None})


def _unexpected_error(error: Exception) -> Response:
    log.error("request.failed", path=request.path, exc_info=error)
    return problem(
        500,
        "Internal error",
        "Something went wrong on our side. It has been logged under this request_id.",
    )


def first_message(error: ValidationError) -> str:
    """Return the first sentence of a validation error, for commands that print one line."""
    messages: Any = error.messages
    while isinstance(messages, (dict, list)):
        messages = next(iter(messages.values() if isinstance(messages, dict) else messages))
    return str(messages)
