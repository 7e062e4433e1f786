"""The states of purchases, what may follow what, and the other names that are stored here."""

from enum import StrEnum

from project.core.states import Moves


class DeviceOs(StrEnum):
    """The systems whose store can be asked."""

    IOS = "ios"
    ANDROID = "android"


class PurchaseState(StrEnum):
    """Where a purchase stands.

    Pending until the store has said yes or no; active while the store says yes; canceled when it
    has said no. Expired is never stored: it is what an active purchase is called whose time is up
    and whose store has not confirmed the next period yet.
    """

    PENDING = "pending"
    ACTIVE = "active"
    CANCELED = "canceled"
    EXPIRED = "expired"

    @classmethod
    def stored(cls) -> frozenset["PurchaseState"]:
        """Return those that a row can have."""
        return frozenset(cls) - {cls.EXPIRED}


PURCHASE_MOVES = Moves[PurchaseState](
    {
        PurchaseState.PENDING: {PurchaseState.ACTIVE, PurchaseState.CANCELED},
        PurchaseState.ACTIVE: {PurchaseState.CANCELED},
        PurchaseState.CANCELED: {PurchaseState.PENDING, PurchaseState.ACTIVE},
        PurchaseState.EXPIRED: (),
    }
)
