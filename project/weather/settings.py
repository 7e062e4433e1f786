"""The settings of forecast messages: plans, gateways, receipts and files."""

import hmac
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from datetime import time as time_of_day
from typing import Any
from urllib.parse import unquote, urlsplit

from project.config.declare import (
    ConfigurationError,
    Decimal,
    Derived,
    Items,
    Parsed,
    Reader,
    Secret,
    Secrets,
    Settings,
    Switch,
    Text,
    Url,
    Whole,
    setting,
)
from project.config.kernel import (
    CALL_SECONDS,
    CoreSettings,
    HttpSettings,
    SimulatorSettings,
)

DAY_SECONDS = 86_400
LANGUAGES = ("en", "tr", "ru")
MAX_UNIT_LENGTH = 8
GATEWAY_SCHEMES = ("http", "https", "twilio", "twilio+http")


def is_in(hours: tuple[time_of_day, time_of_day], at: time_of_day) -> bool:
    """Tell whether a time of day lies in hours that may go past midnight."""
    start, end = hours
    return start <= at < end if start <= end else at >= start or at < end


def _units(items: list[str]) -> tuple[tuple[str, str], ...]:
    """Return the unit of each language: one for all, or `en:mm,tr:mm,ru:мм`."""
    items = [item.strip() for item in items if item.strip()]
    if len(items) == 1 and ":" not in items[0]:
        return tuple((language, items[0]) for language in LANGUAGES)
    units = tuple(
        (name.strip(), unit.strip()) for name, _, unit in (i.partition(":") for i in items)
    )
    if any(language not in LANGUAGES or not unit for language, unit in units):
        raise ValueError(f"FORECAST_UNIT is one unit, or language:unit for {', '.join(LANGUAGES)}")
    if any(len(unit) > MAX_UNIT_LENGTH for _, unit in units):
        raise ValueError(f"FORECAST_UNIT is longer than {MAX_UNIT_LENGTH} characters")
    return units


def _gateways(items: list[str]) -> tuple[str, ...]:
    gateways = tuple(url.strip() for url in items if url.strip())
    for url in gateways:
        if url.partition("://")[0] not in GATEWAY_SCHEMES or not urlsplit(url).hostname:
            raise ValueError(f"SMS_GATEWAYS must be URLs of {', '.join(GATEWAY_SCHEMES)}")
        _check_gateway_credentials(url)
    return gateways


def _check_gateway_credentials(url: str) -> None:
    parts = urlsplit(url)
    expected = "@" in parts.netloc or parts.scheme.startswith("twilio")
    given = [unquote(part or "").strip() for part in (parts.username, parts.password)]
    if expected and not all(given):
        raise ConfigurationError(
            f"SMS_GATEWAYS: {parts.scheme}://…@{parts.hostname} has no user or no secret. "
            f"Write {parts.scheme}://USER:SECRET@{parts.hostname}."
        )


def _simulated_gateways(read: Reader, _before: Mapping[str, Any]) -> tuple[str, ...]:
    simulator = read(SimulatorSettings).simulator_url
    return (f"{simulator}/sms/first/messages", f"{simulator}/sms/second/messages")


def _send_at(text: str) -> time_of_day:
    return _time_of_day("SMS_SEND_AT", text)


def _quiet_hours(text: str) -> tuple[time_of_day, time_of_day]:
    start, dash, end = text.partition("-")
    if not dash:
        raise ValueError("SMS_QUIET_HOURS are two times of day such as 21:00-08:00")
    return _time_of_day("SMS_QUIET_HOURS", start), _time_of_day("SMS_QUIET_HOURS", end)


def _time_of_day(name: str, text: str) -> time_of_day:
    try:
        return datetime.strptime(text.strip(), "%H:%M").time()
    except ValueError as error:
        raise ValueError(f"{name} is a time of day such as 08:00") from error


def _derived_secret(read: Reader, _before: Mapping[str, Any]) -> str:
    """Return a secret for one purpose, the same in every process of a copy."""
    secret_key = read(CoreSettings).secret_keys[0]
    return hmac.digest(secret_key.encode(), b"sms-callback", "sha256").hex()


def _receipt_url(read: Reader, _before: Mapping[str, Any]) -> str:
    return f"http://127.0.0.1:{read(HttpSettings).port}/api/subscribers/callback/"


@dataclass(frozen=True)
class ForecastSettings(Settings):
    """What forecasts cost, and whom they reach."""

    title = "Forecast SMS: plans"

    forecast_daily_price: int = setting(
        "FORECAST_DAILY_PRICE",
        Whole(1, 10**12),
        100,
        unit="minor units",
        help="What a day of forecasts costs",
    )
    forecast_weekly_price: int = setting(
        "FORECAST_WEEKLY_PRICE",
        Whole(1, 10**12),
        500,
        unit="minor units",
        help="What a week of forecasts costs",
    )
    forecast_currency: str = setting(
        "FORECAST_CURRENCY",
        Text(pattern="^[A-Z]{3}$"),
        "RUB",
        help="The currency of both prices (ISO 4217)",
    )
    forecast_units: tuple[tuple[str, str], ...] = setting(
        "FORECAST_UNIT",
        Items(_units, lambda units: ",".join(":".join(unit) for unit in units), "units"),
        (),
        help="What a forecast that is a bare number is of: one unit for all languages, or "
        "en:mm,tr:mm,ru:мм",
        example="mm",
    )
    forecast_max_km: float = setting(
        "FORECAST_MAX_KM",
        Decimal(1, 20_100),
        100,
        unit="km",
        help="Subscribers farther than this from every forecast get none",
    )


