"""Phone numbers in E.164: the rules of `phonenumbers`, fast enough for a million of them.

What `phonenumbers` derives anew for every number is worked out once per country here: which
lengths are possible and which prefix would be stripped. A number for which that is not the whole
story (it begins with such a prefix or with a zero) is given to `phonenumbers` itself.
"""

import re
from dataclasses import dataclass
from enum import StrEnum
from functools import cache, lru_cache
from typing import Any

from project.core.lazy_module import LazyModule
from project.weather.states import Language

phonenumbers: Any = LazyModule("phonenumbers")

LONGEST_CODE = 3
HOME_DIGITS = 10
LOCAL_NUMBER = (
    "With its first digits for a country code this is no mobile number abroad: is it a local one?"
    " Write it with its country code, or with a plus sign."
)
_WRITTEN = re.compile(r"\+?([1-9][0-9]{3,16})")
_LANGUAGES = {90: Language.TR, 7: Language.RU, 375: Language.RU, 996: Language.RU}
_TYPES = (
    "mobile",
    "fixed_line",
    "toll_free",
    "premium_rate",
    "shared_cost",
    "voip",
    "personal_number",
    "pager",
    "uan",
    "voicemail",
)


class ImpossibleNumberError(ValueError):
    """No number of any country can look like this."""


@dataclass(frozen=True)
class _Pattern:
    lengths: frozenset[int]
    regex: re.Pattern[str]

    def matches(self, national: str) -> bool:
        """Tell whether a national number is of this kind."""
        if self.lengths and len(national) not in self.lengths:
            return False
        return self.regex.fullmatch(national) is not None


@dataclass(frozen=True)
class _Region:
    leading_digits: re.Pattern[str] | None
    general: _Pattern | None
    types: tuple[_Pattern, ...]
    mobile: _Pattern | None

    def is_mobile(self, national: str) -> bool:
        """Tell whether the region gives out such numbers for mobiles."""
        if self.general is None or self.mobile is None:
            return False
        return self.mobile.matches(national) and self.general.matches(national)

    def knows(self, national: str) -> bool:
        """Tell whether the region gives out such numbers."""
        if self.general is None or not self.general.matches(national):
            return False
        return any(pattern.matches(national) for pattern in self.types)


@dataclass(frozen=True)
class _Country:
    code: int
    lengths: frozenset[int]
    stripped_prefix: re.Pattern[str] | None
    regions: tuple[_Region, ...]
    is_nowhere: bool


def normalized(written: str) -> str:
    """Return the number with its plus sign. Raises ImpossibleNumberError."""
    found = _WRITTEN.fullmatch(written)
    if found is None:
        raise ImpossibleNumberError("Not a number in E.164: digits with their country code.")
    digits = found[1]
    country = _country_of(digits)
    if country is None:
        raise ImpossibleNumberError("No country has this code.")
    national = digits[len(str(country.code)) :]
    prefix = country.stripped_prefix
    if national.startswith("0") or (prefix is not None and prefix.match(national)):
        return _normalized_by_the_book(digits, country)
    if len(national) not in country.lengths:
        raise ImpossibleNumberError("Too long or too short for its country.")
    return f"+{digits}"


def _normalized_by_the_book(digits: str, country: "_Country") -> str:
    """Return the number as `phonenumbers` reads it, or, where that is none, as it is written.

    A prefix that is dialled only within the country is left out where a number remains that the
    country gives out, and nowhere else: another number would be somebody else's.
    """
    try:
        number = phonenumbers.parse(f"+{digits}")
    except phonenumbers.NumberParseException as error:
        raise ImpossibleNumberError("Not a number of its country.") from error
    read = phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)
    if read == f"+{digits}" or phonenumbers.is_valid_number(number):
        if phonenumbers.is_possible_number(number):
            return str(read)
    elif _may_be_long_enough(digits, country):
        return f"+{digits}"
    raise ImpossibleNumberError("Too long or too short for its country.")


def _may_be_long_enough(digits: str, country: "_Country") -> bool:
    """Tell whether a number has a length of its country's, with or without a leading zero."""
    national = digits[len(str(country.code)) :]
    return {len(national), len(national.removeprefix("0"))} & country.lengths != set()


def is_known(msisdn: str) -> bool:
    """Tell whether a normalized number is one that its country gives out."""
    country = _country_of(msisdn[1:])
    if country is None:
        return False
    national = msisdn[1 + len(str(country.code)) :]
    if len(country.regions) == 1:
        return country.regions[0].knows(national)
    for region in country.regions:
        if region.leading_digits is not None:
            if region.leading_digits.match(national):
                return region.knows(national)
        elif region.knows(national):
            return True
    return False


def language_of(msisdn: str) -> Language:
    """Return the language that is spoken where the number is from, or English."""
    country = _country_of(msisdn[1:])
    return _LANGUAGES.get(country.code, Language.EN) if country else Language.EN


def _country_of(digits: str) -> _Country | None:
    for length in range(1, LONGEST_CODE + 1):
        country = _country(digits[:length])
        if country is not None:
            return country
    return None


