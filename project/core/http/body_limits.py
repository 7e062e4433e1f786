"""How large a body may be: the common limit, or that of a view which takes more."""

from collections.abc import Callable
from typing import Any, TypeVar

from flask import Flask, request
from werkzeug.exceptions import HTTPException

View = TypeVar("View", bound=Callable[..., Any])


def takes_body_of(most_bytes: Callable[[], int]) -> Callable[[View], View]:
    """Let a view take a body of so many bytes, asked for at each request."""

    def mark(view: View) -> View:
        view.most_body_bytes = most_bytes  # type: ignore[attr-defined]
        return view

    return mark


def body_limit(app: Flask, path: str, method: str) -> int:
    """Return how many bytes the body of such a request may have."""
    try:
        endpoint, _ = app.url_map.bind("localhost").match(path, method=method)
    except HTTPException:
        endpoint = None
    own = _own_limit(app, endpoint)
    return app.config["MAX_CONTENT_LENGTH"] if own is None else own


def register(app: Flask) -> None:
    """Hold every request to the limit of its view."""

    def limit_body() -> None:
        own = _own_limit(app, request.endpoint)
        if own is not None:
            request.max_content_length = own

    app.before_request(limit_body)


def _own_limit(app: Flask, endpoint: str | None) -> int | None:
    view = app.view_functions.get(endpoint) if endpoint else None
    most_bytes: Callable[[], int] | None = getattr(view, "most_body_bytes", None)
    return most_bytes() if most_bytes else None
