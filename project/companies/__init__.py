"""Companies that take packages: their accounts, their package, their payments."""

from flask import Flask

from project.companies import listeners
from project.companies.routes import blueprint, check_at_once
from project.core import fast_path
from project.core.http.api import rest_api

__all__ = ["listeners"]


def register(app: Flask) -> None:
    """Serve the companies' routes; importing the listeners has them hear billing's signals."""
    rest_api.register_blueprint(blueprint)
    for method in ("GET", "POST"):
        fast_path.add(app, method, "/api/companies/check", check_at_once)
