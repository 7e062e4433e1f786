"""Which providers there are."""

from functools import lru_cache

from project.billing.providers.base import PaymentProvider
from project.billing.providers.carrier import Carrier
from project.billing.providers.carrier_legacy import LegacyCarrier
from project.billing.providers.settings import CarrierSettings, YooKassaSettings
from project.billing.providers.yookassa import YooKassa
from project.billing.settings import BillingSettings
from project.config.environment import get_settings

LEGACY = "legacy"
DEFAULT_PROVIDER = YooKassa.name

_replaced: dict[str, PaymentProvider] = {}


def provider_named(name: str) -> PaymentProvider:
    """Return the provider of this name. Raises KeyError for one that is not known."""
    if name in _replaced:
        return _replaced[name]
    return _configured()[name]


def drawing_provider(name: str) -> str:
    """Return by whom the next payment of a customer of this provider is drawn.

    A payment keeps it: one that was begun in one protocol of the carrier is never asked after, nor
    sent again, in the other.
    """
    speaks_legacy = get_settings(CarrierSettings).carrier_billing_protocol == LEGACY
    return LegacyCarrier.name if name == Carrier.name and speaks_legacy else name


def listing_providers() -> list[PaymentProvider]:
    """Return the providers whose books can be read and compared with ours."""
    known = {**_configured(), **_replaced}
    return [provider for provider in known.values() if provider.has_listing]


def register_provider(provider: PaymentProvider) -> None:
    """Add a provider, or put one in the place of another."""
    _replaced[provider.name] = provider


def _configured() -> dict[str, PaymentProvider]:
    return _providers(
        get_settings(BillingSettings), get_settings(YooKassaSettings), get_settings(CarrierSettings)
    )


@lru_cache(maxsize=4)
def _providers(
    billing: BillingSettings, shop: YooKassaSettings, carrier: CarrierSettings
) -> dict[str, PaymentProvider]:
    yookassa = YooKassa(
        shop.yookassa_url,
        shop.yookassa_shop_id,
        shop.yookassa_secret_key,
        deadline_seconds=billing.provider_timeout_seconds,
    )
    carriers = [
        kind(
            carrier.carrier_billing_url,
            carrier.carrier_billing_token,
            deadline_seconds=billing.provider_timeout_seconds,
            max_sends=carrier.carrier_billing_max_attempts,
        )
        for kind in (Carrier, LegacyCarrier)
    ]
    return {provider.name: provider for provider in (yookassa, *carriers)}
