"""A plain gateway: POST {msisdn, msgid, text, callback}, answered by {status: accepted}.

A token, where one is set, goes along as `Auth-Key`.
"""

import json
from typing import Any

from project.core.net import http_client
from project.core.net.http_client import Answer, Request
from project.weather.gateways.base import Accepted, Gateway, NotTaken, Refused, Sms, Unknown, Word

MAX_BODY = 1000
MAX_TEXT = 200
OK = (200, 201, 202)
# Answers that say that nothing was done. Other errors may come after the work.
BUSY = frozenset({400, 401, 403, 404, 405, 413, 415, 422, 429, 503})


class HttpGateway(Gateway):
    """A gateway at one URL."""

    def __init__(self, name: str, url: str, *, deadline_seconds: float, token: str = "") -> None:
        self.name = name
        self._url = url
        self.headers = {"Content-Type": "application/json"} | ({"Auth-Key": token} if token else {})
        self._deadline_seconds = deadline_seconds

    async def send(self, sms: Sms) -> Word:
        """Send a message; the gateway knows one that it had before by its msgid."""
        order = {
            "msisdn": sms.msisdn,
            "msgid": sms.msgid,
            "text": sms.text,
            "callback": sms.callback,
        }
        answer = await http_client.send(
            Request(
                "POST",
                self._url,
                json.dumps(order).encode(),
                self.headers,
                deadline_seconds=self._deadline_seconds,
            )
        )
        return _word(answer)


def _word(answer: Answer) -> Word:
    body = shown(answer)
    trouble = trouble_in(answer, BUSY)
    if trouble is not None:
        return trouble
    try:
        document = answer.json_object()
    except (ValueError, RecursionError):
        return Unknown("answered something that is not JSON", body)
    except TypeError:
        return Unknown("answered something that is no object", body)
    match document.get("status"):
        case "accepted":
            return Accepted(_text(document.get("reference")), body)
        case "rejected":
            return Refused(_text(document.get("reason")) or "rejected", body)
    return Unknown("answered no status that is known", body)


def trouble_in(answer: Answer, busy: frozenset[int]) -> NotTaken | Unknown | None:
    """Return what an answer that is no success means; None if it is one."""
    body = shown(answer)
    if answer.status is None:
        reason = answer.error or "no answer"
        # Without a connection nothing can have been done.
        return (Unknown if answer.connected else NotTaken)(reason, body)
    if answer.status in OK:
        return None
    reason = f"answered {answer.status}"
    return NotTaken(reason, body) if answer.status in busy else Unknown(reason, body)


def shown(answer: Answer) -> str:
    """Return what is kept of an answer's body, without what Postgres cannot keep."""
    return answer.body[:MAX_BODY].decode("utf-8", "replace").replace("\0", "\ufffd")


def _text(value: Any) -> str | None:
    return value.replace("\0", "\ufffd")[:MAX_TEXT] if isinstance(value, str) else None
