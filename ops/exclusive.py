"""One copy per VAR_DIR: refuses beside a living one, and outlives what a dead one left."""

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from ops import launch, processes, supervision
from ops.environment import Settings
from ops.errors import OpsError
from ops.files import make_folder

# The programs of a dead copy end by themselves; a worker finishes its job first.
LEFTOVER_SECONDS = 30
KILLED_SECONDS = 5


@contextlib.contextmanager
def only_copy(settings: Settings) -> Iterator[None]:
    """Be the only copy in VAR_DIR, which is made if it is missing. Raises OpsError."""
    _make_var_dir(settings.var_dir)
    path = settings.var_dir / "run" / "start.lock"
    with _opened(path) as file:
        if not processes.lock_alone(file):
            raise OpsError(_another_copy(settings, path))
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        _outlive_leftovers(settings)
        yield


def is_running(settings: Settings) -> bool:
    """Tell whether a copy runs in VAR_DIR."""
    path = launch.programs_lock(settings.var_dir)
    if not path.exists():
        return False
    with _opened(path) as file:
        return not processes.lock_alone(file)


def _make_var_dir(var_dir: Path) -> None:
    # Root's servers must get through; without root, nobody else has to.
    make_folder(var_dir, mode=0o711 if os.geteuid() == 0 else 0o700)
    for name in ("run", "log", "secrets"):
        folder = make_folder(var_dir / name)
        for path in (folder, *_files(folder)):
            if not os.access(path, os.W_OK):
                raise OpsError(_not_ours(path))


def _outlive_leftovers(settings: Settings) -> None:
    """Wait for processes of a copy that was killed; they end because their parent did."""
    lock = launch.programs_lock(settings.var_dir)
    pid_file = settings.var_dir / "run" / "supervisord.pid"
    with _opened(lock) as file:
        if not processes.lock_alone(file):
            if supervision.control(settings).is_running():
                raise OpsError(_another_copy(settings, pid_file))
            print("Waiting for the processes of an earlier run to end ...", flush=True)
            if not processes.lock_alone(file, seconds=LEFTOVER_SECONDS):
                if _supervisord_ends(pid_file, seconds=0):
                    _kill(lock, file)
                else:
                    raise OpsError(_another_copy(settings, pid_file))
    _supervisord_ends(pid_file, seconds=LEFTOVER_SECONDS)


def _supervisord_ends(pid_file: Path, *, seconds: float) -> bool:
    pid = processes.read_pid(pid_file)
    return pid is None or processes.wait_until_gone(pid, "supervisord", seconds=seconds)


def _kill(lock: Path, file: IO[str]) -> None:
    for pid in processes.holders(lock):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)
    if not processes.lock_alone(file, seconds=KILLED_SECONDS):
        raise OpsError(
            f"Processes of an earlier run do not end. They have {lock} open; end them first."
        )


def _another_copy(settings: Settings, pid_file: Path) -> str:
    pid = processes.read_pid(pid_file)
    process = f" (process {pid})" if pid else ""
    return (
        f"Another copy is already running in {settings.var_dir}{process}. "
        "Stop it first, or give a second one its own VAR_DIR, PORT and SIMULATOR_PORT."
    )


def _opened(path: Path) -> IO[str]:
    try:
        return path.open("a+")
    except OSError as error:
        raise OpsError(_not_ours(path)) from error


def _files(folder: Path) -> list[Path]:
    return (
        [path for path in folder.iterdir() if path.is_file()]
        if os.access(folder, os.R_OK | os.X_OK)
        else []
    )


def _not_ours(path: Path) -> str:
    return (
        f"Cannot write {path}: another user or root made it. Start as that user, "
        "set VAR_DIR to another folder, or make it yours with chown."
    )
