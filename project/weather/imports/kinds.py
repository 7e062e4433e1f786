"""What each kind of file says, and what its rows change.

`read` looks at a chunk of rows without the database; `apply` changes what they say, in the
caller's transaction, and is safe to run again: a row that is as it should be already is skipped.
"""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar, Generic, TypeVar

from project.weather.forecasts.importing import ForecastRow, save_forecasts
from project.weather.forecasts.nearest import ForecastTree
from project.weather.imports.checking import Checked, keys_of
from project.weather.imports.doubles import Scan
from project.weather.imports.files import Chunk
from project.weather.imports.tasks import Counts
from project.weather.imports.times import TimeFormat
from project.weather.numbers import is_known
from project.weather.states import Plan, TaskKind
from project.weather.subscribers import changes
from project.weather.subscribers.changes import (
    Addition,
    Cancellation,
    Event,
    Outcome,
    Relocation,
    Result,
)

FORECAST_TEXT_LENGTH = 200
PLANS: dict[str, Plan | None] = {
    "1": Plan.DAILY,
    "daily": Plan.DAILY,
    "2": Plan.WEEKLY,
    "weekly": Plan.WEEKLY,
    "0": None,
    "cancelled": None,
    "canceled": None,
}
"""What original_sub_plan says; None is a cancellation."""
FLAGS = {"": None, "1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}
REFUSALS = {
    Outcome.UNKNOWN: "There is no subscriber with this number.",
    Outcome.STOPPED: "The number said STOP and gets no messages any more.",
}

Row = TypeVar("Row")


@dataclass(frozen=True)
class Read(Generic[Row]):
    """The good rows of a chunk: each with its index there."""

    checked: Checked
    rows: list[tuple[int, Row]]


@dataclass(frozen=True)
class Candidates(Generic[Row]):
    """What the rows of a chunk say, as far as they are good.

    `numbers` are their keys as they are kept, `times` when they happened, if they say so; `rows`
    makes those of some indexes.
    """

    numbers: Sequence[object]
    times: Sequence[datetime] | None
    rows: Callable[[Sequence[int]], list[Row]]


class FileKind(ABC, Generic[Row]):
    """A kind of file."""

    needed: ClassVar[tuple[str, ...]]
    optional: ClassVar[tuple[str, ...]] = ()
    key: ClassVar[str] = "msisdn"
    uses_tree: ClassVar[bool] = False

    def __init__(self, times: TimeFormat) -> None:
        self.times = times
        self.scan: Scan | None = None
        self.tree: ForecastTree | None = None

    @abstractmethod
    def candidates(self, checked: Checked) -> Candidates[Row]:
        """Check the rows of a chunk, each by itself."""

    @abstractmethod
    def results(self, rows: Sequence[Row]) -> list[Result]:
        """Change what the rows say and return what became of each."""

    def check(self, chunk: Chunk) -> tuple[list[int], Sequence[datetime] | None]:
        """Tell which rows of a chunk are good, and when they happened."""
        checked = Checked.of(chunk)
        found = self.candidates(checked)
        return checked.good_rows(), found.times

    def read(self, chunk: Chunk) -> Read[Row]:
        """Check the rows of a chunk; of those with the same key the newest is taken."""
        checked = Checked.of(chunk)
        found = self.candidates(checked)
        self._leave_out_doubles(checked, found)
        good = checked.good_rows()
        return Read(checked, list(zip(good, found.rows(good), strict=True)))

    def apply(self, read: Read[Row]) -> Counts:
        """Change what the good rows say; those that cannot be taken join the problems."""
        counts = Counts(done=len(read.checked.chunk.rows))
        results = self.results([row for _, row in read.rows])
        shown = read.checked.chunk.column(self.key)
        for (index, _), result in zip(read.rows, results, strict=True):
            if result.outcome in REFUSALS:
                read.checked.refuse(index, self.key, REFUSALS[result.outcome], shown[index])
            elif result.known_since is not None:
                read.checked.note(index, "ts", _gives_way(result), shown[index])
        outcomes = Counter(result.outcome for result in results)
        counts.created = outcomes[Outcome.CREATED]
        counts.updated = outcomes[Outcome.UPDATED]
        counts.failed = sum(not problem.is_note for problem in read.checked.problems)
        counts.skipped = counts.done - counts.created - counts.updated - counts.failed
        return counts

    def _leave_out_doubles(self, checked: Checked, found: Candidates[Row]) -> None:
        chunk = checked.chunk
        written = chunk.column(self.key)
        assert self.scan is not None
        for index, by in self.scan.superseded(keys_of(written), chunk.numbers):
            checked.supersede(index, self.key, written[index], by=by)
        # One number may be written in two ways, which are two keys.
        taken: dict[object, int] = {}
        for index in checked.good_rows():
            other = taken.setdefault(found.numbers[index], index)
            if other == index:
                continue
            old, new = other, index
            if found.times is not None and found.times[other] > found.times[index]:
                old, new = index, other
            checked.supersede(old, self.key, written[old], by=chunk.numbers[new])
            taken[found.numbers[index]] = new


class Additions(FileKind[Event]):
    """Numbers that are to get the forecast; those whose plan is 0 are to get it no more."""

    needed = ("ts", "msisdn", "original_sub_plan", "lat", "lon")
    uses_tree = True

    def candidates(self, checked: Checked) -> Candidates[Event]:
        """Check the rows, each by itself."""
        numbers = checked.msisdns()
        moments = checked.moments(self.times)
        plans = self._plans(checked)
        lat, lon = checked.degrees("lat", 90), checked.degrees("lon", 180)

        def rows(good: Sequence[int]) -> list[Event]:
            assert self.tree is not None
            nearest = self.tree.nearest(lat[good], lon[good])
            lats, lons = lat.tolist(), lon.tolist()
            found: list[Event] = []
            for place, index in enumerate(good):
                number, plan, at = numbers[index], plans[index], moments[index]
                _note_unknown(checked, index, number)
                if plan is None:
                    found.append(Cancellation(number, at))
                    continue
                near = nearest.at(place)
                found.append(Addition(number, plan, lats[index], lons[index], near, at))
            return found

        return Candidates(numbers, moments, rows)

    def _plans(self, checked: Checked) -> list[Plan | None]:
        plans = []
        for index, value in enumerate(checked.chunk.column("original_sub_plan")):
            plans.append(PLANS.get(value.lower()))
            if value.lower() not in PLANS:
                reason = "Not a plan: 1 or daily, 2 or weekly, 0 or cancelled."
                checked.refuse(index, "original_sub_plan", reason, value)
        return plans

    def results(self, rows: Sequence[Event]) -> list[Result]:
        """Add or cancel the numbers."""
        return changes.apply_events(rows) if rows else []


class Cancellations(FileKind[Event]):
    """Numbers that are to get the forecast no more."""

    needed = ("ts", "msisdn")

    def candidates(self, checked: Checked) -> Candidates[Event]:
        """Check the rows, each by itself."""
        numbers = checked.msisdns()
        moments = checked.moments(self.times)

        def rows(good: Sequence[int]) -> list[Event]:
            return [Cancellation(numbers[index], moments[index]) for index in good]

        return Candidates(numbers, moments, rows)

    def results(self, rows: Sequence[Event]) -> list[Result]:
        """Cancel the numbers."""
        return changes.apply_events(rows) if rows else []


class Updates(FileKind[Event]):
    """Numbers that are somewhere else now."""

    needed = ("ts", "msisdn", "lat", "lon")
    uses_tree = True

    def candidates(self, checked: Checked) -> Candidates[Event]:
        """Check the rows, each by itself."""
        numbers = checked.msisdns()
        moments = checked.moments(self.times)
        lat, lon = checked.degrees("lat", 90), checked.degrees("lon", 180)

        def rows(good: Sequence[int]) -> list[Event]:
            assert self.tree is not None
            nearest = self.tree.nearest(lat[good], lon[good])
            return [
                Relocation(
                    numbers[index],
                    float(lat[index]),
                    float(lon[index]),
                    nearest.at(place),
                    moments[index],
                )
                for place, index in enumerate(good)
            ]

        return Candidates(numbers, moments, rows)

    def results(self, rows: Sequence[Event]) -> list[Result]:
        """Move the numbers."""
        return changes.apply_events(rows) if rows else []


class Forecasts(FileKind[ForecastRow]):
    """Forecasts: new ones, and those whose text or place changed."""

    needed = ("gid", "lat", "lon", "fcat24", "fcat48")
    optional = ("is_active",)
    key = "gid"

    def candidates(self, checked: Checked) -> Candidates[ForecastRow]:
        """Check the rows, each by itself."""
        gids = self._gids(checked)
        lat, lon = checked.degrees("lat", 90).tolist(), checked.degrees("lon", 180).tolist()
        fcat24 = checked.texts("fcat24", FORECAST_TEXT_LENGTH)
        fcat48 = checked.texts("fcat48", FORECAST_TEXT_LENGTH)
        flags = self._flags(checked)

        def rows(good: Sequence[int]) -> list[ForecastRow]:
            return [
                ForecastRow(gids[i], lat[i], lon[i], fcat24[i], fcat48[i], flags[i]) for i in good
            ]

        return Candidates(gids, None, rows)

    def _gids(self, checked: Checked) -> list[int]:
        values = checked.chunk.column("gid")
        gids = keys_of(values)
        for index, gid in enumerate(gids):
            if gid < 1 or values[index].startswith("+"):
                checked.refuse(index, "gid", "Not a whole number from 1 on.", values[index])
        return gids

    def _flags(self, checked: Checked) -> list[bool | None]:
        values = checked.chunk.column("is_active")
        for index, value in enumerate(values):
            if value.lower() not in FLAGS:
                checked.refuse(index, "is_active", "Neither 1 nor 0.", value)
        return [FLAGS.get(value.lower()) for value in values]

    def results(self, rows: Sequence[ForecastRow]) -> list[Result]:
        """Make or change the forecasts."""
        return [Result(outcome) for outcome in save_forecasts(rows)] if rows else []


def _gives_way(result: Result) -> str:
    taken = "only its place is taken" if result.outcome is Outcome.UPDATED else "nothing is changed"
    assert result.known_since is not None
    since = result.known_since.isoformat().replace("+00:00", "Z")
    return f"Not newer than what is known since {since}: {taken}."


def _note_unknown(checked: Checked, index: int, number: str) -> None:
    if not is_known(number):
        checked.note(index, "msisdn", "Possible, but not known to be given out.", number)


KINDS: dict[TaskKind, type[FileKind[object]]] = {
    TaskKind.ADDITIONS: Additions,  # type: ignore[dict-item]
    TaskKind.CANCELLATIONS: Cancellations,  # type: ignore[dict-item]
    TaskKind.UPDATES: Updates,  # type: ignore[dict-item]
    TaskKind.FORECASTS: Forecasts,  # type: ignore[dict-item]
}
