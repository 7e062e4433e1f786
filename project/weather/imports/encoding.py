"""In which encoding a file is written: as is stated, as it shows, or guessed where that is sure."""

import codecs
import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

SAMPLE_BYTES = 256 * 1024
GUESS_BYTES = 20_000
NOT_TEXT = re.compile(r"[\x00-\x08\x0e-\x1a\x1c-\x1f]")
_END_OF_FILE = re.compile(r"\x1a[\x00\x1a\s]*\Z")
LOST = "\ufffd"
"""What stands for bytes that are no character of the encoding."""

STATED = (
    "utf-8", "utf-16", "utf-16-le", "utf-16-be", "cp1250", "cp1251", "cp1252", "cp1253", "cp1254",
    "cp1255", "cp1256", "cp1257", "cp1258", "cp437", "cp850", "cp852", "cp857", "cp866", "koi8-r",
    "koi8-u", "iso8859-1", "iso8859-2", "iso8859-5", "iso8859-7", "iso8859-9", "iso8859-15",
    "mac-roman", "mac-cyrillic", "mac-turkish", "ascii", "gb18030", "big5", "shift_jis", "euc-kr",
)  # fmt: skip
"""The encodings that may be stated, by their names in Python."""
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_WORKBOOKS = (
    (b"PK\x03\x04", "an Excel workbook or a zip"),
    (b"\xd0\xcf\x11\xe0", "an Excel workbook"),
)
_CYRILLIC = "оеаинтсрвлкмдпуяыьгзбчйхжшюцщэфъё"
_LETTERS = (
    (_CYRILLIC, ("cp1251", "koi8-r", "cp866", "mac-cyrillic", "iso8859-5")),
    ("ıüşçğöâîû", ("cp1254", "cp857", "mac-turkish")),
    ("üäöß", ("cp1252", "cp850", "mac-roman")),
    ("éàèêâçîôûùëïœ", ("cp1252", "cp850", "mac-roman")),
    ("óíáéñúü", ("cp1252", "cp850", "mac-roman")),
    ("łęąóżśćńź", ("cp1250", "cp852", "iso8859-2")),
    ("íáěéýřčžšůúďťňó", ("cp1250", "cp852", "iso8859-2")),
    ("áéöóőüíúű", ("cp1250", "cp852", "iso8859-2")),
    ("αοιετσνηυρπκμλςωδγάίόέχθύφβήώξζψ", ("cp1253",)),
)
"""Letters beyond ASCII of languages, the most frequent first, and what they are written in."""
_MARKS_BESIDE = frozenset("°–—«»“”„‘’…№±•€©®·½¼\u00a0\u202f")
_OPENING = frozenset("«“„‘’№\u00a0\u202f")
_USUAL = {"cp1251": 0.3, "cp1254": 0.3, "cp1252": 0.2}
"""By how much the encodings that are met most often are likelier than others."""
_UNICODE = frozenset(("utf-8", "utf-16-le", "utf-16-be", "ascii"))
_LETTERS_THAT_TELL = 3
_UNLIKELY = -7.0
_LEAST_LIKELY = -3.4
_LEAST_AHEAD = 0.35


class EncodingError(Exception):
    """A file of which nobody can say how it is written; the message says what to do."""


@dataclass(frozen=True)
class Encoding:
    """How a file is decoded, and what is to be told of how that was found out."""

    name: str
    note: str | None = None
    is_doubtful: bool = False


def canonical(name: str) -> str | None:
    """Return Python's name of an encoding that may be stated, None for any other."""
    try:
        found = codecs.lookup(name).name
    except (LookupError, ValueError):
        return None
    names = {codecs.lookup(one).name: one for one in STATED} | {"utf-8-sig": "utf-8"}
    return names.get(found)


