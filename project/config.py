"""The one place that reads the environment: every setting, its unit, its default and its check."""

import hmac
import ipaddress
import os
import time
from dataclasses import dataclass
from datetime import datetime
from datetime import time as time_of_day
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from croniter import croniter
from dotenv import load_dotenv
from environs import Env, EnvError
from limits import parse_many
from marshmallow import ValidationError
from marshmallow.validate import OneOf, Range, Regexp

ROOT = Path(__file__).resolve().parent.parent
DAY_SECONDS = 86_400
EXPORT_SPOOL_SECONDS = 120
DEVELOPMENT_SECRET = "development-only-secret-key-change-me"
DEVELOPMENT_WEBHOOK_SECRET = "development-only-webhook-secret"
MIN_SECRET_LENGTH = 24
"""Of a secret that we make; one that others give us has the length that they chose, or 8."""
MIN_GIVEN_SECRET_LENGTH = 8
MAKE_ONE = "Make one with: python -c 'import secrets; print(secrets.token_urlsafe(32))'"
QUEUE_NAME = r"^[a-z][a-z0-9_-]{0,49}$"
ENVIRONMENTS = ["development", "testing", "production"]
LOG_LEVELS = ["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"]
SECONDS = Range(0.05, 120)
COMPATIBILITY_SWITCHES = ("report-order", "error-words", "empty-filters", "form-ids")
SIMULATED_CARRIERS = {"keyed": "/carrier/billing", "legacy": "/carrier/legacy"}
"""The protocols of carriers, and where the simulator speaks each."""
LANGUAGES = ("en", "tr", "ru")
MAX_UNIT_LENGTH = 8
GATEWAY_SCHEMES = ("http", "https", "twilio", "twilio+http")

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class ConfigurationError(Exception):
    """A setting that cannot be used; the message says which one, and what to do."""


@dataclass(frozen=True)
class SecretSetting:
    """A setting that holds a secret, or several separated by commas."""

    field: str
    is_ours: bool = True
    may_be_several: bool = False


SECRET_SETTINGS = {
    "SECRET_KEY": SecretSetting("secret_keys", may_be_several=True),
    "API_KEY": SecretSetting("api_key"),
    "WEBHOOK_SECRET_KEY": SecretSetting("webhook_secrets", may_be_several=True),
    "SMS_CALLBACK_SECRET": SecretSetting("sms_callback_secret"),
    "YOOKASSA_SECRET_KEY": SecretSetting("yookassa_secret_key", is_ours=False),
    "BILLING_TOKEN": SecretSetting("billing_token", is_ours=False),
    "SMS_GATEWAY_TOKEN": SecretSetting("sms_gateway_tokens", is_ours=False, may_be_several=True),
    "FINANCE_SERVICE_TOKEN": SecretSetting("finance_service_token", is_ours=False),
}
"""Every one of them: none holds an empty, blank or short secret, in any environment."""


