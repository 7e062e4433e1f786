"""Run a Python module in a fork of the fork server: python -S -E ops/forked.py MODULE ARGUMENT...

The same as `python -m MODULE ARGUMENT...`, but nothing has to be imported: the fork server
(ops.forkserver) has done so. This small process stands for the fork: who stops or kills it stops or
kills the fork, and it ends as the fork does. Without a fork server it becomes the module itself.

It is run without `site`, and imports next to nothing, to be small: one stands beside every worker.
"""

import _socket
import os
import signal
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

SOCKET = "forkserver.sock"
# A fork server that is being started makes its socket before it imports anything.
PATIENCE_SECONDS = 10.0
POLL_SECONDS = 0.1
FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGUSR1)
SCM_RIGHTS_BYTES = 4


def main(arguments: "list[str]") -> int:
    """Run the module to its end; return its exit status."""
    folder = os.path.join(os.environ.get("VAR_DIR", ""), "run")
    if sys.platform != "linux" or not os.path.isdir(folder):
        become(arguments)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        connection = connected(folder)
        if connection is not None:
            status = attend(connection, arguments)
            if status is not None:
                return status
            # The fork server ended, or starts anew because the code has changed.
            deadline = time.monotonic() + PATIENCE_SECONDS
        elif time.monotonic() > deadline:
            become(arguments)
        time.sleep(POLL_SECONDS)


def connected(folder: str) -> "_socket.socket | None":
    """Return a connection to the fork server, or None if there is none."""
    connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    here = os.getcwd()
    # By its name alone: the path may be longer than an address of a socket can be.
    os.chdir(folder)
    try:
        connection.connect(SOCKET)
    except OSError:
        connection.close()
        return None
    finally:
        os.chdir(here)
    return connection


def attend(connection: "_socket.socket", arguments: "list[str]") -> "int | None":
    """Ask for a fork and wait for its end; return its exit status, None if there was no fork."""
    # As long as we live, we hold the one end of this pipe; the kernel kills the fork with it.
    alive, held = os.pipe()
    variables = [f"{name}={value}" for name, value in os.environ.items()]
    order = "\0".join([str(len(arguments)), *arguments, *variables]).encode(
        errors="surrogateescape"
    )
    descriptors = b"".join(
        number.to_bytes(SCM_RIGHTS_BYTES, sys.byteorder) for number in (0, 1, 2, alive)
    )
    rights = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, descriptors)]
    try:
        connection.sendmsg([len(order).to_bytes(4, "big")], rights)
        os.close(alive)
        while order:
            order = order[connection.send(order) :]
        told = connection.recv(4)
    except OSError:
        told = b""
    if not told:
        connection.close()
        os.close(held)
        return None
    pid = int.from_bytes(told, "big")
    for number in FORWARDED:
        signal.signal(number, lambda number, _frame: forward(pid, number))
    ended = connection.recv(1)
    # A fork that was killed says nothing any more.
    return ended[0] if ended else 128 + signal.SIGKILL


def forward(pid: int, number: int) -> None:
    """Send a signal on to the fork."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def become(arguments: "list[str]") -> "NoReturn":
    """Turn this process into the module."""
    os.execv(sys.executable, [sys.executable, "-m", *arguments])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
