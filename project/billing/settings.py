"""The settings of billing, whoever the provider is; each provider's own are in `providers`."""

from dataclasses import dataclass

from project.config.declare import Cron, Settings, Switch, Whole, setting
from project.config.kernel import CALL_SECONDS


@dataclass(frozen=True)
class BillingSettings(Settings):
    """When subscriptions are charged, and how payments are followed up."""

    title = "Billing"

    autopayments_cron: str = setting(
        "AUTOPAYMENTS_CRON", Cron(), "0 3 * * *", help="When subscriptions are charged"
    )
    bill_missed_periods: bool = setting(
        "BILL_MISSED_PERIODS",
        Switch(),
        False,
        help="1: after an outage every missed period is charged, not only the present one",
    )
    expire_subscriptions_cron: str = setting(
        "EXPIRE_SUBSCRIPTIONS_CRON",
        Cron(),
        "30 3 * * *",
        help="When subscriptions that nobody paid end",
    )
    expire_payments_cron: str = setting(
        "EXPIRE_PAYMENTS_CRON", Cron(), "45 3 * * *", help="When payments that nobody made end"
    )
    payment_waiting_days: int = setting(
        "PAYMENT_WAITING_DAYS",
        Whole(1, 365),
        7,
        unit="days",
        help="How long a payment may be pending",
    )
    match_pending_cron: str = setting(
        "MATCH_PENDING_CRON",
        Cron(),
        "*/2 * * * *",
        help="When the provider is asked what became of pending payments",
    )
    match_successful_cron: str = setting(
        "MATCH_SUCCESSFUL_CRON",
        Cron(),
        "*/2 * * * *",
        help="When its list of successful payments is compared with ours",
    )
    reconcile_window_seconds: int = setting(
        "RECONCILE_WINDOW_SECONDS",
        Whole(60),
        3600,
        unit="seconds",
        help="How far back that list is read",
    )
    provider_timeout_seconds: float = setting(
        "PROVIDER_TIMEOUT_SECONDS",
        CALL_SECONDS,
        15,
        unit="seconds",
        help="The time that a payment provider has for one call",
    )
    provider_concurrency: int = setting(
        "PROVIDER_CONCURRENCY",
        Whole(1, 1000),
        128,
        help="Calls to a provider under way in each worker; keep it below what the provider allows",
    )
