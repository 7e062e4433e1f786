"""Every command of `flask`, by where it is defined, and the application that commands run in."""

import sys
from importlib import import_module
from typing import Any

import click
from flask import Flask

from project.areas import check_settings
from project.config.declare import ConfigurationError
from project.config.environment import get_settings
from project.config.kernel import CoreSettings
from project.core import logging
from project.core.db.transaction import TransactionalFlask
from project.core.lazy_command import LazyCommand
from project.extensions import configure_extensions


class RefusedCommand(click.Command):
    """A command that cannot run, because a setting cannot be used."""

    def __init__(self, command: click.Command, error: ConfigurationError) -> None:
        super().__init__(command.name, help=command.help)
        self._sentence = f"Perennial cannot start. {error}"

    def make_context(self, *_args: Any, **_extra: Any) -> click.Context:
        """Say which setting, and end."""
        sys.exit(self._sentence)


class ActingCommand(LazyCommand):
    """A command that may bill somebody or move the clock, which concerns every domain."""

    def load(self) -> click.Command:
        """Have every domain listen, then import the command."""
        import_module("project.background")
        return super().load()


SETTINGS = "settings"
COMMANDS = (
    LazyCommand("api-key", "project.commands.api_keys:api_key_commands", "Operators' keys."),
    ActingCommand(
        "autopayments-run",
        "project.billing.commands:autopayments_run",
        "Charge every subscription whose period ends today or has ended.",
    ),
    LazyCommand(
        "callbacks-run",
        "project.callbacks.commands:callbacks_run",
        "Deliver every callback that is due.",
    ),
    ActingCommand(
        "charges",
        "project.billing.commands:charges",
        "Hold and release charges, before and after work on the database.",
    ),
    LazyCommand(
        "click-source",
        "project.clicks.commands:source_commands",
        "Sources with a secret of their own.",
    ),
    LazyCommand(
        "clicks",
        "project.clicks.commands:clicks_commands",
        "Accepted clicks: counting, what failed, pruning.",
    ),
    ActingCommand(
        "clock",
        "project.commands.clock:clock_commands",
        "Show and move the test clock (TEST_CLOCK=1).",
    ),
    LazyCommand(
        "company", "project.companies.commands:company_commands", "Companies: their passwords."
    ),
    ActingCommand("db", "project.commands.database:db_commands", "Perform database migrations."),
    ActingCommand(
        "expire-payments-run",
        "project.billing.commands:expire_payments_run",
        "Ask once more after payments that were pending too long, and expire them.",
    ),
    ActingCommand(
        "expire-subscriptions-run",
        "project.billing.commands:expire_subscriptions_run",
        "Expire subscriptions that ended three days ago and were not paid.",
    ),
    LazyCommand(
        "export-clicks",
        "project.clicks.exports.commands:export_clicks",
        "Send the clicks of DATE, such as 2026-01-31, to the finance service, also once more.",
    ),
    ActingCommand(
        "forecast-billing-run",
        "project.weather.messages.commands:forecast_billing_run",
        "Bring billing into agreement with subscribers that came, left or changed their plan.",
    ),
    ActingCommand(
        "import-legacy",
        "project.commands.legacy:legacy_commands",
        "Move in from the older services, out of their SQL dumps.",
    ),
    ActingCommand(
        "match-pending-payments-run",
        "project.billing.commands:match_pending_run",
        "Ask the provider after pending payments.",
    ),
    ActingCommand(
        "match-successful-payments-run",
        "project.billing.commands:match_successful_run",
        "Record what succeeded at the provider in the last hour and is missing here.",
    ),
    ActingCommand(
        "messages-run",
        "project.weather.messages.commands:messages_run",
        "Make the messages whose time has come, and send what is due.",
    ),
    LazyCommand("openapi", "project.commands.openapi:openapi_commands", "OpenAPI commands."),
    LazyCommand(
        "purchase-run",
        "project.mobile.commands:purchase_run",
        "Ask the stores about every purchase whose expire-date has passed.",
    ),
    ActingCommand(
        "reconcile",
        "project.billing.commands:reconcile",
        "Compare the provider's books with ours over a longer time; each difference is a case.",
    ),
    LazyCommand("schedule", "project.commands.schedule:schedule_commands", "Periodic work."),
    LazyCommand(
        "scheduler",
        "project.commands.processes:run_scheduler",
        "Queue periodic work at its time; more than one may run, one acts.",
    ),
    ActingCommand(
        "tasks-run",
        "project.weather.imports.commands:tasks_run",
        "Read the files that wait, and give subscribers their nearest forecast anew.",
    ),
    LazyCommand(
        SETTINGS,
        "project.commands.settings:show_settings",
        "Show every setting in force and where it comes from; secrets only as set or not set.",
    ),
    LazyCommand(
        "upgrade",
        "project.commands.database:upgrade",
        "Wait for the database and migrate it; safe to run on many machines at once.",
    ),
    ActingCommand(
        "worker",
        "project.commands.processes:run_worker",
        "Take jobs from the QUEUES, in their order (high, medium, default).",
    ),
)


def create_command_app() -> Flask:
    """Build an application without an API: settings, logs, the database and the commands.

    Raises ConfigurationError, with a sentence for people, when a setting cannot be used.
    """
    check_settings()
    logging.configure(get_settings(CoreSettings))
    app = TransactionalFlask("project")
    configure_extensions(app)
    for command in COMMANDS:
        app.cli.add_command(command)
    return app


def create_settings_app(error: ConfigurationError) -> Flask:
    """Build an application in which the settings can be looked at and nothing else be done."""
    app = Flask("project")
    for command in COMMANDS:
        usable = command.name == SETTINGS
        app.cli.add_command(command if usable else RefusedCommand(command, error))
    return app
