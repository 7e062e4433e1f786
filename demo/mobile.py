"""Store subscriptions: register, buy, check, renew, cancel, callbacks, the report."""

import base64
import hashlib
import hmac
import itertools
import json
from datetime import UTC, datetime
from typing import Any

from rich.table import Table

from demo.story import Story, console, require, wait_for

PERIOD = "31d"
HOUR_SECONDS = 3600


class MobileStory(Story):
    """A customer's life with store subscriptions, chapter by chapter."""

    def run(self) -> None:
        """Tell the whole story."""
        self._is_everything_there()
        app = self._register_app("weather")
        ios = self._register_device(app, "ios")
        android = self._register_device(app, "android")
        self._buy(ios, android)
        self._callbacks_arrive(app, {"started": 2})
        self._a_month_later(ios, android)
        self._callbacks_arrive(app, {"started": 2, "renewed": 1, "canceled": 1})
        self._report(app)
        self._callback_that_fails()

    def _is_everything_there(self) -> None:
        self.chapter("Is everything there?")
        health = self.call("GET", "/api/health", want=200)
        parts = {name: part["status"] for name, part in health["parts"].items()}
        console.print(f"  {health['status']}: {parts}")
        self.call("GET", "/api/clock", want=200)
        self.simulator.call("GET", "/health")

    def _register_app(self, name: str) -> dict[str, Any]:
        self.chapter(f"An app, {name}, and where its callbacks go")
        inbox = f"{name}-{self.run_id}"
        endpoint = f"{self.simulator.base_url}/inbox/{inbox}"
        body = {"name": f"{name} {self.run_id}", "endpoint": endpoint}
        app: dict[str, Any] = self.call("POST", "/api/apps", body, want=201)["data"]
        console.print(f"  app {app['id']}, callbacks to {endpoint}, secret shown once")
        return app | {"inbox": inbox}

    def _register_device(self, app: dict[str, Any], os_name: str) -> dict[str, Any]:
        body = {
            "uid": f"{os_name}-{self.run_id}",
            "appId": app["id"],
            "language": "en",
            "os": os_name,
        }
        answer = self.call("POST", "/api/devices/register", body, want=200)
        require(answer["register"] == "OK", "a registration answers OK")
        console.print(f"  {os_name} device registered: {answer['register']}")
        return {"client-token": answer["client-token"], "os": os_name}

    def _purchase(self, device: dict[str, Any], receipt: str, *, want: int) -> Any:
        body = {"client-token": device["client-token"], "receipt": receipt}
        return self.call("POST", "/api/purchase", body, want=want)

    def _check(self, device: dict[str, Any]) -> Any:
        body = {"client-token": device["client-token"]}
        return self.call("POST", "/api/purchase/check", body, want=200)

    def _buy(self, ios: dict[str, Any], android: dict[str, Any]) -> None:
        self.chapter("Buying with a bad receipt and with good ones")
        refused = self._purchase(ios, f"bad-{self.run_id}-x2", want=402)
        console.print(f"  bad receipt: {refused['status']} {refused['detail']}")
        for device in (ios, android):
            device["receipt"] = f"{device['os']}-{self.run_id}-x1"
            bought = self._purchase(device, device["receipt"], want=200)
            again = self._purchase(device, device["receipt"], want=200)
            require(bought == again, "the same receipt again has the same answer")
            checked = self._check(device)
            require(checked["active"] is True, "a device with a good receipt is entitled")
            console.print(f"  {device['os']}: active until {checked['expire-date']}")

    def _a_month_later(self, ios: dict[str, Any], android: dict[str, Any]) -> None:
        self.chapter("A month later: the iOS customer stays, the Android customer has canceled")
        path = f"/receipts/google-play/{android['receipt']}"
        self.simulator.control("PUT", path, {"state": "canceled"})
        before = self._check(ios)["expire-date"]
        self.flask("clock", "advance", PERIOD)
        self.flask("purchase-run")
        canceled = wait_for(
            "the store's cancellation is seen",
            lambda: (found := self._check(android))["state"] == "canceled" and found,
        )
        renewed = wait_for(
            "the renewal is seen", lambda: (found := self._check(ios))["active"] and found
        )
        require(renewed["expire-date"] > before, "a renewal moves the expire-date on")
        require(canceled["active"] is False, "a canceled device is not entitled")
        console.print(f"  ios: renewed until {renewed['expire-date']}; android: canceled")

    def _callbacks_arrive(self, app: dict[str, Any], wanted: dict[str, int]) -> None:
        self.chapter("Signed callbacks in the app's inbox")
        total = sum(wanted.values())
        inbox = wait_for(
            f"{total} callbacks arrive",
            lambda: (found := self.simulator.inbox(app["inbox"]))["count"] >= total and found,
        )
        require(inbox["distinct_ids"] == inbox["count"] == total, "each callback comes once")
        types: dict[str, int] = {}
        table = Table("type", "webhook-id", "signature")
        for message in inbox["messages"]:
            require(is_signed(message, app["callback_secret"]), "every callback is signed")
            kind = body_of(message)["type"]
            types[kind] = types.get(kind, 0) + 1
            table.add_row(kind, message["id"], "verified")
        console.print(table)
        require(types == wanted, f"the callbacks are {wanted}, but were {types}")

    def _report(self, app: dict[str, Any]) -> None:
        self.chapter("The report")
        rows = self.call("GET", f"/api/reports?app_id={app['id']}", want=200)["data"]
        shown = [name for name in rows[0] if name not in ("app", "app_id", "day", "total")]
        table = Table("day", *shown, "total")
        for row in rows:
            table.add_row(row["day"], *(str(row[name]) for name in shown), str(row["total"]))
        console.print(table)
        require(sum(row["total"] for row in rows) == 4, "two starts, a renewal, a cancellation")
        require(sum(row["ios-update"] for row in rows) == 1, "one renewal on iOS")
        require(sum(row["android-cancel"] for row in rows) == 1, "one cancellation on Android")

    def _callback_that_fails(self) -> None:
        app = self._register_app("broken")
        self.simulator.add_fault(f"/inbox/{app['inbox']}", status=500)
        device = self._register_device(app, "ios")
        self._purchase(device, f"broken-{self.run_id}-x1", want=200)
        self.chapter("A callback that fails three times, an hour apart, and is closed")
        for attempts in (1, 2, 3):
            callback = self._after_attempt(app, attempts)
            if attempts < 3:
                self.flask("clock", "advance", "1h")
                self.flask("callbacks-run")
        self._show_attempts(callback)

    def _after_attempt(self, app: dict[str, Any], attempts: int) -> dict[str, Any]:
        path = f"/api/callbacks?app_id={app['id']}"

        def look() -> dict[str, Any] | None:
            found: list[dict[str, Any]] = self.call("GET", path, want=200)["data"]
            tried = [one for one in found if one["attempts"] >= attempts and one["last_status"]]
            return tried[0] if tried and not self._under_way(tried[0], attempts) else None

        callback: dict[str, Any] = wait_for(f"attempt {attempts} is made", look)
        wanted = "failed" if attempts == 3 else "pending"
        require(callback["state"] == wanted, f"after attempt {attempts} it is {wanted}")
        console.print(f"  attempt {attempts}: {callback['last_error']}; {callback['state']}")
        return callback

    def _under_way(self, callback: dict[str, Any], attempts: int) -> bool:
        path = f"/api/callbacks/{callback['id']}"
        history = self.call("GET", path, want=200)["data"]["attempt_history"]
        return len(history) < attempts

    def _show_attempts(self, callback: dict[str, Any]) -> None:
        found = self.call("GET", f"/api/callbacks/{callback['id']}", want=200)["data"]
        times = [datetime.fromisoformat(one["attempted_at"]) for one in found["attempt_history"]]
        require(len(times) == 3, "there are three attempts in all")
        for earlier, later in itertools.pairwise(times):
            pause = (later - earlier).total_seconds()
            require(pause >= HOUR_SECONDS - 1, f"attempts are an hour apart, not {pause:.0f} s")
        console.print(f"  tried at {', '.join(f'{time:%H:%M:%S}' for time in times)}; now closed")


def body_of(message: dict[str, Any]) -> dict[str, Any]:
    """Return the JSON of a callback in the inbox."""
    body: dict[str, Any] = json.loads(message["body"])
    return body


def is_signed(message: dict[str, Any], secret: str) -> bool:
    """Verify as Standard Webhooks says, with nothing from the product."""
    headers = message["headers"]
    sent_at = datetime.fromtimestamp(int(headers["webhook-timestamp"]), UTC)
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.{message['body']}"
    key = base64.b64decode(secret.removeprefix("whsec_"))
    digest = hmac.new(key, signed.encode(), hashlib.sha256).digest()
    wanted = f"v1,{base64.b64encode(digest).decode()}"
    is_recent = abs((datetime.now(UTC) - sent_at).total_seconds()) < 300
    return is_recent and wanted in headers["webhook-signature"].split()
