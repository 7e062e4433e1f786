"""Start one program that ends when its parent ends: python -m ops.launch PROGRAM ARGUMENT...

Every process of a copy is started through here. It takes the parent's death as a
signal, holds the copy's lock as long as it lives, and gives up root where it is told to.
"""

import argparse
import ctypes
import fcntl
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

FORKED = ("flask", "ops.tied")
"""Modules that are run in a fork of the fork server, where there is one (FORKSERVER=1)."""
# From <linux/prctl.h>.
PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36


def tie_to_parent(number: signal.Signals) -> None:
    """Ask the kernel for signal `number` when the parent dies; only Linux can do that.

    The wish outlives an exec, but not a change of user: call it after `become`.
    """
    if sys.platform != "linux":
        return
    parent = os.getppid()
    _prctl(PR_SET_PDEATHSIG, int(number))
    if os.getppid() != parent:
        sys.exit("The parent process ended while this one was starting.")


def adopt_orphans() -> None:
    """Become the parent of descendants whose own parent dies; only Linux can do that."""
    if sys.platform == "linux":
        _prctl(PR_SET_CHILD_SUBREAPER, 1)


def become(uid: int, gid: int) -> None:
    """Give up root for good: no other groups, this group, this user."""
    os.setgroups([])
    os.setgid(gid)
    os.setuid(uid)


def hold_lock(path: Path) -> None:
    """Share the lock at `path` until this process and all that it starts have ended."""
    if not path.parent.is_dir():
        return
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    os.set_inheritable(descriptor, True)
    fcntl.flock(descriptor, fcntl.LOCK_SH)


def replace_process(arguments: Sequence[str], environment: Mapping[str, str]) -> NoReturn:
    """Turn this process into another program; its streams and its pid stay."""
    # A shell that starts us in the background ignores SIGINT for all that we start.
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGPIPE):
        signal.signal(number, signal.SIG_DFL)
    sys.stdout.flush()
    sys.stderr.flush()
    try:
        os.execvpe(arguments[0], list(arguments), dict(environment))
    except OSError as error:
        sys.exit(f"Cannot start {arguments[0]}: {error.strerror}.")


def programs_lock(var_dir: Path) -> Path:
    """Return the lock that every program of the copy in `var_dir` holds while it lives."""
    return var_dir / "run" / "programs.lock"


def _prctl(option: int, value: int) -> None:
    ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m ops.launch", description=__doc__)
    parser.add_argument("--signal", default="TERM", help="what the parent's death sends")
    parser.add_argument("--user", metavar="UID:GID", help="whom to become before the start")
    parser.add_argument("--lock", type=Path, help="a lock to hold; default from VAR_DIR")
    parser.add_argument("program", nargs=argparse.REMAINDER)
    return parser


def main() -> NoReturn:
    """Start the program that the command line names."""
    options = _parser().parse_args()
    number = signal.Signals[f"SIG{options.signal}"]
    tie_to_parent(number)
    if options.lock is not None:
        hold_lock(options.lock)
    elif "VAR_DIR" in os.environ:
        hold_lock(programs_lock(Path(os.environ["VAR_DIR"])))
    if options.user:
        uid, gid = (int(part) for part in options.user.split(":"))
        os.umask(0o077)
        become(uid, gid)
        tie_to_parent(number)
    replace_process(_forked(options.program), os.environ)


def _forked(program: Sequence[str]) -> Sequence[str]:
    """Return what starts a program: for a module, what has it run in a fork."""
    is_forked = program[:2] == ["python", "-m"] and program[2:3] and program[2] in FORKED
    if not is_forked or not os.environ.get("FORKSERVER"):
        return program
    return [sys.executable, "-S", "-E", str(Path(__file__).with_name("forked.py")), *program[2:]]


if __name__ == "__main__":
    main()
