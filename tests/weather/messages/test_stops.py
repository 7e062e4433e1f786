"""Who asks for no more messages is heard, however it is written, and nobody else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from project.weather.messages.opt_outs import says_stop

ALONE = [
    *("stop", "stopall", "stop all", "unsubscribe", "cancel", "end", "quit", "revoke", "optout"),
    *("opt out", "opt-out", "Opt me out", "unsub"),
    *("dur", "durdur", "iptal", "iptal et", "çık", "çıkış", "abonelikten çık", "ret"),
    *("стоп", "отказ", "отписка", "отмена", "отписаться", "отпишите", "отключить", "отменить"),
]
AROUND = [
    *("{}", " {} ", "{}!", "{}.", "«{}»", '"{}"', "({})", "**{}**", "{}\n", "\u202a{}\u202c"),
    *("please {}", "{}, please", "Reply {}", "{} thank you", "lütfen {}", "{} lütfen"),
    *("{} yazın", "пожалуйста, {}", "{} пожалуйста", "{} \U0001f6d1"),
]


@pytest.mark.parametrize("word", ALONE)
def test_each_word_is_heard_in_any_dress(word: str) -> None:
    turkish = word.replace("i", "İ").replace("ı", "I").upper()
    for written in (word, word.upper(), word.title(), turkish):
        for around in AROUND:
            assert says_stop(around.format(written)), around.format(written)


@given(st.sampled_from(ALONE), st.data())
def test_what_nobody_sees_changes_nothing(word: str, data: st.DataObject) -> None:
    unseen = data.draw(st.sampled_from("\u200b\u200c\u200d\u00ad\ufeff\u2060\u200e"))
    at = data.draw(st.integers(0, len(word)))
    assert says_stop(word[:at] + unseen + word[at:])


@pytest.mark.parametrize(
    "text",
    ["ＳＴＯＰ", "S T O P", "s.t.o.p", "Stop. Thank you", "STOP sending me this", "DUR",
     "dur artık", "Reply STOP to end", "cancel my subscription", "отпишите меня",
     "İPTAL ET", "ıptal", "\U0001d412\U0001d413\U0001d40e\U0001d40f", "CTО\u041f", "ST\u041e\u0420",
     "aboneliğimi iptal et", "İptal etmek istiyorum", "DURDURUN", "отмена подписки",
     "отказ от рассылки", "CANCEL ALL", "end it", "un-subscribe", "STOP2END", "Ok, stop",
     "I revoke my consent", "Opt out of these messages", "Please remove me", "iptal edin lütfen",
     "Abonelikten çıkmak istiyorum", "прекратите", "Отказываюсь", "Не присылайте мне смс",
     "\u0455top"],
)  # fmt: skip
def test_other_ways_to_say_it(text: str) -> None:
    assert says_stop(text)


@pytest.mark.parametrize(
    "text",
    ["", "...", "please", "when will the rain stop?", "will it end today", "the bus does not stop",
     "don't stop", "please do not cancel", "stopwatch", "weekend", "the end", "end of the week?",
     "durum nedir", "yağmur ne zaman dur", "iptal etme", "çıkalım mı", "отменят ли рейс",
     "когда кончится дождь", "отказали в кредите",
     "отказ от прогноза дождя", "отмена рейса", "iptal etmek istemedim",
     "start", "yes", "unstop", "revoked", "reply me"],
)  # fmt: skip
def test_something_else_is_no_stop(text: str) -> None:
    assert not says_stop(text)