@dataclass(frozen=True)
class Settings:
    """Every setting of the product. Durations are in seconds, sizes in bytes."""

    app_env: str
    secret_keys: tuple[str, ...]
    api_key: str | None
    database_url: str
    redis_url: str
    test_clock: bool
    migrations_dir: Path
    workers: int
    host: str
    port: int
    api_workers: int
    api_threads: int
    api_wait_seconds: float
    api_connections: int
    trusted_proxies: int
    compatibility: frozenset[str]
    max_body_bytes: int
    body_timeout_seconds: float
    body_min_bytes_per_second: int
    bodies_memory_bytes: int
    bodies_disk_bytes: int
    log_level: str
    log_format: str
    register_rate_limit: str
    database_pool_size: int
    database_connect_timeout_seconds: int
    statement_timeout_seconds: int
    worker_max_jobs: int
    pump_seconds: int
    lease_slack_seconds: int
    app_store_url: str
    google_play_url: str
    store_timeout_seconds: float
    store_interactive_timeout_seconds: float
    store_limit_retry_seconds: int
    store_concurrency: int
    yookassa_url: str
    yookassa_shop_id: str
    yookassa_secret_key: str
    provider_timeout_seconds: float
    provider_concurrency: int
    payment_waiting_days: int
    reconcile_window_seconds: int
    bill_missed_periods: bool
    billing_protocol: str
    billing_url: str
    billing_token: str
    max_billing_try_limit: int
    billing_try_pause_seconds: int
    forecast_daily_price: int
    forecast_weekly_price: int
    forecast_currency: str
    forecast_units: tuple[tuple[str, str], ...]
    autopayments_cron: str
    expire_subscriptions_cron: str
    expire_payments_cron: str
    match_pending_cron: str
    match_successful_cron: str
    login_rate_limit: str
    forecast_max_km: float
    import_max_bytes: int
    import_chunk_rows: int
    import_max_errors: int
    import_file_days: int
    max_task_retry: int
    task_timeout_seconds: int
    sms_gateways: tuple[str, ...]
    sms_gateway_tokens: tuple[str, ...]
    sms_gateway_rest_seconds: int
    sms_timeout_seconds: float
    sms_concurrency: int
    max_sms_try_limit: int
    sms_refusal_limit: int
    sms_try_pause_seconds: int
    sms_receipt_days: int
    sms_send_at: time_of_day
    sms_quiet_hours: tuple[time_of_day, time_of_day]
    sms_callback_url: str
    sms_callback_secret: str
    self_callback: bool
    callback_retry_seconds: int
    callback_max_attempts: int
    callback_timeout_seconds: float
    callback_max_answer_bytes: int
    callback_concurrency: int
    callback_allowed_networks: tuple[Network, ...]
    callback_dns_servers: tuple[str, ...]
    callback_close_on_410: bool
    callback_secret_overlap_seconds: int
    webhook_secrets: tuple[str, ...]
    webhook_allowed_networks: tuple[Network, ...]
    webhook_rate_limit: str
    webhook_max_body_bytes: int
    clicks_queue_name: str
    clicks_batch_size: int
    click_backlog_limit: int
    click_max_age_days: int
    click_dedup_days: int
    click_retention_months: int
    finance_service_url: str
    finance_service_timeout_seconds: float
    finance_service_token: str | None
    export_max_attempts: int
    export_retry_seconds: int

    @property
    def export_job_timeout_seconds(self) -> int:
        """Return how long a job that exports may take: it claims until its time is up, and the
        last day claimed is written to a file and handed over."""
        call_seconds = EXPORT_SPOOL_SECONDS + self.finance_service_timeout_seconds
        return round(self.pump_seconds + call_seconds + self.lease_slack_seconds)

    @property
    def production(self) -> bool:
        """Tell whether this copy serves real customers."""
        return self.app_env == "production"

    def flask_config(self) -> dict[str, Any]:
        """Return what Flask and its extensions read from `app.config`."""
        return {
            "SECRET_KEY": self.secret_keys[0],
            "MAX_CONTENT_LENGTH": self.max_body_bytes,
            "MAX_FORM_MEMORY_SIZE": self.max_body_bytes,
            "SQLALCHEMY_DATABASE_URI": self.database_url,
            "SQLALCHEMY_ENGINE_OPTIONS": self.engine_options(),
            "RATELIMIT_STORAGE_URI": _limiter_uri(self.redis_url),
            "RATELIMIT_IN_MEMORY_FALLBACK_ENABLED": True,
            "RATELIMIT_HEADERS_ENABLED": False,
            "RATELIMIT_KEY_PREFIX": "limit",
        }

    def engine_options(self) -> dict[str, Any]:
        """Return what SQLAlchemy is given to make an engine."""
        timeout_ms = self.statement_timeout_seconds * 1000
        return {
            "pool_size": self.database_pool_size,
            "max_overflow": self.database_pool_size,
            "pool_timeout": 5,
            # Errors are logged, and the values in them are customers'.
            "hide_parameters": True,
            "connect_args": {
                "connect_timeout": self.database_connect_timeout_seconds,
                "options": f"-c timezone=UTC -c statement_timeout={timeout_ms}"
                f" -c idle_in_transaction_session_timeout=60000",
                "application_name": "perennial",
            },
        }


_current: Settings | None = None


