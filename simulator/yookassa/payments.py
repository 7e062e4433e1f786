"""A payment of YooKassa, and how the API shows it."""

import math
from dataclasses import dataclass
from datetime import UTC, datetime

from simulator.yookassa.outcomes import (
    CANCELED,
    PENDING,
    SUCCEEDED,
    WAITING_FOR_CAPTURE,
    Outcome,
)

GATEWAY_ID = "1000001"
FEE_PER_MILLE = 35

# Who decided, where it was not the network of the card.
PARTIES = {
    "canceled_by_merchant": "merchant",
    "permission_revoked": "yoo_money",
    "fraud_suspected": "yoo_money",
    "country_forbidden": "yoo_money",
    "identification_required": "yoo_money",
    "internal_timeout": "yoo_money",
    "expired_on_capture": "yoo_money",
    "expired_on_confirmation": "yoo_money",
}

# When a payment was created, and its number among all of them.
Order = tuple[datetime, float]
OLDEST: Order = (datetime.min.replace(tzinfo=UTC), -1)
NEWEST: Order = (datetime.max.replace(tzinfo=UTC), math.inf)


@dataclass(slots=True, eq=False)
class Payment:
    """One payment; money is text as the API writes it, such as 10.00."""

    value: str
    currency: str
    capture: bool = True
    description: str | None = None
    metadata: dict[str, str] | None = None
    account_id: str = "100500"
    method_id: str | None = None
    save_method: bool = False
    return_url: str | None = None
    confirmation_url: str | None = None
    idempotence_key: str | None = None
    body_digest: bytes = b""

    id: str = ""
    order: Order = NEWEST
    status: str = PENDING
    reason: str | None = None
    captured_at: datetime | None = None
    settles_at: datetime | None = None
    becomes: Outcome | None = None
    method_saved: bool = False
    refunded: int = 0

    @property
    def created_at(self) -> datetime:
        """When it was created, in whole milliseconds."""
        return self.order[0]

    @property
    def is_final(self) -> bool:
        """Whether nothing more happens to it."""
        return self.status not in (PENDING, WAITING_FOR_CAPTURE)

    @property
    def minor_units(self) -> int:
        """The amount in hundredths."""
        return int(self.value.replace(".", ""))

    def shown(self) -> dict[str, object]:
        """Return the payment object of the API."""
        shown: dict[str, object] = {
            "id": self.id,
            "status": self.status,
            "amount": {"value": self.value, "currency": self.currency},
            "recipient": {"account_id": self.account_id, "gateway_id": GATEWAY_ID},
            "payment_method": {
                "type": "bank_card",
                "id": self.method_id or self.id,
                "saved": self.method_saved,
                "status": "active" if self.method_saved else "inactive",
                "title": "Bank card *4444",
            },
            "created_at": iso(self.created_at),
            "test": True,
            "paid": self.status in (SUCCEEDED, WAITING_FOR_CAPTURE),
            "refundable": self.status == SUCCEEDED and self.refunded < self.minor_units,
            "metadata": self.metadata or {},
        }
        if self.description is not None:
            shown["description"] = self.description
        self._show_state(shown)
        return shown

    def _show_state(self, shown: dict[str, object]) -> None:
        if self.status == SUCCEEDED:
            income = decimal(self.minor_units - round(self.minor_units * FEE_PER_MILLE / 1000))
            shown["income_amount"] = {"value": income, "currency": self.currency}
            shown["captured_at"] = iso(self.captured_at or self.created_at)
            if self.refunded:
                refunded = decimal(self.refunded)
                shown["refunded_amount"] = {"value": refunded, "currency": self.currency}
        elif self.status == CANCELED:
            reason = self.reason or "general_decline"
            party = PARTIES.get(reason, "payment_network")
            shown["cancellation_details"] = {"party": party, "reason": reason}
        elif self.status == WAITING_FOR_CAPTURE and self.settles_at is not None:
            shown["expires_at"] = iso(self.settles_at)
        elif self.status == PENDING and self.confirmation_url is not None:
            shown["confirmation"] = {
                "type": "redirect",
                "return_url": self.return_url,
                "confirmation_url": self.confirmation_url,
            }


def iso(moment: datetime) -> str:
    """Return a UTC time as the API writes it."""
    return moment.isoformat(timespec="milliseconds")[:-6] + "Z"


def decimal(minor_units: int) -> str:
    """Return hundredths as the API writes money."""
    return f"{minor_units // 100}.{minor_units % 100:02}"
