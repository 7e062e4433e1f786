"""What mypy must find. It runs with `make lint`; an "ignore" that ignores nothing is an error."""

from datetime import UTC, datetime

from project.core.db.types import StringEnum
from project.core.states import Moves
from project.mobile.models import Purchase
from project.mobile.purchases.queries import effective_state
from project.mobile.states import PURCHASE_MOVES, DeviceOs, PurchaseState

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def a_row_takes_its_own_states_only(purchase: Purchase) -> None:
    """A text, even of a state, and the state of something else are wrong."""
    purchase.state = PurchaseState.ACTIVE
    purchase.state = "active"  # type: ignore[assignment]
    purchase.state = DeviceOs.IOS  # type: ignore[assignment]


def a_state_that_does_not_exist_is_found(purchase: Purchase) -> bool:
    """A member that is misspelt, and a comparison that can never hold."""
    if purchase.state is PurchaseState.PAUSED:  # type: ignore[attr-defined]
        return True
    return purchase.state == DeviceOs.IOS  # type: ignore[comparison-overlap]


def moves_are_of_one_enum(purchase: Purchase) -> None:
    """A table of moves neither holds nor is asked for states of another kind."""
    PURCHASE_MOVES.require(purchase.state, PurchaseState.CANCELED)
    PURCHASE_MOVES.require(purchase.state, DeviceOs.IOS)  # type: ignore[arg-type]
    PURCHASE_MOVES.allows("active", PurchaseState.CANCELED)  # type: ignore[arg-type]
    Moves[DeviceOs]({DeviceOs.IOS: {PurchaseState.ACTIVE}})  # type: ignore[arg-type]


def a_function_takes_states(purchase: Purchase) -> None:
    """What is read from a row can be handed on; a text cannot."""
    effective_state(purchase.state, purchase.expire_date, NOW)
    effective_state("active", purchase.expire_date, NOW)  # type: ignore[arg-type]
    StringEnum(str)  # type: ignore[type-var]
