"""Clicks: taken by webhook, counted once, reported by offer and source, handed to finance."""

from flask import Flask

from project.clicks import queries
from project.clicks.intake.routes import blueprint as intake
from project.core import health
from project.core.api import rest_api


def register(_app: Flask) -> None:
    """Serve the routes of the clicks and watch what waits."""
    rest_api.register_blueprint(intake)
    health.watch(health.DueProbe("clicks", queries.oldest_waiting_at))
