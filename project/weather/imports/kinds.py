"""What each kind of file says, and what its rows change.

`read` looks at a chunk of rows without the database; `apply` changes what they say, in the
caller's transaction, and is safe to run again: a row that is as it should be already is skipped.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Generic, TypeVar

from project.weather.forecasts.importing import ForecastRow, save_forecasts
from project.weather.forecasts.nearest import ForecastTree
from project.weather.imports.checking import Checked, keys_of
from project.weather.imports.doubles import Scan
from project.weather.imports.files import Chunk
from project.weather.imports.tasks import Counts
from project.weather.numbers import is_known
from project.weather.states import Plan, TaskKind
from project.weather.subscribers import changes
from project.weather.subscribers.changes import Addition, Outcome, Relocation

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


class FileKind(ABC, Generic[Row]):
    """A kind of file."""

    needed: ClassVar[tuple[str, ...]]
    optional: ClassVar[tuple[str, ...]] = ()
    key: ClassVar[str] = "msisdn"
    uses_tree: ClassVar[bool] = False

    def __init__(self, scan: Scan, tree: ForecastTree | None) -> None:
        self.scan = scan
        self.tree = tree

    @abstractmethod
    def read(self, chunk: Chunk) -> Read[Row]:
        """Check the rows of a chunk."""

    @abstractmethod
    def outcomes(self, rows: Sequence[Row]) -> list[Outcome]:
        """Change what the rows say and return what became of each."""

    def apply(self, read: Read[Row]) -> Counts:
        """Change what the good rows say; those that cannot be taken join the problems."""
        counts = Counts(done=len(read.checked.chunk.rows))
        outcomes = self.outcomes([row for _, row in read.rows])
        shown = read.checked.chunk.column(self.key) if set(outcomes) & set(REFUSALS) else []
        for (index, _), outcome in zip(read.rows, outcomes, strict=True):
            if outcome in REFUSALS:
                read.checked.refuse(index, self.key, REFUSALS[outcome], shown[index])
        counts.created = outcomes.count(Outcome.CREATED)
        counts.updated = outcomes.count(Outcome.UPDATED)
        counts.failed = sum(not problem.is_note for problem in read.checked.problems)
        counts.skipped = counts.done - counts.created - counts.updated - counts.failed
        return counts

    def _leave_out_doubles(self, checked: Checked) -> None:
        written = checked.chunk.column(self.key)
        keys = keys_of(written)
        for index in self.scan.superseded(keys, checked.chunk.numbers):
            checked.supersede(index, self.key, written[index])

    def _numbers(self, checked: Checked) -> list[str]:
        """Return the numbers; of one that is written in two ways the last row is taken."""
        self._leave_out_doubles(checked)
        numbers = checked.msisdns()
        last: dict[str, int] = {}
        for index in checked.good_rows():
            if numbers[index] in last:
                earlier = last[numbers[index]]
                checked.supersede(earlier, self.key, numbers[earlier])
            last[numbers[index]] = index
        return numbers


class Additions(FileKind[Addition | str]):
    """Numbers that are to get the forecast; those whose plan is 0 are to get it no more."""

    needed = ("ts", "msisdn", "original_sub_plan", "lat", "lon")
    uses_tree = True

    def read(self, chunk: Chunk) -> Read[Addition | str]:
        """Check the rows and find the nearest forecast of each."""
        checked = Checked.of(chunk)
        numbers = self._numbers(checked)
        checked.moments()
        plans = self._plans(checked)
        lat, lon = checked.degrees("lat", 90), checked.degrees("lon", 180)
        good = checked.good_rows()
        assert self.tree is not None
        nearest = self.tree.nearest(lat[good], lon[good])
        lats, lons = lat.tolist(), lon.tolist()
        rows: list[tuple[int, Addition | str]] = []
        for place, index in enumerate(good):
            number, plan = numbers[index], plans[index]
            _note_unknown(checked, index, number)
            if plan is None:
                rows.append((index, number))
                continue
            near = nearest.at(place)
            rows.append((index, Addition(number, plan, lats[index], lons[index], near)))
        return Read(checked, rows)

    def _plans(self, checked: Checked) -> list[Plan | None]:
        plans = []
        for index, value in enumerate(checked.chunk.column("original_sub_plan")):
            plans.append(PLANS.get(value.lower()))
            if value.lower() not in PLANS:
                reason = "Not a plan: 1 or daily, 2 or weekly, 0 or cancelled."
                checked.refuse(index, "original_sub_plan", reason, value)
        return plans

    def outcomes(self, rows: Sequence[Addition | str]) -> list[Outcome]:
        """Add or cancel the numbers."""
        added = [row for row in rows if isinstance(row, Addition)]
        of_added = iter(changes.add(added) if added else [])
        canceled = [row for row in rows if isinstance(row, str)]
        of_canceled = iter(changes.cancel(canceled) if canceled else [])
        return [next(of_added if isinstance(row, Addition) else of_canceled) for row in rows]


class Cancellations(FileKind[str]):
    """Numbers that are to get the forecast no more."""

    needed = ("ts", "msisdn")

    def read(self, chunk: Chunk) -> Read[str]:
        """Check the rows."""
        checked = Checked.of(chunk)
        numbers = self._numbers(checked)
        checked.moments()
        return Read(checked, [(index, numbers[index]) for index in checked.good_rows()])

    def outcomes(self, rows: Sequence[str]) -> list[Outcome]:
        """Cancel the numbers."""
        return changes.cancel(rows) if rows else []


class Updates(FileKind[Relocation]):
    """Numbers that are somewhere else now."""

    needed = ("ts", "msisdn", "lat", "lon")
    uses_tree = True

    def read(self, chunk: Chunk) -> Read[Relocation]:
        """Check the rows and find the nearest forecast of each."""
        checked = Checked.of(chunk)
        numbers = self._numbers(checked)
        checked.moments()
        lat, lon = checked.degrees("lat", 90), checked.degrees("lon", 180)
        good = checked.good_rows()
        assert self.tree is not None
        nearest = self.tree.nearest(lat[good], lon[good])
        rows = []
        for place, index in enumerate(good):
            at = nearest.at(place)
            row = Relocation(numbers[index], float(lat[index]), float(lon[index]), at)
            rows.append((index, row))
        return Read(checked, rows)

    def outcomes(self, rows: Sequence[Relocation]) -> list[Outcome]:
        """Move the numbers."""
        return changes.relocate(rows) if rows else []


class Forecasts(FileKind[ForecastRow]):
    """Forecasts: new ones, and those whose text or place changed."""

    needed = ("gid", "lat", "lon", "fcat24", "fcat48")
    optional = ("is_active",)
    key = "gid"

    def read(self, chunk: Chunk) -> Read[ForecastRow]:
        """Check the rows."""
        checked = Checked.of(chunk)
        self._leave_out_doubles(checked)
        gids = self._gids(checked)
        lat, lon = checked.degrees("lat", 90).tolist(), checked.degrees("lon", 180).tolist()
        fcat24 = checked.texts("fcat24", FORECAST_TEXT_LENGTH)
        fcat48 = checked.texts("fcat48", FORECAST_TEXT_LENGTH)
        flags = self._flags(checked)
        rows = [
            (i, ForecastRow(gids[i], lat[i], lon[i], fcat24[i], fcat48[i], flags[i]))
            for i in checked.good_rows()
        ]
        return Read(checked, rows)

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

    def outcomes(self, rows: Sequence[ForecastRow]) -> list[Outcome]:
        """Make or change the forecasts."""
        return save_forecasts(rows) if rows else []


def _note_unknown(checked: Checked, index: int, number: str) -> None:
    if not is_known(number):
        checked.note(index, "msisdn", "Possible, but not known to be given out.", number)


FileKindMaker = Callable[[Scan, ForecastTree | None], FileKind[object]]
KINDS: dict[TaskKind, type[FileKind[object]]] = {
    TaskKind.ADDITIONS: Additions,  # type: ignore[dict-item]
    TaskKind.CANCELLATIONS: Cancellations,  # type: ignore[dict-item]
    TaskKind.UPDATES: Updates,  # type: ignore[dict-item]
    TaskKind.FORECASTS: Forecasts,  # type: ignore[dict-item]
}
