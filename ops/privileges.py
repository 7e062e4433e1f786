"""Whom a copy and its servers run as: root hands them over to an ordinary user."""

import functools
import hashlib
import os
import pwd
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ops.errors import OpsError

ACCOUNT = "perennial"
HOME = "/nonexistent"
ADMINISTRATION = "/usr/sbin:/sbin:/usr/bin:/bin"
# Tried in this order; the first command that works makes the account.
MAKERS = (
    ("useradd", "--system", "--user-group", "--no-create-home", "--home-dir", HOME),
    ("adduser", "--system", "--group", "--no-create-home", "--home", HOME),
)
REMOVERS = (("userdel",), ("deluser",))
LOCKED_SECONDS = 10
SPARE_ACCOUNTS = ("nobody", "daemon")


@dataclass(frozen=True)
class Account:
    """An ordinary user of this machine."""

    name: str
    uid: int
    gid: int

    @property
    def option(self) -> str:
        """Return the account in the spelling of `ops.launch --user`."""
        return f"{self.uid}:{self.gid}"


def server_account(data: Path) -> Account | None:
    """Return whom a server with this data folder runs as; None means as we are.

    Data that an ordinary user made stay with that user, so that root can start the
    copy once and its owner can go on with it afterwards.
    """
    if os.geteuid() != 0:
        return None
    return _owner(data) or _own_account(ACCOUNT)


def copy_account(var_dir: Path, folders: Sequence[Path]) -> Account:
    """Return whom the copy in `var_dir` runs as when root starts it; made the first time.

    Whoever owns one of its `folders` already, or data in them, goes on with it.
    """
    for folder in folders:
        for path in (folder / "data", folder):
            if owner := _owner(path):
                return owner
    return _own_account(copy_account_name(var_dir))


def copy_account_name(var_dir: Path) -> str:
    """Return the name of the account that is made for the copy in `var_dir`."""
    return f"{ACCOUNT}-{hashlib.sha256(os.fsencode(var_dir)).hexdigest()[:12]}"


def remove_account(name: str) -> None:
    """Remove an account that was made for a copy, if there is one and we are root."""
    if os.geteuid() == 0 and _find(name) is not None:
        _run_first(REMOVERS, name, until=lambda: _find(name) is None)


def run_as(
    account: Account | None, arguments: Sequence[str | Path], *, stdin: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run a program as `account` in a bare environment and return what it printed."""
    return subprocess.run(
        list(arguments),
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
        env=server_environment(),
        umask=0o077,
        user=account.uid if account else None,
        group=account.gid if account else None,
        extra_groups=[] if account else None,
    )


def server_environment() -> dict[str, str]:
    """Return the environment of the servers, without our secrets and without PGDATA and such."""
    kept = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ}
    return kept | {"TZ": "UTC", "LANG": "C.UTF-8", "LC_ALL": "C.UTF-8", "HOME": "/"}


def can_write(account: Account | None, folder: Path) -> bool:
    """Ask the kernel whether `account` gets to this folder and may write there."""
    if account is None:
        return os.access(folder, os.W_OK | os.X_OK)
    script = 'test -w "$1" && test -x "$1"'
    return run_as(account, ["/bin/sh", "-c", script, "sh", folder]).returncode == 0


def can_read(account: Account | None, paths: Sequence[Path]) -> bool:
    """Ask the kernel whether `account` can read all these files."""
    if account is None:
        return all(os.access(path, os.R_OK) for path in paths)
    script = 'for path; do test -r "$path" || exit 1; done'
    return run_as(account, ["/bin/sh", "-c", script, "sh", *paths]).returncode == 0


def can_enter(account: Account, folder: Path) -> bool:
    """Ask the kernel whether `account` gets into this folder."""
    script = 'cd "$1"'
    return run_as(account, ["/bin/sh", "-c", script, "sh", folder]).returncode == 0


def hand_over(path: Path, account: Account | None) -> None:
    """Give one file or folder to `account`."""
    if account is not None:
        os.chown(path, account.uid, account.gid)


def _owner(path: Path) -> Account | None:
    """Return the ordinary user who owns a path; None if it is root's or not there."""
    status = path.stat() if path.exists() else None
    if status is None or status.st_uid == 0:
        return None
    return Account(_name(status.st_uid), status.st_uid, status.st_gid)


@functools.cache
def _own_account(wanted: str) -> Account:
    account = _find(wanted) or _make(wanted)
    if account is not None:
        return account
    for name in SPARE_ACCOUNTS:
        account = _find(name)
        if account is not None:
            print(
                f"perennial: no account '{wanted}' could be made, so its processes run as "
                f"'{name}', which others may use as well.",
                file=sys.stderr,
            )
            return account
    raise OpsError(
        f"Postgres does not run as root, and no account '{wanted}' could be made for it. "
        f"Make one with: useradd --system {wanted}"
    )


def _make(name: str) -> Account | None:
    shell = shutil.which("nologin", path=ADMINISTRATION) or "/bin/false"
    makers = [(*command, "--shell", shell) for command in MAKERS]
    _run_first(makers, name, until=lambda: _find(name) is not None)
    return _find(name)


def _run_first(
    commands: Sequence[tuple[str, ...]], name: str, *, until: Callable[[], bool]
) -> None:
    """Try the commands in their order until one has done it; wait while another changes users."""
    for command, *options in commands:
        program = shutil.which(command, path=ADMINISTRATION)
        deadline = time.monotonic() + LOCKED_SECONDS
        while program is not None and not until():
            answer = run_as(None, [program, *options, name])
            if "lock" not in answer.stderr or time.monotonic() > deadline:
                break
            time.sleep(0.1)


def _find(name: str) -> Account | None:
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        return None
    return Account(name, entry.pw_uid, entry.pw_gid) if entry.pw_uid else None


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
