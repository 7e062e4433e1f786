"""Whether a run's cost follows what is due, or the size of the table it is in."""

from collections.abc import Callable

from benchmarks.report import Figure, Row, at_least
from benchmarks.rig import Rig

Rates = Callable[[int, int], list[float]]


def measure(rig: Rig, work: str, rates: Rates, *, due: int, large: int, wanted: float) -> list[Row]:
    """Measure in a small table, in a large one, and in the small one again.

    `rates` returns the rate of each round: it is given the rows of the table and the rounds.
    """
    rounds = rig.options.rounds
    in_small = rates(due, rounds - rounds // 2)
    in_large = rates(large, rounds)
    if rounds > 1:
        in_small += rates(due, rounds // 2)
    return [
        at_least(
            f"{work}, {due:,} due of {large:,}",
            Figure(tuple(in_large), "/s"),
            f"the same {due:,} due of {due:,}",
            Figure(tuple(in_small), "/s"),
            wanted,
        )
    ]
