"""Which gateways there are, whose turn it is, and which of them rest after trouble."""

import time
from functools import lru_cache
from threading import Lock
from urllib.parse import urlsplit

from project.config.environment import get_settings
from project.weather.gateways.base import Gateway
from project.weather.gateways.http import HttpGateway
from project.weather.gateways.twilio import Twilio
from project.weather.settings import SmsSettings

TWILIO = ("twilio", "twilio+http")


class Rotation:
    """The gateways of this process, used in turn; one that failed is left alone for a while."""

    def __init__(self, gateways: tuple[Gateway, ...], *, rest_seconds: float) -> None:
        self._gateways = {gateway.name: gateway for gateway in gateways}
        self._rest_seconds = rest_seconds
        self._rested_until: dict[str, float] = {}
        self._turn = 0
        self._lock = Lock()

    def next(self) -> Gateway | None:
        """Return the gateway whose turn it is; None while all of them rest."""
        with self._lock:
            fit = self._fit()
            if not fit:
                return None
            self._turn += 1
            return fit[self._turn % len(fit)]

    def named(self, name: str) -> Gateway | None:
        """Return a gateway; None if it is no longer used."""
        return self._gateways.get(name)

    def is_resting(self, name: str) -> bool:
        """Tell whether a gateway is left alone now."""
        return self._rested_until.get(name, 0.0) > time.monotonic()

    def rest(self, name: str) -> None:
        """Leave a gateway alone for a while."""
        self._rested_until[name] = time.monotonic() + self._rest_seconds

    def wake_up(self) -> None:
        """Let every gateway be used again."""
        self._rested_until.clear()

    def is_one_fit(self) -> bool:
        """Tell whether a gateway can be used now."""
        return bool(self._fit())

    def _fit(self) -> list[Gateway]:
        return [one for name, one in self._gateways.items() if not self.is_resting(name)]


def rotation() -> Rotation:
    """Return the gateways that the settings name."""
    return _rotation(get_settings(SmsSettings))


def twilio_gateways() -> list[Twilio]:
    """Return the accounts at Twilio, whose receipts are signed."""
    return [one for one in _gateways(get_settings(SmsSettings)) if isinstance(one, Twilio)]


@lru_cache(maxsize=4)
def _rotation(settings: SmsSettings) -> Rotation:
    return Rotation(_gateways(settings), rest_seconds=settings.sms_gateway_rest_seconds)


@lru_cache(maxsize=4)
def _gateways(settings: SmsSettings) -> tuple[Gateway, ...]:
    urls, tokens = settings.sms_gateways, settings.sms_gateway_tokens
    # One token is for all, as the settings are checked; else each has its own.
    each = tokens if len(tokens) == len(urls) else (tokens or ("",)) * len(urls)
    return tuple(
        _gateway(url, token, settings.sms_timeout_seconds)
        for url, token in zip(urls, each, strict=True)
    )


def _gateway(url: str, token: str, deadline_seconds: float) -> Gateway:
    parts = urlsplit(url)
    if parts.scheme in TWILIO:
        return Twilio(url, deadline_seconds=deadline_seconds)
    name = parts.netloc.rpartition("@")[2] + parts.path
    return HttpGateway(name, url, token=token, deadline_seconds=deadline_seconds)
