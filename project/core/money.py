"""Money is a whole number of minor units and an ISO 4217 currency."""

from decimal import Decimal

_LONGEST = 30
# Currencies whose minor unit is not a hundredth (ISO 4217, amendment 176).
_WHOLE = (
    *("BIF", "CLP", "DJF", "GNF", "ISK", "JPY", "KMF", "KRW"),
    *("PYG", "RWF", "UGX", "VND", "VUV", "XAF", "XOF", "XPF"),
)
_THOUSANDTHS = ["BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"]
_EXPONENTS = dict.fromkeys(_WHOLE, 0) | dict.fromkeys(_THOUSANDTHS, 3)
_HUNDREDTHS = (
    "AED AMD AUD AZN BGN BRL BYN CAD CHF CNY CZK DKK EUR GBP GEL HKD HUF IDR ILS INR KGS KZT "
    "MDL MXN MYR NOK NZD PHP PLN RON RSD RUB SAR SEK SGD THB TJS TRY TWD UAH USD UZS ZAR"
)
CURRENCIES = frozenset([*_EXPONENTS, *_HUNDREDTHS.split()])


def exponent(currency: str) -> int:
    """Return how many decimals the currency has."""
    return _EXPONENTS.get(currency, 2)


def to_decimal_text(amount: int, currency: str) -> str:
    """Write minor units as a decimal: 1000, RUB -> "10.00"."""
    places = exponent(currency)
    return f"{Decimal(amount).scaleb(-places):.{places}f}"


def from_decimal_text(written: str, currency: str) -> int:
    """Read a decimal as minor units: "10.00", RUB -> 1000. Raises ValueError."""
    try:
        scaled = Decimal(written).scaleb(exponent(currency))
        # 1e999999 is short to write; as a whole number it would take minutes and megabytes.
        if scaled.adjusted() > _LONGEST:
            raise ValueError(f"{written!r} is too large for an amount")
        whole = int(scaled)
    except (ArithmeticError, ValueError) as error:
        raise ValueError(f"{written!r} is not an amount") from error
    if whole != scaled:
        raise ValueError(f"{written!r} has more decimals than {currency}")
    return whole
