"""The workers of the messages, and of the billing that comes before them."""

import time

from project.config.environment import get_settings
from project.config.kernel import WorkSettings
from project.core.db.transaction import transaction
from project.core.work import pump
from project.core.work.queues import wake, wakeup_taken
from project.weather import billing_sync
from project.weather.messages import generate, receipts
from project.weather.messages.delivery import MessageDelivery
from project.weather.settings import SmsSettings


def follow_plans() -> int:
    """Bring billing into agreement with changed subscribers and return how many there were."""
    wakeup_taken(billing_sync.BILLING_DUE)
    ends_at = time.monotonic() + get_settings(WorkSettings).pump_seconds
    followed = 0
    while time.monotonic() < ends_at:
        with transaction():
            some = billing_sync.follow_some()
        followed += some
        if some == 0:
            return followed
    with transaction():
        wake(billing_sync.BILLING_DUE)
    return followed


def make_messages() -> int:
    """Make the messages whose time has come, and those of runs asked for; return how many."""
    wakeup_taken(generate.MESSAGES_PLANNED)
    ends_at = time.monotonic() + get_settings(WorkSettings).pump_seconds
    made = 0
    for make in (generate.make_some_of_run, generate.make_some):
        while True:
            with transaction():
                looked_at, some = make()
            made += some
            if looked_at == 0:
                break
            if time.monotonic() > ends_at:
                with transaction():
                    wake(generate.MESSAGES_PLANNED)
                return made
    return made


def send_messages() -> int:
    """Send due messages until none is due and return how many were recorded."""
    sent = pump.run_in_worker(MessageDelivery())
    if get_settings(SmsSettings).self_callback:
        with transaction():
            wake(receipts.SELF_RECEIPTS_DUE)
    return sent


def send_self_receipts() -> int:
    """Send receipts to ourselves, where SELF_CALLBACK=1 asks for it."""
    return pump.run_in_worker(receipts.SelfReceipts())


def expire_messages() -> int:
    """Expire messages that were accepted days ago and have no receipt."""
    expired = 0
    while True:
        with transaction():
            some = receipts.expire_some()
        expired += some
        if some == 0:
            return expired
