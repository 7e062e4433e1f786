"""The WSGI entry point that the API server and the commands load."""

import sys

from project import create_app
from project.config.declare import ConfigurationError

try:
    app = create_app()
except ConfigurationError as error:
    sys.exit(f"Perennial cannot start. {error}")
