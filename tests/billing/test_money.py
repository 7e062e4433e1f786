"""Money: whole minor units here, decimals at the provider, nothing lost between the two."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from project.core.money import CURRENCIES, exponent, from_decimal_text, to_decimal_text


@pytest.mark.parametrize(
    ("amount", "currency", "written"),
    [
        (1000, "RUB", "10.00"),
        (1, "RUB", "0.01"),
        (0, "EUR", "0.00"),
        (10, "USD", "0.10"),
        (-250, "RUB", "-2.50"),
        (1000, "JPY", "1000"),
        (1234, "KWD", "1.234"),
        (5, "BHD", "0.005"),
        (9_223_372_036_854_775_807, "RUB", "92233720368547758.07"),
        (10_000_000_000, "RUB", "100000000.00"),
    ],
)
def test_an_amount_is_written_with_the_decimals_of_its_currency(
    amount: int, currency: str, written: str
) -> None:
    assert to_decimal_text(amount, currency) == written
    assert from_decimal_text(written, currency) == amount


@pytest.mark.parametrize(
    ("written", "currency", "amount"),
    [
        ("10", "RUB", 1000),
        ("10.0", "RUB", 1000),
        ("10.000", "RUB", 1000),
        ("1e2", "RUB", 10_000),
        ("1000.00", "JPY", 1000),
        ("0.10", "USD", 10),
    ],
)
def test_the_same_amount_written_in_another_way_is_read(
    written: str, currency: str, amount: int
) -> None:
    assert from_decimal_text(written, currency) == amount


@pytest.mark.parametrize(
    ("written", "currency"),
    [
        ("10.001", "RUB"),
        ("0.5", "JPY"),
        ("1.2345", "KWD"),
        ("", "RUB"),
        (" ", "RUB"),
        ("ten", "RUB"),
        ("10,00", "RUB"),
        ("1 000.00", "RUB"),
        ("1e999999", "RUB"),
        ("NaN", "RUB"),
        ("sNaN", "RUB"),
        ("Infinity", "RUB"),
        ("-Infinity", "RUB"),
        ("10.00 RUB", "RUB"),
        ("0x10", "RUB"),
        ("1e-3", "RUB"),
    ],
)
def test_what_is_no_amount_of_the_currency_is_refused(written: str, currency: str) -> None:
    with pytest.raises(ValueError, match=r"amount|decimals"):
        from_decimal_text(written, currency)


@given(st.integers(-(2**63), 2**63 - 1), st.sampled_from(sorted(CURRENCIES)))
def test_every_amount_comes_back_as_it_went(amount: int, currency: str) -> None:
    written = to_decimal_text(amount, currency)
    assert from_decimal_text(written, currency) == amount
    assert len(written.partition(".")[2]) == exponent(currency)


@given(st.text("0123456789.,-+eE_ NaN", max_size=8), st.sampled_from(["RUB", "JPY", "KWD"]))
def test_anything_like_a_number_is_an_amount_or_refused(written: str, currency: str) -> None:
    try:
        amount = from_decimal_text(written, currency)
    except ValueError:
        return
    assert isinstance(amount, int)
