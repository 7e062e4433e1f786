"""What every payment provider's adapter must do, held against each of them."""

from datetime import timedelta

import pytest

from project.billing.providers import listing
from project.billing.providers.base import NotThere, Page, ProviderPayment, ProviderStatus
from project.billing.providers.listing import BookSearch
from project.billing.providers.registry import provider_named
from tests.billing.memory_provider import MemoryProvider
from tests.billing.providers.conftest import House, ask, charge
from tests.time_machine import Clock


def test_a_saved_card_is_charged_without_asking_anybody(house: House, clock: Clock) -> None:
    house.decide("card-1", "succeeded")
    wanted = charge(amount=123_45)
    made = ask(house.provider.create(wanted))
    assert isinstance(made, ProviderPayment)
    assert made.status is ProviderStatus.SUCCEEDED
    assert (made.amount, made.currency) == (123_45, "RUB")
    assert made.metadata == wanted.metadata
    assert (made.reason, made.is_hard, made.confirmation_url) == (None, False, None)
    assert abs(made.created_at - clock.now()) < timedelta(seconds=5)
    assert made.created_at.utcoffset() == timedelta()
    assert ask(house.provider.get(made.external_id)) == made


@pytest.mark.parametrize(
    ("reason", "is_hard"),
    [
        ("insufficient_funds", False),
        ("general_decline", False),
        ("card_expired", True),
        ("permission_revoked", True),
    ],
)
def test_a_refusal_says_why_and_whether_trying_again_can_help(
    house: House, reason: str, is_hard: bool
) -> None:
    house.decide("card-1", f"canceled:{reason}")
    made = ask(house.provider.create(charge()))
    assert (made.status, made.reason, made.is_hard) == (ProviderStatus.CANCELED, reason, is_hard)
    assert ask(house.provider.get(made.external_id)) == made


@pytest.mark.parametrize("outcome", ["succeeded", "canceled:insufficient_funds"])
def test_a_payment_without_a_card_waits_for_its_customer(house: House, outcome: str) -> None:
    made = ask(house.provider.create(charge(None)))
    assert made.status is ProviderStatus.PENDING
    assert made.confirmation_url
    assert made.saved_method_id is None
    house.settle(made.external_id, outcome)
    settled = ask(house.provider.get(made.external_id))
    assert settled.status == outcome.partition(":")[0]
    assert (settled.saved_method_id is not None) == (outcome == "succeeded")


def test_a_card_saved_by_a_confirmed_payment_can_be_charged(house: House) -> None:
    made = ask(house.provider.create(charge(None)))
    house.settle(made.external_id, "succeeded")
    saved = ask(house.provider.get(made.external_id)).saved_method_id
    house.decide(saved, "succeeded")
    assert ask(house.provider.create(charge(saved))).status is ProviderStatus.SUCCEEDED


def test_a_pending_payment_is_settled_later(house: House) -> None:
    house.decide("card-1", "pending")
    made = ask(house.provider.create(charge()))
    assert made.status is ProviderStatus.PENDING
    house.settle(made.external_id, "succeeded")
    assert ask(house.provider.get(made.external_id)).status is ProviderStatus.SUCCEEDED


def test_the_same_payment_id_again_is_the_same_payment(house: House) -> None:
    house.decide("card-1", "canceled:insufficient_funds", "succeeded")
    first = charge()
    made = ask(house.provider.create(first))
    assert ask(house.provider.create(first)) == made
    assert ask(house.provider.create(charge())).external_id != made.external_id


def test_a_payment_that_is_not_there_is_said_not_to_be(house: House) -> None:
    assert ask(house.provider.get("2cb6b1a0-000f-5000-8000-18db351245c7")) == NotThere()


def test_payments_are_listed_by_status(house: House, clock: Clock) -> None:
    house.decide("card-1", "succeeded", "canceled:insufficient_funds", "succeeded", "pending")
    made = [ask(house.provider.create(charge())) for _ in range(4)]
    start, end = clock.now() - timedelta(hours=1), clock.now() + timedelta(hours=1)

    def listed(status: ProviderStatus | None) -> list[ProviderPayment]:
        page = ask(house.provider.page(created_from=start, created_before=end, status=status))
        assert isinstance(page, Page)
        assert (list(page.unreadable), page.next_cursor) == ([], None)
        return list(page.items)

    assert listed(None) == made[::-1]
    assert listed(ProviderStatus.SUCCEEDED) == [made[2], made[0]]
    assert listed(ProviderStatus.CANCELED) == [made[1]]
    assert listed(ProviderStatus.PENDING) == [made[3]]
    assert listed(ProviderStatus.WAITING_FOR_CAPTURE) == []


def test_a_list_begins_with_its_start_and_ends_before_its_end(house: House, clock: Clock) -> None:
    made = []
    for _ in range(3):
        made.append(ask(house.provider.create(charge())))
        house.move(clock, hours=2)
    first, last = made[0].created_at, made[2].created_at
    page = ask(house.provider.page(created_from=first, created_before=last))
    assert list(page.items) == [made[1], made[0]]


def test_every_page_is_read_to_the_last(house: House, clock: Clock) -> None:
    start = clock.now() - timedelta(hours=1)
    made = {ask(house.provider.create(charge())).external_id for _ in range(205)}

    async def read() -> list[list[str]]:
        before = clock_end
        reading = listing.pages(house.provider, start, before)
        return [[item.external_id for item in page.items] async for page in reading]

    clock_end = clock.now() + timedelta(hours=1)
    pages = ask(read())
    assert len(pages) > 2
    listed = [external_id for page in pages for external_id in page]
    assert len(listed) == 205
    assert set(listed) == made


def test_a_payment_is_found_by_our_id_on_a_later_page(house: House, clock: Clock) -> None:
    wanted = charge()
    made = ask(house.provider.create(wanted))
    for _ in range(110):
        ask(house.provider.create(charge()))
    around = (clock.now() - timedelta(hours=1), clock.now() + timedelta(hours=1))
    found = ask(BookSearch().find(house.provider, wanted.payment_id, *around))
    assert found == made
    other = charge().payment_id
    assert ask(BookSearch().find(house.provider, other, *around)) is None


def test_an_empty_time_has_one_empty_page(house: House, clock: Clock) -> None:
    long_ago = clock.now() - timedelta(days=400)
    page = ask(
        house.provider.page(created_from=long_ago, created_before=long_ago + timedelta(days=1))
    )
    assert page == Page([], [], None)


def test_a_registered_provider_is_found_by_its_name(memory: MemoryProvider) -> None:
    assert provider_named("memory") is memory
    assert provider_named("yookassa").name == "yookassa"
    with pytest.raises(KeyError):
        provider_named("nobody")
