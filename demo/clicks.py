"""Clicks: signed, on disk before the answer, counted once, reported, handed to finance."""

import hashlib
import hmac
import json
import os
from datetime import datetime, timedelta
from typing import Any

from rich.table import Table

from demo.story import Story, console, require, wait_for
from simulator.client import Answer

SECRET = "WEBHOOK_SECRET_KEY"
WEBHOOK = "/api/webhook/clicks"


class ClickStory(Story):
    """A day of clicks, chapter by chapter."""

    def run(self) -> None:
        """Tell the whole story."""
        now = datetime.fromisoformat(self.call("GET", "/api/clock", want=200)["now"])
        # An hour of yesterday: that day is over, so it can be handed to finance.
        self.moment = now - timedelta(days=1)
        self.day = self.moment.date().isoformat()
        self.offer = int(self.run_id, 16)
        self._single_and_double()
        self._bad_signatures()
        self._batch()
        self._report()
        self._export()

    def _click(self, name: str, source: str = "google", **changes: Any) -> dict[str, Any]:
        return {
            "click_id": f"{self.run_id}-{name}",
            "offer_id": self.offer,
            "source": source,
            "timestamp": self.moment.isoformat(),
            "signature": f"of-{name}",
            **changes,
        }

    def _send(self, data: Any, *, path: str = WEBHOOK, signature: str | None = None) -> Answer:
        body = json.dumps(data).encode()
        secret = os.environ.get(SECRET, "").split(",")[0]
        made = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
        return self.api.call("POST", path, body, {"X-Signature": signature or f"sha256={made}"})

    def _single_and_double(self) -> None:
        self.chapter("A signed click, and the same one again")
        for _ in range(2):
            answer = self._send(self._click("one"))
            require(answer.status == 202, f"a signed click is taken, not {answer.status}")
        console.print(f"  202 {answer.json()}")

    def _bad_signatures(self) -> None:
        self.chapter("Clicks that nobody signed are refused, whatever is in them")
        for signature in ("sha256=00", "nonsense"):
            answer = self._send(self._click("forged"), signature=signature)
            require(answer.status == 401, f"a forged click is refused, not {answer.status}")
        console.print(f"  401 {answer.json()['detail']}")

    def _batch(self) -> None:
        self.chapter("A batch with a bad one: the others are taken")
        clicks = [self._click(f"batch-{number}", "bing") for number in range(3)]
        clicks.append(self._click("bad", offer_id=-1))
        said = self._send({"clicks": clicks}, path=f"{WEBHOOK}/batch").json()
        require((said["processed"], said["failed"]) == (3, 1), "three are taken, one is not")
        console.print(f"  taken {said['processed']}, not taken: {said['errors']}")

    def _report(self) -> None:
        self.chapter("The report: the double counts once, the bad and the forged not at all")
        query = f"start_date={self.day}&end_date={self.day}&offer_id={self.offer}"

        def look() -> Any:
            rows = self.call("GET", f"/api/reports/aggregated?{query}&sort_by=source", want=200)
            return rows["data"] if len(rows["data"]) == 2 else None

        rows = wait_for("the clicks should be in the report within seconds", look)
        table = Table("date", "offer", "source", "clicks")
        for row in rows:
            table.add_row(*(str(value) for value in row.values()))
        console.print(table)
        counts = {row["source"]: row["clicks_count"] for row in rows}
        require(counts == {"google": 1, "bing": 3}, f"one click and three, not {counts}")

    def _export(self) -> None:
        self.chapter("The day goes to the finance service")
        begun = self.call("POST", "/api/export/forward", {"date": self.day}, want=202)
        console.print(f"  {begun['message']}")

        def look() -> Any:
            found = self.call("GET", f"/api/export/status?date={self.day}", want=200)["data"]
            return found if found["state"] == "succeeded" else None

        sent = wait_for("finance should have taken the day", look)
        console.print(f"  {sent['clicks_sent']} clicks, SHA-256 {sent['checksum'][:16]}…")
        require(sent["clicks_sent"] >= 4, "the four clicks of this story are among them")
        require(sent["changed_since_export"] is False, "nothing has come since")
        self._send(self._click("late"))
        wait_for(
            "a click that comes after the export should show",
            lambda: self.call("GET", f"/api/export/status?date={self.day}", want=200)["data"][
                "changed_since_export"
            ],
        )
        console.print("  a late click came: the status says that the day has changed since")