def get_settings() -> Settings:
    """Return the settings of this process, read once. Raises ConfigurationError."""
    global _current
    if _current is None:
        load_environment()
        _current = read_settings()
    return _current


def use_settings(settings: Settings | None) -> None:
    """Replace the settings of this process; None reads the environment again at the next use."""
    global _current
    _current = settings


def load_environment() -> None:
    """Fill what the environment leaves open from `.env`, then from what the launcher worked out.

    And go by UTC, whatever the machine's time zone is: rq-scheduler reads its crons in local time.
    """
    os.environ["TZ"] = "UTC"
    time.tzset()
    load_dotenv(os.environ.get("ENV_FILE") or ROOT / ".env", override=False)
    var_dir = Path(os.environ.get("VAR_DIR") or "var")
    load_dotenv(ROOT / var_dir / "run" / "runtime.env", override=False)


def read_settings() -> Settings:
    """Parse and check the settings in the environment. Raises ConfigurationError."""
    try:
        settings = _parse(Env(eager=True))
    except (EnvError, ValueError) as error:
        raise ConfigurationError(f"A setting cannot be used: {error}") from error
    _check(settings)
    return settings


def _parse(env: Env) -> Settings:
    port = env.int("SIMULATOR_PORT", 8900)
    simulator = env.str("SIMULATOR_URL", "") or f"http://127.0.0.1:{port}"
    secret_keys = _secrets(env, "SECRET_KEY") or (DEVELOPMENT_SECRET,)
    protocols = OneOf(list(SIMULATED_CARRIERS))
    billing_protocol = env.str("BILLING_PROTOCOL", "keyed", validate=protocols)
    return Settings(
        app_env=env.str("APP_ENV", "development", validate=OneOf(ENVIRONMENTS)),
        secret_keys=secret_keys,
        api_key=_secret(env, "API_KEY"),
        database_url=_database_url(env.str("DATABASE_URL", "")),
        redis_url=env.str("REDIS_URL", ""),
        test_clock=env.bool("TEST_CLOCK", False),
        migrations_dir=ROOT / "migrations",
        workers=env.int("WORKERS", 8, validate=Range(1, 512)),
        host=env.str("HOST", "127.0.0.1"),
        port=env.int("PORT", 8000, validate=Range(0, 65_535)),
        api_workers=env.int("API_WORKERS", 2, validate=Range(1, 256)),
        api_threads=env.int("API_THREADS", 24, validate=Range(1, 1000)),
        api_wait_seconds=env.float("API_WAIT_SECONDS", 10, validate=SECONDS),
        api_connections=env.int("API_CONNECTIONS", 10_000, validate=Range(16)),
        trusted_proxies=env.int("TRUSTED_PROXIES", 0, validate=Range(0, 10)),
        compatibility=_switches(env.list("COMPATIBILITY", [])),
        max_body_bytes=env.int("MAX_BODY_BYTES", 1_048_576, validate=Range(1024)),
        body_timeout_seconds=env.float("BODY_TIMEOUT_SECONDS", 30, validate=SECONDS),
        body_min_bytes_per_second=env.int("BODY_MIN_BYTES_PER_SECOND", 4096, validate=Range(1)),
        bodies_memory_bytes=env.int("BODIES_MEMORY_BYTES", 64 * 1024**2, validate=Range(65_536)),
        bodies_disk_bytes=env.int("BODIES_DISK_BYTES", 4 * 1024**3, validate=Range(65_536)),
        log_level=env.str("LOG_LEVEL", "INFO", validate=OneOf(LOG_LEVELS)),
        log_format=env.str("LOG_FORMAT", "text", validate=OneOf(["text", "json"])),
        register_rate_limit=env.str("REGISTER_RATE_LIMIT", "300/minute", validate=_rate_limit),
        database_pool_size=env.int("DATABASE_POOL_SIZE", 10, validate=Range(2)),
        database_connect_timeout_seconds=env.int(
            "DATABASE_CONNECT_TIMEOUT_SECONDS", 3, validate=Range(1, 60)
        ),
        statement_timeout_seconds=env.int("STATEMENT_TIMEOUT_SECONDS", 15, validate=Range(1)),
        worker_max_jobs=env.int("WORKER_MAX_JOBS", 2000, validate=Range(1)),
        pump_seconds=env.int("PUMP_SECONDS", 50, validate=Range(1, 120)),
        lease_slack_seconds=env.int("LEASE_SLACK_SECONDS", 30, validate=Range(1, 600)),
        app_store_url=env.str("APP_STORE_URL", f"{simulator}/app-store"),
        google_play_url=env.str("GOOGLE_PLAY_URL", f"{simulator}/google-play"),
        store_timeout_seconds=env.float("STORE_TIMEOUT_SECONDS", 10, validate=SECONDS),
        store_interactive_timeout_seconds=env.float(
            "STORE_INTERACTIVE_TIMEOUT_SECONDS", 3, validate=SECONDS
        ),
        store_limit_retry_seconds=env.int("STORE_LIMIT_RETRY_SECONDS", 3600, validate=Range(1)),
        store_concurrency=env.int("STORE_CONCURRENCY", 64, validate=Range(1, 1000)),
        yookassa_url=env.str("YOOKASSA_URL", f"{simulator}/yookassa/v3"),
        yookassa_shop_id=env.str("YOOKASSA_SHOP_ID", "").strip() or "development",
        yookassa_secret_key=_secret(env, "YOOKASSA_SECRET_KEY") or "development",
        provider_timeout_seconds=env.float("PROVIDER_TIMEOUT_SECONDS", 15, validate=SECONDS),
        provider_concurrency=env.int("PROVIDER_CONCURRENCY", 128, validate=Range(1, 1000)),
        payment_waiting_days=env.int("PAYMENT_WAITING_DAYS", 7, validate=Range(1, 365)),
        reconcile_window_seconds=env.int("RECONCILE_WINDOW_SECONDS", 3600, validate=Range(60)),
        bill_missed_periods=env.bool("BILL_MISSED_PERIODS", False),
        billing_protocol=billing_protocol,
        billing_url=env.str("BILLING_URL", "") or simulator + SIMULATED_CARRIERS[billing_protocol],
        billing_token=_secret(env, "BILLING_TOKEN") or "development",
        max_billing_try_limit=env.int("MAX_BILLING_TRY_LIMIT", 3, validate=Range(1, 100)),
        billing_try_pause_seconds=env.int(
            "BILLING_TRY_PAUSE_SECONDS", 60, validate=Range(1, DAY_SECONDS)
        ),
        forecast_daily_price=env.int("FORECAST_DAILY_PRICE", 100, validate=Range(1, 10**12)),
        forecast_weekly_price=env.int("FORECAST_WEEKLY_PRICE", 500, validate=Range(1, 10**12)),
        forecast_currency=env.str("FORECAST_CURRENCY", "RUB", validate=Regexp("^[A-Z]{3}$")),
        forecast_units=_units(env.list("FORECAST_UNIT", [])),
        autopayments_cron=env.str("AUTOPAYMENTS_CRON", "0 3 * * *", validate=_cron),
        expire_subscriptions_cron=env.str(
            "EXPIRE_SUBSCRIPTIONS_CRON", "30 3 * * *", validate=_cron
        ),
        expire_payments_cron=env.str("EXPIRE_PAYMENTS_CRON", "45 3 * * *", validate=_cron),
        match_pending_cron=env.str("MATCH_PENDING_CRON", "*/2 * * * *", validate=_cron),
        match_successful_cron=env.str("MATCH_SUCCESSFUL_CRON", "*/2 * * * *", validate=_cron),
        login_rate_limit=env.str("LOGIN_RATE_LIMIT", "20/minute", validate=_rate_limit),
        forecast_max_km=env.float("FORECAST_MAX_KM", 100, validate=Range(1, 20_100)),
        import_max_bytes=env.int("IMPORT_MAX_BYTES", 200 * 1024**2, validate=Range(1024)),
        import_chunk_rows=env.int("IMPORT_CHUNK_ROWS", 20_000, validate=Range(1, 50_000)),
        import_max_errors=env.int("IMPORT_MAX_ERRORS", 100_000, validate=Range(0, 1_000_000)),
        import_file_days=env.int("IMPORT_FILE_DAYS", 3, validate=Range(0, 365)),
        max_task_retry=env.int("MAX_TASK_RETRY", 3, validate=Range(0, 100)),
        task_timeout_seconds=env.int("TASK_TIMEOUT", 7 * DAY_SECONDS, validate=Range(1)),
        sms_gateways=_gateways(env.list("SMS_GATEWAYS", []))
        or (f"{simulator}/sms/first/messages", f"{simulator}/sms/second/messages"),
        sms_gateway_tokens=_secrets(env, "SMS_GATEWAY_TOKEN"),
        sms_gateway_rest_seconds=env.int("SMS_GATEWAY_REST_SECONDS", 60, validate=Range(1)),
        sms_timeout_seconds=env.float("SMS_TIMEOUT_SECONDS", 10, validate=SECONDS),
        sms_concurrency=env.int("SMS_CONCURRENCY", 64, validate=Range(1, 1000)),
        sms_refusal_limit=env.int("SMS_REFUSAL_LIMIT", 3, validate=Range(1, 1000)),
        max_sms_try_limit=env.int("MAX_SMS_TRY_LIMIT", 3, validate=Range(1, 100)),
        sms_try_pause_seconds=env.int("SMS_TRY_PAUSE_SECONDS", 300, validate=Range(1)),
        sms_receipt_days=env.int("SMS_RECEIPT_DAYS", 3, validate=Range(1, 30)),
        sms_send_at=_time_of_day("SMS_SEND_AT", env.str("SMS_SEND_AT", "08:00")),
        sms_quiet_hours=_hours("SMS_QUIET_HOURS", env.str("SMS_QUIET_HOURS", "21:00-08:00")),
        sms_callback_url=env.str(
            "SMS_CALLBACK_URL",
            f"http://127.0.0.1:{env.int('PORT', 8000)}/api/subscribers/callback/",
        ),
        sms_callback_secret=_secret(env, "SMS_CALLBACK_SECRET")
        or _derived(secret_keys[0], "sms-callback"),
        self_callback=env.bool("SELF_CALLBACK", False),
        callback_retry_seconds=env.int("CALLBACK_RETRY_SECONDS", 3600, validate=Range(1)),
        callback_max_attempts=env.int("CALLBACK_MAX_ATTEMPTS", 3, validate=Range(1, 100)),
        callback_timeout_seconds=env.float("CALLBACK_TIMEOUT_SECONDS", 10, validate=SECONDS),
        callback_max_answer_bytes=env.int("CALLBACK_MAX_ANSWER_BYTES", 65_536, validate=Range(1)),
        callback_concurrency=env.int("CALLBACK_CONCURRENCY", 64, validate=Range(2, 1000)),
        callback_allowed_networks=_networks(
            "CALLBACK_ALLOWED_NETWORKS", env.list("CALLBACK_ALLOWED_NETWORKS", [])
        ),
        callback_dns_servers=_dns_servers(env.list("CALLBACK_DNS_SERVERS", [])),
        callback_close_on_410=env.bool("CALLBACK_CLOSE_ON_410", False),
        callback_secret_overlap_seconds=env.int(
            "CALLBACK_SECRET_OVERLAP_SECONDS", DAY_SECONDS, validate=Range(0)
        ),
        webhook_secrets=_secrets(env, "WEBHOOK_SECRET_KEY") or (DEVELOPMENT_WEBHOOK_SECRET,),
        webhook_allowed_networks=_networks(
            "WEBHOOK_ALLOWED_IPS", env.list("WEBHOOK_ALLOWED_IPS", [])
        ),
        webhook_rate_limit=env.str("WEBHOOK_RATE_LIMIT", "5000/second", validate=_one_rate_limit),
        webhook_max_body_bytes=env.int("WEBHOOK_MAX_BODY_BYTES", 4_194_304, validate=Range(1024)),
        clicks_queue_name=env.str("CLICKS_QUEUE_NAME", "default", validate=Regexp(QUEUE_NAME)),
        clicks_batch_size=env.int("CLICKS_BATCH_SIZE", 10_000, validate=Range(1, 100_000)),
        click_backlog_limit=env.int("CLICK_BACKLOG_LIMIT", 2_000_000, validate=Range(1)),
        click_max_age_days=env.int("CLICK_MAX_AGE_DAYS", 90, validate=Range(1, 3650)),
        click_dedup_days=env.int("CLICK_DEDUP_DAYS", 180, validate=Range(1)),
        click_retention_months=env.int("CLICK_RETENTION_MONTHS", 13, validate=Range(1)),
        finance_service_url=env.str("FINANCE_SERVICE_URL", f"{simulator}/finance").rstrip("/"),
        finance_service_timeout_seconds=env.float(
            "FINANCE_SERVICE_TIMEOUT", 60, validate=Range(0.05, 900)
        ),
        finance_service_token=_secret(env, "FINANCE_SERVICE_TOKEN"),
        export_max_attempts=env.int("EXPORT_MAX_ATTEMPTS", 5, validate=Range(1, 100)),
        export_retry_seconds=env.int("EXPORT_RETRY_SECONDS", 60, validate=Range(1)),
    )


