"""The five workers of billing."""

from collections.abc import Callable
from datetime import timedelta

from project.billing import installation, queries
from project.billing.payments.charging import (
    CHARGES_DUE,
    LATE_CHARGES_DUE,
    PROMPT_CHARGES_DUE,
    Autopayment,
    LateAutopayment,
    PromptAutopayment,
)
from project.billing.payments.inquiry import ExpiringInquiry, PendingInquiry
from project.billing.reconciliation import matching
from project.billing.reconciliation.restore import read_books
from project.billing.settings import BillingSettings
from project.billing.subscriptions.rules import charge_day
from project.billing.subscriptions.service import expire_ended, expire_some
from project.config.environment import get_settings
from project.core import clock
from project.core.db.transaction import transaction
from project.core.work import pump
from project.core.work.queues import wake
from project.core.work.scheduler import last_time


def charge_due() -> int:
    """Charge due subscriptions until none is due and return how many were recorded."""
    read_books()
    return pump.run_in_worker(Autopayment())


def charge_prompt() -> int:
    """Charge the subscriptions whose period has ended and that do not wait for the daily run."""
    read_books()
    return pump.run_in_worker(PromptAutopayment())


def charge_late() -> int:
    """Charge what was left over, and tries whose time lies between two daily runs."""
    read_books()
    return pump.run_in_worker(LateAutopayment())


def expire_subscriptions() -> int:
    """Expire subscriptions whose access is to end and return how many."""
    return _until_none(expire_some)


def end_subscriptions() -> int:
    """Expire subscriptions that were to end with their period, as it ends; return how many."""
    return _until_none(expire_ended)


def _until_none(expire: Callable[[], int]) -> int:
    expired = 0
    while True:
        with transaction():
            some = expire()
        expired += some
        if some == 0:
            return expired


def expire_payments() -> int:
    """Ask once more after payments that were pending too long, and expire them."""
    return pump.run_in_worker(ExpiringInquiry())


def match_pending() -> int:
    """Ask after pending payments and return how many were recorded.

    Charges that the last run has left are taken up too: the next one is a day away.
    """
    asked = pump.run_in_worker(PendingInquiry())
    now = clock.now()
    last_run_at = last_time(get_settings(BillingSettings).autopayments_cron, now)
    # Before the day's run its renewals wait, whatever else is left over.
    had_its_run = charge_day(now) <= last_run_at
    with transaction():
        if queries.is_charge_left_over(last_run_at):
            wake(CHARGES_DUE if had_its_run else LATE_CHARGES_DUE)
    return asked


def match_successful() -> int:
    """Record what succeeded at the provider lately and is missing here; return the cases.

    Books that are to be read after a restore are read first, and held charges then go on.
    """
    with transaction():
        was_held = installation.hold() is not None
    if was_held and read_books():
        with transaction():
            wake(LATE_CHARGES_DUE)
            wake(PROMPT_CHARGES_DUE)
    end = clock.now()
    start = end - timedelta(seconds=get_settings(BillingSettings).reconcile_window_seconds)
    report, _ = matching.reconcile_all(start, end)
    return report.cases.total()
