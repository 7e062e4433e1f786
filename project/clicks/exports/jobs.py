"""Jobs that hand days over to finance."""

from project.clicks.exports.sending import DaySending
from project.core.work import pump


def send_due_exports() -> int:
    """Send the days that are due and return how many tries were recorded."""
    return pump.run_in_worker(DaySending())
