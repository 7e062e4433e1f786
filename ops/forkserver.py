"""A process that has imported everything, and is forked for whoever asks: python -m ops.forkserver.

API, workers and scheduler need the same modules. Imported once and shared, they take a third of
the memory and a tenth of the time. Each fork belongs to the process that asked for it
(ops.forked): it has its environment and its streams, and ends with it. It does not end with the
fork server. Nothing but modules is shared: settings are read, and connections made, by each fork.

When a file of what was imported has changed, the fork server starts anew before it forks again.
"""

import contextlib
import fcntl
import gc
import os
import runpy
import select
import signal
import socket
import sys
import traceback
from importlib import import_module
from pathlib import Path
from typing import NoReturn

from ops.forked import SOCKET

LISTENER = "PERENNIAL_FORKSERVER"
BACKLOG = 128
DESCRIPTORS = 4
ORDER_SECONDS = 10.0
EVERYTHING = "project.everything"


def main() -> None:
    """Import everything, then fork for whoever asks."""
    listener = _listener(Path(os.environ["VAR_DIR"]) / "run")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    for name in sys.argv[1:] or [EVERYTHING]:
        import_module(name)
    known = _state_of_files()
    # What is loaded now stays: a collection that marked it would copy its pages.
    gc.collect()
    gc.freeze()
    # Forks that end are nobody's to bury.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        connection, _ = listener.accept()
        with connection:
            if _state_of_files() != known:
                # Who asked sees the connection end, and asks again.
                _start_anew(listener)
            with contextlib.suppress(OSError, ValueError):
                _fork_for(connection, listener)


def _listener(folder: Path) -> socket.socket:
    """Return the socket: the one of this program before it started anew, or a new one."""
    if inherited := os.environ.pop(LISTENER, ""):
        return socket.socket(fileno=int(inherited))
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    here = Path.cwd()
    # By its name alone: the path may be longer than an address of a socket can be.
    os.chdir(folder)
    try:
        Path(SOCKET).unlink(missing_ok=True)
        listener.bind(SOCKET)
        Path(SOCKET).chmod(0o600)
        listener.listen(BACKLOG)
    finally:
        os.chdir(here)
    return listener


def _start_anew(listener: socket.socket) -> NoReturn:
    """Become a new process of the same pid that imports again; the socket stays open."""
    listener.set_inheritable(True)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    environment = {**os.environ, LISTENER: str(listener.fileno())}
    os.execve(sys.executable, [sys.executable, "-m", "ops.forkserver", *sys.argv[1:]], environment)


def _state_of_files() -> dict[str, tuple[int, int]]:
    """Return when the file of each module was changed, and its size."""
    found: dict[str, tuple[int, int]] = {}
    for module in list(sys.modules.values()):
        path = getattr(module, "__file__", None)
        if path:
            with contextlib.suppress(OSError):
                status = os.stat(path)
                found[path] = status.st_mtime_ns, status.st_size
    return found


def _fork_for(connection: socket.socket, listener: socket.socket) -> None:
    """Make a fork for who asks over this connection. Raises OSError, ValueError: no fork."""
    connection.settimeout(ORDER_SECONDS)
    length, descriptors, _, _ = socket.recv_fds(connection, 4, DESCRIPTORS)
    try:
        order = _read(connection, int.from_bytes(length, "big"))
        count, *words = order.decode(errors="surrogateescape").split("\0")
        arguments, variables = words[: int(count)], words[int(count) :]
        if len(descriptors) != DESCRIPTORS or not arguments:
            raise ValueError("an order without streams or a module")
        pid = os.fork()
        if not pid:
            listener.close()
            _be_fork(connection, descriptors, arguments, variables)
        connection.sendall(pid.to_bytes(4, "big"))
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def _read(connection: socket.socket, length: int) -> bytes:
    order = b""
    while len(order) < length:
        piece = connection.recv(length - len(order))
        if not piece:
            raise ValueError("an order that ends too early")
        order += piece
    return order


def _be_fork(
    connection: socket.socket, descriptors: list[int], arguments: list[str], variables: list[str]
) -> NoReturn:
    """Run the module in this process, which is the fork, and say how it ended."""
    status = 1
    try:
        *streams, alive = descriptors
        _end_with(alive)
        for number, descriptor in enumerate(streams):
            os.dup2(descriptor, number)
            os.close(descriptor)
        for number in (signal.SIGTERM, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        os.environ.clear()
        os.environ.update(variable.partition("=")[::2] for variable in variables)
        sys.argv[:] = arguments
        status = _run(arguments[0])
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        with contextlib.suppress(OSError):
            connection.sendall(bytes([status]))
        os._exit(status)


def _end_with(alive: int) -> None:
    """Have the kernel kill this process when nobody holds the other end of the pipe any more."""
    fcntl.fcntl(alive, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(alive, fcntl.F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(alive, fcntl.F_SETFL, fcntl.fcntl(alive, fcntl.F_GETFL) | os.O_ASYNC)
    if select.select([alive], [], [], 0)[0]:
        raise OSError("Who asked for this fork has ended.")


def _run(module: str) -> int:
    """Run a module as `python -m` does; return its exit status."""
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as ending:
        if isinstance(ending.code, int):
            return ending.code & 0xFF
        if ending.code is not None:
            print(ending.code, file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    main()
