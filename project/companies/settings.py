"""The settings of companies."""

from dataclasses import dataclass

from project.config.declare import RateLimit, Settings, setting


@dataclass(frozen=True)
class CompanySettings(Settings):
    """How companies log in."""

    title = "Companies"

    login_rate_limit: str = setting(
        "LOGIN_RATE_LIMIT",
        RateLimit(),
        "20/minute",
        help="Logins per address, and wrong passwords per account from addresses where it never "
        "logged in; past it, each of those has one try an hour",
    )
