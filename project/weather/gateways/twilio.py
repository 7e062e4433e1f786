"""Twilio: its SDK makes the requests and reads the answers, our client carries them.

Twilio knows no idempotence key and tells nobody where its receipts go, so a message whose answer
was lost is known by its time: a number gets one from us a day, so what went to it since the message
was made is the message. What it says is no proof: yesterday's may have said the same.
"""

import base64
import logging
from collections.abc import Mapping
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlencode, urlsplit

from twilio.base.exceptions import TwilioException, TwilioRestException
from twilio.http import AsyncHttpClient
from twilio.http.response import Response
from twilio.request_validator import RequestValidator
from twilio.rest import Client

from project.core.net import http_client
from project.core.net.http_client import Answer, Request
from project.weather.gateways.base import Accepted, Gateway, NotTaken, Refused, Sms, Unknown, Word
from project.weather.gateways.http import shown, trouble_in

SDK_HOST = "https://api.twilio.com"
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


class Twilio(Gateway):
    """An account at Twilio: twilio://ACCOUNT_SID:AUTH_TOKEN@api.twilio.com?from=%2B15005550006."""

    def __init__(self, url: str, *, deadline_seconds: float) -> None:
        parts = urlsplit(url)
        scheme = "http" if parts.scheme == "twilio+http" else "https"
        host = parts.netloc.rpartition("@")[2]
        self.name = f"twilio:{host}"
        self._from = (parse_qs(parts.query).get("from") or [""])[0]
        self._token = unquote(parts.password or "")
        self._carrier = _Carrier(f"{scheme}://{host}{parts.path}", deadline_seconds)
        self._client = Client(unquote(parts.username or ""), self._token, http_client=self._carrier)

    async def send(self, sms: Sms) -> Word:
        """Send a message, or find the one that was sent."""
        try:
            found = await self._sent_before(sms) if sms.is_repeated else None
            if found is None:
                found = await self._client.messages.create_async(
                    to=sms.msisdn,
                    from_=self._from,
                    body=sms.text,
                    status_callback=_with_msgid(sms),
                )
        except _NoAnswer as error:
            return trouble_in(error.answer, BUSY) or Unknown("no answer")
        except TwilioRestException as error:
            return _refusal(error)
        except (TwilioException, AttributeError, KeyError, TypeError, ValueError) as error:
            return Unknown(f"an answer that cannot be read ({type(error).__name__})")
        if not isinstance(found.sid, str) or not found.sid:
            return Unknown("an answer that names no message")
        return Accepted(found.sid, f"{found.sid} {found.status}")

    async def _sent_before(self, sms: Sms) -> Any:
        """Return the message that was made of an earlier request; None if there is none.

        Raises ValueError where that cannot be told.
        """
        listed = await self._client.messages.list_async(
            to=sms.msisdn, from_=self._from, limit=LISTED
        )
        since = sms.made_at - CLOCKS_DIFFER_BY
        ours = [one for one in listed if one.direction in (None, OUTBOUND)]
        for one in ours:
            made_at = one.date_created or one.date_sent
            if made_at is None:
                raise ValueError("a message that says no time")
            if made_at >= since:
                return one
        return None

    def is_signed(self, url: str, form: Mapping[str, str], signature: str) -> bool:
        """Tell whether Twilio signed this receipt, sent to the URL that it was given."""
        return bool(RequestValidator(self._token).validate(url, dict(form), signature))


def _with_msgid(sms: Sms) -> str:
    """Return where receipts go; Twilio proves itself by its signature, not by our secret."""
    return f"{sms.callback.partition('?')[0]}?msgid={quote(sms.msgid)}"


def _refusal(error: TwilioRestException) -> Word:
    reason = REFUSED.get(error.code or 0)
    said = f"{error.code} {error.msg}"[:200]
    return Refused(reason, said) if reason else NotTaken(f"refused the request: {said}", said)


class _NoAnswer(Exception):
    """The request got no answer that the SDK could read."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.error or f"answered {answer.status}")
        self.answer = answer


class _Carrier(AsyncHttpClient):  # type: ignore[misc]
    """Carries the SDK's requests by our client: one deadline, no redirects, pooled connections."""

    def __init__(self, base_url: str, deadline_seconds: float) -> None:
        super().__init__(logging.getLogger("twilio"), True, deadline_seconds)
        self._base_url = base_url.rstrip("/")
        self._deadline_seconds = deadline_seconds

    async def request(
        self,
        method: str,
        uri: str,
        params: Mapping[str, object] | None = None,
        data: Mapping[str, object] | None = None,
        headers: Mapping[str, str] | None = None,
        auth: tuple[str, str] | None = None,
        timeout: float | None = None,
        allow_redirects: bool = False,
    ) -> Response:
        """Send a request of the SDK. Raises _NoAnswer where the SDK has nothing to read."""
        url = self._base_url + uri.removeprefix(SDK_HOST)
        given = {key: value for key, value in (params or {}).items() if value is not None}
        query = urlencode(given)
        credentials = base64.b64encode(":".join(auth or ("", "")).encode()).decode()
        answer = await http_client.send(
            Request(
                method,
                f"{url}?{query}" if query else url,
                urlencode(data or {}).encode(),
                {**(headers or {}), "Authorization": f"Basic {credentials}"},
                deadline_seconds=self._deadline_seconds,
                once=method == "POST",
                max_answer_bytes=MAX_ANSWER_BYTES,
            )
        )
        if answer.status is None or answer.status in BUSY or answer.status >= 500:
            raise _NoAnswer(answer)
        return Response(answer.status, shown(answer) if answer.status >= 400 else _text(answer))


def _text(answer: Answer) -> str:
    return answer.body.decode("utf-8", "replace")