@cache
def _country(code: str) -> _Country | None:
    regions = phonenumbers.COUNTRY_CODE_TO_REGION_CODE.get(int(code))
    if regions is None:
        return None
    all_metadata = [
        phonenumbers.PhoneMetadata.metadata_for_region_or_calling_code(int(code), name)
        for name in regions
    ]
    main = all_metadata[0]
    assert main is not None
    assert main.general_desc is not None
    general = main.general_desc
    return _Country(
        int(code),
        frozenset((*general.possible_length, *general.possible_length_local_only)),
        re.compile(main.national_prefix_for_parsing) if main.national_prefix_for_parsing else None,
        tuple(_region(metadata) for metadata in all_metadata if metadata is not None),
        regions[0] == _NOWHERE,
    )


def _region(metadata: Any) -> _Region:
    patterns = (_pattern(getattr(metadata, name)) for name in _TYPES)
    return _Region(
        re.compile(metadata.leading_digits) if metadata.leading_digits else None,
        _pattern(metadata.general_desc),
        tuple(pattern for pattern in patterns if pattern is not None),
        _pattern(metadata.mobile),
    )


def _pattern(description: Any) -> _Pattern | None:
    if description is None or not description.national_number_pattern:
        return None
    return _Pattern(
        frozenset(description.possible_length), re.compile(description.national_number_pattern)
    )


class NumberKind(StrEnum):
    """What a number is given out for, as far as it matters for messages and their price."""

    MOBILE = "mobile"
    FIXED_LINE = "fixed line"
    TOLL_FREE = "freephone"
    PREMIUM_RATE = "premium rate"
    SHARED_COST = "shared cost"
    WORLDWIDE = "satellite or worldwide service"
    OTHER = "other"
    UNKNOWN = "unknown"


_NEVER_BILLED = (NumberKind.PREMIUM_RATE, NumberKind.SHARED_COST, NumberKind.WORLDWIDE)
_WITHOUT_MESSAGES = (
    "FIXED_LINE",
    "TOLL_FREE",
    "PREMIUM_RATE",
    "SHARED_COST",
    "UAN",
    "VOICEMAIL",
    "PAGER",
)
_NOWHERE = "001"


@cache
def _kinds() -> dict[int, NumberKind]:
    types = phonenumbers.PhoneNumberType
    return {
        types.MOBILE: NumberKind.MOBILE,
        types.FIXED_LINE_OR_MOBILE: NumberKind.MOBILE,
        types.FIXED_LINE: NumberKind.FIXED_LINE,
        types.TOLL_FREE: NumberKind.TOLL_FREE,
        types.PREMIUM_RATE: NumberKind.PREMIUM_RATE,
        types.SHARED_COST: NumberKind.SHARED_COST,
        types.UNKNOWN: NumberKind.UNKNOWN,
    }


@cache
def _types_without_messages() -> frozenset[int]:
    return frozenset(getattr(phonenumbers.PhoneNumberType, name) for name in _WITHOUT_MESSAGES)


def kind_of(msisdn: str) -> NumberKind:
    """Return what a normalized number is given out for."""
    country = _country_of(msisdn[1:])
    if country is None:
        return NumberKind.UNKNOWN
    if country.is_nowhere:
        return NumberKind.WORLDWIDE
    national = msisdn[1 + len(str(country.code)) :]
    if any(region.is_mobile(national) for region in country.regions):
        # Asking the book takes fifty times as long; it is for what is left.
        return NumberKind.MOBILE
    found = phonenumbers.number_type(phonenumbers.parse(msisdn))
    if found == phonenumbers.PhoneNumberType.UNKNOWN and is_known(msisdn):
        return NumberKind.OTHER
    return _kinds().get(found, NumberKind.OTHER)


@lru_cache(maxsize=100_000)
def can_get_messages(msisdn: str) -> bool:
    """Tell whether a normalized number is of a kind that gets messages; not so are fixed lines,
    freephone and premium numbers. One of a kind that nobody knows is.
    """
    return phonenumbers.number_type(phonenumbers.parse(msisdn)) not in _types_without_messages()


def refusal(msisdn: str, written: str) -> str | None:
    """Return why a normalized number is not served that was written so; None for one that is.

    Not served is one for which a message, or its charge, may cost somebody more than it says, and
    one that may have lost its country code: it is another country's then, a fixed line, more often
    than not.
    """
    kind = kind_of(msisdn)
    if kind in _NEVER_BILLED:
        return f"A number for {kind}: no message is sent there."
    is_no_mobile = kind in (NumberKind.FIXED_LINE, NumberKind.UNKNOWN)
    return LOCAL_NUMBER if is_no_mobile and _is_short(written) else None


def _is_short(written: str) -> bool:
    """Tell whether this may be a number as it is dialled at home: no plus sign, ten digits."""
    return not written.startswith("+") and sum(map(str.isdigit, written)) <= HOME_DIGITS
