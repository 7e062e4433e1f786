"""The states of a company, and what may follow what."""

from enum import StrEnum

from project.core.states import Moves


class CompanyState(StrEnum):
    """Registered until the first login; passive after the last refusal, until it pays."""

    REGISTERED = "registered"
    ACTIVE = "active"
    PASSIVE = "passive"

    @property
    def status(self) -> int:
        """1 for an active company, 0 for any other, as older clients know it."""
        return int(self is CompanyState.ACTIVE)


# One that has never logged in can be shut out too: what its registration gave it has ended.
COMPANY_MOVES = Moves[CompanyState](
    {
        CompanyState.REGISTERED: {CompanyState.ACTIVE, CompanyState.PASSIVE},
        CompanyState.ACTIVE: {CompanyState.PASSIVE},
        CompanyState.PASSIVE: {CompanyState.ACTIVE},
    }
)
