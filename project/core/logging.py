"""Structured logs with a request id, and nothing secret in them."""

import logging
import re
import sys
from collections.abc import Mapping, MutableMapping
from typing import Any

import psycopg
import structlog

from project.config.kernel import CoreSettings

SECRET_NAMES = re.compile(
    r"token|secret|password|authorization|api_key|receipt|signature|email|msisdn|phone|\bcard", re.I
)
SECRET_VALUES = re.compile(
    r"\b(?:pk|ct|whsec|co)_[A-Za-z0-9_\-+/=]{8,}"
    r"|\$argon2\S+"
    r"|(?<![\w.+-])[\w.+-]+@[\w-]+(?:\.[\w-]+)+"
)
URL_PASSWORD = re.compile(r"(://[^:/@\s]*:)[^@/\s]+@")
URL_PARAMETER = re.compile(
    r"([?&][\w-]*(?:token|secret|password|key|receipt|signature)[\w-]*=)[^&\s'\"]+", re.I
)
QUOTED = re.compile(r'".*"', re.DOTALL)
# Postgres quotes the value in the sentences of these classes: data, its casts, our own RAISE.
CLASSES_WITH_VALUES = ("22", "P0")


def configure(settings: CoreSettings) -> None:
    """Send the product's and its libraries' logs to standard error, one line an event."""
    # Whoever prints an error of the driver asks it for its text: our logs, RQ, a crash.
    type.__setattr__(psycopg.Error, "__str__", without_values)
    type.__setattr__(psycopg.Error, "__repr__", _named_without_values)
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        hide_secrets,
    ]
    renderer: Any = (
        structlog.processors.JSONRenderer()
        if settings.log_format == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.log_level)
    for noisy in ("rq.worker", "alembic", "flask-limiter", "asyncio"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def hide_secrets(
    _logger: Any, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """Replace what must never be in a log: by the field's name, and by the look of the value."""
    for name, value in event.items():
        event[name] = _safe("" if name == "event" else name, value)
    return event


def without_values(error: psycopg.Error) -> str:
    """Return what the server said, but not its details, contexts and quoted values.

    The rows, keys and lines that those show are still in `error.diag`, for code that needs them.
    """
    sentence = error.diag.message_primary
    if sentence is None:
        return Exception.__str__(error)
    if (error.diag.sqlstate or "").startswith(CLASSES_WITH_VALUES):
        sentence = QUOTED.sub("[hidden]", sentence)
    return sentence


def _named_without_values(error: psycopg.Error) -> str:
    return f"{type(error).__name__}({without_values(error)!r})"


def _safe(name: str, value: Any) -> Any:
    if SECRET_NAMES.search(name):
        return "[hidden]"
    if isinstance(value, str):
        value = URL_PASSWORD.sub(r"\1[hidden]@", value)
        value = URL_PARAMETER.sub(r"\1[hidden]", value)
        return SECRET_VALUES.sub("[hidden]", value)
    if isinstance(value, Mapping):
        return {key: _safe(str(key), inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_safe("", inner) for inner in value]
    return value
