"""Forecast SMS: files with bad rows, the carrier, a message each, receipts, STOP."""

import uuid
from datetime import UTC, datetime
from typing import Any

from rich.table import Table

from demo.story import Story, console, require, wait_for
from project.config.environment import get_settings
from project.weather.settings import SmsSettings

FORECASTS = """gid;lat;lon;fcat24;fcat48
{gid};41.01;28.98;Sunny with light clouds, 24 C;Rain in the evening, 19 C
{other};55.75;37.62;Ясно, 20;Дождь, 15
{bad};91;28.98;Nowhere;Nowhere
"""
ADDITIONS = """ts,msisdn,original_sub_plan,lat,lon
2027-01-15T08:00:00Z,{paid},daily,41.02,28.97
2027-01-15T08:00:00Z,{weekly},2,41.00,29.00
2027-01-15T08:00:00Z,{poor},1,41.03,28.95
2027-01-15T08:00:00Z,{lost},1,41.03,28.95
2027-01-15T08:00:00Z,12ab,daily,41.02,28.97
2027-01-15T08:00:00Z,{faraway},daily,0,-150
"""
NOON = 12


class WeatherStory(Story):
    """A content provider's day with the product, chapter by chapter."""

    def run(self) -> None:
        """Tell the whole story."""
        self.key = int(self.run_id, 16) % 900 + 100
        self.numbers = {
            "paid": f"+90532{self.key}0001",
            "weekly": f"+90532{self.key}0002",
            "poor": f"+90532{self.key}9990",
            "lost": f"+90532{self.key}9982",
            "faraway": f"+90532{self.key}0003",
        }
        self._noon_in_istanbul()
        self._imports()
        self._billing()
        self._messages()
        self._stop()
        self._next_day()

    def _noon_in_istanbul(self) -> None:
        """Go on to a time of day at which nobody is asleep there."""
        now = datetime.fromisoformat(self.call("GET", "/api/clock", want=200)["now"])
        hours = (NOON - 3 - now.astimezone(UTC).hour) % 24
        self.flask("clock", "advance", f"{hours or 24}h")

    def _imports(self) -> None:
        self.chapter("Forecasts and subscribers come as files, bad rows and all")
        gid = self.key * 1000
        forecasts = FORECASTS.format(gid=gid, other=gid + 1, bad=gid + 2)
        task = self._upload("/api/forecasts/upload_csv/", forecasts)
        require(task["failed"] == 1, "a forecast at latitude 91 is not taken")
        additions = ADDITIONS.format(**self.numbers)
        task = self._upload("/api/subscribers/upload_additions_csv/", additions)
        require(task["failed"] >= 1, "a number with letters is not taken")
        self._show(task)
        found = self._subscriber("paid")
        # Its own, or that of an earlier telling: they stand at the same place.
        require(found["forecast"]["distance_km"] < 5, "the nearest forecast is near")

    def _upload(self, path: str, text: str) -> dict[str, Any]:
        boundary = uuid.uuid4().hex
        body = (
            f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="rows.csv"\r\n'
            f"Content-Type: text/csv\r\n\r\n{text}\r\n--{boundary}--\r\n"
        ).encode()
        kind = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
        task_id = self.call("POST", path, body, want=202, headers=self.operator | kind)["task_id"]
        return dict(wait_for("the import ends", lambda: self._ended(task_id)))

    def _ended(self, task_id: str) -> Any:
        task = self.call("GET", f"/api/subscribers/task_status/?task_id={task_id}", want=200)
        return task if task["task_status"] in ("SUCCESS", "FAILURE") else None

    def _show(self, task: dict[str, Any]) -> None:
        table = Table("total", "created", "updated", "skipped", "failed")
        names = ("total", "created", "updated", "skipped", "failed")
        table.add_row(*(str(task[name]) for name in names))
        console.print(table)

    def _subscriber(self, name: str) -> dict[str, Any]:
        path = f"/api/subscribers/{self.numbers[name]}"
        found: dict[str, Any] = self.call("GET", path, want=200)["data"]
        return found

    def _charges(self, name: str) -> list[str]:
        number = self.numbers[name].replace("+", "%2B")
        items = self.simulator.control("GET", f"/carrier/charges?msisdn={number}")["items"]
        return [one["status"] for one in items]

    def _billing(self) -> None:
        self.chapter("The carrier is asked at once; one number has no money")
        for name in ("paid", "weekly"):
            self._wait_for_charges(name, ["charged"])
        for tries in (1, 2, 3):
            self._wait_for_charges("poor", ["refused"] * tries)
            self.flask("clock", "advance", "2m", "--run")
        wait_for("poor is canceled", lambda: self._subscriber("poor")["state"] == "canceled")
        console.print("  three refusals: the subscription without money is canceled")

    def _wait_for_charges(self, name: str, wanted: list[str]) -> None:
        wait_for(f"{name}: {', '.join(wanted)}", lambda: self._charges(name) == wanted)

    def _wait_for_states(self, name: str, wanted: list[str]) -> None:
        wait_for(f"{name}: {', '.join(wanted)}", lambda: self._states(name) == wanted)

    def _messages(self) -> None:
        self.chapter("A message each, today, by two gateways; one cannot be delivered")
        began = self.call("POST", "/api/subscribers/trigger_send_sms/", want=202)
        console.print(f"  run {began['run_id']}")
        for name, state in {"paid": "delivered", "weekly": "delivered", "lost": "failed"}.items():
            self._wait_for_states(name, [state])
        require(self._states("poor") == [], "who has not paid gets nothing")
        message = self._list("paid")[0]
        console.print(f"  {message['text']!r} by {message['gateway']}")
        shown = self.call("GET", f"/api/messages/{message['id']}", want=200)["data"]
        heard = {one["status"] for one in shown["events"]}
        require(heard == {"accepted", "delivered"}, "every answer and receipt is kept")

    def _list(self, name: str) -> list[dict[str, Any]]:
        number = self.numbers[name].removeprefix("+")
        found: list[dict[str, Any]] = self.call("GET", f"/api/messages?msisdn={number}", want=200)[
            "data"
        ]
        return found

    def _states(self, name: str) -> list[str]:
        return [message["state"] for message in self._list(name)]

    def _stop(self) -> None:
        self.chapter("STOP is for ever")
        callback = self._list("weekly")
        require(callback, "there is a message to answer")
        secret = self._secret()
        body = {"msisdn": self.numbers["weekly"], "text": "DUR"}
        answer = self.call(
            "POST",
            "/api/subscribers/inbound",
            body,
            want=200,
            headers={"X-Callback-Secret": secret},
        )
        require(answer["action"] == "stopped", "DUR is STOP")
        again = {"msisdn": self.numbers["weekly"], "lat": 41, "lon": 29, "plan": "daily"}
        self.call("POST", "/api/subscribers", again, want=409)
        console.print("  and the number cannot be added again")

    def _secret(self) -> str:
        return get_settings(SmsSettings).sms_receipt_secret

    def _next_day(self) -> None:
        self.chapter("The next day: charged at three, told at eight, where the number is")
        self.flask("clock", "advance", "24h", "--run")
        self._wait_for_charges("paid", ["charged"] * 2)
        self._wait_for_states("paid", ["delivered"] * 2)
        require(len(self._states("weekly")) == 1, "nothing comes after STOP")
