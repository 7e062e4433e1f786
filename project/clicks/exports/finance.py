"""The finance service: its health, and a day's clicks handed over in one request."""

import base64
from typing import Any, BinaryIO

from project.clicks.settings import ExportSettings
from project.config.environment import get_settings
from project.core.net import http_client
from project.core.net.http_client import Answer, Request

HEALTH_DEADLINE_SECONDS = 3.0


def ask_health() -> dict[str, Any]:
    """Ask `GET /health`: {status: ok}, or {status: down, error} for anything but a 2xx."""
    url = f"{get_settings(ExportSettings).finance_service_url}/health"
    answer = http_client.send_and_wait(
        Request(
            "GET",
            url,
            headers=_credential(),
            deadline_seconds=HEALTH_DEADLINE_SECONDS,
            needs_body=False,
        )
    )
    problem = failure(answer)
    return {"status": "ok"} if problem is None else {"status": "down", "error": problem}


def is_available() -> bool:
    """Tell whether the service says that it is well."""
    return bool(ask_health()["status"] == "ok")


async def post_clicks(body: BinaryIO, *, export_id: int, sha256: str) -> Answer:
    """Hand a day over: `POST /clicks`.

    The same body of an export has the same key however often it comes. A day that changed before
    it was sent again has another, or a finance service that knows the key would pass it over.
    """
    settings = get_settings(ExportSettings)
    digest = base64.b64encode(bytes.fromhex(sha256)).decode()
    headers = {
        **_credential(),
        "Content-Type": "application/json",
        "Content-Digest": f"sha-256=:{digest}:",
        "Idempotency-Key": f"click-export-{export_id}-{sha256[:16]}",
    }
    return await http_client.send(
        Request(
            "POST",
            f"{settings.finance_service_url}/clicks",
            body,
            headers,
            deadline_seconds=settings.finance_service_timeout_seconds,
            needs_body=False,
        )
    )


def failure(answer: Answer) -> str | None:
    """Return why the service did not do what it was asked; None for a 2xx."""
    if answer.status is None:
        return answer.error or "no answer"
    return None if 200 <= answer.status < 300 else f"answered {answer.status}"


def _credential() -> dict[str, str]:
    token = get_settings(ExportSettings).finance_service_token
    return {} if token is None else {"Authorization": f"Bearer {token}"}
