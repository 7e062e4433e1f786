"""SMS gateways: any number of plain ones by name, and Twilio's API; all send receipts later."""

import base64
import hashlib
import hmac
import itertools
import json
import random
from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from email.utils import format_datetime
from urllib.parse import parse_qsl, urlencode

from aiohttp import web

from simulator.clock import Clock
from simulator.json_http import (
    bad_request,
    json_answer,
    number,
    read_object,
    reject_unknown,
    whole_number,
)
from simulator.outgoing import Outgoing
from simulator.scripts import Scripts, outcome_texts

SEND = "/sms/{gateway}/messages"
TWILIO = "/twilio/2010-04-01/Accounts/{account}/Messages.json"
BASE = "/control/sms"
# The token with which the simulated Twilio signs its receipts.
TWILIO_TOKEN = "development-twilio-token"
RECEIPT_SECONDS = 0.05
LONGEST_RECEIPT_SECONDS = 3600.0
LONGEST_SHUFFLE_SECONDS = 0.5
KEPT_MESSAGES = 400_000
SHOWN_MESSAGES = 100
# How a number's last four digits decide, where no script does; its first requests in turn.
MAGIC: dict[str, tuple[str, ...]] = {
    "9980": ("rejected:unknown_number",),
    "9981": ("rejected:opted_out",),
    "9982": ("undeliverable",),
    "9983": ("silent",),
    "9984": ("busy", "accepted"),
}
# Accepted and delivered; accepted, and the receipt says failed; accepted, and no receipt comes.
KINDS = frozenset({"accepted", "undeliverable", "silent", "rejected", "busy"})
TWILIO_CODES = {"unknown_number": 21211, "opted_out": 21610}


@dataclass(slots=True)
class Message:
    """A message that a gateway took."""

    gateway: str
    reference: str
    msgid: str
    msisdn: str
    text: str
    at: str
    sender: str | None = None

    def shown(self) -> dict[str, object]:
        """Return the message as the control API shows it."""
        return {
            "gateway": self.gateway,
            "reference": self.reference,
            "msgid": self.msgid,
            "msisdn": self.msisdn,
            "text": self.text,
            "accepted_at": self.at,
        }


