"""What every error of the API looks like."""

from typing import Any

from werkzeug.test import TestResponse

FIELDS = {"type", "title", "status", "detail", "request_id"}


def assert_problem(response: TestResponse, status: int, field: str | None = None) -> dict[str, Any]:
    """Hold the answer to be a complete problem document, which names the field; return it."""
    assert response.status_code == status, response.get_data(as_text=True)
    assert response.mimetype == "application/problem+json"
    body: dict[str, Any] = response.get_json()
    assert body.keys() - {"errors"} == FIELDS
    assert body["status"] == status
    assert body["title"]
    assert body["detail"]
    assert body["request_id"]
    assert body["request_id"] == response.headers["X-Request-ID"]
    if field is not None:
        assert field in body["errors"], body
    return body
