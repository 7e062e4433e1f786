"""What workers do for clicks."""

import time

from project.clicks import drain, partitions, retention
from project.clicks.intake.inbox import clicks_waiting
from project.clicks.settings import ClickSettings
from project.config.environment import get_settings
from project.config.kernel import WorkSettings
from project.core.db.transaction import transaction
from project.core.work import pump
from project.core.work.queues import wake, wakeup_taken


def drain_clicks() -> int:
    """Count accepted clicks until fewer than a batch wait; return how many left the inbox.

    Clicks that arrive meanwhile wake the next job, so that a trickle is counted twice a second
    and not click by click.
    """
    wakeup_taken(clicks_waiting())
    ends_at = time.monotonic() + get_settings(WorkSettings).pump_seconds
    batch_size = get_settings(ClickSettings).clicks_batch_size
    taken = 0
    while not pump.stopping.is_set():
        drained = drain.drain_batch()
        taken += drained.taken
        if drained.taken < max(1, batch_size // 2):
            return taken
        if time.monotonic() > ends_at:
            break
    with transaction():
        wake(clicks_waiting())
    return taken


def make_partitions() -> int:
    """Make the next months' partitions; return how many."""
    return partitions.make_partitions_ahead()


def forget_click_ids() -> int:
    """Forget click_ids after CLICK_DEDUP_DAYS; return how many."""
    return retention.forget_old_ids()
