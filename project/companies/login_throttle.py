"""How often an account's password may be guessed at: the guesser is locked out, not the owner.

Every address has its own limit. Besides, wrong passwords are counted per account, over all
addresses at which it is not known. Once they are too many, such an address has one try an hour, as
it may be the owner's: the right password is taken, a wrong one and all that follows it is refused.
"""

from collections.abc import Callable

from limits import RateLimitItem, parse
from redis import RedisError

from project.companies.settings import CompanySettings
from project.config.environment import get_settings
from project.core.errors import TooManyRequests
from project.core.http.limiter import limiter

LAST_TRY = parse("1/hour")


def require_try(account: str, address: str) -> None:
    """Raise TooManyRequests if an address that the account is not known at may not try it now."""
    limit = _limit()
    if not _ask(lambda: limiter.limiter.test(limit, account)):
        _count(LAST_TRY, account, address)


def note_wrong_password(account: str) -> None:
    """Count a guess from where the account is not known. Raises TooManyRequests: too many."""
    _count(_limit(), account)


def _count(limit: RateLimitItem, *key: str) -> None:
    if not _ask(lambda: limiter.limiter.hit(limit, *key)):
        raise TooManyRequests(
            "Too many wrong passwords were tried for this account.",
            retry_after=int(limit.get_expiry()),
        )


def _limit() -> RateLimitItem:
    return parse(get_settings(CompanySettings).login_rate_limit)


def _ask(question: Callable[[], bool]) -> bool:
    try:
        return question()
    except RedisError:
        # The limit of the address is counted in memory meanwhile.
        return True
