"""Asking the stores: many purchases at once by the workers, one while its customer waits."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row

from project.config.environment import get_settings
from project.core.db.transaction import transaction
from project.core.net import http_client
from project.core.work.claims import Claim
from project.mobile.purchases import queries, service
from project.mobile.settings import StoreSettings
from project.mobile.states import DeviceOs
from project.mobile.stores.base import StoreAnswer
from project.mobile.stores.registry import store_of


class PurchaseVerification:
    """Due purchases, as the pump works through them; an item is a claimed purchase."""

    wakeup = service.PURCHASES_DUE

    def __init__(self) -> None:
        settings = get_settings(StoreSettings)
        self.capacity = settings.store_concurrency
        self.armful = settings.store_concurrency
        self.deadline_seconds = settings.store_timeout_seconds
        self.stores = {os: store_of(os) for os in DeviceOs}

    def claim(self, limit: int) -> Sequence[Row[Any]]:
        """Claim the purchases that have been due the longest."""
        return service.claim_purchases(queries.due_purchases(limit=limit)).rows

    async def call(self, purchase: Row[Any]) -> StoreAnswer:
        """Ask the store that sold it."""
        store = self.stores[purchase.os]
        return await store.verify(purchase.receipt, deadline_seconds=self.deadline_seconds)

    def record(self, results: Sequence[tuple[Row[Any], StoreAnswer]]) -> None:
        """Record what the stores said."""
        service.record_answers(results)

    def is_anything_due(self) -> bool:
        """Tell whether a purchase is due that nobody works on."""
        return queries.is_anything_due()


def ask_store_now(claimed: Claim) -> StoreAnswer:
    """Ask the store about one claimed purchase while the customer waits, and record the answer."""
    purchase = claimed.rows[0]
    deadline = get_settings(StoreSettings).store_interactive_timeout_seconds
    store = store_of(purchase.os)
    question = store.verify(purchase.receipt, deadline_seconds=deadline)
    answer = http_client.start(question).result()
    with transaction():
        service.record_answers([(purchase, answer)])
    return answer
