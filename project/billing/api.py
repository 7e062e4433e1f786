"""The routes of billing, and its troubles that the health check tells of."""

from flask import Flask

from project.billing import cases, installation
from project.billing.packages.routes import blueprint as packages
from project.billing.payments.routes import blueprint as payments
from project.billing.reconciliation.routes import blueprint as reconciliation
from project.billing.subscriptions.routes import blueprint as subscriptions
from project.core.http import health
from project.core.http.api import rest_api


def register(_app: Flask) -> None:
    """Serve the billing routes and tell of what is held back."""
    for blueprint in (packages, subscriptions, payments, reconciliation):
        rest_api.register_blueprint(blueprint)
    health.warn_of("charges_held", installation.hold_reason)
    health.warn_of("charges_not_taken", cases.rejection_reason)
