"""Phone numbers in E.164: the rules of `phonenumbers`, fast enough for a million of them.

What `phonenumbers` derives anew for every number is worked out once per country here: which
lengths are possible and which prefix would be stripped. A number for which that is not the whole
story (it begins with such a prefix or with a zero) is given to `phonenumbers` itself.
"""

import re
from dataclasses import dataclass
from functools import cache
from typing import Any

import phonenumbers
from phonenumbers import COUNTRY_CODE_TO_REGION_CODE, NumberParseException, PhoneMetadata

from project.weather.states import Language

LONGEST_CODE = 3
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
        return _normalized_by_the_book(digits)
    if len(national) not in country.lengths:
        raise ImpossibleNumberError("Too long or too short for its country.")
    return f"+{digits}"


def _normalized_by_the_book(digits: str) -> str:
    try:
        number = phonenumbers.parse(f"+{digits}")
    except NumberParseException as error:
        raise ImpossibleNumberError("Not a number of its country.") from error
    if not phonenumbers.is_possible_number(number):
        raise ImpossibleNumberError("Too long or too short for its country.")
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)


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
    regions = COUNTRY_CODE_TO_REGION_CODE.get(int(code))
    if regions is None:
        return None
    all_metadata = [
        PhoneMetadata.metadata_for_region_or_calling_code(int(code), name) for name in regions
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
    )


def _region(metadata: Any) -> _Region:
    patterns = (_pattern(getattr(metadata, name)) for name in _TYPES)
    return _Region(
        re.compile(metadata.leading_digits) if metadata.leading_digits else None,
        _pattern(metadata.general_desc),
        tuple(pattern for pattern in patterns if pattern is not None),
    )


def _pattern(description: Any) -> _Pattern | None:
    if description is None or not description.national_number_pattern:
        return None
    return _Pattern(
        frozenset(description.possible_length), re.compile(description.national_number_pattern)
    )