class SmsGateways:
    """Every gateway, and the control over them."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._outgoing = Outgoing()
        self.reset()

    def reset(self) -> None:
        """Forget every message, script and setting."""
        self._outgoing.forget()
        self._numbers = itertools.count(1)
        self._messages: list[Message] = []
        self._by_msgid: dict[tuple[str, str], Message] = {}
        self._counters: dict[str, Counter[str]] = {}
        self._scripts = Scripts(MAGIC, usual="accepted")
        self._receipt_after: float | None = RECEIPT_SECONDS
        self._receipt_times = 1
        self._shuffle = False

    async def close(self, _: web.Application) -> None:
        """Stop the receipts."""
        await self._outgoing.close()

    def routes(self) -> list[web.RouteDef]:
        """Return the public and the control routes."""
        return [
            web.post(SEND, self.send),
            web.post(TWILIO, self.send_as_twilio),
            web.get(TWILIO, self.list_as_twilio),
            web.get(BASE, self.show_counts),
            web.put(f"{BASE}/settings", self.change_settings),
            web.put(f"{BASE}/numbers/{{msisdn}}", self.set_script),
            web.get(f"{BASE}/messages", self.show_messages),
        ]

    async def send(self, request: web.Request) -> web.Response:
        """Take a message of a plain gateway; the same msgid again is the same message."""
        gateway = request.match_info["gateway"]
        msisdn, msgid, text, callback = await _order(request)
        # Asked first: nothing is waited for between the look for the msgid and the message.
        now = await self._clock.now()
        counters = self._counted(gateway)
        made = self._by_msgid.get((gateway, msgid))
        if made is not None:
            counters["repeated"] += 1
            return json_answer({"status": "accepted", "reference": made.reference})
        kind, _, reason = self._scripts.next(msisdn).partition(":")
        if kind == "busy":
            counters["busy"] += 1
            return json_answer({"status": "busy"}, 503)
        if kind == "rejected":
            counters["rejected"] += 1
            return json_answer({"status": "rejected", "reason": reason or "unknown_number"})
        made = self._take(gateway, msgid, msisdn, text, now)
        if callback and kind != "silent":
            status = "failed" if kind == "undeliverable" else "delivered"
            self._post_receipt(callback, json.dumps({"msgid": msgid, "status": status}).encode())
        return json_answer({"status": "accepted", "reference": made.reference})

    async def send_as_twilio(self, request: web.Request) -> web.Response:
        """Take a message as Twilio does, which knows no idempotence."""
        form = dict(parse_qsl((await request.read()).decode()))
        now = await self._clock.now()
        counters = self._counted("twilio")
        if not request.headers.get("Authorization", "").startswith("Basic "):
            return json_answer({"code": 20003, "message": "Authenticate", "status": 401}, 401)
        kind, _, reason = self._scripts.next(form.get("To", "")).partition(":")
        if kind == "busy":
            counters["busy"] += 1
            return json_answer({"code": 20429, "message": "Too Many Requests", "status": 429}, 429)
        if kind == "rejected":
            counters["rejected"] += 1
            code = TWILIO_CODES.get(reason, 21211)
            return json_answer({"code": code, "message": reason, "status": 400}, 400)
        made = self._take("twilio", "", form.get("To", ""), form.get("Body", ""), now)
        made.sender = form.get("From")
        made.reference = "SM" + hashlib.md5(made.reference.encode()).hexdigest()  # noqa: S324
        callback = form.get("StatusCallback")
        if callback and kind != "silent":
            self._post_receipt_as_twilio(callback, made, failed=kind == "undeliverable")
        return json_answer(_twilio_shown(request.match_info["account"], made), 201)

    async def list_as_twilio(self, request: web.Request) -> web.Response:
        """List the messages to a number, newest first."""
        to, sender = request.query.get("To"), request.query.get("From")
        account = request.match_info["account"]
        found = [one for one in reversed(self._messages) if one.gateway == "twilio"]
        items = [
            _twilio_shown(account, one)
            for one in found
            if to in (None, one.msisdn) and sender in (None, one.sender)
        ][:50]
        return json_answer({"messages": items, "next_page_uri": None, "page": 0, "page_size": 50})

    def _take(self, gateway: str, msgid: str, msisdn: str, text: str, now: datetime) -> Message:
        number = next(self._numbers)
        message = Message(gateway, f"g-{number}", msgid, msisdn, text, now.isoformat())
        self._counted(gateway, first=False)["accepted"] += 1
        if len(self._messages) < KEPT_MESSAGES:
            self._messages.append(message)
        if msgid:
            self._by_msgid[gateway, msgid] = message
        return message

    def _counted(self, gateway: str, *, first: bool = True) -> Counter[str]:
        counters = self._counters.setdefault(gateway, Counter())
        counters["requests"] += first
        return counters

    def _post_receipt(self, url: str, body: bytes, headers: dict[str, str] | None = None) -> None:
        if self._receipt_after is None:
            return
        for _ in range(self._receipt_times):
            wait = random.uniform(0, LONGEST_SHUFFLE_SECONDS) if self._shuffle else 0.0
            sent_with = headers or {"Content-Type": "application/json"}
            self._outgoing.post(
                url, body, after_seconds=self._receipt_after + wait, headers=sent_with
            )

    def _post_receipt_as_twilio(self, url: str, message: Message, *, failed: bool) -> None:
        statuses = ("sent", "undelivered" if failed else "delivered")
        for status in statuses:
            form = {"MessageSid": message.reference, "MessageStatus": status, "To": message.msisdn}
            headers = {
                "Content-Type": "application/x-www-form-urlencoded",
                "X-Twilio-Signature": twilio_signature(url, form),
            }
            self._post_receipt(url, urlencode(form).encode(), headers)

    async def change_settings(self, request: web.Request) -> web.Response:
        """Change when receipts come (null: never), how often each, and in which order."""
        data = await read_object(request)
        reject_unknown(
            data, frozenset({"receipt_after_seconds", "receipt_times", "receipt_shuffle"})
        )
        after = data.get("receipt_after_seconds", self._receipt_after)
        if after is not None:
            after = number("receipt_after_seconds", after, 0, LONGEST_RECEIPT_SECONDS)
        times = whole_number("receipt_times", data.get("receipt_times", self._receipt_times), 1, 10)
        shuffle = data.get("receipt_shuffle", self._shuffle)
        if not isinstance(shuffle, bool):
            raise bad_request("receipt_shuffle is not true or false")
        self._receipt_after, self._receipt_times, self._shuffle = after, times, shuffle
        return json_answer(
            {"receipt_after_seconds": after, "receipt_times": times, "receipt_shuffle": shuffle}
        )

    async def set_script(self, request: web.Request) -> web.Response:
        """Script what becomes of a number's next messages; {} goes back to the rule."""
        data = await read_object(request)
        reject_unknown(data, frozenset({"outcomes", "then"}))
        outcomes = outcome_texts("outcomes", data.get("outcomes", []), KINDS)
        then = data.get("then")
        last = None if then is None else outcome_texts("then", [then], KINDS)[0]
        self._scripts.set(request.match_info["msisdn"], outcomes, last)
        return json_answer({"outcomes": list(outcomes), "then": last})

    async def show_counts(self, request: web.Request) -> web.Response:
        """Answer what each gateway did, and how its receipts fared."""
        return json_answer(
            {
                "gateways": self._counters,
                "accepted": len(self._messages),
                "numbers": len({message.msisdn for message in self._messages}),
                "receipts": self._outgoing.counters(),
            }
        )

    async def show_messages(self, request: web.Request) -> web.Response:
        """Answer the last messages, newest first; of one number with ?msisdn=."""
        msisdn = request.query.get("msisdn")
        limit = request.query.get("limit", str(SHOWN_MESSAGES))
        if not limit.isdecimal() or len(limit) > 9:
            raise bad_request("limit is not a whole number")
        wanted = (one for one in reversed(self._messages) if msisdn in (None, one.msisdn))
        return json_answer({"items": [m.shown() for m in itertools.islice(wanted, int(limit))]})


def twilio_signature(url: str, form: dict[str, str]) -> str:
    """Return the signature of a receipt: Twilio's guide, "Validating Requests"."""
    signed = url + "".join(name + form[name] for name in sorted(form))
    digest = hmac.digest(TWILIO_TOKEN.encode(), signed.encode(), "sha1")
    return base64.b64encode(digest).decode()


def _twilio_shown(account: str, message: Message) -> dict[str, object]:
    return {
        "sid": message.reference,
        "account_sid": account,
        "to": message.msisdn,
        "body": message.text,
        "status": "queued",
        "error_code": None,
        "from": message.sender,
        "direction": "outbound-api",
        "date_created": format_datetime(datetime.fromisoformat(message.at)),
        "date_sent": None,
    }


async def _order(request: web.Request) -> tuple[str, str, str, str | None]:
    data = await read_object(request)
    given = [data.get(name) for name in ("msisdn", "msgid", "text")]
    if not all(isinstance(one, str) and one for one in given):
        raise bad_request("msisdn, msgid and text are text")
    callback = data.get("callback")
    if callback is not None and not isinstance(callback, str):
        raise bad_request("callback is not text")
    msisdn, msgid, text = (str(one) for one in given)
    return msisdn, msgid, text, callback
