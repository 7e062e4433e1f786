"""Every area of settings, in the order in which people read of them."""

from project.billing.providers.settings import CarrierSettings, YooKassaSettings
from project.billing.settings import BillingSettings
from project.callbacks.settings import CallbackSettings
from project.clicks.settings import ClickSettings, ExportSettings
from project.companies.settings import CompanySettings
from project.config.declare import ConfigurationError, Settings
from project.config.environment import Configuration, configuration
from project.config.kernel import (
    CoreSettings,
    HttpSettings,
    NetworkSettings,
    SimulatorSettings,
    StorageSettings,
    WorkSettings,
)
from project.config.launch import ComposeSettings, LaunchSettings
from project.mobile.settings import StoreSettings
from project.weather.settings import ForecastSettings, ImportSettings, SmsSettings

AREAS: tuple[type[Settings], ...] = (
    CoreSettings,
    StorageSettings,
    HttpSettings,
    WorkSettings,
    NetworkSettings,
    CallbackSettings,
    BillingSettings,
    YooKassaSettings,
    StoreSettings,
    CompanySettings,
    ClickSettings,
    ExportSettings,
    ForecastSettings,
    CarrierSettings,
    SmsSettings,
    ImportSettings,
    SimulatorSettings,
)
LISTED: tuple[type[Settings], ...] = (*AREAS, LaunchSettings, ComposeSettings)
"""Also those that the product does not read."""


def check_settings() -> None:
    """Read every area for this process, before it does anything.

    Raises ConfigurationError, which says everything that is wrong.
    """
    _read_all(configuration())


def read_settings() -> Configuration:
    """Return what the environment says now, every area of it.

    Raises ConfigurationError, which says everything that is wrong.
    """
    return _read_all(Configuration())


def _read_all(found: Configuration) -> Configuration:
    problems: dict[str, None] = {}
    for area in AREAS:
        try:
            found.get(area)
        except ConfigurationError:
            # A setting that others depend on is said once.
            problems |= dict.fromkeys(map(str, found.inspect(area).problems))
    if problems:
        raise ConfigurationError("\n".join(problems))
    return found
