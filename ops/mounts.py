"""Let an ordinary user reach paths below private folders, without a change to their modes.

In a mount namespace of this process and all that it starts, a private folder such as /root is
covered by an empty one that holds nothing but the paths that are needed. Everybody else sees the
folder as before, and the user sees nothing else of it. Linux only; needs CAP_SYS_ADMIN.
"""

import contextlib
import ctypes
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

# From <linux/sched.h> and <linux/mount.h>.
CLONE_NEWNS = 0x0002_0000
MS_NOSUID, MS_NODEV, MS_NOEXEC = 2, 4, 8
MS_BIND, MS_REC, MS_SLAVE = 1 << 12, 1 << 14, 1 << 19


def reveal(paths: Iterable[Path], can_enter: Callable[[Path], bool]) -> None:
    """Cover the folders that `can_enter` refuses, with `paths` in them as they are.

    Raises OSError where the kernel forbids it.
    """
    links: dict[Path, str] = {}
    covered: set[Path] = set()
    shown: set[Path] = set()
    for path in {_resolved(one, links) for one in paths}:
        closed = [one for one in path.parents if not can_enter(one)]
        shown |= {path} if closed else set()
        if _is_private(path):
            # Its own mode stands in the way too: what is in it is shown piece by piece.
            closed.insert(0, path)
            shown = shown - {path} | set(path.iterdir())
        covered |= set(closed[-1:])
    if covered:
        _cover(_outermost(covered), _outermost(shown), links)


def _resolved(path: Path, links: dict[Path, str]) -> Path:
    """Return where a path leads, and add every symbolic link on the way to `links`."""
    place = Path("/")
    for part in Path(os.path.abspath(path)).parts[1:]:
        place = place / part
        if place.is_symlink():
            links[place] = os.readlink(place)
            place = _resolved(place.parent / links[place], links)
    return place


def _is_private(path: Path) -> bool:
    status = path.stat()
    return path.is_dir() and status.st_uid == os.geteuid() and status.st_mode & 0o005 != 0o005


def _outermost(paths: set[Path]) -> list[Path]:
    return sorted(path for path in paths if paths.isdisjoint(path.parents))


def _cover(folders: list[Path], shown: list[Path], links: dict[Path, str]) -> None:
    if sys.platform != "linux":
        raise OSError("only Linux has mount namespaces")
    _call("unshare", CLONE_NEWNS)
    # What others mount from now on appears here as well, but never the other way round.
    _mount("none", Path("/"), MS_REC | MS_SLAVE)
    with _opened(shown) as handles:
        mask = os.umask(0o022)
        for folder in folders:
            _mount("tmpfs", folder, MS_NOSUID | MS_NODEV | MS_NOEXEC, kind="tmpfs")
        for path, handle in zip(shown, handles, strict=True):
            _put_back(path, Path(f"/proc/self/fd/{handle}"))
        for link, target in links.items():
            if not os.path.lexists(link):
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to(target)
        os.umask(mask)


@contextlib.contextmanager
def _opened(paths: list[Path]) -> Iterator[list[int]]:
    with contextlib.ExitStack() as closing:
        handles = []
        for path in paths:
            handles.append(os.open(path, os.O_PATH | os.O_NOFOLLOW))
            closing.callback(os.close, handles[-1])
        yield handles


def _put_back(path: Path, handle: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if handle.is_dir():
        path.mkdir(exist_ok=True)
    elif not os.path.lexists(path):
        path.touch()
    _mount(str(handle), path, MS_BIND | MS_REC)


def _mount(source: str, target: Path, flags: int, *, kind: str = "none") -> None:
    data = b"mode=755" if kind == "tmpfs" else None
    _call("mount", source.encode(), os.fsencode(target), kind.encode(), flags, data)


def _call(function: str, *arguments: int | bytes | None) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    numbers = [ctypes.c_ulong(one) if isinstance(one, int) else one for one in arguments]
    if libc[function](*numbers) != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"{function}: {os.strerror(error)}")
