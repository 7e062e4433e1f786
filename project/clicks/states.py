"""The states of an export."""

from enum import StrEnum


class ExportState(StrEnum):
    """Pending until finance has taken the day (succeeded) or every try has failed."""

    PENDING = "pending"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


_MOVES = {ExportState.PENDING: {ExportState.SUCCEEDED, ExportState.FAILED}}


def may_export_move(old: ExportState, new: ExportState) -> bool:
    """Tell whether an export may go from one state to another; staying is always allowed."""
    return old == new or new in _MOVES.get(old, set())
