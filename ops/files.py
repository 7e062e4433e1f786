"""Private files and folders, written whole or not at all."""

import os
import tempfile
from pathlib import Path

from ops.errors import OpsError


def write_private(path: Path, text: str, *, mode: int = 0o600) -> None:
    """Replace `path` in one step by `text`, never readable by others in between."""
    try:
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise OpsError(f"Cannot write {path}: {error.strerror}.") from error
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        os.fchmod(file.fileno(), mode)
    os.replace(name, path)


def make_folder(path: Path, *, mode: int = 0o700) -> Path:
    """Make a folder if it is missing; one that exists is left as it is."""
    try:
        if not path.is_dir():
            path.mkdir(parents=True)
            path.chmod(mode)
    except OSError as error:
        raise OpsError(f"Cannot make the folder {path}: {error.strerror}.") from error
    return path


def tail(path: Path, lines: int = 15) -> str:
    """Return the last lines of a log, or nothing if there is none."""
    try:
        text = path.read_text(errors="replace")
    except OSError:
        return ""
    return "\n".join(text.splitlines()[-lines:])
