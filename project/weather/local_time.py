"""Days as subscribers live them: when a message may be sent, and when a paid day begins."""

from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from project.config.environment import get_settings
from project.weather.settings import SmsSettings, is_in

ONE_DAY = timedelta(days=1)
# Not at midnight: an hour more or less in summer must not move a charge to another date.
PAID_DAY_BEGINS = time(3)
UNKNOWN_ZONE = "UTC"


@lru_cache(maxsize=1024)
def zone_of(name: str) -> ZoneInfo:
    """Return the time zone; UTC where this machine does not know it."""
    try:
        return ZoneInfo(name)
    except (KeyError, OSError, ValueError):
        return ZoneInfo(UNKNOWN_ZONE)


def local_date(zone: str, now: datetime) -> date:
    """Return the date in the zone."""
    return now.astimezone(zone_of(zone)).date()


def day_ends(zone: str, now: datetime) -> datetime:
    """Return when the date that is now in the zone ends."""
    return _moment(zone, local_date(zone, now) + ONE_DAY, time())


def is_quiet(zone: str, now: datetime) -> bool:
    """Tell whether nobody there is to be woken by a message now."""
    return is_in(get_settings(SmsSettings).sms_quiet_hours, now.astimezone(zone_of(zone)).time())


def next_message_time(zone: str, now: datetime, *, after: date | None = None) -> datetime:
    """Return when the next message may be made: for today if that can be, else for tomorrow.

    `after` is the last date that is done with. The moment is now for a time that was missed
    today, unless it is quiet now; never one of a date that is over.
    """
    today = local_date(zone, now)
    day = today if after is None or after < today else after + ONE_DAY
    planned = _moment(zone, day, get_settings(SmsSettings).sms_send_at)
    if day > today or planned >= now:
        return planned
    if not is_quiet(zone, now):
        return now
    return _end_of_quiet(zone, now) or _moment(
        zone, day + ONE_DAY, get_settings(SmsSettings).sms_send_at
    )


def later_today(zone: str, now: datetime, day: date, wait: timedelta) -> datetime | None:
    """Return when to try again with the message of this day; None when its time is over."""
    then = now + wait
    if is_quiet(zone, then):
        then = _end_of_quiet(zone, then) or then
    return then if local_date(zone, then) == day and not is_quiet(zone, then) else None


def paid_from(zone: str, now: datetime) -> datetime:
    """Return when the first paid period begins for somebody who subscribes now.

    With the day that is running there, if it can still bring a message, and now otherwise, so
    that every day that is paid has one.
    """
    begun = now.astimezone(zone_of(zone)) - _since_midnight(PAID_DAY_BEGINS)
    begins = _moment(zone, begun.date(), PAID_DAY_BEGINS)
    return begins if next_message_time(zone, now) < begins + ONE_DAY else now


def _end_of_quiet(zone: str, now: datetime) -> datetime | None:
    """Return when the quiet hours that are now end, if they do on this date."""
    ends = _moment(zone, local_date(zone, now), get_settings(SmsSettings).sms_quiet_hours[1])
    return ends if ends > now else None


def _moment(zone: str, day: date, at: time) -> datetime:
    return datetime.combine(day, at, zone_of(zone)).astimezone(UTC)


def _since_midnight(at: time) -> timedelta:
    return timedelta(hours=at.hour, minutes=at.minute)
