"""Phone numbers are read as `phonenumbers` reads them, but none is made into one that is none."""

import phonenumbers
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from phonenumbers import COUNTRY_CODE_TO_REGION_CODE, NumberParseException, PhoneMetadata

from project.weather.numbers import ImpossibleNumberError, is_known, language_of, normalized


def read_by_the_book(digits: str) -> tuple[str, bool] | None:
    try:
        number = phonenumbers.parse(f"+{digits}")
    except NumberParseException:
        return None
    if not phonenumbers.is_possible_number(number):
        return None
    written = phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)
    return written, phonenumbers.is_valid_number(number)


def assert_read(digits: str) -> None:
    """Hold the reading to the book's, or, where that is no number, to what is written."""
    book, found = read_by_the_book(digits), read(digits)
    if book is None or book[1] or book[0] == f"+{digits}":
        assert found == book or (book is None and found == (f"+{digits}", False))
    else:
        assert found is None or found == (f"+{digits}", False)


def read(digits: str) -> tuple[str, bool] | None:
    try:
        number = normalized(digits)
    except ImpossibleNumberError:
        return None
    return number, is_known(number)


def examples() -> list[str]:
    """Return numbers that exist, of every country and every kind."""
    found = []
    for code, regions in COUNTRY_CODE_TO_REGION_CODE.items():
        for region in regions:
            metadata = PhoneMetadata.metadata_for_region_or_calling_code(code, region)
            for kind in ("fixed_line", "mobile", "toll_free", "premium_rate", "voip", "uan"):
                description = getattr(metadata, kind)
                if description is not None and description.example_number:
                    found.append(f"{code}{description.example_number}")
    return found


EXAMPLES = examples()


def test_every_example_number_is_read_by_the_book() -> None:
    assert len(EXAMPLES) > 500
    assert [digits for digits in EXAMPLES if read(digits) != read_by_the_book(digits)] == []


@settings(max_examples=1500, deadline=None)
@given(
    code=st.sampled_from(sorted(COUNTRY_CODE_TO_REGION_CODE)),
    national=st.text("0123456789", min_size=3, max_size=13),
)
def test_any_digits_of_any_country_are_read_by_the_book(code: int, national: str) -> None:
    assert_read(f"{code}{national}")


@settings(max_examples=1500, deadline=None)
@given(example=st.sampled_from(EXAMPLES), data=st.data())
def test_numbers_near_to_real_ones_are_read_by_the_book(example: str, data: st.DataObject) -> None:
    digits = list(example)
    for _ in range(data.draw(st.integers(0, 3))):
        digits[data.draw(st.integers(1, len(digits) - 1))] = data.draw(
            st.sampled_from("0123456789")
        )
    tail = data.draw(st.sampled_from(["", "", "", "1", "00"]))
    changed = "".join(digits) + tail
    assert_read(changed)


@pytest.mark.parametrize("digits", ["233020000023", "233010000038", "2330100000381"])
def test_a_number_that_no_country_gives_out_stays_as_it_is_written(digits: str) -> None:
    assert read(digits) == (f"+{digits}", False)


@pytest.mark.parametrize(
    ("digits", "number"), [("4901711234567", "+491711234567"), ("330612345678", "+33612345678")]
)
def test_a_zero_that_is_dialled_at_home_is_left_out_of_a_number_that_exists(
    digits: str, number: str
) -> None:
    assert read(digits) == (number, True)


@pytest.mark.parametrize(
    "written",
    ["", "+", "+7", "abc", "7916123456a", "7 916 123 45 67", "7.9161E+10", "8-916", "0079161234567",
     "+79161234567890123", "791612", "٧٩١٦١٢٣٤٥٦٧", "+999123456789"],
)  # fmt: skip
def test_what_is_no_number_is_refused(written: str) -> None:
    with pytest.raises(ImpossibleNumberError):
        normalized(written)


def test_the_plus_sign_may_be_left_out() -> None:
    assert normalized("79161234567") == normalized("+79161234567") == "+79161234567"


def test_the_language_is_that_of_the_country() -> None:
    assert [
        language_of(number) for number in ("+79161234567", "+905321234567", "+12025550123")
    ] == [
        "ru",
        "tr",
        "en",
    ]
