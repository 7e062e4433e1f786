"""How busy others keep the machine meanwhile: noted beside each figure, and waited out for a while.

Ours is this process and all that it started; the rest of what the machine's processors did is
others' work. Only Linux tells; elsewhere nothing is noted and nobody waits.
"""

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

QUIET_SHARE = 0.15
SAMPLE_SECONDS = 0.5
PROC = Path("/proc")
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Reading:
    """Processor seconds since some moment: all there were, those used, those used by us."""

    available: float
    used: float
    ours: float

    def __sub__(self, earlier: "Reading") -> "Reading":
        """Return what went by in between."""
        return Reading(
            self.available - earlier.available, self.used - earlier.used, self.ours - earlier.ours
        )

    def __add__(self, other: "Reading") -> "Reading":
        """Return what went by in both."""
        return Reading(
            self.available + other.available, self.used + other.used, self.ours + other.ours
        )

    @property
    def foreign_share(self) -> float:
        """Return which part of the machine others had, from 0 to 1."""
        return max(0.0, self.used - self.ours) / max(self.available, 1e-9)


class Machine:
    """Sees others' share of the machine, and waits until it is small, as long as it may in all."""

    def __init__(self, wait_seconds: float) -> None:
        self.wait_left = wait_seconds
        self._since = self._waited = _NOTHING

    def begin(self) -> None:
        """Start to watch, for the next figure."""
        self._since, self._waited = read(), _NOTHING

    def foreign_share(self) -> float | None:
        """Return others' share since `begin`, waits left out; None if the system does not tell."""
        if not PROC.exists():
            return None
        return (read() - self._since - self._waited).foreign_share

    def wait_until_quiet(self) -> None:
        """Wait until others take little of the machine, or the patience is used up."""
        while self.wait_left > 0 and PROC.exists():
            before = read()
            time.sleep(SAMPLE_SECONDS)
            sample = read() - before
            self._waited += sample
            if sample.foreign_share < QUIET_SHARE:
                return
            self.wait_left -= SAMPLE_SECONDS


def read() -> Reading:
    """Return what the system has counted until now; nothing if it does not tell."""
    if not PROC.exists():
        return _NOTHING
    fields = [int(field) for field in (PROC / "stat").read_text().split("\n")[0].split()[1:9]]
    idle = fields[3] + fields[4]
    ours = used_by(os.getpid())
    return Reading(sum(fields) / _TICKS, (sum(fields) - idle) / _TICKS, ours)


def used_by(process: int, *, without: Sequence[int] = ()) -> float:
    """Return the processor seconds of a process and its descendants, `without` some of these."""
    if not PROC.exists():
        return 0.0
    used: dict[int, int] = {}
    parents: dict[int, int] = {}
    for folder in PROC.iterdir():
        if not folder.name.isdecimal():
            continue
        try:
            # The name of a program may hold anything; what follows its bracket may not.
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        pid = int(folder.name)
        parents[pid] = int(fields[1])
        used[pid] = sum(map(int, fields[11:15]))
    ticks = sum(ticks for pid, ticks in used.items() if _descends(pid, process, parents, without))
    return ticks / _TICKS


def _descends(pid: int, ancestor: int, parents: Mapping[int, int], without: Sequence[int]) -> bool:
    while pid not in (0, *without):
        if pid == ancestor:
            return True
        pid = parents.get(pid, 0)
    return False


_NOTHING = Reading(0.0, 0.0, 0.0)
