"""Commands that are imported when they are run, and not to be listed."""

from importlib import import_module
from typing import Any

import click


class LazyCommand(click.Command):
    """A command of which name and summary are known here, and all else where it is defined."""

    def __init__(self, name: str, path: str, summary: str) -> None:
        super().__init__(name, help=summary)
        self.path = path

    def load(self) -> click.Command:
        """Import the command itself, named as MODULE:NAME."""
        module, _, name = self.path.partition(":")
        command = getattr(import_module(module), name)
        assert isinstance(command, click.Command), self.path
        return command

    def make_context(
        self,
        info_name: str | None,
        args: list[str],
        parent: click.Context | None = None,
        **extra: Any,
    ) -> click.Context:
        """Hand the arguments to the command itself, which runs in the context made here."""
        return self.load().make_context(info_name, args, parent, **extra)
