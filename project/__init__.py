"""Perennial: subscriptions from the first click to every renewal, retry and callback."""

from flask import Flask

from project import billing, callbacks, cli, clicks, companies, mobile, weather
from project.areas import check_settings
from project.config.environment import get_settings
from project.config.kernel import CoreSettings
from project.core import errors, fast_path, logging
from project.core.db import transaction
from project.core.http import api, clock_routes, health
from project.extensions import configure_extensions


def create_app() -> Flask:
    """Build the application from the settings in the environment.

    Raises ConfigurationError, with a sentence for people, when a setting cannot be used.
    """
    check_settings()
    logging.configure(get_settings(CoreSettings))
    app = transaction.TransactionalFlask("project")
    fast_path.register(app)
    configure_extensions(app)
    api.register(app)
    errors.register(app)
    for part in (health, clock_routes, callbacks, mobile, billing, companies, clicks, weather):
        part.register(app)
    api.document(app)
    cli.register(app)
    return app
