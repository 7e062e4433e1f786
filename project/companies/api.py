"""The routes of the companies."""

from flask import Flask

from project.companies.routes import blueprint, check_at_once
from project.core import fast_path
from project.core.http.api import rest_api


def register(app: Flask) -> None:
    """Serve the companies' routes."""
    rest_api.register_blueprint(blueprint)
    for method in ("GET", "POST"):
        fast_path.add(app, method, "/api/companies/check", check_at_once)
