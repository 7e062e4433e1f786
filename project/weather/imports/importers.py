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

from project.weather.forecasts.bulk_upsert import ForecastRow, save_forecasts
from project.weather.forecasts.nearest import ForecastTree
from project.weather.imports.duplicates import Scan
from project.weather.imports.files import Chunk, Columns, FileError, Pieces, Table, open_table
from project.weather.imports.validation import Checked, keys_of
from project.weather.input import MAX_FORECAST_LENGTH
from project.weather.normalization import whole
from project.weather.numbers import NumberKind, kind_of, refusal
from project.weather.states import Plan, RowOutcome, TaskKind
from project.weather.subscribers import changes
from project.weather.subscribers.changes import (
    Addition,
    Cancellation,
    Event,
    Relocation,
    Result,
)
from project.weather.tasks import Counts, Reading

PLANS: dict[str, Plan | None] = {
    "1": Plan.DAILY,
    "11": Plan.DAILY,
    "daily": Plan.DAILY,
    "2": Plan.WEEKLY,
    "21": Plan.WEEKLY,
    "weekly": Plan.WEEKLY,
    "0": None,
    "cancelled": None,
    "canceled": None,
}
"""What original_sub_plan says; None is a cancellation. 11 and 21 are a carrier's services."""
NOT_A_PLAN = "Not a plan: 1, 11 or daily; 2, 21 or weekly; 0 or cancelled."
NO_FORECAST = "No forecast is near enough: no message is made until there is one."
NO_FORECASTS = "There is no active forecast yet: no message is made until there is one near enough."
FLAGS = {"": None, "1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}
REFUSALS = {
    RowOutcome.UNKNOWN: "There is no subscriber with this number.",
    RowOutcome.STOPPED: "The number said STOP and gets no messages any more.",
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

    columns: ClassVar[Columns]
    has_texts: ClassVar[bool] = False
    uses_tree: ClassVar[bool] = False

    def __init__(self, reading: Reading) -> None:
        self.reading = reading
        self.times = reading.times
        self.scan: Scan | None = None
        self.tree: ForecastTree | None = None

    @property
    def key(self) -> str:
        """The column by which rows are told apart."""
        return self.columns.key

    @abstractmethod
    def candidates(self, checked: Checked) -> Candidates[Row]:
        """Check the rows of a chunk, each by itself."""

    @abstractmethod
    def results(self, rows: Sequence[Row]) -> list[Result]:
        """Change what the rows say and return what became of each."""

    def open(self, pieces: Pieces) -> Table:
        """Find out how a file of this kind is written. Raises FileError."""
        table = open_table(pieces, self.columns, stated_encoding=self.reading.encoding)
        if table.encoding.is_doubtful and self.has_texts:
            raise FileError(table.encoding.note)
        return table

    def note_on(self, table: Table) -> str | None:
        """Return what is to be told once of the whole file, if there is something."""
        has_no_forecasts = self.tree is not None and self.tree.is_empty
        notes = (table.encoding.note, NO_FORECASTS if has_no_forecasts else None)
        return " ".join(note for note in notes if note) or None

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
        chunk = read.checked.chunk
        counts = Counts(done=len(chunk.rows), blank=chunk.blank)
        results = self.results([row for _, row in read.rows])
        shown = read.checked.chunk.column(self.key)
        for (index, _), result in zip(read.rows, results, strict=True):
            if result.outcome in REFUSALS:
                read.checked.refuse(index, self.key, REFUSALS[result.outcome], shown[index])
            elif result.known_since is not None:
                read.checked.note(index, "ts", _gives_way(result), shown[index])
        outcomes = Counter(result.outcome for result in results)
        counts.created = outcomes[RowOutcome.CREATED]
        counts.updated = outcomes[RowOutcome.UPDATED]
        counts.failed = sum(not problem.is_note for problem in read.checked.problems)
        counts.skipped = counts.done - counts.created - counts.updated - counts.failed
        return counts

    def _leave_out_doubles(self, checked: Checked, found: Candidates[Row]) -> None:
        chunk = checked.chunk
        written = chunk.column(self.key)
        assert self.scan is not None
        for index, by in self.scan.superseded(keys_of(chunk, self.key), chunk.numbers):
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


class EventKind(FileKind[Event]):
    """A kind of file whose rows say what happened to numbers."""

    def results(self, rows: Sequence[Event]) -> list[Result]:
        """Add, cancel and move the numbers."""
        return changes.apply_events(rows) if rows else []


class Additions(EventKind):
    """Numbers that are to get the forecast; those whose plan is 0 are to get it no more."""

    columns = Columns(
        "msisdn",
        ("ts", "msisdn", "original_sub_plan", "lat", "lon"),
        aliases={"service_id": "original_sub_plan", "plan": "original_sub_plan"},
    )
    uses_tree = True

    def candidates(self, checked: Checked) -> Candidates[Event]:
        """Check the rows, each by itself."""
        numbers = checked.msisdns()
        moments = checked.moments(self.times)
        plans = self._plans(checked)
        leaving = frozenset(index for index, plan in enumerate(plans) if plan is None)
        lat = checked.degrees("lat", 90, not_needed=leaving)
        lon = checked.degrees("lon", 180, not_needed=leaving)
        for index in checked.good_rows():
            if plans[index] is not None:
                _look_at_kind(checked, index, numbers[index])

        def rows(good: Sequence[int]) -> list[Event]:
            assert self.tree is not None
            nearest = self.tree.nearest(lat[good], lon[good])
            lats, lons = lat.tolist(), lon.tolist()
            found: list[Event] = []
            for place, index in enumerate(good):
                number, plan, at = numbers[index], plans[index], moments[index]
                if plan is None:
                    found.append(Cancellation(number, at))
                    continue
                near = nearest.at(place)
                if near is None and not self.tree.is_empty:
                    checked.note(index, "lat", NO_FORECAST, f"{lats[index]} {lons[index]}")
                found.append(Addition(number, plan, lats[index], lons[index], near, at))
            return found

        return Candidates(numbers, moments, rows)

    def _plans(self, checked: Checked) -> list[Plan | None]:
        plans = []
        for index, value in enumerate(checked.chunk.column("original_sub_plan")):
            name = value if value in PLANS else whole(value).lower()
            plans.append(PLANS.get(name))
            if name not in PLANS:
                checked.refuse(index, "original_sub_plan", NOT_A_PLAN, value)
        return plans


class Cancellations(EventKind):
    """Numbers that are to get the forecast no more."""

    columns = Columns("msisdn", ("ts", "msisdn"))

    def candidates(self, checked: Checked) -> Candidates[Event]:
        """Check the rows, each by itself."""
        numbers = checked.msisdns()
        moments = checked.moments(self.times)

        def rows(good: Sequence[int]) -> list[Event]:
            return [Cancellation(numbers[index], moments[index]) for index in good]

        return Candidates(numbers, moments, rows)


class Updates(EventKind):
    """Numbers that are somewhere else now."""

    columns = Columns("msisdn", ("ts", "msisdn", "lat", "lon"))
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


class Forecasts(FileKind[ForecastRow]):
    """Forecasts: new ones, and those whose text or place changed."""

    columns = Columns("gid", ("gid", "lat", "lon", "fcat24", "fcat48"), ("is_active",))
    has_texts = True

    def candidates(self, checked: Checked) -> Candidates[ForecastRow]:
        """Check the rows, each by itself."""
        gids = self._gids(checked)
        lat, lon = checked.degrees("lat", 90).tolist(), checked.degrees("lon", 180).tolist()
        fcat24 = checked.texts("fcat24", MAX_FORECAST_LENGTH)
        fcat48 = checked.texts("fcat48", MAX_FORECAST_LENGTH)
        flags = self._flags(checked)

        def rows(good: Sequence[int]) -> list[ForecastRow]:
            return [
                ForecastRow(gids[i], lat[i], lon[i], fcat24[i], fcat48[i], flags[i]) for i in good
            ]

        return Candidates(gids, None, rows)

    def _gids(self, checked: Checked) -> list[int]:
        values = checked.chunk.column("gid")
        gids = keys_of(checked.chunk, self.key)
        for index, gid in enumerate(gids):
            if gid < 1 or values[index].startswith("+"):
                checked.refuse(index, "gid", "Not a whole number from 1 on.", values[index])
        return gids

    def _flags(self, checked: Checked) -> list[bool | None]:
        values = checked.chunk.column("is_active")
        for index, value in enumerate(values):
            if whole(value).lower() not in FLAGS:
                checked.refuse(index, "is_active", "Neither 1 nor 0.", value)
        return [FLAGS.get(whole(value).lower()) for value in values]

    def results(self, rows: Sequence[ForecastRow]) -> list[Result]:
        """Make or change the forecasts."""
        return [Result(outcome) for outcome in save_forecasts(rows)] if rows else []


def _gives_way(result: Result) -> str:
    taken = (
        "only its place is taken" if result.outcome is RowOutcome.UPDATED else "nothing is changed"
    )
    assert result.known_since is not None
    since = result.known_since.isoformat().replace("+00:00", "Z")
    return f"Not newer than what is known since {since}: {taken}."


def _look_at_kind(checked: Checked, index: int, number: str) -> None:
    """Refuse numbers that are not served, and note what may get no message, before any charge."""
    kind = kind_of(number)
    if kind is NumberKind.MOBILE:
        return
    written = checked.chunk.column_value(index, "msisdn")
    reason = refusal(number, whole(written))
    if reason is not None:
        checked.refuse(index, "msisdn", reason, written)
    elif kind is NumberKind.UNKNOWN:
        checked.note(index, "msisdn", "Possible, but not known to be given out.", number)
    elif kind is not NumberKind.OTHER:
        checked.note(index, "msisdn", f"A number for {kind}: it may get no messages.", number)


KINDS: dict[TaskKind, type[FileKind[object]]] = {
    TaskKind.ADDITIONS: Additions,  # type: ignore[dict-item]
    TaskKind.CANCELLATIONS: Cancellations,  # type: ignore[dict-item]
    TaskKind.UPDATES: Updates,  # type: ignore[dict-item]
    TaskKind.FORECASTS: Forecasts,  # type: ignore[dict-item]
}
