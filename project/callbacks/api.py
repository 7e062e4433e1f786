"""The routes of the callbacks."""

from flask import Flask

from project.callbacks.routes import blueprint
from project.core.http.api import rest_api


def register(_app: Flask) -> None:
    """Serve the routes of the callbacks."""
    rest_api.register_blueprint(blueprint)
