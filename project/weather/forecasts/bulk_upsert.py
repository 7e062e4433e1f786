"""Forecasts of a file, written many at a time."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import BigInteger, Boolean, Double, Text, select
from sqlalchemy.dialects.postgresql import insert

from project.core import clock
from project.core.db import bulk
from project.core.db.rows import table_of
from project.extensions import db
from project.weather.models import Forecast
from project.weather.states import RowOutcome

forecasts = table_of(Forecast)


@dataclass(frozen=True, slots=True)
class ForecastRow:
    """A forecast as a file says it; is_active is None where the file is silent."""

    gid: int
    lat: float
    lon: float
    fcat24: str
    fcat48: str
    is_active: bool | None


def save_forecasts(rows: Sequence[ForecastRow]) -> list[RowOutcome]:
    """Make or change forecasts, each gid once; return what became of each row."""
    known = _locked([row.gid for row in rows])
    outcomes = [_outcome_of(row, known.get(row.gid)) for row in rows]
    written = [
        row
        for row, outcome in zip(rows, outcomes, strict=True)
        if outcome is not RowOutcome.SKIPPED
    ]
    # Two writers have the same order, so that neither waits for the other.
    _write(sorted(written, key=lambda row: row.gid), known)
    return outcomes


def _outcome_of(row: ForecastRow, known: ForecastRow | None) -> RowOutcome:
    if known is None:
        return RowOutcome.CREATED
    is_active = known.is_active if row.is_active is None else row.is_active
    wanted = ForecastRow(row.gid, row.lat, row.lon, row.fcat24, row.fcat48, is_active)
    return RowOutcome.SKIPPED if wanted == known else RowOutcome.UPDATED


def _locked(gids: Sequence[int]) -> dict[int, ForecastRow]:
    given = bulk.rows_of({"gid": (BigInteger(), gids)})
    columns = (forecasts.c[name] for name in ForecastRow.__dataclass_fields__)
    found = db.session.execute(
        select(*columns)
        .join(given, given.c.gid == forecasts.c.gid)
        .order_by(forecasts.c.gid)
        .with_for_update(of=forecasts)
    )
    return {row.gid: ForecastRow(*row) for row in found}


def _write(rows: Sequence[ForecastRow], known: dict[int, ForecastRow]) -> None:
    if not rows:
        return
    now = clock.now()
    flags = [
        row.is_active if row.is_active is not None else _was_active(known.get(row.gid))
        for row in rows
    ]
    given = bulk.rows_of(
        {
            "gid": (BigInteger(), [row.gid for row in rows]),
            "lat": (Double(), [row.lat for row in rows]),
            "lon": (Double(), [row.lon for row in rows]),
            "fcat24": (Text(), [row.fcat24 for row in rows]),
            "fcat48": (Text(), [row.fcat48 for row in rows]),
            "is_active": (Boolean(), flags),
            "created_at": (forecasts.c.created_at.type, [now] * len(rows)),
            "updated_at": (forecasts.c.updated_at.type, [now] * len(rows)),
        }
    )
    statement = insert(forecasts).from_select(list(given.c.keys()), select(*given.c))
    changed = {
        name: statement.excluded[name]
        for name in given.c.keys()  # noqa: SIM118
        if name not in ("gid", "created_at")
    }
    db.session.execute(statement.on_conflict_do_update(index_elements=["gid"], set_=changed))


def _was_active(known: ForecastRow | None) -> bool:
    return known is None or bool(known.is_active)