def _secret(env: Env, name: str) -> str | None:
    return next(iter(_secrets(env, name)), None)


def _secrets(env: Env, name: str) -> tuple[str, ...]:
    """Return the secrets in a setting, none if it is empty. Raises ConfigurationError."""
    written = env.str(name, "")
    if not written:
        return ()
    setting = SECRET_SETTINGS[name]
    items = written.split(",") if setting.may_be_several else [written]
    secrets = tuple(item.strip() for item in items)
    for number, secret in enumerate(secrets, 1):
        _check_secret(name, setting, secret, f", secret {number} of {len(secrets)}")
    return secrets


def _check_secret(name: str, setting: SecretSetting, secret: str, which: str) -> None:
    where = name + which if setting.may_be_several else name
    if not secret:
        mend = "Take the comma too many away" if setting.may_be_several else "Leave it out"
        raise ConfigurationError(
            f"{where} is blank: whoever knows that could pass for you. {mend}, or fill it in."
        )
    if not setting.is_ours and len(secret) < MIN_GIVEN_SECRET_LENGTH:
        raise ConfigurationError(
            f"{where} is shorter than {MIN_GIVEN_SECRET_LENGTH} characters. "
            "Use the one that the other side has given you, whole."
        )
    if setting.is_ours and len(secret) < MIN_SECRET_LENGTH:
        raise ConfigurationError(
            f"{where} is shorter than {MIN_SECRET_LENGTH} characters. {MAKE_ONE}"
        )


