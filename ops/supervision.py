"""supervisord as seen by the launchers: what it is told by the environment, and its answers."""

import http.client
import os
import socket
import sys
import xmlrpc.client
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ops import ports
from ops.environment import Settings
from ops.files import make_folder

USER = "perennial"
COMMAND = ("python", "-m", "supervisor.supervisord", "-c", "supervisord.conf")
ANSWER_SECONDS = 10
# While it makes its socket, supervisord adds a dot and its pid to the name.
SPARE_BYTES = len(".4194304")
RUNNING, FATAL = "RUNNING", "FATAL"


@dataclass(frozen=True)
class Program:
    """One process under supervisord, and its state in supervisord's words."""

    name: str
    state: str
    pid: int
    log: Path


@dataclass(frozen=True)
class Control:
    """Where a supervisord is controlled, and by which password."""

    endpoint: ports.Endpoint
    password: str

    @property
    def url(self) -> str:
        """Return the address in supervisorctl's spelling."""
        if self.endpoint.socket is None:
            return f"http://{ports.LOOPBACK}:{self.endpoint.port}"
        return f"unix://{self.endpoint.socket}"

    def is_running(self) -> bool:
        """Tell whether supervisord answers and is not about to stop."""
        try:
            with self._proxy() as proxy:
                state = proxy.supervisor.getState()
        except xmlrpc.client.ProtocolError as error:
            # It was started by hand, with a password of its own.
            return error.errcode == http.client.UNAUTHORIZED
        except (OSError, http.client.HTTPException, xmlrpc.client.Error):
            return False
        return isinstance(state, dict) and state.get("statename") == RUNNING

    def programs(self) -> list[Program]:
        """Return the state of every process; nothing while supervisord does not answer."""
        try:
            with self._proxy() as proxy:
                answer = proxy.supervisor.getAllProcessInfo()
        except (OSError, http.client.HTTPException, xmlrpc.client.Error):
            return []
        assert isinstance(answer, list)
        return [
            Program(
                str(one["name"]),
                str(one["statename"]),
                int(one["pid"]),
                Path(one["stdout_logfile"]),
            )
            for one in answer
        ]

    def _proxy(self) -> xmlrpc.client.ServerProxy:
        address = "localhost" if self.endpoint.socket else f"{ports.LOOPBACK}:{self.endpoint.port}"
        return xmlrpc.client.ServerProxy(
            f"http://{USER}:{self.password}@{address}/RPC2",
            transport=_Transport(self.endpoint.socket),
        )


def control(settings: Settings, *, check_port: bool = False) -> Control:
    """Return where the supervisord of this copy is controlled."""
    run = make_folder(settings.var_dir / "run")
    endpoint = ports.choose_endpoint(
        run / "supervisor.sock",
        run / "supervisor.port",
        spare_bytes=SPARE_BYTES,
        check=check_port,
    )
    secret = make_folder(settings.var_dir / "secrets") / "supervisor"
    return Control(endpoint, ports.kept_secret(secret))


def environment(settings: Settings, given: Mapping[str, str], where: Control) -> dict[str, str]:
    """Return the environment of supervisord and, through it, of every program."""
    scripts = str(Path(sys.executable).parent)
    return {
        **given,
        "PATH": os.pathsep.join((scripts, given.get("PATH", os.defpath))),
        "TZ": "UTC",
        "PYTHONUNBUFFERED": "1",
        "FLASK_APP": "wsgi",
        "FORKSERVER": "1" if sys.platform == "linux" else "",
        "VAR_DIR": str(settings.var_dir),
        "WORKERS": str(settings.workers),
        "SUPERVISOR_INCLUDE": " ".join(_included(settings, where)),
        "SUPERVISOR_URL": where.url,
        "SUPERVISOR_PASSWORD": where.password,
        "SUPERVISOR_SOCKET": str(where.endpoint.socket or ""),
        "SUPERVISOR_PORT": str(where.endpoint.port or ""),
    }


def _included(settings: Settings, where: Control) -> list[str]:
    """Return the parts of the configuration that this copy needs."""
    parts = {
        "socket": where.endpoint.socket is not None,
        "port": where.endpoint.socket is None,
        "root": os.geteuid() == 0,
        "forkserver": sys.platform == "linux",
        "postgres": settings.database_url is None,
        "redis": settings.redis_url is None,
        "simulator": settings.with_simulator,
    }
    return [f"ops/supervisor/{name}.conf" for name, wanted in parts.items() if wanted]


class _Transport(xmlrpc.client.Transport):
    """XML-RPC over a unix socket or, without one, over TCP; never through a proxy."""

    def __init__(self, socket_path: Path | None) -> None:
        super().__init__()
        self._socket_path = socket_path

    def make_connection(self, host: tuple[str, dict[str, str]] | str) -> http.client.HTTPConnection:
        connection = super().make_connection(host)
        connection.timeout = ANSWER_SECONDS
        if self._socket_path is not None:
            connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            connection.sock.settimeout(ANSWER_SECONDS)
            connection.sock.connect(str(self._socket_path))
        return connection
