"""The whole application: what commands run in, and the REST API of every domain."""

from flask import Flask

from project import background
from project.billing import api as billing
from project.callbacks import api as callbacks
from project.cli import create_command_app
from project.clicks import api as clicks
from project.companies import api as companies
from project.core import errors, fast_path
from project.core.http import api, clock_routes, health, limiter
from project.mobile import api as mobile
from project.weather import api as weather

__all__ = ["background", "create_app"]

PARTS = (health, clock_routes, callbacks, mobile, billing, companies, clicks, weather)


def create_app() -> Flask:
    """Build the application from the settings in the environment.

    Raises ConfigurationError, with a sentence for people, when a setting cannot be used.
    """
    app = create_command_app()
    fast_path.register(app)
    limiter.register(app)
    api.register(app)
    errors.register(app)
    for part in PARTS:
        part.register(app)
    api.document(app)
    return app
