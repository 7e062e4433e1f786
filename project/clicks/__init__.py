"""Clicks: taken by webhook, counted once, reported by offer and source, handed to finance."""

from flask import Flask

from project.clicks import queries
from project.clicks.exports import finance
from project.clicks.exports import queries as exports_queries
from project.clicks.exports.routes import blueprint as exports_blueprint
from project.clicks.intake.routes import ACCEPTED, take_many, take_one
from project.clicks.intake.routes import blueprint as intake
from project.clicks.reports.routes import blueprint as reports_blueprint
from project.core import fast_path
from project.core.http import health
from project.core.http.api import rest_api
from project.core.work import probes


def register(app: Flask) -> None:
    """Serve the routes of the clicks and watch what waits."""
    for blueprint in (intake, reports_blueprint, exports_blueprint):
        rest_api.register_blueprint(blueprint)
    fast_path.add(app, "POST", "/api/webhook/clicks", take_one, ACCEPTED)
    fast_path.add(app, "POST", "/api/webhook/clicks/batch", take_many, ACCEPTED)
    probes.watch(probes.DueProbe("clicks", queries.oldest_waiting_at))
    probes.watch(probes.DueProbe("click-exports", exports_queries.oldest_due_at))
    health.watch_service(health.ServiceProbe("finance", finance.ask_health))
