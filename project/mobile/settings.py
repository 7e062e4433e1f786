"""The settings of apps, devices and purchases."""

from dataclasses import dataclass

from project.config.declare import Settings, Url, Whole, setting
from project.config.kernel import CALL_SECONDS, simulated


@dataclass(frozen=True)
class StoreSettings(Settings):
    """The stores that are asked about purchases; they speak the development protocol."""

    title = "The stores"

    app_store_url: str = setting(
        "APP_STORE_URL",
        Url(),
        simulated("/app-store"),
        help="Where purchases of iOS devices are asked for",
        example="https://app-store.example.com",
    )
    google_play_url: str = setting(
        "GOOGLE_PLAY_URL",
        Url(),
        simulated("/google-play"),
        help="Where purchases of Android devices are asked for",
        example="https://google-play.example.com",
    )
    store_timeout_seconds: float = setting(
        "STORE_TIMEOUT_SECONDS",
        CALL_SECONDS,
        10,
        unit="seconds",
        help="The time that a store has for one call by a worker",
    )
    store_interactive_timeout_seconds: float = setting(
        "STORE_INTERACTIVE_TIMEOUT_SECONDS",
        CALL_SECONDS,
        3,
        unit="seconds",
        help="The time that it has while a customer waits",
    )
    store_limit_retry_seconds: int = setting(
        "STORE_LIMIT_RETRY_SECONDS",
        Whole(1),
        3600,
        unit="seconds",
        help="The pause after a store answered 429 without Retry-After",
    )
    store_concurrency: int = setting(
        "STORE_CONCURRENCY", Whole(1, 1000), 64, help="Calls to the stores under way in each worker"
    )
