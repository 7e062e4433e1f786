"""Which move is allowed, as a table says it."""

from enum import StrEnum

import pytest

from project.core.states import ForbiddenMoveError, Moves


class Door(StrEnum):
    OPEN = "open"
    SHUT = "shut"
    LOCKED = "locked"
    WALLED_UP = "walled_up"


MOVES = Moves[Door](
    {
        Door.OPEN: {Door.SHUT},
        Door.SHUT: {Door.OPEN, Door.LOCKED, Door.WALLED_UP},
        Door.LOCKED: {Door.SHUT, Door.LOCKED},
        Door.WALLED_UP: (),
    }
)
ALLOWED = {
    (Door.OPEN, Door.SHUT),
    (Door.SHUT, Door.OPEN),
    (Door.SHUT, Door.LOCKED),
    (Door.SHUT, Door.WALLED_UP),
    (Door.LOCKED, Door.SHUT),
}


@pytest.mark.parametrize("old", list(Door))
@pytest.mark.parametrize("new", list(Door))
def test_a_move_is_allowed_if_the_table_has_it_or_nothing_moves(old: Door, new: Door) -> None:
    if old is new or (old, new) in ALLOWED:
        assert MOVES.allows(old, new)
        MOVES.require(old, new)
    else:
        assert not MOVES.allows(old, new)
        with pytest.raises(ForbiddenMoveError, match=f"Door: {old} -> {new}"):
            MOVES.require(old, new)


@pytest.mark.parametrize("new", list(Door))
def test_the_states_before_one_are_those_that_may_move_there(new: Door) -> None:
    assert MOVES.before(new) == {old for old, after in ALLOWED if after is new}


def test_nothing_follows_a_final_state() -> None:
    assert MOVES.final == {Door.WALLED_UP}


def test_a_table_without_one_of_the_states_is_refused() -> None:
    with pytest.raises(ValueError, match="locked, walled_up"):
        Moves[Door]({Door.OPEN: {Door.SHUT}, Door.SHUT: ()})
