"""Root starts a copy: it makes an account for it, gives it what it needs, and becomes it.

From then on no process of the copy is root's, not even the one that was started. Each copy has
an account of its own, so that none can read the data of another or end its processes. Nothing
outside the folders of the copy in VAR_DIR gets another owner or mode.
"""

import compileall
import os
import stat
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

from ops import launch, mounts, postgres, valkey
from ops.environment import PROJECT, Settings
from ops.files import make_folder
from ops.places import spare_place
from ops.privileges import Account, can_enter, can_read, copy_account, run_as

CODE = ("project", "simulator", "ops", "migrations")
# What a login shell of root says about root, and is wrong for anybody else.
ROOTS_OWN = ("MAIL", "SUDO_COMMAND", "SUDO_USER", "SUDO_UID", "SUDO_GID", "XDG_RUNTIME_DIR")


def step_down(settings: Settings, given: Mapping[str, str]) -> str | None:
    """Start this process again as the account of the copy, if it is root's.

    Returns None where nobody is root, or why root has to go on as it is. Raises OpsError.
    """
    if os.geteuid() != 0:
        return None
    folders = _folders(settings)
    account = copy_account(settings.var_dir, folders)
    for folder in folders:
        _give(folder, account)
    reason = _reveal(settings, folders, account) or _unusable(account)
    if reason is None:
        _compile()
        _start_again(account, _environment(given, account))
    return (
        f"{reason} So Postgres and Valkey run as an account of their own, but everything else as "
        "root. Make it readable for everybody, or move the project (or the Python) to where every "
        "user can read it."
    )


def _start_again(account: Account, environment: Mapping[str, str]) -> NoReturn:
    print(f"root steps down: everything runs as '{account.name}'.", flush=True)
    os.chdir(PROJECT)
    os.umask(0o077)
    launch.become(account.uid, account.gid)
    launch.replace_process([sys.executable, "-m", "ops.start"], environment)


def _folders(settings: Settings) -> list[Path]:
    """Return the folders that are the copy's alone, made if they are missing."""
    names = ["run", "log", "secrets"]
    names += [postgres.NAME] if settings.database_url is None else []
    names += [valkey.NAME] if settings.redis_url is None else []
    if not settings.var_dir.exists():
        make_folder(settings.var_dir, mode=0o755)
    elsewhere = [spare_place(settings.var_dir) / name for name in (postgres.NAME, valkey.NAME)]
    return [make_folder(settings.var_dir / name) for name in names] + [
        folder for folder in elsewhere if folder.is_dir()
    ]


def _give(folder: Path, account: Account) -> None:
    """Give the account what root owns in a folder; a link itself, never what it leads to."""
    for _, folders, files, descriptor in os.fwalk(folder):
        for name in (".", *folders, *files):
            status = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
            # A second name of a file may be anything, even one of root's own.
            is_safe = stat.S_ISDIR(status.st_mode) or status.st_nlink == 1
            if status.st_uid == 0 and is_safe:
                os.chown(name, account.uid, account.gid, dir_fd=descriptor, follow_symlinks=False)


def _reveal(settings: Settings, folders: list[Path], account: Account) -> str | None:
    """Let the account reach all that it needs; return why that cannot be."""
    binaries = settings.postgres_bin_dir
    needed = [
        *(PROJECT, Path(sys.executable), Path(sys.prefix), Path(sys.base_prefix)),
        *(Path(entry) for entry in sys.path if Path(entry).exists()),
        *([binaries.parent] if binaries else []),
        *folders,
    ]
    try:
        mounts.reveal(needed, lambda folder: can_enter(account, folder))
    except OSError as error:
        return f"The account '{account.name}' cannot reach the project ({error})."
    return None


def _unusable(account: Account) -> str | None:
    """Return what keeps the account from running the product, or None."""
    files = [PROJECT / "supervisord.conf", PROJECT / "wsgi.py", *_code()]
    if not can_read(account, files):
        return f"The account '{account.name}' cannot read all files of {PROJECT}."
    trial = [sys.executable, "-c", "import flask, httptools, supervisor"]
    if run_as(account, trial).returncode != 0:
        return f"The account '{account.name}' cannot run {sys.executable}."
    return None


def _code() -> list[Path]:
    return [path for name in CODE for path in (PROJECT / name).rglob("*.py")]


def _compile() -> None:
    """Compile the code once: the account may not write beside it, and would do it every time."""
    for name in CODE:
        compileall.compile_dir(PROJECT / name, quiet=2)


def _environment(given: Mapping[str, str], account: Account) -> dict[str, str]:
    kept = {name: value for name, value in given.items() if name not in ROOTS_OWN}
    if "TMPDIR" in kept and not can_read(account, [Path(kept["TMPDIR"])]):
        del kept["TMPDIR"]
    return {
        **kept,
        # All that it says is in the environment already, and only root may read it.
        "ENV_FILE": os.devnull,
        "FLASK_SKIP_DOTENV": "1",
        "HOME": "/nonexistent",
        "USER": account.name,
        "LOGNAME": account.name,
    }
