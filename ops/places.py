"""Where the embedded servers keep their files: where the account they run as can reach them.

A project below a 0700 folder cannot be reached by another user. Its modes are not
ours to change, so binaries and data then live below /var/lib/perennial.
"""

import functools
import hashlib
import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ops.errors import OpsError
from ops.files import make_folder
from ops.privileges import Account, can_read, can_write, hand_over, server_account

STATE = Path("/var/lib/perennial")


@dataclass(frozen=True)
class Home:
    """A server's own folder: our configuration in it, and `data`, which belongs to the account."""

    folder: Path
    account: Account | None

    @property
    def data(self) -> Path:
        """Return the folder of the data and the socket; nobody else gets in."""
        return self.folder / "data"


def spare_place(var_dir: Path) -> Path:
    """Return where the data of a copy go that the account cannot reach in `var_dir`."""
    digest = hashlib.sha256(os.fsencode(var_dir)).hexdigest()[:12]
    return STATE / digest


def find_home(var_dir: Path, name: str) -> Home:
    """Return the home of server `name`, made if needed: in `var_dir` if it can be reached there.

    Data that exist decide: they are used where they are, or refused, never left behind.
    """
    wanted = var_dir / name
    spare = spare_place(var_dir) / name
    account = server_account(wanted / "data")
    if account is None:
        return _own_home(spare if _has_data(spare) and not _has_data(wanted) else wanted)
    if _has_data(wanted):
        return _reachable_home(wanted, account)
    if not _has_data(spare):
        _let_pass(var_dir)
        home = _try_home(wanted, account)
        if home is not None:
            return home
    return _spare_home(spare)


def readable_binaries(
    binaries: Path, root: Path, needed: Sequence[str], account: Account | None
) -> Path:
    """Return a folder of binaries that `account` can run: this one, or a copy of all of `root`.

    `needed` are files below `root` that must be readable.
    """
    try:
        if can_read(account, [root / name for name in needed]):
            return binaries
        copy = _copied(root, STATE / "bin", root / needed[0])
    except OSError as error:
        raise OpsError(f"Cannot use the servers in {root}: {error}.") from error
    return copy / binaries.relative_to(root)


def _own_home(folder: Path) -> Home:
    make_folder(folder)
    home = Home(folder, None)
    make_folder(home.data)
    if not can_write(None, home.data):
        raise OpsError(
            f"{home.data} belongs to another user: this copy was started by root before. "
            "Start it as root again, or set VAR_DIR to another folder."
        )
    return home


def _reachable_home(folder: Path, account: Account) -> Home:
    home = Home(folder, account)
    if not can_write(account, home.data):
        raise OpsError(
            f"The data in {home.data} belong to the account '{account.name}', which cannot "
            "reach them there. Let it pass through the folders above, or move the project."
        )
    return home


def _spare_home(folder: Path) -> Home:
    for parent in (STATE, folder.parent):
        make_folder(parent, mode=0o711)
    account = server_account(folder / "data")
    assert account is not None
    home = _try_home(folder, account)
    if home is None:
        raise OpsError(
            f"The account '{account.name}' can reach neither the project nor {folder}. "
            "Set VAR_DIR to a folder below one that every user can pass through."
        )
    return home


def _try_home(folder: Path, account: Account | None) -> Home | None:
    """Make a home here and hand it over; None, and no trace, if the account cannot use it."""
    home = Home(folder, account)
    try:
        make_folder(folder, mode=0o711)
        make_folder(home.data)
        hand_over(home.data, account)
        if can_write(account, home.data):
            return home
    except (OSError, OpsError):
        # A file system that knows no owners, or one that is read-only.
        pass
    for path in (home.data, folder):
        # What is mounted there, so that an account can reach it, stays.
        if path.is_dir() and not path.is_mount() and not any(path.iterdir()):
            path.rmdir()
    return None


def _let_pass(var_dir: Path) -> None:
    mode = var_dir.stat().st_mode
    if not mode & 0o001:
        var_dir.chmod((mode & 0o7777) | 0o001)


def _has_data(folder: Path) -> bool:
    data = folder / "data"
    # Who may not look into it has to be told so, and not to be given an empty one.
    return data.is_dir() and (not os.access(data, os.R_OK) or any(data.iterdir()))


@functools.cache
def _copied(root: Path, below: Path, stamp_file: Path) -> Path:
    """Copy `root` below a folder of everybody's, once for each version of it."""
    status = stamp_file.stat()
    stamp = f"{root}-{stamp_file.name}-{status.st_size}-{status.st_mtime_ns}"
    copy = below / f"{stamp_file.name}-{hashlib.sha256(stamp.encode()).hexdigest()[:12]}"
    if copy.is_dir():
        return copy
    for folder in (below.parent, below):
        make_folder(folder, mode=0o711)
    unfinished = Path(tempfile.mkdtemp(dir=below))
    shutil.copytree(root, unfinished, dirs_exist_ok=True, ignore=_unneeded)
    _open_for_reading(unfinished)
    try:
        unfinished.rename(copy)
    except OSError:
        # Another start was faster.
        shutil.rmtree(unfinished)
    return copy


def _unneeded(_: str, names: list[str]) -> set[str]:
    return {name for name in names if name in ("include", "pgxs", "pkgconfig", "__pycache__")} | {
        name for name in names if name.endswith((".a", ".py"))
    }


def _open_for_reading(folder: Path) -> None:
    for parent, folders, files in os.walk(folder):
        Path(parent).chmod(0o755)
        for name in (*folders, *files):
            path = Path(parent) / name
            if not path.is_symlink():
                path.chmod(0o755 if path.is_dir() or os.access(path, os.X_OK) else 0o644)
