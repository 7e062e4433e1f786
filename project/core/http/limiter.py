"""How often an address may call: limits on single views, counted in Redis."""

from flask import Flask, request
from flask_limiter import Limiter

from project.addresses import UNKNOWN, counted_as
from project.extensions import redis_client


def sender_key() -> str:
    """Return what the sender of the present request is counted under."""
    return counted_as(request.remote_addr or UNKNOWN)


limiter = Limiter(key_func=sender_key)


def register(app: Flask) -> None:
    """Count in Redis, over the connections that requests share."""
    app.config["RATELIMIT_STORAGE_OPTIONS"] = {"connection_pool": redis_client().connection_pool}
    limiter.init_app(app)
    # Limits stand on single views, which check them; a look at every request would find nothing.
    app.before_request_funcs[None].remove(limiter._check_request_limit)
    # What it just added to every answer writes headers that we do not send.
    app.after_request_funcs[None].pop()
