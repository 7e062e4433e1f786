"""The states of an export, and what may follow what."""

from enum import StrEnum

from project.core.states import Moves


class ExportState(StrEnum):
    """Pending until finance has taken the day (succeeded) or every try has failed."""

    PENDING = "pending"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


EXPORT_MOVES = Moves[ExportState](
    {
        ExportState.PENDING: {ExportState.SUCCEEDED, ExportState.FAILED},
        ExportState.SUCCEEDED: (),
        ExportState.FAILED: (),
    }
)
