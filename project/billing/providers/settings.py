"""The settings of each payment provider."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from project.config.declare import (
    ConfigurationError,
    Derived,
    Reader,
    Secret,
    Settings,
    Text,
    Url,
    Whole,
    setting,
)
from project.config.environment import is_given
from project.config.kernel import CoreSettings, simulated

DAY_SECONDS = 86_400
DEVELOPMENT = "development"
"""What the simulator takes for a secret."""
SIMULATED_CARRIERS = {"keyed": "/carrier/billing", "legacy": "/carrier/legacy"}
"""The protocols of carriers, and where the simulator speaks each."""


def _simulated_carrier(read: Reader, before: Mapping[str, Any]) -> str:
    path = SIMULATED_CARRIERS[before["carrier_billing_protocol"]]
    return simulated(path).value(read, before)


@dataclass(frozen=True)
class YooKassaSettings(Settings):
    """YooKassa, which companies and apps are charged through."""

    title = "The payment provider"

    yookassa_url: str = setting(
        "YOOKASSA_URL",
        Url(),
        simulated("/yookassa/v3"),
        help="The provider's API",
        example="https://api.yookassa.ru/v3",
    )
    yookassa_shop_id: str = setting(
        "YOOKASSA_SHOP_ID",
        Text(may_be_blank=False),
        DEVELOPMENT,
        help="The number of your shop",
        example="100500",
    )
    yookassa_secret_key: str = setting(
        "YOOKASSA_SECRET_KEY",
        Secret(is_ours=False),
        DEVELOPMENT,
        help="The secret of your shop; production refuses the default",
        example="live_secret",
    )

    def problems(self, read: Reader) -> Iterator[ConfigurationError]:
        """Return what keeps real customers from being charged."""
        if read(CoreSettings).production and self.yookassa_secret_key == DEVELOPMENT:
            yield ConfigurationError(
                "YOOKASSA_SHOP_ID and YOOKASSA_SECRET_KEY are not set; "
                "production needs a shop's own."
            )


@dataclass(frozen=True)
class CarrierSettings(Settings):
    """The carrier, which bills phone numbers for forecasts."""

    title = "Forecast SMS: the carrier that bills numbers"

    carrier_billing_protocol: str = setting(
        "BILLING_PROTOCOL",
        Text(one_of=tuple(SIMULATED_CARRIERS)),
        "keyed",
        help="keyed: our own protocol, with a key and an inquiry. legacy: the older service's, "
        "which knows neither",
    )
    carrier_billing_url: str = setting(
        "BILLING_URL",
        Url(may_be_blank=False),
        Derived(_simulated_carrier, "the simulator"),
        help="The carrier's API",
        example="https://billing.carrier.example/charge",
    )
    carrier_billing_token: str = setting(
        "BILLING_TOKEN",
        Secret(is_ours=False),
        DEVELOPMENT,
        help="What it knows us by",
        example="the-carriers-token",
    )
    carrier_billing_max_attempts: int = setting(
        "MAX_BILLING_TRY_LIMIT",
        Whole(1, 100),
        3,
        unit="tries",
        help="How often a charge is tried",
    )
    carrier_billing_retry_seconds: int = setting(
        "BILLING_TRY_PAUSE_SECONDS",
        Whole(1, DAY_SECONDS),
        60,
        unit="seconds",
        help="The pause between two tries",
    )

    def problems(self, read: Reader) -> Iterator[ConfigurationError]:
        """Return what a carrier of one's own would not take."""
        is_default = self.carrier_billing_token == DEVELOPMENT
        if read(CoreSettings).production and is_default and is_given("BILLING_URL"):
            yield ConfigurationError(
                "BILLING_TOKEN is not set; the carrier at BILLING_URL asks for its own."
            )
