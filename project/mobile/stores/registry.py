"""Which store answers for which system."""

from project.config.environment import get_settings
from project.mobile.settings import StoreSettings
from project.mobile.states import DeviceOs
from project.mobile.stores.base import Store
from project.mobile.stores.development import DevelopmentStore


def store_of(os: DeviceOs) -> Store:
    """Return the store of the system that the receipt came from."""
    settings = get_settings(StoreSettings)
    urls = {DeviceOs.IOS: settings.app_store_url, DeviceOs.ANDROID: settings.google_play_url}
    return DevelopmentStore(urls[os])