def _switches(written: list[str]) -> frozenset[str]:
    switches = frozenset(item.strip() for item in written if item.strip())
    unknown = sorted(switches - set(COMPATIBILITY_SWITCHES))
    if unknown:
        known = ", ".join(COMPATIBILITY_SWITCHES)
        raise ValueError(f"COMPATIBILITY names {', '.join(unknown)}; there is {known}")
    return switches


def _networks(name: str, written: list[str]) -> tuple[Network, ...]:
    try:
        return tuple(ipaddress.ip_network(network.strip()) for network in written)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error


def _dns_servers(written: list[str]) -> tuple[str, ...]:
    servers = tuple(server.strip() for server in written if server.strip())
    for server in servers:
        try:
            parsed = urlsplit(f"//{server}")
            ipaddress.ip_address(parsed.hostname or "")
            if parsed.port == 0:
                raise ValueError("port 0")
        except ValueError as error:
            raise ValueError(
                "CALLBACK_DNS_SERVERS are addresses such as 10.0.0.2 or 10.0.0.2:53"
            ) from error
    return servers


def _derived(secret_key: str, purpose: str) -> str:
    """Return a secret for one purpose, the same in every process of a copy."""
    return hmac.digest(secret_key.encode(), purpose.encode(), "sha256").hex()


