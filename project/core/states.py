"""Which move is allowed: one table for each kind of row that has states."""

from collections.abc import Collection, Mapping
from enum import StrEnum
from typing import Generic, TypeVar

State = TypeVar("State", bound=StrEnum)


class ForbiddenMoveError(ValueError):
    """A move that the table does not have; it is asked for by a fault of ours, not by input."""


class Moves(Generic[State]):
    """The moves of a state machine: each state with those that may follow it.

    Staying is always allowed. Nothing follows a state that a newer version has written.
    """

    def __init__(self, following: Mapping[State, Collection[State]]) -> None:
        """Take the table. Raises ValueError if a state is missing from it."""
        self._following = {old: frozenset(new) for old, new in following.items()}
        kind = type(next(iter(following)))
        if missing := set(kind) - set(following):
            raise ValueError(f"no moves are given for {', '.join(sorted(missing))} of {kind}")

    def allows(self, old: State, new: State) -> bool:
        """Tell whether a row may go from one state to another."""
        return old == new or new in self._following.get(old, frozenset())

    def require(self, old: State, new: State) -> None:
        """Raise ForbiddenMoveError unless a row may go from one state to another."""
        if not self.allows(old, new):
            raise ForbiddenMoveError(f"{type(new).__name__}: {old} -> {new} is not allowed")

    def before(self, new: State) -> frozenset[State]:
        """Return the other states from which a row may come to this one."""
        return frozenset(old for old, after in self._following.items() if new in after - {old})

    @property
    def final(self) -> frozenset[State]:
        """The states that nothing follows."""
        return frozenset(old for old, after in self._following.items() if not after - {old})
