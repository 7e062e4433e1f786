"""What holds for every setting that is a secret, in every environment."""

from project.config.declare import ConfigurationError

MIN_SECRET_LENGTH = 24
"""Of a secret that we make; one that others give us has the length that they chose, or 8."""
MIN_GIVEN_SECRET_LENGTH = 8
MAKE_ONE = "Make one with: python -c 'import secrets; print(secrets.token_urlsafe(32))'"


def check_secret(name: str, secret: str, *, is_ours: bool, which: str = "") -> None:
    """Raise ConfigurationError if a secret is blank or short; `which` tells one of several."""
    where = name + which
    if not secret:
        mend = "Take the comma too many away" if which else "Leave it out"
        raise ConfigurationError(
            f"{where} is blank: whoever knows that could pass for you. {mend}, or fill it in."
        )
    if not is_ours and len(secret) < MIN_GIVEN_SECRET_LENGTH:
        raise ConfigurationError(
            f"{where} is shorter than {MIN_GIVEN_SECRET_LENGTH} characters. "
            "Use the one that the other side has given you, whole."
        )
    if is_ours and len(secret) < MIN_SECRET_LENGTH:
        raise ConfigurationError(
            f"{where} is shorter than {MIN_SECRET_LENGTH} characters. {MAKE_ONE}"
        )
