"""What the forecast SMS has billed: each active subscriber takes the package of its plan."""

from collections.abc import Sequence


def start_billing(subscriber_ids: Sequence[int]) -> None:
    """Have these subscribers billed for the plan they have now, in the caller's transaction.

    They are new, came back or changed their plan; whoever is billed for it already stays so.
    """


def end_billing(subscriber_ids: Sequence[int]) -> None:
    """Bill these subscribers no more, in the caller's transaction."""
