"""The packages of the peers, installed apart from our own when a benchmark first asks for them."""

import shutil
import subprocess
import venv
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from hashlib import sha256
from pathlib import Path
from typing import TypeVar

from ops.environment import PROJECT

HERE = Path(__file__).parent
INSTALLED = PROJECT / "var" / "peers"
COMPLETE = ".complete"
INSTALL_SECONDS = 180
OLDEST_NODE = 20

Peer = TypeVar("Peer")


class Missing(Exception):
    """A peer cannot be had on this machine; the message says why."""


@contextmanager
def optional(peer: AbstractContextManager[Peer]) -> Iterator[Peer | Missing]:
    """Give the peer, or why it cannot be had."""
    with ExitStack() as stack:
        try:
            found: Peer | Missing = stack.enter_context(peer)
        except Missing as reason:
            found = reason
        yield found


def node_scripts() -> Path:
    """Return a folder that holds the peers' scripts for Node and what they import.

    Raises Missing without Node, npm or a way to the packages.
    """
    _require_node()
    source = HERE / "npm"
    folder = _installed(source / "package-lock.json", lambda folder: _install_npm(source, folder))
    for script in source.glob("*.js"):
        shutil.copy(script, folder)
    return folder


def python() -> Path:
    """Return a Python that can run the peers in Python. Raises Missing without pip or packages."""
    requirements = HERE / "pypi" / "requirements.txt"
    return _installed(requirements, lambda folder: _install_pypi(requirements, folder)) / _PYTHON


_PYTHON = Path("bin", "python")


def _require_node() -> None:
    missing = [name for name in ("node", "npm") if shutil.which(name) is None]
    if missing:
        raise Missing(f"{' and '.join(missing)} not found")
    version = _run(["node", "--version"]).strip()
    if int(version.removeprefix("v").partition(".")[0]) < OLDEST_NODE:
        raise Missing(f"node {version} found, {OLDEST_NODE} or newer needed")


def _installed(lock: Path, install: Callable[[Path], None]) -> Path:
    """Return the folder of what this lock file names; install it unless that was done before."""
    folder = INSTALLED / f"{lock.parent.name}-{sha256(lock.read_bytes()).hexdigest()[:12]}"
    if not (folder / COMPLETE).exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        install(folder)
        (folder / COMPLETE).touch()
    return folder


def _install_npm(source: Path, folder: Path) -> None:
    for name in ("package.json", "package-lock.json"):
        shutil.copy(source / name, folder)
    _run(["npm", "ci", "--no-audit", "--no-fund", "--silent"], folder)


def _install_pypi(requirements: Path, folder: Path) -> None:
    try:
        venv.create(folder, with_pip=True)
    except (subprocess.CalledProcessError, OSError) as error:
        raise Missing("no pip for an environment of its own") from error
    options = ("-q", "--disable-pip-version-check", "--no-input", "--retries", "1")
    _run([folder / _PYTHON, "-m", "pip", "install", *options, "-r", requirements])


def _run(command: Sequence[str | Path], folder: Path | None = None) -> str:
    """Run a command and return what it prints. Raises Missing with its last words."""
    name = Path(command[0]).name
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
            timeout=INSTALL_SECONDS,
        )
    except subprocess.TimeoutExpired:
        raise Missing(f"{name} took longer than {INSTALL_SECONDS} s") from None
    if done.returncode != 0:
        lines = (done.stderr or done.stdout).strip().splitlines() or [f"ended {done.returncode}"]
        raise Missing(f"{name} could not install: {lines[-1][:200]}")
    return done.stdout
