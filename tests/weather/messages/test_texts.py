"""One SMS long in every language; the forecast is shortened, the template never."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from project.weather.messages.texts import TEMPLATES, has_forecast, is_gsm, length, message_text
from project.weather.states import Language

LONG = "Cloudy with showers in the afternoon and thunder over the hills by the evening " * 3


def fits(text: str) -> bool:
    return length(text) <= (160 if is_gsm(text) else 70)


def parts(language: Language) -> list[str]:
    return [part for part in TEMPLATES[language].replace("{1}", "{0}").split("{0}") if part]


@pytest.mark.parametrize("language", list(Language))
def test_a_short_forecast_is_told_in_full(language: Language) -> None:
    text = message_text(language, "Sun 20", "Rain 15")
    assert "Sun 20" in text
    assert "Rain 15" in text
    assert fits(text)


def test_the_language_is_the_subscribers() -> None:
    assert message_text("en", "a", "b") == "Weather 24h: a. 48h: b. Reply STOP to end."
    assert message_text("tr", "a", "b") == "Hava 24s: a. 48s: b. Bitirmek icin DUR yazin."
    assert message_text("ru", "a", "b") == "24ч: a. 48ч: b. Отказ: СТОП"


@given(st.sampled_from(list(Language)), st.text(max_size=300), st.text(max_size=300))
def test_anything_fits_and_the_template_is_whole(
    language: Language, today: str, tomorrow: str
) -> None:
    text = message_text(language, today, tomorrow)
    assert fits(text)
    at = 0
    for part in parts(language):
        at = text.index(part, at) + len(part)
    assert "\n" not in text
    assert "\0" not in text


def test_a_long_one_is_cut_at_a_word_and_both_days_have_their_share() -> None:
    text = message_text("en", LONG, LONG)
    today = text.split("24h: ")[1].split(". 48h")[0]
    tomorrow = text.split("48h: ")[1].split(". Reply")[0]
    assert LONG.startswith(today)
    assert LONG[len(today)] == " "
    assert abs(len(today) - len(tomorrow)) < 20
    assert 140 < length(text) <= 160


def test_a_short_day_leaves_its_room_to_the_other() -> None:
    text = message_text("en", "Sun", LONG)
    assert "24h: Sun. 48h: " in text
    assert length(text) > 145


def test_accents_do_not_cost_half_of_the_message() -> None:
    text = message_text("tr", "Güneşli, 25°C", "Yağışlı")
    assert is_gsm(text)
    assert "Güneşli".replace("ş", "s") in text
    assert "Yagisli" in text


def test_another_script_takes_the_short_form() -> None:
    text = message_text("en", "Ясно, ветер слабый, без осадков до вечера", "Дождь и гроза")
    assert not is_gsm(text)
    assert length(text) <= 70
    assert text.endswith("Reply STOP to end.")


def test_signs_of_the_extension_count_twice() -> None:
    assert length("€") == 2
    assert length("a") == 1
    assert length("я" + "😀") == 3


def shown(today: str, tomorrow: str = "b") -> str:
    text = message_text("en", today, tomorrow)
    return text.split("24h: ")[1].split(". 48h")[0]


@pytest.mark.parametrize(
    ("written", "read"),
    [
        (".5", "0.5"), (" .25 ", "0.25"), ("-.5", "-0.5"), ("0.5", "0.5"), ("0.5.", "0.5"),
        (".5 mm", "0.5 mm"), (".5-.75", "0.5-0.75"), ("Sunny.", "Sunny"), ("...Sunny", "Sunny"),
        ("Sunny...", "Sunny"), ("v.5", "v.5"), ("1.2.3", "1.2.3"), ("\\N", "-"), ("NULL", "-"),
        ("nan", "-"), ("N/A", "-"), ("...", "-"), ("None", "-"), ("Nanjing", "Nanjing"),
        (",75", "0,75"), ("-,75", "-0,75"), ("Rain ,5", "Rain 0,5"), ("Rain,5", "Rain,5"),
        ("Null Island", "Null Island"), ("#1 of May", "#1 of May"), ("\u2600", "\u2600"),
        ("nullified", "nullified"), ("Sun\u200bny", "Sunny"), ("a\u00adb", "ab"), ("a\tb", "a b"),
    ],
)  # fmt: skip
def test_a_forecast_says_what_was_written(written: str, read: str) -> None:
    assert shown(written) == read


@given(st.decimals(0, 200, allow_nan=False, allow_infinity=False, places=2))
def test_a_number_stays_that_number(value: Decimal) -> None:
    """Databases write it with a point in front, and without the zeros."""
    plain = f"{value:f}"
    bare = plain.lstrip("0") or "0"
    for written in {plain, bare} - {"."}:
        assert Decimal(shown(written)) == value


@pytest.mark.parametrize(
    "written",
    [
        "",
        "NULL",
        "\\N",
        "nan",
        "None",
        "n/a",
        "...",
        None,
        "\u200b",
        "\u2014",
        " \u2013 ",
        "***",
        "??",
        "N.A.",
        "-nan",
        "+inf",
        "'NULL'",
        '"n/a"',
        "#REF!",
        "#DIV/0!",
        "#NAME?",
        "#ДЕЛ/0!",
        "#YOK",
        "\ufffd",
    ],
)
def test_without_either_day_there_is_no_forecast(written: str | None) -> None:
    assert not has_forecast(written, written)
    assert has_forecast("Sun", written)
    assert has_forecast(written, "0")


@pytest.mark.parametrize(
    "text",
    ["می\u200cخواهم", "क्\u200dष", "\U0001f468\u200d\U0001f469\u200d\U0001f467", "ক\u200d্য"],
)
def test_joiners_stay_where_words_are_spelled_with_them(text: str) -> None:
    assert text in message_text("en", text, "")
    assert "\u200d" not in message_text("en", "Sun\u200dny \u200d", "")


def test_a_cut_parts_no_sequence() -> None:
    family = "\U0001f468\u200d\U0001f469\u200d\U0001f467"
    for before in range(12):
        text = message_text("en", "ж" * before + family * 4, "")
        today = text.split("24h: ")[1].split(". 48h")[0]
        assert today == "ж" * before + family * (len(today[before:]) // len(family))
        assert length(text) <= 70


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("0.1", "0.1 mm"), (".5", "0.5 mm"), ("-3", "-3 mm"), ("0,4", "0,4 mm"),
        ("\u22122.5", "\u22122.5 mm"), (",5", "0,5 mm"),
        ("1e-2", "1e-2 mm"), ("0.1 - 0.4", "0.1 - 0.4 mm"), ("0.1 mm", "0.1 mm"), ("10%", "10%"),
        ("20C", "20C"), ("Rain", "Rain"), ("NULL", "-"),
    ],
)  # fmt: skip
def test_a_bare_number_says_what_it_is_of(written: str, read: str) -> None:
    text = message_text("ru", written, "2", unit="mm")
    assert text == f"24ч: {read}. 48ч: 2 mm. Отказ: СТОП"


@given(st.text(max_size=200), st.text(max_size=200))
def test_anything_fits_with_units_too(today: str, tomorrow: str) -> None:
    assert fits(message_text("en", today, tomorrow, unit="mm"))
