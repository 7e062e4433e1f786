"""The WSGI entry point that the API server and the commands load."""

import sys

import click

from project.config.declare import ConfigurationError


def _is_for_our_command() -> bool:
    """Tell whether `flask` looks for a command of ours, which loads what it needs by itself.

    Its own commands (run, routes, shell) and every server get the whole application.
    """
    context = click.get_current_context(silent=True)
    return context is not None and context.find_root().invoked_subcommand is None


if _is_for_our_command():
    from project.cli import create_command_app, create_settings_app

    try:
        app = create_command_app()
    except ConfigurationError as error:
        app = create_settings_app(error)
else:
    from project.application import create_app

    try:
        app = create_app()
    except ConfigurationError as error:
        sys.exit(f"Perennial cannot start. {error}")
