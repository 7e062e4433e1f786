"""Jobs that deliver what is due."""

from project.callbacks.delivery import CallbackDelivery
from project.core.work import pump


def deliver_due_callbacks() -> int:
    """Deliver due callbacks until none is due and return how many requests were made."""
    delivery = CallbackDelivery()
    pump.run_in_worker(delivery)
    return delivery.sent
