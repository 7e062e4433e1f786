"""What a company's endpoint hears."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from project.callbacks import service as callbacks
from project.callbacks.service import NewEvent
from project.companies.models import Company

SUBJECT_TYPE = "company"


@dataclass(frozen=True)
class CompanyEvent:
    """Something that happened to a company: the type, and what is under `data`."""

    type: str
    company: Company
    occurred_at: datetime
    data: dict[str, Any]


def tell(events: Sequence[CompanyEvent]) -> None:
    """Write the events and the callbacks that tell of them, in the present transaction."""
    callbacks.emit(
        [
            NewEvent(
                type=event.type,
                subject_type=SUBJECT_TYPE,
                subject_id=event.company.id,
                data={"company_id": event.company.id, "data": event.data},
                occurred_at=event.occurred_at,
                endpoint_id=event.company.endpoint_id,
            )
            for event in events
        ]
    )
