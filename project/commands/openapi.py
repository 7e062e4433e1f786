"""flask-smorest's own commands as `flask openapi`: the only ones that need the API."""

from typing import Any

import click
from flask.cli import AppGroup
from flask_smorest.spec import openapi_cli

from project.application import create_app


class ApiGroup(AppGroup):
    """Commands that look at the routes."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command with the whole application."""
        ctx.with_resource(create_app().app_context())
        return super().invoke(ctx)


openapi_commands = ApiGroup("openapi", help=openapi_cli.help, commands=openapi_cli.commands)
