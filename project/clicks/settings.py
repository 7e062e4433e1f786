"""The settings of clicks and of their export."""

from collections.abc import Iterator
from dataclasses import dataclass

from project.config.declare import (
    ConfigurationError,
    Decimal,
    RateLimit,
    Reader,
    Secret,
    Secrets,
    Settings,
    Url,
    Whole,
    setting,
)
from project.config.environment import get_settings
from project.config.kernel import CoreSettings, Network, WorkSettings, networks, simulated
from project.config.secrets import MAKE_ONE

DEVELOPMENT_WEBHOOK_SECRET = "development-only-webhook-secret"
EXPORT_SPOOL_SECONDS = 120


@dataclass(frozen=True)
class ClickSettings(Settings):
    """Who may send clicks, how many, and how long they are kept."""

    title = "Clicks"

    click_webhook_secrets: tuple[str, ...] = setting(
        "WEBHOOK_SECRET_KEY",
        Secrets(),
        (DEVELOPMENT_WEBHOOK_SECRET,),
        help="What clicks are signed with; several, separated by commas, while one is being "
        "replaced; production refuses the default",
        first_value="",
    )
    click_webhook_allowed_networks: tuple[Network, ...] = setting(
        "WEBHOOK_ALLOWED_IPS",
        networks("WEBHOOK_ALLOWED_IPS"),
        (),
        help="The networks that may send clicks; empty: all. Behind a proxy set TRUSTED_PROXIES "
        "too",
        example="203.0.113.0/24",
    )
    click_webhook_rate_limit: str = setting(
        "WEBHOOK_RATE_LIMIT",
        RateLimit(is_single=True),
        "5000/second",
        help="Clicks' requests per source address",
    )
    click_webhook_max_body_bytes: int = setting(
        "WEBHOOK_MAX_BODY_BYTES",
        Whole(1024),
        4_194_304,
        unit="bytes",
        help="The longest batch of clicks",
    )
    clicks_batch_size: int = setting(
        "CLICKS_BATCH_SIZE",
        Whole(1, 100_000),
        10_000,
        unit="clicks",
        help="Clicks that are counted in one transaction",
    )
    click_backlog_limit: int = setting(
        "CLICK_BACKLOG_LIMIT",
        Whole(1),
        2_000_000,
        unit="clicks",
        help="Past so many clicks that wait, the webhook answers 503",
    )
    click_max_age_days: int = setting(
        "CLICK_MAX_AGE_DAYS",
        Whole(1, 3650),
        90,
        unit="days",
        help="Clicks that are older are refused",
    )
    click_dedup_days: int = setting(
        "CLICK_DEDUP_DAYS",
        Whole(1),
        180,
        unit="days",
        help="How long a click's id is known, so that it counts once; no shorter than "
        "CLICK_MAX_AGE_DAYS",
    )
    click_retention_months: int = setting(
        "CLICK_RETENTION_MONTHS",
        Whole(1),
        13,
        unit="months",
        help="How many months of clicks `flask clicks prune` keeps",
    )

    def problems(self, read: Reader) -> Iterator[ConfigurationError]:
        """Return what would count clicks twice or let anybody send them."""
        if self.click_dedup_days < self.click_max_age_days:
            yield ConfigurationError(
                "CLICK_DEDUP_DAYS is shorter than CLICK_MAX_AGE_DAYS: a click that is sent again "
                "after its id was forgotten would count twice."
            )
        is_default = DEVELOPMENT_WEBHOOK_SECRET in self.click_webhook_secrets
        if read(CoreSettings).production and is_default:
            yield ConfigurationError(
                "WEBHOOK_SECRET_KEY is not set. Whoever knows the development default could send "
                f"clicks. {MAKE_ONE}"
            )


@dataclass(frozen=True)
class ExportSettings(Settings):
    """The finance service, which gets each day's clicks."""

    title = "The export of clicks"

    finance_service_url: str = setting(
        "FINANCE_SERVICE_URL",
        Url(is_base=True),
        simulated("/finance"),
        help="Where each day's clicks are handed over",
        example="https://finance.example.com",
    )
    finance_service_timeout_seconds: float = setting(
        "FINANCE_SERVICE_TIMEOUT",
        Decimal(0.05, 900),
        60,
        unit="seconds",
        help="The time that it has to take a whole day",
    )
    finance_service_token: str | None = setting(
        "FINANCE_SERVICE_TOKEN", Secret(is_ours=False), None, help="What it knows us by"
    )
    export_retry_seconds: int = setting(
        "EXPORT_RETRY_SECONDS",
        Whole(1),
        60,
        unit="seconds",
        help="The pause after the first try of an export; it doubles each time",
    )
    export_max_attempts: int = setting(
        "EXPORT_MAX_ATTEMPTS",
        Whole(1, 100),
        5,
        unit="tries",
        help="How often an export is tried before it has failed",
    )


def export_call_seconds() -> float:
    """Return how long an export's last day may take: it is written to a file and handed over."""
    return EXPORT_SPOOL_SECONDS + get_settings(ExportSettings).finance_service_timeout_seconds


def export_job_timeout_seconds() -> int:
    """Return how long a job that exports may take: it claims until its time is up, and the
    last day claimed is handed over."""
    work = get_settings(WorkSettings)
    return round(work.pump_seconds + export_call_seconds() + work.lease_slack_seconds)
