"""What becomes of requests for a number: by a script, by its last digits, or as usual."""

from collections.abc import Mapping, Sequence, Set

from simulator.json_http import bad_request

MAGIC_DIGITS = 4


class Scripts:
    """Outcomes per number, used up in their order."""

    def __init__(self, magic: Mapping[str, Sequence[str]], *, usual: str) -> None:
        self._magic = magic
        self._usual = usual
        self._scripts: dict[str, list[str]] = {}
        self._then: dict[str, str] = {}

    def set(self, number: str, outcomes: Sequence[str], then: str | None) -> None:
        """Script the next outcomes of a number and what comes after them."""
        self._scripts[number] = list(outcomes)
        self._then[number] = then or self._usual
        if not outcomes and then is None:
            del self._scripts[number], self._then[number]

    def next(self, number: str) -> str:
        """Return the next outcome; a magic number's last one stays."""
        script = self._scripts.get(number)
        if script is None:
            magic = self._magic.get(number[-MAGIC_DIGITS:])
            if magic is None:
                return self._usual
            script = self._scripts[number] = list(magic)
            self._then[number] = magic[-1]
        return script.pop(0) if script else self._then[number]


def outcome_texts(name: str, value: object, known: Set[str]) -> tuple[str, ...]:
    """Return a list of `kind` or `kind:reason`, or answer 400."""
    if not isinstance(value, list):
        raise bad_request(f"{name} is not a list")
    for one in value:
        if not isinstance(one, str) or one.partition(":")[0] not in known:
            raise bad_request(f"{name}: {one!r} is none of {', '.join(sorted(known))}")
    return tuple(value)
