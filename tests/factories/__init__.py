"""Things that tests need to be there, made through the services as the product makes them."""

import itertools
from dataclasses import dataclass
from datetime import datetime

from project.core.db.transaction import transaction
from project.mobile.apps import service as apps
from project.mobile.devices import service as devices
from project.mobile.models import Purchase
from project.mobile.purchases import service as purchases
from project.mobile.purchases import verification
from project.mobile.states import DeviceOs
from simulator.client import SimulatorClient

STORE_PATHS = {DeviceOs.IOS: "app-store", DeviceOs.ANDROID: "google-play"}


@dataclass(frozen=True)
class MadeApp:
    """An app, the name of its inbox at the simulator, and its signing secret."""

    id: int
    inbox: str
    endpoint: str
    secret: str


@dataclass(frozen=True)
class MadeDevice:
    """A device and its client-token."""

    id: int
    app: MadeApp
    os: DeviceOs
    token: str


class Factory:
    """Makes apps, devices and purchases; every name is used once."""

    def __init__(self, simulator: SimulatorClient) -> None:
        self.simulator = simulator
        self._numbers = itertools.count(1)

    def app(self, endpoint: str | None = None) -> MadeApp:
        """Make an app whose callbacks go to an inbox of the simulator."""
        inbox = f"app-{next(self._numbers)}"
        endpoint = endpoint or f"{self.simulator.base_url}/inbox/{inbox}"
        with transaction():
            made = apps.create_app(f"App {inbox}", endpoint)
        return MadeApp(made.id, inbox, endpoint, made.callback_secret or "")

    def device(self, app: MadeApp | None = None, os: DeviceOs = DeviceOs.IOS) -> MadeDevice:
        """Register a device."""
        app = app or self.app()
        uid = f"device-{next(self._numbers)}"
        with transaction():
            device_id, token = devices.register_device(app.id, uid, language="en", os=os)
        return MadeDevice(device_id, app, os, token)

    def receipt(self, last: str = "1") -> str:
        """Return a new receipt that ends as given: an odd digit is good, an even one is not."""
        return f"receipt-{next(self._numbers)}-x{last}"

    def purchase(self, device: MadeDevice | None = None, receipt: str | None = None) -> Purchase:
        """Buy with a receipt, a good one if none is given, and return what was recorded."""
        device = device or self.device()
        with transaction():
            buyer = devices.authenticate_device(device.token)
            purchase_id, claimed = purchases.submit_receipt(buyer, receipt or self.receipt())
        if claimed:
            verification.ask_store_now(claimed)
        return self.reloaded(purchase_id)

    def reloaded(self, purchase_id: int) -> Purchase:
        """Return the purchase as it is in the database now; it does not change with it."""
        with transaction() as session:
            purchase = purchases.existing_purchase(purchase_id)
            session.expunge(purchase)
            return purchase

    def store_says(
        self, purchase: Purchase, state: str, expires_at: datetime | None = None
    ) -> None:
        """Have the store answer `canceled`, `active` or by its own rule (`default`)."""
        store = STORE_PATHS[purchase.os]
        order = {"state": state}
        if expires_at is not None:
            order["expires_at"] = expires_at.isoformat()
        self.simulator.control("PUT", f"/receipts/{store}/{purchase.receipt}", order)
