"""Sockets and ports: what is free, what is too long, and what was used the last time."""

import errno
import os
import secrets
import socket
from dataclasses import dataclass
from pathlib import Path

from ops.errors import OpsError
from ops.files import write_private

LOOPBACK = "127.0.0.1"
NO_SUCH_ADDRESS = "this machine has no such address"
# sun_path holds 108 bytes on Linux and 104 elsewhere, with the zero at the end.
SOCKET_PATH_BYTES = 107 if os.uname().sysname == "Linux" else 103


@dataclass(frozen=True)
class Endpoint:
    """Where a server listens: a unix socket or, where its path is too long, a loopback port."""

    socket: Path | None
    port: int | None

    @property
    def socket_path(self) -> Path:
        """Return the socket of a server that has one."""
        assert self.socket is not None
        return self.socket


def choose_endpoint(
    socket_path: Path, port_file: Path, *, spare_bytes: int = 0, check: bool = True
) -> Endpoint:
    """Return the unix socket if its path fits, else a free port, the same as the last time.

    With `check=False` the port of the last time is taken as it is: a server that is
    restarted must come back where its clients look for it.
    """
    fits = len(os.fsencode(socket_path)) + spare_bytes <= SOCKET_PATH_BYTES
    # libpq takes a comma for the start of another host.
    if fits and "," not in str(socket_path):
        return Endpoint(socket_path, None)
    return Endpoint(None, _kept_port(port_file, check=check))


def why_not_listen(host: str, port: int) -> str | None:
    """Return why nothing can listen at this address, or None if something can."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (socket.gaierror, UnicodeError):
        return NO_SUCH_ADDRESS
    with socket.socket(family, kind, protocol) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
            probe.listen(1)
        except OSError as error:
            return _reason(error)
    return None


def free_port() -> int:
    """Return a loopback port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port


def free_port_above(port: int) -> int:
    """Return the next free loopback port, for a person to choose."""
    for candidate in range(port + 1, min(port + 100, 65536)):
        if why_not_listen(LOOPBACK, candidate) is None:
            return candidate
    return free_port()


def kept_secret(path: Path) -> str:
    """Return the random secret in `path`, made (mode 0600) the first time."""
    try:
        return path.read_text().strip()
    except FileNotFoundError:
        write_private(path, secrets.token_urlsafe(32) + "\n")
        return kept_secret(path)
    except PermissionError as error:
        raise OpsError(
            f"{path} belongs to somebody else: it was made by another user or by root. "
            "Start as that user, or set VAR_DIR to another folder."
        ) from error


def _kept_port(path: Path, *, check: bool) -> int:
    try:
        port = int(path.read_text())
    except (FileNotFoundError, ValueError):
        port = 0
    if port and not (check and why_not_listen(LOOPBACK, port)):
        return port
    port = free_port()
    write_private(path, f"{port}\n")
    return port


def _reason(error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return "it is taken"
    if error.errno == errno.EADDRNOTAVAIL:
        return NO_SUCH_ADDRESS
    if error.errno == errno.EACCES:
        return "only root may listen there"
    return (error.strerror or str(error)).lower()
