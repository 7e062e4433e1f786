"""Telling others what happened: signed callbacks, retried and replayed, never lost."""

from flask import Flask

from project.callbacks import queries
from project.callbacks.routes import blueprint
from project.core.http.api import rest_api
from project.core.work import probes


def register(_app: Flask) -> None:
    """Serve the callbacks' routes and watch what is due."""
    rest_api.register_blueprint(blueprint)
    probes.watch(probes.DueProbe("callbacks", queries.oldest_due_at))
