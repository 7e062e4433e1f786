"""When something happened, by the sender's own words: ISO 8601, Unix time, or as is stated."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

LONGEST_FORMAT = 50
PRESETS = ("iso", "dmy", "mdy", "excel")
FORWARD_SLACK = timedelta(days=1)
"""How far a sender's clock may be ahead of ours: what lies beyond is a slip of the pen."""

_ISO = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}"
    r"([T ][0-9]{2}:[0-9]{2}(:[0-9]{2}([.,][0-9]{1,9})?)?"
    r" ?(Z|UTC|GMT|[+-][0-9]{2}(:?[0-9]{2})?)?)?",
    re.IGNORECASE,
)
_UTC = re.compile(r" ?(Z|UTC|GMT)$", re.IGNORECASE)
_SECONDS = re.compile(r"[0-9]{9,10}(\.[0-9]{1,9})?")
_MILLISECONDS = re.compile(r"[0-9]{13}")
_NUMBERS = re.compile(
    r"([0-9]{1,2})[./-]([0-9]{1,2})[./-]([0-9]{4}|[0-9]{2})"
    r"(?:,?[ T]+([0-9]{1,2}):([0-9]{2})(?::([0-9]{2})(?:\.[0-9]{1,9})?)?(?: ?([AP])\.?M\.?)?)?",
    re.IGNORECASE,
)
_SERIAL = re.compile(r"([0-9]{5,6})(?:[.,]([0-9]{1,15}))?")
_SERIAL_EPOCH = datetime(1899, 12, 30)
_SAMPLE = datetime(2001, 11, 23, 16, 7, tzinfo=UTC)

NOT_A_TIME = (
    "Not a time such as 2026-01-31T08:00:00Z or seconds since 1970; how else it is written"
    " is stated by ts_format (dmy, mdy, excel or a pattern such as %d.%m.%Y %H:%M)."
)


@dataclass(frozen=True)
class TimeFormat:
    """How a file writes its times; one without an offset is of the time zone `zone` (IANA)."""

    form: str | None = None
    zone: str | None = None

    def read(self, written: str) -> datetime | None:
        """Return the time that is meant, or None for what is none."""
        return _read(written, self.form or "iso", self.zone or "UTC")

    @property
    def complaint(self) -> str:
        """What is said of a value that is no time."""
        return f"Not a time as {self.form} says." if self.form else NOT_A_TIME


def is_format(form: str) -> bool:
    """Tell whether this is a preset, or a pattern that says a day, month and year.

    An offset is read by %z; the name of a zone (%Z) would be passed over.
    """
    if form in PRESETS:
        return True
    if "%" not in form or "%Z" in form or len(form) > LONGEST_FORMAT:
        return False
    try:
        read = datetime.strptime(_SAMPLE.strftime(form), form)
    except (ValueError, re.error):
        return False
    return read.date() == _SAMPLE.date()


def is_zone(name: str) -> bool:
    """Tell whether there is a time zone of this name."""
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return False
    return True


@lru_cache(maxsize=16_384)
def _read(written: str, form: str, zone: str) -> datetime | None:
    try:
        moment = _as_stated(written, form)
        if moment is None or moment.tzinfo is not None:
            return moment and moment.astimezone(UTC)
        return moment.replace(tzinfo=ZoneInfo(zone)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _as_stated(written: str, form: str) -> datetime | None:
    if form not in PRESETS:
        return datetime.strptime(written, form)
    if _ISO.fullmatch(written):
        iso = _UTC.sub("Z", written).replace(" +", "+").replace(" -", "-")
        return datetime.fromisoformat(iso)
    if form == "excel":
        return _from_serial(written)
    if form != "iso":
        return _from_numbers(written, day_first=form == "dmy")
    if _SECONDS.fullmatch(written):
        return datetime.fromtimestamp(float(written), UTC)
    if _MILLISECONDS.fullmatch(written):
        return datetime.fromtimestamp(int(written) / 1000, UTC)
    return None


def _from_numbers(written: str, *, day_first: bool) -> datetime | None:
    found = _NUMBERS.fullmatch(written)
    if found is None:
        return None
    first, second, year, hour, minute, seconds, half = found.groups()
    day, month = (first, second) if day_first else (second, first)
    hours = int(hour or 0)
    if half:
        if not 1 <= hours <= 12:
            return None
        hours = hours % 12 + (12 if half in "pP" else 0)
    full_year = int(year) if len(year) == 4 else 2000 + int(year)
    return datetime(full_year, int(month), int(day), hours, int(minute or 0), int(seconds or 0))


def _from_serial(written: str) -> datetime | None:
    """Read the days since 1900 that Excel keeps; its parts of a day are good to a millisecond."""
    found = _SERIAL.fullmatch(written)
    if found is None:
        return None
    milliseconds = round(float(f"0.{found[2] or 0}") * 86_400_000)
    return _SERIAL_EPOCH + timedelta(days=int(found[1]), milliseconds=milliseconds)
