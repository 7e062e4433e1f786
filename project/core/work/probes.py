"""The kinds of due work that are watched, and since when each has been due."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True)
class DueProbe:
    """A kind of due work and the query for when its oldest unfinished row was due."""

    name: str
    oldest_due_at: Callable[[], datetime | None]


_probes: dict[str, DueProbe] = {}


def watch(probe: DueProbe) -> None:
    """Have `GET /api/health` tell how late this kind of work is."""
    _probes[probe.name] = probe


def due_probes() -> list[DueProbe]:
    """Return every kind of due work that is watched."""
    return list(_probes.values())
