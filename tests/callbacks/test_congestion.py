"""The rule by which an endpoint is given more or less: a function of the answers alone."""

import math
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from project.callbacks.congestion import (
    FIRST_REST,
    MAX_REST,
    Feedback,
    Rest,
    Window,
    adapted,
    feedback_of,
    rest_after,
)
from project.core.net.http_client import Answer

HOUR = timedelta(hours=1)
DEADLINE = 10.0


def answer(
    status: int | None = 200, seconds: float = 0.1, retry_after: str | None = None, **how: bool
) -> Answer:
    headers = {} if retry_after is None else {"Retry-After": retry_after}
    timed_out = how.get("timed_out", False)
    return Answer(status, b"", headers, None, timed_out, seconds, excused=how.get("excused", False))


FEEDBACK: dict[str, tuple[Answer, Feedback]] = {
    "taken at once": (answer(), Feedback.GOOD),
    "created": (answer(201), Feedback.GOOD),
    "taken within a fifth of the deadline": (answer(seconds=2.0), Feedback.GOOD),
    "taken later": (answer(seconds=2.1), Feedback.STRAINED),
    "another 2xx": (answer(204), Feedback.STRAINED),
    "refused": (answer(404), Feedback.STRAINED),
    "broken": (answer(500), Feedback.STRAINED),
    "no connection": (answer(None), Feedback.STRAINED),
    "too many requests": (answer(429), Feedback.LIMITED),
    "too many, come back later": (answer(429, retry_after="7"), Feedback.LIMITED),
    "closed for a while": (answer(503, retry_after="7"), Feedback.LIMITED),
    "taken, with a Retry-After": (answer(200, retry_after="7"), Feedback.GOOD),
    "no answer in time": (answer(None, timed_out=True), Feedback.HUNG),
    "no name server answers": (answer(None, excused=True), Feedback.HUNG),
}


@pytest.mark.parametrize(("given_answer", "feedback"), FEEDBACK.values(), ids=FEEDBACK)
def test_an_answer_says_how_the_endpoint_copes(given_answer: Answer, feedback: Feedback) -> None:
    assert feedback_of(given_answer, DEADLINE) is feedback


def after(
    window: Window,
    feedback: Feedback,
    *,
    sent_at: float = 9.0,
    was_full: bool = True,
    ceiling: int = 16,
) -> Window:
    return adapted(window, feedback, sent_at=sent_at, now=10.0, was_full=was_full, ceiling=ceiling)


STEPS: dict[str, tuple[Window, Feedback, Window]] = {
    "a new one grows with each answer": (Window(1), Feedback.GOOD, Window(2)),
    "so it doubles with each round": (Window(4), Feedback.GOOD, Window(5)),
    "from the threshold on by one a round": (Window(4, 4), Feedback.GOOD, Window(4.25, 4)),
    "never past its ceiling": (Window(16), Feedback.GOOD, Window(16)),
    "strain halves": (Window(16), Feedback.STRAINED, Window(8, 8, 10.0)),
    "never below one": (Window(1, 8), Feedback.STRAINED, Window(1, 8, 10.0)),
    "limits lead to one": (Window(16), Feedback.LIMITED, Window(1, 8, 10.0)),
    "hanging leads to one": (Window(3), Feedback.HUNG, Window(1, 2, 10.0)),
    "one that was away doubles again": (Window(1, 8), Feedback.GOOD, Window(2, 8)),
}


@pytest.mark.parametrize(("window", "feedback", "expected"), STEPS.values(), ids=STEPS)
def test_a_window_changes_by_what_was_answered(
    window: Window, feedback: Feedback, expected: Window
) -> None:
    assert after(window, feedback) == expected


def test_a_window_that_was_not_full_does_not_grow() -> None:
    assert after(Window(4), Feedback.GOOD, was_full=False) == Window(4)


def test_what_was_sent_before_the_last_cut_cuts_no_more_unless_it_hung() -> None:
    cut = Window(8, 8, cut_at=9.5)
    assert after(cut, Feedback.STRAINED, sent_at=9.4) == cut
    assert after(cut, Feedback.STRAINED, sent_at=9.6).size == 4
    assert after(cut, Feedback.HUNG, sent_at=9.4).size == 1


ANSWERS = st.lists(st.tuples(st.sampled_from(Feedback), st.booleans()), max_size=300)


@given(answers=ANSWERS, size=st.integers(1, 40), ceiling=st.integers(1, 40))
def test_whatever_is_answered_a_window_stays_between_one_and_its_ceiling(
    answers: list[tuple[Feedback, bool]], size: int, ceiling: int
) -> None:
    window = Window(min(size, ceiling))
    for moment, (feedback, was_full) in enumerate(answers):
        before = window
        window = adapted(
            window,
            feedback,
            sent_at=moment - 0.5,
            now=moment,
            was_full=was_full,
            ceiling=ceiling,
        )
        assert 1 <= window.size <= ceiling
        assert window.threshold >= 2
        if feedback is Feedback.GOOD:
            assert before.size <= window.size <= before.size + 1
        else:
            assert window.size <= max(before.size / 2, 1)


@given(answers=ANSWERS, ceiling=st.integers(1, 40))
def test_after_any_trouble_an_endpoint_that_answers_well_again_gets_the_most(
    answers: list[tuple[Feedback, bool]], ceiling: int
) -> None:
    window = Window(1)
    for feedback, was_full in [*answers, *[(Feedback.GOOD, True)] * (ceiling * ceiling)]:
        window = adapted(window, feedback, sent_at=0.0, now=0.0, was_full=was_full, ceiling=ceiling)
    assert math.isclose(window.size, ceiling)


@pytest.mark.parametrize(
    ("feedback", "retry_after_seconds", "timeouts", "rest"),
    [
        (Feedback.GOOD, None, 3, Rest(timedelta(), 0)),
        (Feedback.STRAINED, None, 3, Rest(timedelta(), 0)),
        (Feedback.HUNG, None, 0, Rest(FIRST_REST, 1)),
        (Feedback.HUNG, None, 1, Rest(2 * FIRST_REST, 2)),
        (Feedback.HUNG, None, 500, Rest(MAX_REST, 501)),
        (Feedback.LIMITED, None, 0, Rest(FIRST_REST, 0)),
        (Feedback.LIMITED, 90, 2, Rest(timedelta(seconds=90), 0)),
        (Feedback.LIMITED, 86_400, 0, Rest(HOUR, 0)),
    ],
)
def test_an_endpoint_rests_after_it_hung_or_asked_for_it(
    feedback: Feedback, retry_after_seconds: int | None, timeouts: int, rest: Rest
) -> None:
    assert rest == rest_after(
        feedback,
        retry_after_seconds=retry_after_seconds,
        timeouts_in_a_row=timeouts,
        at_most=HOUR,
    )
