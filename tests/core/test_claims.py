"""Claims: each due row goes to one claimant, for the length of its lease."""

import threading
import time
from datetime import timedelta

from project.core import clock
from project.core.db.transaction import transaction
from project.core.work.claims import Claim
from tests.core.conftest import InThreads
from tests.core.things import Things, claim_things, names_of
from tests.time_machine import Clock

SHORT = timedelta(milliseconds=50)


def test_due_means_now_or_earlier(things: Things) -> None:
    now = clock.now()
    things.add("last night", due_at=now - timedelta(hours=12))
    things.add("exactly now", due_at=now)
    things.add("later", due_at=now + timedelta(microseconds=1))
    things.add("never", due=False)

    assert names_of(things.claim(now=now)) == ["exactly now", "last night"]


def test_the_longest_due_come_first(things: Things) -> None:
    now = clock.now()
    for days in (1, 3, 2):
        things.add(f"{days} days late", due_at=now - timedelta(days=days))

    assert names_of(things.claim(limit=2)) == ["2 days late", "3 days late"]
    assert names_of(things.claim(limit=2)) == ["1 days late"]


def test_a_claimant_passes_over_what_another_is_just_claiming(
    things: Things, in_threads: InThreads
) -> None:
    things.add_many(10)
    both_have_theirs = threading.Barrier(2, timeout=5)

    def claim_half() -> Claim:
        with transaction():
            claimed = claim_things(5)
            # Nobody has committed yet: whoever waited for the other's rows would never get here.
            both_have_theirs.wait()
            return claimed

    one, other = in_threads(claim_half, claim_half)

    assert len(one.rows) == len(other.rows) == 5
    assert not {row.id for row in one.rows} & {row.id for row in other.rows}


def test_many_claimants_share_everything_out_and_nothing_twice(
    things: Things, in_threads: InThreads
) -> None:
    things.add_many(120)

    def claim_all() -> list[int]:
        mine: list[int] = []
        while claimed := things.claim(limit=7).rows:
            mine += [row.id for row in claimed]
        return mine

    shares = in_threads(*[claim_all] * 6)

    everything = [thing_id for share in shares for thing_id in share]
    assert len(everything) == len(set(everything)) == 120


def test_what_is_claimed_is_not_claimed_again_before_its_lease_ends(things: Things) -> None:
    things.add("thing")
    assert names_of(things.claim(lease=SHORT)) == ["thing"]

    assert names_of(things.claim()) == []

    time.sleep(SHORT.total_seconds() + 0.02)
    assert names_of(things.claim()) == ["thing"]


def test_moving_the_test_clock_ends_no_lease(things: Things, clock: Clock) -> None:
    things.add("thing")
    things.claim()

    clock.advance(days=400)

    assert names_of(things.claim()) == []


def test_who_lost_the_claim_records_nothing(things: Things) -> None:
    things.add("thing")
    slow = things.claim(lease=SHORT)
    time.sleep(SHORT.total_seconds() + 0.02)
    quick = things.claim()

    assert things.record(slow, "from the slow one") == 0
    assert things.record(quick, "from the quick one") == 1
    assert things.row("thing").result == "from the quick one"


def test_who_comes_after_the_result_records_nothing(things: Things) -> None:
    things.add("thing")
    held = things.claim()
    assert things.record(held) == 1

    assert things.record(held, "again") == 0
    assert things.row("thing").result == "done"


def test_the_attempt_is_counted_with_the_claim(things: Things) -> None:
    things.add("thing")
    for attempt in (1, 2, 3):
        held = things.claim()
        assert [row.attempts for row in held.rows] == [attempt]
        things.release(held)


def test_a_lease_that_ran_out_costs_no_attempt(things: Things) -> None:
    things.add("thing")
    things.claim(lease=SHORT)
    time.sleep(SHORT.total_seconds() + 0.02)

    held = things.claim()

    assert [row.attempts for row in held.rows] == [1]


def test_claims_have_ids_of_their_own(things: Things) -> None:
    things.add("one", "other")

    one, other = things.claim(limit=1), things.claim(limit=1)

    assert one.id != other.id
    assert [row.claim_id for row in one.rows] == [one.id]


def test_a_claim_that_is_rolled_back_holds_nothing(things: Things) -> None:
    things.add("thing")
    try:
        with transaction():
            claim_things(1)
            raise InterruptedError
    except InterruptedError:
        pass

    assert names_of(things.claim()) == ["thing"]
    assert things.row("thing").attempts == 1
