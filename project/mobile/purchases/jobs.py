"""Jobs that ask the stores about what is due."""

from project.core.work import pump
from project.mobile.purchases.verification import PurchaseVerification


def verify_due_purchases() -> int:
    """Ask the stores about due purchases until none is due and return how many were recorded."""
    return pump.run_in_worker(PurchaseVerification())
