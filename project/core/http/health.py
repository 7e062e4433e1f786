"""Is it alive, is it ready, and what is late: for supervisors, load balancers and people."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from flask import Flask
from marshmallow import Schema, fields
from redis import RedisError
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from project.config.environment import get_settings
from project.config.kernel import WorkSettings
from project.core import clock, fast_path
from project.core.db.migrations import current_revision, head_revision
from project.core.db.transaction import own_transactions, transaction
from project.core.fast_path import Call
from project.core.http.api import Blueprint, rest_api
from project.core.http.auth import public
from project.core.work.probes import due_probes
from project.core.work.queues import count_live_workers
from project.extensions import db, redis_client

blueprint = Blueprint(
    "health",
    __name__,
    description="Alive, ready, and what is late; the same answers under /health.",
)
Part = dict[str, Any]
ASK_SERVICES_EVERY_SECONDS = 15.0
ALIVE: Part = {"status": "ok"}


class HealthSchema(Schema):
    """The state of the whole (ok, degraded, down) and of every part."""

    status = fields.String(required=True)
    parts = fields.Dict(keys=fields.String(), values=fields.Dict())
    services = fields.Dict(keys=fields.String(), values=fields.Dict())


@dataclass
class ServiceProbe:
    """An outside service and how it is asked for its health: {status: ok|down, error}.

    However often people look, it is asked at most once in `every_seconds`, by one of them.
    """

    name: str
    ask: Callable[[], Part]
    every_seconds: float = ASK_SERVICES_EVERY_SECONDS
    _known: Part | None = None
    _asked_at: float = 0.0
    _asking: threading.Lock = field(default_factory=threading.Lock)

    def state(self) -> Part:
        """Return what the service said the last time; `unknown` before its first answer."""
        if self._is_old() and self._asking.acquire(blocking=False):
            try:
                self._known = self.ask()
                self._asked_at = time.monotonic()
            finally:
                self._asking.release()
        return self._known or {"status": "unknown"}

    def _is_old(self) -> bool:
        return self._known is None or time.monotonic() - self._asked_at >= self.every_seconds


_services: dict[str, ServiceProbe] = {}
_troubles: dict[str, Callable[[], str | None]] = {}


def watch_service(probe: ServiceProbe) -> None:
    """Have `GET /api/health` tell of an outside service; ours is well without it."""
    _services[probe.name] = probe


def warn_of(name: str, trouble: Callable[[], str | None]) -> None:
    """Have `GET /api/health` be degraded, with a part of this name, while there is a trouble."""
    _troubles[name] = trouble


def register(app: Flask) -> None:
    """Serve the health checks under /api/health and, undocumented, /health."""
    rest_api.register_blueprint(blueprint, url_prefix="/api/health")
    app.register_blueprint(blueprint, url_prefix="/health", name="health_short")
    for path in ("/api/health/live", "/health/live"):
        fast_path.add(app, "GET", path, live)


@blueprint.get("")
@public
@blueprint.response(200, HealthSchema)
@blueprint.alt_response(503, schema=HealthSchema, description="The API cannot serve.")
@own_transactions
def show_health() -> tuple[Part, int]:
    """Tell the state of every part."""
    parts = {
        "database": _database(),
        "redis": _redis(),
        "migrations": _migrations(),
        "workers": _workers(),
        "due": _due(),
        **_told_troubles(),
    }
    vital = parts["database"]["status"] == "ok" and parts["migrations"]["status"] == "ok"
    well = all(part["status"] == "ok" for part in parts.values())
    status = "ok" if well else "degraded" if vital else "down"
    services = {name: service.state() for name, service in _services.items()}
    answer = {"status": status, "parts": parts, "services": services}
    return answer, 200 if vital else 503


@blueprint.get("/live")
@public
@blueprint.response(200, HealthSchema)
@own_transactions
def show_live() -> Part:
    """Answer as long as the process does."""
    return ALIVE


async def live(_call: Call) -> Part:
    """Do the same on the event loop, whatever the threads are doing."""
    return ALIVE


@blueprint.get("/ready")
@public
@blueprint.response(200, HealthSchema)
@blueprint.alt_response(503, schema=HealthSchema, description="The API cannot serve yet.")
@own_transactions
def show_ready() -> tuple[Part, int]:
    """Answer 200 when requests can be served: the database is there and migrated."""
    parts = {"database": _database(), "migrations": _migrations()}
    ready = all(part["status"] == "ok" for part in parts.values())
    return {"status": "ok" if ready else "down", "parts": parts}, 200 if ready else 503


def _database() -> Part:
    try:
        with transaction():
            db.session.execute(text("SELECT 1"))
    except SQLAlchemyError as error:
        return {"status": "down", "error": type(error).__name__}
    return {"status": "ok"}


def _redis() -> Part:
    try:
        redis_client().ping()
    except RedisError as error:
        return {"status": "down", "error": type(error).__name__}
    return {"status": "ok"}


def _migrations() -> Part:
    try:
        found = current_revision()
    except SQLAlchemyError as error:
        return {"status": "down", "error": type(error).__name__}
    wanted = head_revision()
    return {"status": "ok" if found == wanted else "down", "current": found, "head": wanted}


def _workers() -> Part:
    wanted = get_settings(WorkSettings).workers
    try:
        alive = count_live_workers()
    except RedisError as error:
        return {"status": "unknown", "expected": wanted, "error": type(error).__name__}
    return {"status": "ok" if alive >= wanted else "degraded", "alive": alive, "expected": wanted}


def _told_troubles() -> dict[str, Part]:
    """Return a part for each trouble that there is; a database that is away has a part already."""
    try:
        with transaction(read_only=True):
            found = {name: trouble() for name, trouble in _troubles.items()}
    except SQLAlchemyError:
        return {}
    return {name: {"status": "degraded", "error": why} for name, why in found.items() if why}


def _due() -> Part:
    try:
        with transaction():
            oldest = {probe.name: probe.oldest_due_at() for probe in due_probes()}
        now = clock.now()
    except SQLAlchemyError as error:
        return {"status": "unknown", "error": type(error).__name__}
    return {
        "status": "ok",
        "oldest": {
            name: None
            if due_at is None or due_at > now
            else {
                "due_at": due_at.isoformat(),
                "late_seconds": round((now - due_at).total_seconds()),
            }
            for name, due_at in oldest.items()
        },
    }
