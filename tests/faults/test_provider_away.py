"""The provider is away for a day: each is charged once when it comes back, nobody is refused."""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.faults.charges import (
    BOOKS,
    CHARGES,
    all_is_paid,
    assert_each_paid_once,
    assert_each_was_told_once,
    paid_there,
    pending_here,
    seed_due_companies,
)
from tests.faults.world import eventually
from tests.support.stack import Stack, running_stack

SETTINGS = {"PROVIDER_TIMEOUT_SECONDS": "5"}


@dataclass(frozen=True)
class Aftermath:
    """A copy whose provider was away for a day, and is back."""

    stack: Stack
    companies: int
    unanswered: int
    """How many were paid at the provider just before it went, and not answered for."""


@pytest.fixture(
    scope="module",
    params=[(20, 5), pytest.param((1000, 100), marks=pytest.mark.long)],
    ids=["short", "long"],
)
def aftermath(request: pytest.FixtureRequest) -> Iterator[Aftermath]:
    companies, unanswered = request.param
    with running_stack(
        workers=2, schedulers=0, api_workers=1, test_clock=True, environment=SETTINGS
    ) as stack:
        seed_due_companies(stack, companies)
        stack.simulator.add_fault(CHARGES, drop="after", times=unanswered)
        stack.simulator.add_fault(BOOKS, drop="before")
        stack.flask("autopayments-run", "--inline")
        assert len(paid_there(stack)) == unanswered
        stack.flask("clock", "advance", "26h", "--run", seconds=600)
        assert_nobody_was_refused(stack, companies)
        stack.simulator.control("DELETE", "/faults")
        stack.flask("clock", "advance", "2h", "--run", seconds=600)
        eventually(lambda: all_is_paid(stack), within=120, every=0.3, what="everybody has paid")
        yield Aftermath(stack, companies, unanswered)


def assert_nobody_was_refused(stack: Stack, companies: int) -> None:
    """Hold that everybody still has access and a payment whose end is open."""
    assert stack.fetch("SELECT state, count(*) FROM subscriptions GROUP BY 1") == [
        ("active", companies)
    ]
    assert len(pending_here(stack)) == companies
    assert stack.value("SELECT count(*) FROM payments") == companies


def test_everybody_is_charged_once_by_both_books(aftermath: Aftermath) -> None:
    assert_each_paid_once(aftermath.stack, aftermath.companies)


def test_each_renewal_is_told_once(aftermath: Aftermath) -> None:
    assert_each_was_told_once(aftermath.stack, aftermath.companies)


def test_what_was_paid_there_is_found_and_only_what_never_arrived_is_charged_anew(
    aftermath: Aftermath,
) -> None:
    states = aftermath.stack.fetch("SELECT state, count(*) FROM payments GROUP BY 1 ORDER BY 1")
    never_made = aftermath.companies - aftermath.unanswered
    assert states == [("expired", never_made), ("succeeded", aftermath.companies)]