def _units(written: list[str]) -> tuple[tuple[str, str], ...]:
    """Return the unit of each language: one for all, or `en:mm,tr:mm,ru:мм`."""
    items = [item.strip() for item in written if item.strip()]
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


def _gateways(written: list[str]) -> tuple[str, ...]:
    gateways = tuple(url.strip() for url in written if url.strip())
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


def _time_of_day(name: str, written: str) -> time_of_day:
    try:
        return datetime.strptime(written.strip(), "%H:%M").time()
    except ValueError as error:
        raise ValueError(f"{name} is a time of day such as 08:00") from error


def _hours(name: str, written: str) -> tuple[time_of_day, time_of_day]:
    start, dash, end = written.partition("-")
    if not dash:
        raise ValueError(f"{name} are two times of day such as 21:00-08:00")
    return _time_of_day(name, start), _time_of_day(name, end)


def _rate_limit(written: str) -> None:
    try:
        parse_many(written)
    except ValueError as error:
        raise ValidationError("Not a limit such as 300/minute.") from error


def _one_rate_limit(written: str) -> None:
    _rate_limit(written)
    if len(parse_many(written)) > 1:
        raise ValidationError("Must be a single limit such as 5000/second.")


def _cron(written: str) -> None:
    if not croniter.is_valid(written):
        raise ValidationError("Not a cron expression such as 0 3 * * *.")


