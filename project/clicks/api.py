"""The routes of the clicks."""

from flask import Flask

from project.clicks.exports import finance
from project.clicks.exports.routes import blueprint as exports_blueprint
from project.clicks.intake.routes import ACCEPTED, take_many, take_one
from project.clicks.intake.routes import blueprint as intake
from project.clicks.reports.routes import blueprint as reports_blueprint
from project.core import fast_path
from project.core.http import health
from project.core.http.api import rest_api


def register(app: Flask) -> None:
    """Serve the routes of the clicks, and watch the finance service."""
    for blueprint in (intake, reports_blueprint, exports_blueprint):
        rest_api.register_blueprint(blueprint)
    fast_path.add(app, "POST", "/api/webhook/clicks", take_one, ACCEPTED)
    fast_path.add(app, "POST", "/api/webhook/clicks/batch", take_many, ACCEPTED)
    health.watch_service(health.ServiceProbe("finance", finance.ask_health))
