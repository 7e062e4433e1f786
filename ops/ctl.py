"""supervisorctl for the copy that runs here: python -m ops.ctl status."""

import os
import sys
from typing import NoReturn

from ops import environment, supervision
from ops.errors import OpsError, exit_status
from ops.exclusive import is_running

COMMAND = ("-m", "supervisor.supervisorctl", "-c", "supervisord.conf")


def main() -> NoReturn:
    """Become supervisorctl, told where the supervisord of this copy is."""
    settings = environment.load()
    if not is_running(settings):
        raise OpsError(f"No copy is running in {settings.var_dir}. Start one with: make run")
    where = supervision.control(settings)
    given = environment.merged(environment.PROJECT, os.environ)
    os.chdir(environment.PROJECT)
    os.execve(
        sys.executable,
        [sys.executable, *COMMAND, *sys.argv[1:]],
        supervision.environment(settings, given, where),
    )


if __name__ == "__main__":
    sys.exit(exit_status(main))