@dataclass(frozen=True)
class SmsSettings(Settings):
    """The gateways that send messages, and the receipts that they give."""

    title = "Forecast SMS: the gateways that send messages"

    sms_gateways: tuple[str, ...] = setting(
        "SMS_GATEWAYS",
        Items(_gateways, noun="URLs"),
        Derived(_simulated_gateways, "the simulator"),
        help="Where messages are sent, used in turn; http, https, or Twilio as "
        "twilio://SID:TOKEN@api.twilio.com?from=%2B15005550006",
        example="https://gateway.example/send",
    )
    sms_gateway_tokens: tuple[str, ...] = setting(
        "SMS_GATEWAY_TOKEN",
        Secrets(is_ours=False),
        (),
        help="Sent to plain gateways as Auth-Key: one for all, or one for each of SMS_GATEWAYS in "
        "their order",
        example="the-gateways-token",
    )
    sms_send_at: time_of_day = setting(
        "SMS_SEND_AT",
        Parsed(_send_at, lambda at: f"{at:%H:%M}", "time of day"),
        time_of_day(8),
        help="When a subscriber gets the day's forecast, in local time",
    )
    sms_quiet_hours: tuple[time_of_day, time_of_day] = setting(
        "SMS_QUIET_HOURS",
        Parsed(_quiet_hours, lambda hours: "-".join(f"{at:%H:%M}" for at in hours), "hours"),
        (time_of_day(21), time_of_day(8)),
        help="When a subscriber gets nothing, in local time",
    )
    sms_max_attempts: int = setting(
        "MAX_SMS_TRY_LIMIT",
        Whole(1, 100),
        3,
        unit="tries",
        help="How often a message is tried before it has failed",
    )
    sms_retry_seconds: int = setting(
        "SMS_TRY_PAUSE_SECONDS",
        Whole(1),
        300,
        unit="seconds",
        help="The pause between two tries of a message",
    )
    sms_refusal_limit: int = setting(
        "SMS_REFUSAL_LIMIT",
        Whole(1, 1000),
        3,
        unit="messages",
        help="After so many messages in a row, of one a day, that its gateway refuses for good, a "
        "number's billing ends",
    )
    sms_timeout_seconds: float = setting(
        "SMS_TIMEOUT_SECONDS",
        CALL_SECONDS,
        10,
        unit="seconds",
        help="The time that a gateway has for one call",
    )
    sms_concurrency: int = setting(
        "SMS_CONCURRENCY", Whole(1, 1000), 64, help="Messages under way in each worker"
    )
    sms_gateway_rest_seconds: int = setting(
        "SMS_GATEWAY_REST_SECONDS",
        Whole(1),
        60,
        unit="seconds",
        help="How long a gateway that failed is left alone",
    )
    sms_receipt_days: int = setting(
        "SMS_RECEIPT_DAYS",
        Whole(1, 30),
        3,
        unit="days",
        help="How long a receipt may take",
    )
    sms_receipt_url: str = setting(
        "SMS_CALLBACK_URL",
        Url(),
        Derived(_receipt_url, "this machine"),
        help="Where gateways, from outside, reach /api/subscribers/callback/ with receipts",
        example="https://api.example.com/api/subscribers/callback/",
    )
    sms_receipt_secret: str = setting(
        "SMS_CALLBACK_SECRET",
        Secret(),
        Derived(_derived_secret, "derived from SECRET_KEY"),
        help="The secret with which gateways prove themselves",
    )
    self_callback: bool = setting(
        "SELF_CALLBACK",
        Switch(),
        False,
        help="1: our workers send the receipts, where no gateway does; for development",
    )

    def problems(self, read: Reader) -> Iterator[ConfigurationError]:
        """Return what would leave messages unsent."""
        if len(self.sms_gateway_tokens) not in (0, 1, len(self.sms_gateways)):
            yield ConfigurationError(
                "SMS_GATEWAY_TOKEN holds neither one token for all gateways nor one for each of "
                "SMS_GATEWAYS, in their order."
            )
        if is_in(self.sms_quiet_hours, self.sms_send_at):
            yield ConfigurationError("SMS_SEND_AT lies in SMS_QUIET_HOURS: nothing would be sent.")


@dataclass(frozen=True)
class ImportSettings(Settings):
    """The files of subscribers and forecasts."""

    title = "Forecast SMS: files"

    import_max_bytes: int = setting(
        "IMPORT_MAX_BYTES",
        Whole(1024),
        200 * 1024**2,
        unit="bytes",
        help="The longest file that may be uploaded",
    )
    import_chunk_rows: int = setting(
        "IMPORT_CHUNK_ROWS",
        Whole(1, 50_000),
        20_000,
        unit="rows",
        help="Rows that are imported in one transaction",
    )
    import_max_errors: int = setting(
        "IMPORT_MAX_ERRORS",
        Whole(0, 1_000_000),
        100_000,
        unit="rows",
        help="A task with more bad rows than this fails",
    )
    import_file_days: int = setting(
        "IMPORT_FILE_DAYS",
        Whole(0, 365),
        3,
        unit="days",
        help="How long an uploaded file is kept",
    )
    task_max_retries: int = setting(
        "MAX_TASK_RETRY",
        Whole(0, 100),
        3,
        unit="tries",
        help="How often a task is tried again after trouble",
    )
    task_timeout_seconds: int = setting(
        "TASK_TIMEOUT",
        Whole(1),
        7 * DAY_SECONDS,
        unit="seconds",
        help="How long the status of a task is told",
    )