def encoding_of(pieces: Iterable[bytes], stated: str | None) -> Encoding:
    """Return how a file is written. Raises EncodingError for what is no text."""
    iterator = iter(pieces)
    sample = _sample(iterator)
    if not sample.strip():
        raise EncodingError("The file is empty.")
    for mark, name in _WORKBOOKS:
        if sample.startswith(mark):
            raise EncodingError(f"The file is no text but {name}: save it as CSV.")
    found = _found(sample, iterator, stated)
    text = codecs.getincrementaldecoder(found.name)("replace").decode(sample)
    # A single one spoils its row only.
    controls = len(NOT_TEXT.findall(_END_OF_FILE.sub("", text)))
    if controls > max(3, len(text) // 50):
        raise EncodingError("The file is no text.")
    return found


def _found(sample: bytes, rest: Iterator[bytes], stated: str | None) -> Encoding:
    for mark, name in _MARKS:
        if sample.startswith(mark):
            return Encoding(name)
    if stated is not None:
        return _as_stated(canonical(stated) or stated, sample)
    if _is_utf16(sample):
        return Encoding(_utf16_without_mark(sample), "UTF-16 is a guess: the file does not say so.")
    return _utf8_or_older(sample, rest)


def _as_stated(name: str, sample: bytes) -> Encoding:
    if name == "utf-16":
        # Python wants a mark there, or takes its own machine's order.
        return Encoding(_utf16_without_mark(sample))
    if name not in _UNICODE and _is_surely_utf8(sample):
        raise EncodingError(f"The file is UTF-8, not {name} as is stated.")
    return Encoding(name)


def _is_surely_utf8(sample: bytes) -> bool:
    """Tell whether there are letters beyond ASCII, and all in UTF-8: no other has them so."""
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(sample)
    except UnicodeDecodeError:
        return False
    return sum(one > "\x7f" for one in text) >= _LETTERS_THAT_TELL


def _is_utf16(sample: bytes) -> bool:
    """Tell whether zeros are many, and nearly all on one side of pairs: one says nothing."""
    zeros, odd = sample.count(0), sample[1::2].count(0)
    return zeros * 20 > len(sample) and max(odd, zeros - odd) * 10 >= zeros * 9


def _utf16_without_mark(sample: bytes) -> str:
    """Digits, delimiters and line ends have a zero for every other byte, on one side only."""
    even, odd = sample[0::2], sample[1::2]
    return "utf-16-le" if odd.count(0) > even.count(0) else "utf-16-be"


def _utf8_or_older(sample: bytes, rest: Iterator[bytes]) -> Encoding:
    """Read the whole file: its first letter may come late, and a bad byte is not its encoding."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    letters = lost = 0
    telling = bytearray()
    piece, is_last = sample, False
    while True:
        text = decoder.decode(piece, is_last)
        if not text.isascii():
            lost += text.count(LOST)
            letters += sum(len(run) for run in re.findall(r"[^\x00-\x7f\ufffd]+", text))
            if len(telling) < GUESS_BYTES:
                telling += _telling_lines(piece)
        if is_last:
            break
        piece = next(rest, b"")
        is_last = not piece
    if letters > 2 * lost or not lost:
        bad = f"Bytes that are not UTF-8 stand in {lost} places." if lost else None
        return Encoding("utf-8", bad)
    return _guess(bytes(telling[:GUESS_BYTES]))


def _telling_lines(piece: bytes) -> bytes:
    # Lines without a letter beyond ASCII say nothing of the encoding.
    return b"\n".join(line for line in piece.splitlines() if not line.isascii()) + b"\n"


def _guess(telling: bytes) -> Encoding:
    """Return the encoding in which the text is likeliest one of a language that is known here."""
    best: dict[str, tuple[float, str]] = {}
    for letters, names in _LETTERS:
        for name in names:
            text = telling.decode(name, "replace")
            beyond = "".join(re.findall(r"[^\x00-\x7f]", text))
            likelihood = _likelihood(text, letters) + _USUAL.get(name, 0)
            if likelihood > best.get(beyond, (-math.inf, ""))[0]:
                best[beyond] = (likelihood, name)
    (first, name), *others = sorted(best.values(), reverse=True)
    is_ahead = not others or first - others[0][0] >= _LEAST_AHEAD
    if first >= _LEAST_LIKELY and is_ahead:
        return Encoding(name, f"{name} is a guess; the file is not UTF-8, and does not say.")
    doubt = f"The file is not UTF-8, and {name} is no more than a guess: state it by encoding."
    return Encoding(name, doubt, is_doubtful=True)


def _likelihood(text: str, letters: str) -> float:
    """Return the mean over what is beyond ASCII: how likely it stands there in the language.

    The r-th most frequent letter has a share of about 1 / r. Capitals within a word, letters of
    two scripts in one word, lone letters behind digits, and signs within words are unlikely in any.
    """
    shares = {letter: -math.log(rank + 2) for rank, letter in enumerate(letters)}
    is_latin = letters[0].isascii() or letters[0] < "\u0250"
    found = []
    around = zip(f" {text}", text, f"{text[1:]} ", strict=False)
    for before, one, after in around:
        if one < "\x80":
            continue
        lowered = "i̇" if one == "İ" else one.lower()
        share = -3.0 if one == "İ" and "ı" in letters else shares.get(lowered, _UNLIKELY)
        if share == _UNLIKELY and one in _MARKS_BESIDE:
            if before.isalpha() or (after.isalpha() and one not in _OPENING):
                found.append(_UNLIKELY / 2)
            continue
        if one != lowered and before.isalpha() and before.islower():
            share = _UNLIKELY
        beside = before + after
        if not is_latin and any(letter.isascii() and letter.isalpha() for letter in beside):
            share = _UNLIKELY
        if before.isdigit() and not after.isalpha():
            # A degree sign of another encoding, sooner than a word.
            share = min(share, _UNLIKELY / 2)
        found.append(share)
    return sum(found) / len(found) if found else -2.0


def _sample(pieces: Iterator[bytes]) -> bytes:
    sample = b""
    for piece in pieces:
        sample += piece
        if len(sample) >= SAMPLE_BYTES:
            break
    return sample
