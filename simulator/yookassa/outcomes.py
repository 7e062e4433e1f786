"""What becomes of a YooKassa autopayment: by a script, by a default, or by a random hash."""

import random
import re
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, replace

PENDING = "pending"
WAITING_FOR_CAPTURE = "waiting_for_capture"
SUCCEEDED = "succeeded"
CANCELED = "canceled"
STATUSES = (PENDING, WAITING_FOR_CAPTURE, SUCCEEDED, CANCELED)

RANDOM = "random"
USUAL_REASON = "insufficient_funds"
HASH_DIGITS = 32

REASON = re.compile(r"[a-z][a-z_]{0,63}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Outcome:
    """A status, why if it is canceled, and what it becomes later if it is pending."""

    status: str
    reason: str | None = None
    becomes: "Outcome | None" = None

    def with_capture(self, capture: bool) -> "Outcome":
        """Return what a success is while the shop has yet to capture it."""
        if capture:
            return self
        if self.status == SUCCEEDED:
            return Outcome(WAITING_FOR_CAPTURE)
        return replace(self, becomes=self.becomes and self.becomes.with_capture(capture))


def outcome_of_hash(decimal_hash: str) -> Outcome:
    """Return the outcome that the last digit decides: odd is paid, even is refused."""
    if decimal_hash[-1] in "13579":
        return Outcome(SUCCEEDED)
    return Outcome(CANCELED, USUAL_REASON)


def parse_outcome(text: str) -> Outcome | None:
    """Return the outcome of "succeeded", "canceled:reason" and so on; None is for "random".

    "pending" may say what it becomes: "pending:succeeded", "pending:canceled:card_expired".
    ValueError when it is none of these.
    """
    status, colon, rest = text.partition(":")
    if colon and not rest:
        raise ValueError(f"{text!r} is no outcome")
    match status:
        case "canceled" if not rest or REASON.fullmatch(rest):
            return Outcome(CANCELED, rest or USUAL_REASON)
        case "pending" if rest:
            becomes = parse_outcome(rest)
            if becomes is not None and becomes.status in (SUCCEEDED, CANCELED):
                return Outcome(PENDING, becomes=becomes)
        case "pending" | "waiting_for_capture" | "succeeded" if not rest:
            return Outcome(status)
        case "random" if not rest:
            return None
    raise ValueError(f"{text!r} is no outcome")


class Script:
    """The outcomes of one payment method, used up in their order, and what comes then."""

    def __init__(self, outcomes: Iterable[str] = (), then: str | None = None) -> None:
        self.outcomes = deque(outcomes)
        self.then = then

    def next(self, default: str) -> str:
        """Return the next outcome; `default` when the script says nothing more."""
        return self.outcomes.popleft() if self.outcomes else self.then or default


class Outcomes:
    """Decides autopayments."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Go back to random outcomes without a seed and without scripts."""
        self.default = RANDOM
        self.settle_after_seconds: float | None = None
        self.sow(None)
        self._scripts: dict[str, Script] = {}

    def sow(self, seed: int | None) -> None:
        """Begin the random outcomes of `seed` from its first one."""
        self.seed = seed
        self._random = random.Random(seed)

    def script(self, method_id: str) -> Script:
        """Return the script of a payment method; an empty one where none was given."""
        return self._scripts.get(method_id) or Script()

    def set_script(self, method_id: str, script: Script) -> None:
        """Replace what was scripted for a payment method."""
        self._scripts[method_id] = script

    def next(self, method_id: str) -> Outcome:
        """Decide one autopayment."""
        return self.decide(self.script(method_id).next(self.default))

    def decide(self, text: str) -> Outcome:
        """Return the outcome that `text` names, with chance where it leaves it to chance."""
        outcome = parse_outcome(text)
        if outcome is None:
            return self._by_chance()
        if outcome.status == PENDING and outcome.becomes is None:
            return replace(outcome, becomes=self._by_chance())
        return outcome

    def _by_chance(self) -> Outcome:
        return outcome_of_hash(f"{self._random.randrange(10**HASH_DIGITS):0{HASH_DIGITS}}")
