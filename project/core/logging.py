"""Structured logs with a request id, and nothing secret in them."""

import logging
import re
import sys
from collections.abc import Mapping, MutableMapping
from typing import Any

import structlog

from project.config import Settings

SECRET_NAMES = re.compile(r"token|secret|password|authorization|api_key|receipt|signature", re.I)
SECRET_VALUES = re.compile(r"\b(?:pk|ct|whsec|co)_[A-Za-z0-9_\-+/=]{8,}")
URL_PASSWORD = re.compile(r"(://[^:/@\s]*:)[^@/\s]+@")


def configure(settings: Settings) -> None:
    """Send the product's and its libraries' logs to standard error, one line an event."""
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


def _safe(name: str, value: Any) -> Any:
    if SECRET_NAMES.search(name):
        return "[hidden]"
    if isinstance(value, str):
        return URL_PASSWORD.sub(r"\1[hidden]@", SECRET_VALUES.sub("[hidden]", value))
    if isinstance(value, Mapping):
        return {key: _safe(str(key), inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_safe("", inner) for inner in value]
    return value