def _database_url(url: str) -> str:
    """Accept the usual spellings of a Postgres URL and name the driver that is installed."""
    for prefix in ("postgres://", "postgresql://"):
        if url.startswith(prefix):
            return "postgresql+psycopg://" + url.removeprefix(prefix)
    return url


def _check(settings: Settings) -> None:
    for name, value in (("DATABASE_URL", settings.database_url), ("REDIS_URL", settings.redis_url)):
        if not value:
            raise ConfigurationError(
                f"{name} is not set and no running copy was found. Start one with `make run`, "
                f"or set {name} in the environment or in .env."
            )
    if not settings.database_url.startswith("postgresql+psycopg://"):
        raise ConfigurationError(
            "DATABASE_URL must name a Postgres: postgresql://user:password@host:port/database"
        )
    if not settings.redis_url.startswith(("redis://", "rediss://", "unix://")):
        raise ConfigurationError("REDIS_URL must begin with redis://, rediss:// or unix://")
    if settings.click_dedup_days < settings.click_max_age_days:
        raise ConfigurationError(
            "CLICK_DEDUP_DAYS is shorter than CLICK_MAX_AGE_DAYS: a click that is sent again "
            "after its id was forgotten would count twice."
        )
    if len(settings.sms_gateway_tokens) not in (0, 1, len(settings.sms_gateways)):
        raise ConfigurationError(
            "SMS_GATEWAY_TOKEN holds neither one token for all gateways nor one for each of "
            "SMS_GATEWAYS, in their order."
        )
    if _is_quiet(settings.sms_quiet_hours, settings.sms_send_at):
        raise ConfigurationError("SMS_SEND_AT lies in SMS_QUIET_HOURS: nothing would be sent.")
    if settings.production:
        _check_production(settings)


def _is_quiet(hours: tuple[time_of_day, time_of_day], at: time_of_day) -> bool:
    start, end = hours
    return start <= at < end if start <= end else at >= start or at < end


def _check_production(settings: Settings) -> None:
    if DEVELOPMENT_SECRET in settings.secret_keys:
        raise ConfigurationError(
            f"SECRET_KEY is not set. Production does not start with the development default. "
            f"{MAKE_ONE}"
        )
    if DEVELOPMENT_WEBHOOK_SECRET in settings.webhook_secrets:
        raise ConfigurationError(
            "WEBHOOK_SECRET_KEY is not set. Whoever knows the development default could send "
            f"clicks. {MAKE_ONE}"
        )
    if settings.yookassa_secret_key == "development":
        raise ConfigurationError(
            "YOOKASSA_SHOP_ID and YOOKASSA_SECRET_KEY are not set; production needs a shop's own."
        )
    if settings.billing_token == "development" and "BILLING_URL" in os.environ:
        raise ConfigurationError(
            "BILLING_TOKEN is not set; the carrier at BILLING_URL asks for its own."
        )
    if settings.test_clock:
        raise ConfigurationError("TEST_CLOCK=1 moves the time of real customers. Unset it.")


def _limiter_uri(redis_url: str) -> str:
    """Return the Redis URL in the spelling of the `limits` library."""
    return redis_url.replace("unix://", "redis+unix://", 1)
