"""The settings of callbacks."""

from dataclasses import dataclass

from project.config.declare import Settings, Switch, Whole, setting
from project.config.kernel import CALL_SECONDS

DAY_SECONDS = 86_400


@dataclass(frozen=True)
class CallbackSettings(Settings):
    """How callbacks are delivered to endpoints."""

    title = "Callbacks to your endpoints"

    callback_retry_seconds: int = setting(
        "CALLBACK_RETRY_SECONDS",
        Whole(1),
        3600,
        unit="seconds",
        help="The pause between two tries of a callback",
    )
    callback_max_attempts: int = setting(
        "CALLBACK_MAX_ATTEMPTS",
        Whole(1, 100),
        3,
        unit="tries",
        help="How often a callback is tried before it has failed",
    )
    callback_timeout_seconds: float = setting(
        "CALLBACK_TIMEOUT_SECONDS",
        CALL_SECONDS,
        10,
        unit="seconds",
        help="The time that an endpoint has for one callback",
    )
    callback_max_answer_bytes: int = setting(
        "CALLBACK_MAX_ANSWER_BYTES",
        Whole(1),
        65_536,
        unit="bytes",
        help="How much of an endpoint's answer is read",
    )
    callback_concurrency: int = setting(
        "CALLBACK_CONCURRENCY",
        Whole(2, 1000),
        64,
        help="Callbacks under way in each worker",
    )
    callback_endpoint_concurrency: int = setting(
        "CALLBACK_ENDPOINT_CONCURRENCY",
        Whole(1, 1000),
        32,
        unit="requests",
        help="How many requests an endpoint that answers well has in flight, over all workers",
    )
    callback_close_on_410: bool = setting(
        "CALLBACK_CLOSE_ON_410",
        Switch(),
        False,
        help="1: a callback that is answered 410 is closed at once, instead of being tried again",
    )
    callback_secret_overlap_seconds: int = setting(
        "CALLBACK_SECRET_OVERLAP_SECONDS",
        Whole(0),
        DAY_SECONDS,
        unit="seconds",
        help="How long an old signing secret signs as well after it was replaced",
    )
