"""Which providers there are."""

from functools import lru_cache

from project.billing.providers.base import PaymentProvider
from project.billing.providers.carrier import Carrier
from project.billing.providers.carrier_legacy import LegacyCarrier
from project.billing.providers.yookassa import YooKassa
from project.config import Settings, get_settings

LEGACY = "legacy"
DEFAULT_PROVIDER = YooKassa.name

_replaced: dict[str, PaymentProvider] = {}


def provider_named(name: str) -> PaymentProvider:
    """Return the provider of this name. Raises KeyError for one that is not known."""
    if name in _replaced:
        return _replaced[name]
    return _providers(get_settings())[name]


def drawing_provider(name: str) -> str:
    """Return by whom the next payment of a customer of this provider is drawn.

    A payment keeps it: one that was begun in one protocol of the carrier is never asked after, nor
    sent again, in the other.
    """
    speaks_legacy = get_settings().billing_protocol == LEGACY
    return LegacyCarrier.name if name == Carrier.name and speaks_legacy else name


def listing_providers() -> list[PaymentProvider]:
    """Return the providers whose books can be read and compared with ours."""
    known = {**_providers(get_settings()), **_replaced}
    return [provider for provider in known.values() if provider.has_listing]


def register_provider(provider: PaymentProvider) -> None:
    """Add a provider, or put one in the place of another."""
    _replaced[provider.name] = provider


@lru_cache(maxsize=4)
def _providers(settings: Settings) -> dict[str, PaymentProvider]:
    yookassa = YooKassa(
        settings.yookassa_url,
        settings.yookassa_shop_id,
        settings.yookassa_secret_key,
        deadline_seconds=settings.provider_timeout_seconds,
    )
    carriers = [
        kind(
            settings.billing_url,
            settings.billing_token,
            deadline_seconds=settings.provider_timeout_seconds,
            max_sends=settings.max_billing_try_limit,
        )
        for kind in (Carrier, LegacyCarrier)
    ]
    return {provider.name: provider for provider in (yookassa, *carriers)}
