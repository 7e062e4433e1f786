"""The routes of the mobile apps."""

from flask import Flask

from project.core import fast_path
from project.core.http.api import rest_api
from project.mobile.apps.routes import blueprint as apps
from project.mobile.devices.routes import blueprint as devices
from project.mobile.purchases.routes import blueprint as purchases
from project.mobile.purchases.routes import check_at_once
from project.mobile.reports.routes import blueprint as reports


def register(app: Flask) -> None:
    """Serve the mobile routes."""
    for blueprint in (apps, devices, purchases, reports):
        rest_api.register_blueprint(blueprint)
    fast_path.add(app, "POST", "/api/purchase/check", check_at_once)
