"""One SMS long in every language; the forecast is shortened, the template never."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from project.weather.messages.texts import TEMPLATES, is_gsm, length, message_text
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
