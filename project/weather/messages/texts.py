"""The text of a message: a template in the subscriber's language, and one SMS long.

160 characters of the GSM alphabet (3GPP TS 23.038), where those of its extension count twice, or
70 of UCS-2 as soon as one character is not in it.
"""

import re
import unicodedata

from project.weather.states import Language

GSM_LENGTH = 160
UCS2_LENGTH = 70
_BASIC = frozenset(
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?"
    "¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
_EXTENSION = frozenset("\f^{}\\[~]|€")
_REPLACED = str.maketrans(
    {
        "ı": "i", "İ": "I", "ş": "s", "Ş": "S", "ğ": "g", "Ğ": "G", "ç": "c", "ø": "ø",
        "–": "-", "—": "-", "−": "-", "‘": "'", "’": "'", "“": '"', "”": '"', "…": "...",
        "°": "", "\u00a0": " ", "\u202f": " ", "→": "-", "•": "-", "·": "-",
    }
)  # fmt: skip
TEMPLATES = {
    Language.EN: "Weather 24h: {0}. 48h: {1}. Reply STOP to end.",
    Language.TR: "Hava 24s: {0}. 48s: {1}. Bitirmek icin DUR yazin.",
    Language.RU: "24ч: {0}. 48ч: {1}. Отказ: СТОП",
}


# What files and databases write where there is nothing, in any case.
NOTHING = frozenset(
    {"", "null", "(null)", "<null>", "\\n", "nan", "nat", "none", "nil", "na", "n/a", "n.a"}
    | {"<na>", "inf", "undefined", "no data", "nodata", "1.#qnan", "1.#ind", "1.#inf"}
)
# What a spreadsheet writes for a formula that failed, in any language: #N/A, #VALUE!, #ЗНАЧ!
_FAILED_FORMULA = re.compile(r"#[^\W\d_][\w/]*[!?]?")
NO_TEXT = "-"
_NUMBER = r"[+\u2212-]?\d+(?:[.,]\d+)?(?:e[+-]?\d+)?"
_BARE_NUMBER = re.compile(rf"{_NUMBER}(?:\s?-\s?{_NUMBER})?", re.IGNORECASE | re.ASCII)
_LEADING_POINT = re.compile(r"(?<![\w.])(?:\.|(?<!,),)(?=\d)")
_DOTS_BEFORE_TEXT = re.compile(r"^[. ]+(?!\d)")
_JOINERS = "\u200c\u200d"


def has_forecast(fcat24: str | None, fcat48: str | None) -> bool:
    """Tell whether there is anything to say of one of the days."""
    return any(_clean(one or "") for one in (fcat24, fcat48))


def message_text(language: Language, fcat24: str, fcat48: str, *, unit: str = "") -> str:
    """Return the text; forecasts are shortened so that it fits one SMS, the template never is.

    A forecast that is a bare number is one of this unit.
    """
    template = TEMPLATES[language]
    today, tomorrow = (_with_unit(_clean(one), unit) or NO_TEXT for one in (fcat24, fcat48))
    plain = [_plain(one) for one in (today, tomorrow)]
    if is_gsm(template + "".join(plain)):
        return _fitted(template, plain[0], plain[1], GSM_LENGTH)
    return _fitted(template, today, tomorrow, UCS2_LENGTH)


def is_gsm(text: str) -> bool:
    """Tell whether every character is of the GSM alphabet."""
    return all(char in _BASIC or char in _EXTENSION for char in text)


def length(text: str) -> int:
    """Return how much room a text takes, in the units of the alphabet that it needs."""
    return _length(text, is_gsm(text))


def _length(text: str, in_gsm: bool) -> int:
    if in_gsm:
        return len(text) + sum(char in _EXTENSION for char in text)
    return len(text.encode("utf-16-le", "replace")) // 2


def _clean(text: str) -> str:
    """Return the forecast as it is to be read; nothing where its source wrote that it has none.

    A number keeps its point or comma, "0.5" also where ".5" is written; a sentence's last dot is
    the template's.
    """
    seen = "".join(_seen(text, at) for at in range(len(text)))
    dotted = _LEADING_POINT.sub(r"0\g<0>", _DOTS_BEFORE_TEXT.sub("", " ".join(seen.split())))
    cleaned = dotted.rstrip(" .")
    return "" if _is_nothing(cleaned) else cleaned


def _is_nothing(text: str) -> bool:
    """Tell whether a source wrote that it has none, in signs alone too: dashes, question marks."""
    bare = text.casefold().strip("\"'+-\u2212")
    if bare in NOTHING or _FAILED_FORMULA.fullmatch(bare):
        return True
    return all(char == "\ufffd" or unicodedata.category(char)[0] in "PZ" for char in bare)


def _seen(text: str, at: int) -> str:
    """Return a character as it is read: a blank for one of control, nothing for one unseen.

    Joiners stay within words of the scripts, and sequences of emoji, that are spelled with them.
    """
    char = text[at]
    if char in _JOINERS:
        return char if _is_joined(text[at - 1 : at]) and _is_joined(text[at + 1 : at + 2]) else ""
    if unicodedata.category(char) == "Cf":
        return ""
    return char if char.isprintable() else " "


def _is_joined(char: str) -> bool:
    return char > "\u02ff" and char.isprintable() and not char.isspace()


def _with_unit(text: str, unit: str) -> str:
    return f"{text} {unit}" if unit and _BARE_NUMBER.fullmatch(text) else text


def _plain(text: str) -> str:
    """Return the text in the GSM alphabet where only accents and signs stand in the way."""
    replaced = text.translate(_REPLACED)
    if is_gsm(replaced):
        return replaced
    parts = []
    for char in replaced:
        if is_gsm(char):
            parts.append(char)
        else:
            bare = unicodedata.normalize("NFKD", char)
            parts.append("".join(one for one in bare if not unicodedata.combining(one)))
    return "".join(parts)


def _fitted(template: str, today: str, tomorrow: str, limit: int) -> str:
    in_gsm = limit == GSM_LENGTH
    room = limit - _length(template.format("", ""), in_gsm)
    need_today, need_tomorrow = _length(today, in_gsm), _length(tomorrow, in_gsm)
    if need_today + need_tomorrow > room:
        half = room // 2
        for_today = max(half, room - need_tomorrow)
        today = _shortened(today, min(need_today, for_today), in_gsm)
        tomorrow = _shortened(tomorrow, room - _length(today, in_gsm), in_gsm)
    return template.format(today, tomorrow)


def _shortened(text: str, room: int, in_gsm: bool) -> str:
    """Cut at a word where there is one in the last third."""
    if _length(text, in_gsm) <= room:
        return text
    cut = text
    while _length(cut, in_gsm) > room or _is_split(text, len(cut)):
        cut = cut[:-1]
    at_word = cut.rfind(" ")
    is_word_cut = text[len(cut) : len(cut) + 1] not in ("", " ")
    if is_word_cut and at_word > len(cut) * 2 // 3:
        cut = cut[:at_word]
    return cut.rstrip(" ,.;:-")


def _is_split(text: str, at: int) -> bool:
    """Tell whether a cut here parts a character from its marks, or two that are joined."""
    if at in (0, len(text)):
        return False
    is_mark = unicodedata.combining(text[at]) > 0 or text[at] in ("\ufe0f", *_JOINERS)
    return is_mark or text[at - 1] in _JOINERS
