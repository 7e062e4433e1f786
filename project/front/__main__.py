"""Serve a WSGI application: python -m project.front wsgi:app."""

import argparse
import socket
from importlib import import_module
from typing import Any

from project.config.environment import get_settings
from project.config.kernel import HttpSettings
from project.front.processes import Processes
from project.front.server import Server


def main() -> None:
    """Load the application once, and serve it by several processes."""
    parser = argparse.ArgumentParser(prog="python -m project.front", description=__doc__)
    parser.add_argument("application", help="MODULE:NAME of a WSGI application")
    module, _, name = parser.parse_args().application.partition(":")
    application: Any = getattr(import_module(module), name)
    settings = get_settings(HttpSettings)

    def run(listener: socket.socket) -> None:
        Server(application, settings).run(listener)

    Processes(settings.api_workers, run).serve(settings.host, settings.port)


if __name__ == "__main__":
    main()
