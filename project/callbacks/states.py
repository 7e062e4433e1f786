"""The states of a callback, what may follow what, and what asks for an attempt."""

from enum import StrEnum

from project.core.states import Moves


class CallbackState(StrEnum):
    """Pending until an attempt succeeds (delivered) or the last one has failed."""

    PENDING = "pending"
    DELIVERED = "delivered"
    FAILED = "failed"


# One that is over is pending again when it is replayed.
CALLBACK_MOVES = Moves[CallbackState](
    {
        CallbackState.PENDING: {CallbackState.DELIVERED, CallbackState.FAILED},
        CallbackState.DELIVERED: {CallbackState.PENDING},
        CallbackState.FAILED: {CallbackState.PENDING},
    }
)


class AttemptTrigger(StrEnum):
    """What asked for an attempt."""

    SCHEDULE = "schedule"
    REPLAY = "replay"
