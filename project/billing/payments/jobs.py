"""The five workers of billing."""

from datetime import timedelta

import structlog

from project.billing import queries
from project.billing.payments.charging import CHARGES_DUE, Autopayment, PromptAutopayment
from project.billing.payments.inquiry import ExpiringInquiry, PendingInquiry
from project.billing.providers.registry import DEFAULT_PROVIDER, provider_named
from project.billing.reconciliation import matching
from project.billing.reconciliation.books import BooksUnreadable
from project.billing.subscriptions.service import expire_some
from project.config import get_settings
from project.core import clock, pump
from project.core.queues import wake
from project.core.transaction import transaction

log = structlog.get_logger()


def charge_due() -> int:
    """Charge due subscriptions until none is due and return how many were recorded."""
    return pump.run_in_worker(Autopayment())


def charge_prompt() -> int:
    """Charge the subscriptions whose period has ended and that do not wait for the daily run."""
    return pump.run_in_worker(PromptAutopayment())


def expire_subscriptions() -> int:
    """Expire subscriptions whose access is to end and return how many."""
    expired = 0
    while True:
        with transaction():
            some = expire_some()
        expired += some
        if some == 0:
            return expired


def expire_payments() -> int:
    """Ask once more after payments that were pending too long, and expire them."""
    return pump.run_in_worker(ExpiringInquiry())


def match_pending() -> int:
    """Ask after pending payments and return how many were recorded.

    Charges that a dead worker has left are taken up too: their next run is a day away.
    """
    asked = pump.run_in_worker(PendingInquiry())
    with transaction():
        if queries.is_charge_left_over():
            wake(CHARGES_DUE)
    return asked


def match_successful() -> int:
    """Record what succeeded at the provider lately and is missing here; return the cases."""
    end = clock.now()
    start = end - timedelta(seconds=get_settings().reconcile_window_seconds)
    try:
        report = matching.reconcile(provider_named(DEFAULT_PROVIDER), start, end)
    except BooksUnreadable as error:
        log.warning("reconciliation.interrupted", reason=str(error))
        return 0
    return report.cases.total()
