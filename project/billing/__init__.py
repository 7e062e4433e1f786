"""The billing engine: customers, packages, subscriptions, payments, reconciliation."""

from flask import Flask

from project.billing import cases, installation, queries
from project.billing import subscription_state as subscription_queries
from project.billing.packages.routes import blueprint as packages
from project.billing.payments.routes import blueprint as payments
from project.billing.reconciliation.routes import blueprint as reconciliation
from project.billing.subscriptions.routes import blueprint as subscriptions
from project.core.http import health
from project.core.http.api import rest_api
from project.core.work import probes


def register(_app: Flask) -> None:
    """Serve the billing routes and watch what is due."""
    for blueprint in (packages, subscriptions, payments, reconciliation):
        rest_api.register_blueprint(blueprint)
    health.warn_of("charges_held", installation.hold_reason)
    health.warn_of("charges_not_taken", cases.untaken_reason)
    probes.watch(probes.DueProbe("payments", queries.oldest_inquiry_due_at))
    probes.watch(probes.DueProbe("subscription_ends", subscription_queries.oldest_ended_at))
    probes.watch(probes.DueProbe("late_charges", queries.oldest_late_charge_due_at))
    probes.watch(probes.DueProbe("prompt_charges", queries.oldest_prompt_charge_due_at))
