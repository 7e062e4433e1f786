"""Clicks: taken by webhook, counted once, reported by offer and source, handed to finance."""

from flask import Flask

from project.clicks import models
from project.clicks.reports.routes import blueprint as reports_blueprint
from project.core.api import rest_api

__all__ = ["models"]


def register(_app: Flask) -> None:
    """Serve the routes of the clicks."""
    rest_api.register_blueprint(reports_blueprint)
