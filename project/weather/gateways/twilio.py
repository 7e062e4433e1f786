"""Twilio: one call that sends and one that lists, over our own client.

Twilio knows no idempotence key and tells nobody where its receipts go, so a message whose answer
was lost is known by its time: a number gets one from us a day, so what went to it since the message
was made is the message. What it says is no proof: yesterday's may have said the same.
"""

import base64
import hmac
from collections.abc import Mapping
from datetime import timedelta
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlencode, urlsplit

from project.core.net import http_client
from project.core.net.http_client import Answer, Request
from project.weather.gateways.base import Accepted, Gateway, NotTaken, Refused, Sms, Unknown, Word
from project.weather.gateways.http import trouble_in

MAX_ANSWER_BYTES = 1_000_000
LISTED = 20
CLOCKS_DIFFER_BY = timedelta(minutes=5)
OUTBOUND = "outbound-api"
# Twilio's error dictionary: numbers that cannot get messages, and those that said STOP.
REFUSED = {
    21211: "unknown_number",
    21214: "unknown_number",
    21217: "unknown_number",
    21610: "opted_out",
    21614: "unknown_number",
}
BUSY = frozenset({401, 403, 404, 429, 503})
# Statuses of receipts that are an end; the others only say how far it is.
STATUSES = {"delivered": "delivered", "undelivered": "failed", "failed": "failed"}
DEFAULT_PORTS = {"http": 80, "https": 443}


class Twilio(Gateway):
    """An account at Twilio: twilio://ACCOUNT_SID:AUTH_TOKEN@api.twilio.com?from=%2B15005550006."""

    def __init__(self, url: str, *, deadline_seconds: float) -> None:
        parts = urlsplit(url)
        scheme = "http" if parts.scheme == "twilio+http" else "https"
        host = parts.netloc.rpartition("@")[2]
        account, self._token = unquote(parts.username or ""), unquote(parts.password or "")
        self.name = f"twilio:{host}"
        self._from = (parse_qs(parts.query).get("from") or [""])[0]
        self._deadline_seconds = deadline_seconds
        base = f"{scheme}://{host}{parts.path.rstrip('/')}"
        self._url = f"{base}/2010-04-01/Accounts/{quote(account)}/Messages.json"
        credentials = base64.b64encode(f"{account}:{self._token}".encode()).decode()
        self._headers = {"Authorization": f"Basic {credentials}", "Accept": "application/json"}

    async def send(self, sms: Sms) -> Word:
        """Send a message, or find the one that was sent."""
        try:
            found = await self._sent_before(sms) if sms.is_repeated else None
            if found is None:
                found = _object_in(await self._post(sms))
            reference = found["sid"]
        except _NotSuccessful as error:
            return _word_of(error.answer)
        except (KeyError, TypeError, ValueError, RecursionError) as error:
            return Unknown(f"an answer that cannot be read ({type(error).__name__})")
        if not isinstance(reference, str) or not reference:
            return Unknown("an answer that names no message")
        return Accepted(reference, f"{reference} {found.get('status')}")

    async def _sent_before(self, sms: Sms) -> Mapping[str, Any] | None:
        """Return the message that was made of an earlier request; None if there is none.

        Raises ValueError where that cannot be told.
        """
        query = urlencode({"To": sms.msisdn, "From": self._from, "PageSize": LISTED})
        listed = _object_in(await self._call("GET", f"{self._url}?{query}"))["messages"]
        since = sms.made_at - CLOCKS_DIFFER_BY
        for message in listed:
            if message.get("direction") not in (None, OUTBOUND):
                continue
            # In the form of e-mails: Sat, 31 Jan 2026 12:00:00 +0000.
            made_at = parsedate_to_datetime(message.get("date_created") or message.get("date_sent"))
            if made_at >= since:
                found: Mapping[str, Any] = message
                return found
        return None

    async def _post(self, sms: Sms) -> Answer:
        form = {
            "To": sms.msisdn,
            "From": self._from,
            "Body": sms.text,
            "StatusCallback": _with_msgid(sms),
        }
        return await self._call("POST", self._url, form)

    async def _call(self, method: str, url: str, form: Mapping[str, str] | None = None) -> Answer:
        headers = {"Content-Type": "application/x-www-form-urlencoded"} if form else {}
        return await http_client.send(
            Request(
                method,
                url,
                urlencode(form or {}).encode(),
                {**self._headers, **headers},
                deadline_seconds=self._deadline_seconds,
                once=method == "POST",
                max_answer_bytes=MAX_ANSWER_BYTES,
            )
        )

    def is_signed(self, url: str, form: Mapping[str, str], signature: str) -> bool:
        """Tell whether Twilio signed this receipt, sent to the URL that it was given.

        As its guide "Validating Requests" has it: with the URL's port or without one.
        """
        signed = "".join(name + form[name] for name in sorted(form))
        return any(
            hmac.compare_digest(self._signature(variant + signed), signature.encode())
            for variant in _with_and_without_port(url)
        )

    def _signature(self, signed: str) -> bytes:
        digest = hmac.digest(self._token.encode(), signed.encode("utf-8", "replace"), "sha1")
        return base64.b64encode(digest)


def _with_and_without_port(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    host, _, port = parts.netloc.partition(":")
    port = port or str(DEFAULT_PORTS.get(parts.scheme, 443))
    with_port = parts._replace(netloc=f"{host}:{port}")
    return with_port.geturl(), parts._replace(netloc=host).geturl()


def _with_msgid(sms: Sms) -> str:
    """Return where receipts go; Twilio proves itself by its signature, not by our secret."""
    return f"{sms.callback.partition('?')[0]}?msgid={quote(sms.msgid)}"


class _NotSuccessful(Exception):
    """The answer is an error, or none at all."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.error or f"answered {answer.status}")
        self.answer = answer


def _object_in(answer: Answer) -> dict[str, Any]:
    """Return what a success says. Raises _NotSuccessful, or ValueError if it cannot be read."""
    if answer.status is None or not 200 <= answer.status < 300:
        raise _NotSuccessful(answer)
    return answer.json_object()


def _word_of(answer: Answer) -> Word:
    """Return what an answer means that is no success: Twilio's code says it, where it has one."""
    if answer.status is None or answer.status in BUSY or answer.status >= 500:
        return trouble_in(answer, BUSY) or Unknown("no answer")
    try:
        error_document = answer.json_object()
        code, message = int(error_document["code"]), str(error_document["message"])
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        return Unknown(f"an answer that cannot be read ({type(error).__name__})")
    detail = f"{code} {message}"[:200].replace("\0", "\ufffd")
    reason = REFUSED.get(code)
    return Refused(reason, detail) if reason else NotTaken(f"refused the request: {detail}", detail)
