"""What a result makes of a payment: each pair of state and result, and what holds for any of them.

These decisions are pure: nothing here needs a database.
"""

import itertools
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from project.billing.payments.decisions import REASON_LENGTH, Decision, decide
from project.billing.periods import period_from
from project.billing.providers.base import (
    NeverMade,
    NotThere,
    ProviderPayment,
    ProviderResult,
    ProviderStatus,
    Rejected,
    TimedOut,
    Unknown,
    Unreadable,
)
from project.billing.snapshots import PackageSnapshot, PaymentSnapshot, SubscriptionSnapshot
from project.billing.states import (
    COUNTED_TRIGGERS,
    AtRetryEnd,
    CaseKind,
    ChargeTime,
    PaymentState,
    PeriodUnit,
    SubscriptionState,
    Trigger,
)
from project.billing.subscriptions import rules

BEGAN = datetime(2031, 5, 31, 8, tzinfo=UTC)
END = datetime(2031, 6, 30, 8, tzinfo=UTC)
NEXT_END = datetime(2031, 7, 31, 8, tzinfo=UTC)
NOW = END + timedelta(minutes=7)
PRICE = 44_500
HOUR, DAY = timedelta(hours=1), timedelta(days=1)

MONTHLY = PackageSnapshot(
    id=3,
    period=PeriodUnit.MONTH,
    period_count=1,
    retry_attempts=3,
    retry_interval_seconds=86_400,
    at_retry_end=AtRetryEnd.EXPIRE,
    charged=ChargeTime.AT_THE_END,
)


def subscription(**changes: Any) -> SubscriptionSnapshot:
    values: dict[str, Any] = {
        "id": 11,
        "customer_id": 5,
        "package_id": MONTHLY.id,
        "rhythm": MONTHLY.rhythm,
        "state": SubscriptionState.ACTIVE,
        "anchor_at": BEGAN,
        "current_period_start": BEGAN,
        "ended_at": END,
        "due_at": END,
    }
    return SubscriptionSnapshot(**(values | changes))


def payment(**changes: Any) -> PaymentSnapshot:
    values: dict[str, Any] = {
        "id": UUID(int=77),
        "customer_id": 5,
        "package_id": MONTHLY.id,
        "subscription_id": 11,
        "state": PaymentState.PENDING,
        "trigger": Trigger.SUBSCRIPTION_CYCLE,
        "amount": PRICE,
        "currency": "EUR",
        "created_at": NOW - timedelta(seconds=2),
        "due_at": NOW + HOUR,
        "period_start": END,
        "period_end": NEXT_END,
    }
    found = PaymentSnapshot(**(values | changes))
    return found if found.state == PaymentState.PENDING else replace(found, due_at=None)


def answer(status: str = "succeeded", **changes: Any) -> ProviderPayment:
    values: dict[str, Any] = {
        "external_id": "there-1",
        "status": ProviderStatus(status),
        "amount": PRICE,
        "currency": "EUR",
        "created_at": NOW,
    }
    return ProviderPayment(**(values | changes))


RESULTS: dict[str, ProviderResult] = {
    "paid": answer(),
    "refused": answer("canceled", reason="insufficient_funds"),
    "refused for good": answer("canceled", reason="card_expired", is_hard=True),
    "pending": answer("pending"),
    "held": answer("waiting_for_capture"),
    "another amount": answer(amount=PRICE - 1),
    "another payment": answer(external_id="there-2"),
    "refunded": answer(refunded_amount=500),
    "rejected": Rejected("answered 401"),
    "never made": NeverMade("not in its listing"),
    "timed out": TimedOut(),
    "unreadable": Unreadable("no status", None, "{}", is_of_request=True),
    "unknown": Unknown("answered 502"),
    "not there": NotThere(),
}
PENDING, SUCCEEDED, CANCELED, EXPIRED = PaymentState
KNOWN = {"external_id": "there-1"}

# For a payment that the provider has: its next state and the cases, from each state.
TABLE: dict[str, tuple[tuple[PaymentState, Sequence[CaseKind]], ...]] = {
    "paid": (
        (SUCCEEDED, ()),
        (SUCCEEDED, ()),
        (CANCELED, [CaseKind.PAID_THERE_PENDING_HERE]),
        (SUCCEEDED, ()),
    ),
    "refused": (
        (CANCELED, ()),
        (SUCCEEDED, [CaseKind.PAID_HERE_UNPAID_THERE]),
        (CANCELED, ()),
        (EXPIRED, ()),
    ),
    "refused for good": (
        (CANCELED, ()),
        (SUCCEEDED, [CaseKind.PAID_HERE_UNPAID_THERE]),
        (CANCELED, ()),
        (EXPIRED, ()),
    ),
    "pending": ((PENDING, ()), (SUCCEEDED, ()), (CANCELED, ()), (EXPIRED, ())),
    "held": ((PENDING, ()), (SUCCEEDED, ()), (CANCELED, ()), (EXPIRED, ())),
    "another amount": (
        (PENDING, [CaseKind.AMOUNT_DIFFERS]),
        (SUCCEEDED, [CaseKind.AMOUNT_DIFFERS]),
        (CANCELED, [CaseKind.AMOUNT_DIFFERS]),
        (EXPIRED, [CaseKind.AMOUNT_DIFFERS]),
    ),
    "another payment": (
        (PENDING, [CaseKind.PAID_THERE_MISSING_HERE]),
        (SUCCEEDED, [CaseKind.PAID_THERE_MISSING_HERE]),
        (CANCELED, [CaseKind.PAID_THERE_MISSING_HERE]),
        (EXPIRED, [CaseKind.PAID_THERE_MISSING_HERE]),
    ),
    "refunded": (
        (SUCCEEDED, [CaseKind.REFUNDED_THERE]),
        (SUCCEEDED, [CaseKind.REFUNDED_THERE]),
        (CANCELED, [CaseKind.PAID_THERE_PENDING_HERE]),
        (SUCCEEDED, [CaseKind.REFUNDED_THERE]),
    ),
    "rejected": (
        (CANCELED, [CaseKind.NOT_TAKEN]),
        (SUCCEEDED, ()),
        (CANCELED, ()),
        (EXPIRED, ()),
    ),
    # The provider has this one: it was made.
    "never made": ((PENDING, ()), (SUCCEEDED, ()), (CANCELED, ()), (EXPIRED, ())),
    "timed out": ((EXPIRED, ()), (SUCCEEDED, ()), (CANCELED, ()), (EXPIRED, ())),
    "unreadable": (
        (PENDING, [CaseKind.UNREADABLE_THERE]),
        (SUCCEEDED, [CaseKind.UNREADABLE_THERE]),
        (CANCELED, [CaseKind.UNREADABLE_THERE]),
        (EXPIRED, [CaseKind.UNREADABLE_THERE]),
    ),
    "unknown": ((PENDING, ()), (SUCCEEDED, ()), (CANCELED, ()), (EXPIRED, ())),
    "not there": ((PENDING, ()), (SUCCEEDED, ()), (CANCELED, ()), (EXPIRED, ())),
}


@pytest.mark.parametrize(("said", "before"), list(itertools.product(TABLE, PaymentState)))
def test_each_result_decides_about_a_payment_in_each_state(said: str, before: PaymentState) -> None:
    state, cases = TABLE[said][list(PaymentState).index(before)]
    decision = decide(payment(state=before, **KNOWN), subscription(), MONTHLY, RESULTS[said], NOW)
    assert (decision.payment.state, list(decision.cases)) == (state, list(cases))
    moved = state is not before
    assert (decision.given is not None) == (moved and state is SUCCEEDED)
    is_told = said in ("paid", "refunded", "refused", "refused for good")
    assert (decision.is_final is not None) == (moved and is_told)


def test_the_table_names_every_result() -> None:
    assert TABLE.keys() == RESULTS.keys()


@pytest.mark.parametrize(
    ("said", "state", "due_after", "change"),
    [
        ("paid", SubscriptionState.ACTIVE, NEXT_END - NOW, "renewed"),
        ("refused", SubscriptionState.PAST_DUE, DAY, "past_due"),
        ("refused for good", SubscriptionState.EXPIRED, None, "exhausted"),
        ("rejected", SubscriptionState.ACTIVE, HOUR, None),
        ("never made", SubscriptionState.ACTIVE, timedelta(), None),
        ("timed out", SubscriptionState.ACTIVE, END + 5 * DAY - NOW, None),
    ],
)
def test_what_becomes_of_a_subscription_whose_period_is_over(
    said: str, state: SubscriptionState, due_after: timedelta | None, change: str | None
) -> None:
    decision = decide(payment(), subscription(), MONTHLY, RESULTS[said], NOW)
    after = decision.subscription
    assert after is not None
    assert (after.state, decision.change) == (state, change)
    assert after.due_at == (None if due_after is None else NOW + due_after)


@pytest.mark.parametrize(
    "said", ["unknown", "not there", "unreadable", "pending", "another amount"]
)
def test_what_decides_nothing_leaves_the_subscription_alone_and_asks_later(said: str) -> None:
    decision = decide(payment(), subscription(), MONTHLY, RESULTS[said], NOW)
    assert decision.subscription is None
    assert decision.payment.due_at == NOW + timedelta(minutes=2)


@pytest.mark.parametrize(
    ("age", "wait"),
    [
        (timedelta(), timedelta(minutes=2)),
        (timedelta(minutes=9), timedelta(minutes=9)),
        (DAY, HOUR),
    ],
)
def test_a_payment_is_asked_after_ever_more_rarely(age: timedelta, wait: timedelta) -> None:
    waiting = decide(payment(created_at=NOW - age), None, MONTHLY, Unknown("away"), NOW).payment
    assert waiting.due_at == NOW + wait


def test_a_reason_is_kept_in_part_only() -> None:
    refused = answer("canceled", reason="no " * 400)
    reason = decide(payment(), subscription(), MONTHLY, refused, NOW).payment.reason
    assert reason == ("no " * 400)[:REASON_LENGTH]


def test_a_first_purchase_begins_a_subscription_and_saves_the_card() -> None:
    bought = payment(subscription_id=None, trigger=Trigger.PURCHASE, period_start=None)
    decision = decide(bought, None, MONTHLY, answer(saved_method_id="card-9"), NOW)
    made = decision.subscription
    assert made is not None
    assert (made.id, made.state, made.package_id) == (None, SubscriptionState.ACTIVE, MONTHLY.id)
    assert decision.given == period_from(NOW, PeriodUnit.MONTH, 1, NOW)
    assert decision.saved_method_id == "card-9"


def test_only_a_purchase_saves_the_card() -> None:
    decision = decide(payment(), subscription(), MONTHLY, answer(saved_method_id="card-9"), NOW)
    assert decision.saved_method_id is None


def test_a_late_yes_prolongs_the_subscription_that_runs_now() -> None:
    ended = subscription(state=SubscriptionState.EXPIRED, due_at=None)
    newer = subscription(
        id=12, current_period_start=NOW - DAY, anchor_at=NOW - DAY, ended_at=NOW + DAY
    )
    late = payment(state=EXPIRED, **KNOWN)
    decision = decide(late, ended, MONTHLY, answer(), NOW, running=newer)
    after = decision.subscription
    assert after is not None
    assert decision.given is not None
    assert decision.given_next is not None
    assert after.id == decision.payment.subscription_id == 12
    assert decision.given.start == newer.ended_at
    assert decision.given_next.start == decision.given.end


def test_what_its_customer_canceled_gets_its_paid_period_and_does_not_renew() -> None:
    leaving = subscription(state=SubscriptionState.CANCELED, canceled_at=NOW - HOUR, due_at=None)
    after = decide(payment(), leaving, MONTHLY, answer(), NOW).subscription
    assert after is not None
    assert (after.state, after.ended_at, after.due_at) == (
        SubscriptionState.CANCELED,
        NEXT_END,
        None,
    )


def test_a_retry_that_the_customer_asked_for_uses_up_no_try() -> None:
    asked = payment(trigger=Trigger.RETRY_CUSTOMER)
    decision = decide(asked, subscription(), MONTHLY, RESULTS["refused"], NOW)
    assert decision.change is None
    assert decision.subscription is None or decision.subscription.refusals == 0


def test_what_was_never_made_brings_back_what_expired_for_want_of_it() -> None:
    ended = subscription(state=SubscriptionState.EXPIRED, due_at=None)
    after = decide(payment(), ended, MONTHLY, RESULTS["never made"], NOW).subscription
    assert after is not None
    assert (after.state, after.due_at) == (SubscriptionState.ACTIVE, NOW)
    newer = subscription(id=12)
    second = decide(payment(), ended, MONTHLY, RESULTS["never made"], NOW, running=newer)
    assert second.subscription is None, "only one may run"


# --- Whatever comes, in any order ---

moments = st.integers(0, 90 * 24).map(lambda hours: BEGAN + timedelta(hours=hours))
packages = st.builds(
    PackageSnapshot,
    id=st.just(MONTHLY.id),
    period=st.sampled_from(PeriodUnit),
    period_count=st.integers(1, 3),
    retry_attempts=st.integers(1, 4),
    retry_interval_seconds=st.sampled_from([3600, 86_400]),
    at_retry_end=st.sampled_from(AtRetryEnd),
    charged=st.sampled_from(ChargeTime),
    bill_missed=st.booleans(),
)
results = st.one_of(
    st.builds(
        answer,
        st.sampled_from([str(status) for status in ProviderStatus]),
        external_id=st.sampled_from(["there-1", "there-2"]),
        amount=st.sampled_from([PRICE, PRICE, PRICE, PRICE + 1]),
        is_hard=st.booleans(),
        saved_method_id=st.none() | st.just("card-9"),
        refunded_amount=st.sampled_from([0, 0, 100, PRICE]),
    ),
    st.sampled_from(list(RESULTS.values())),
)
RUNS = (SubscriptionState.PAST_DUE, SubscriptionState.CANCELED)


@st.composite
def subscriptions(draw: st.DrawFn, package: PackageSnapshot, number: int) -> SubscriptionSnapshot:
    """A subscription as the database lets it be."""
    state = draw(st.sampled_from(list(SubscriptionState)[1:]))
    start = draw(moments)
    is_exhausted = state in RUNS and draw(st.booleans())
    is_due = state == SubscriptionState.ACTIVE or (
        state == SubscriptionState.PAST_DUE and not is_exhausted
    )
    current = period_from(start, *package.rhythm, start)
    return subscription(
        id=number,
        rhythm=package.rhythm,
        state=state,
        anchor_at=start,
        current_period_start=start,
        ended_at=current.end,
        due_at=draw(moments) if is_due else None,
        refusals=draw(st.integers(0, 3)),
        exhausted_at=start if is_exhausted else None,
        canceled_at=start if state == SubscriptionState.CANCELED else None,
    )


@st.composite
def situations(draw: st.DrawFn) -> dict[str, Any]:
    """Arguments for `decide`, of any payment in any state."""
    package = draw(packages)
    own = draw(st.none() | subscriptions(package, 11))
    start = None if own is None else draw(st.none() | st.just(own.ended_at) | moments)
    planned = None if start is None else period_from(start, *package.rhythm, start)
    ended = own is None or own.state == SubscriptionState.EXPIRED
    other = draw(st.none() | subscriptions(package, 12)) if ended else None
    return {
        "payment": payment(
            subscription_id=None if own is None else own.id,
            state=draw(st.sampled_from(PaymentState)),
            trigger=draw(st.sampled_from(Trigger)),
            period_start=planned and planned.start,
            period_end=planned and planned.end,
            external_id=draw(st.sampled_from([None, "there-1"])),
            is_answered=draw(st.booleans()),
        ),
        "subscription": own,
        "package": package,
        "now": draw(moments),
        "running": None if other is None or other.state == SubscriptionState.EXPIRED else other,
    }


def before_of(
    situation: dict[str, Any], after: SubscriptionSnapshot
) -> SubscriptionSnapshot | None:
    """Return the subscription of a decision as it was; None of one that is new."""
    known = [one for one in (situation["subscription"], situation["running"]) if one is not None]
    return next((one for one in known if one.id == after.id), None)


def tells(decision: Decision) -> bool:
    told = (decision.given, decision.change, decision.is_final, decision.saved_method_id)
    return any(one is not None for one in told)


@given(situations(), results)
def test_the_same_result_again_decides_nothing(
    situation: dict[str, Any], result: ProviderResult
) -> None:
    first = decide(result=result, **situation)
    again = {**situation, "payment": first.payment}
    after = first.subscription
    if after is not None:
        again["subscription"] = replace(after, id=after.id or 13)
        again["payment"] = replace(first.payment, subscription_id=after.id or 13)
        again["running"] = None
    second = decide(result=result, **again)
    assert second.payment == again["payment"]
    assert second.subscription in (None, again["subscription"])
    assert not tells(second)


@given(situations(), results)
def test_money_and_period_are_given_together_or_not_at_all(
    situation: dict[str, Any], result: ProviderResult
) -> None:
    decision = decide(result=result, **situation)
    before, after = situation["payment"], decision.payment
    is_paid_now = after.state == SUCCEEDED and before.state != SUCCEEDED
    assert (decision.given is not None) == is_paid_now == (decision.change == "renewed")
    if decision.given is None:
        return
    assert isinstance(result, ProviderPayment)
    assert result.status is ProviderStatus.SUCCEEDED
    assert (after.amount, after.currency) == (result.amount, result.currency)
    assert (after.period_start, after.period_end) == (decision.given.start, decision.given.end)
    renewed = decision.subscription
    assert renewed is not None
    assert (renewed.current_period_start, renewed.ended_at) == (
        after.period_start,
        after.period_end,
    )
    was = before_of(situation, renewed)
    assert was is None or decision.given.start >= was.ended_at, "nothing is paid for twice"


@given(situations(), results)
def test_nothing_but_a_refusal_moves_a_state_against_a_customer(
    situation: dict[str, Any], result: ProviderResult
) -> None:
    decision = decide(result=result, **situation)
    after = decision.subscription
    was = None if after is None else before_of(situation, after)
    if after is None or was is None:
        return
    assert after.ended_at >= was.ended_at, "paid time is never taken away"
    is_refusal = isinstance(result, ProviderPayment) and result.status is ProviderStatus.CANCELED
    if is_refusal:
        has_access = was.ended_at > situation["now"]
        assert (
            not has_access or after.state != SubscriptionState.EXPIRED or was.state == after.state
        )
        return
    assert after.refusals <= was.refusals
    assert after.exhausted_at in (None, was.exhausted_at)
    assert (after.due_at is None) <= (was.due_at is None or decision.given is not None)
    assert after.state in (was.state, SubscriptionState.ACTIVE) or decision.given is not None


@given(situations(), results)
def test_what_is_not_known_changes_no_state(
    situation: dict[str, Any], result: ProviderResult
) -> None:
    if not isinstance(result, Unknown | NotThere):
        return
    decision = decide(result=result, **situation)
    assert decision.payment.state == situation["payment"].state
    assert decision.subscription is None
    assert not tells(decision)


@given(situations(), results)
def test_what_is_decided_is_what_the_database_lets_be(
    situation: dict[str, Any], result: ProviderResult
) -> None:
    decision = decide(result=result, **situation)
    paid, after = decision.payment, decision.subscription
    assert (paid.state == PENDING) == (paid.due_at is not None)
    if after is not None:
        assert after.current_period_start < after.ended_at
        is_tried = after.state == SubscriptionState.PAST_DUE and after.exhausted_at is None
        is_charged = after.state == SubscriptionState.ACTIVE or is_tried
        assert (after.due_at is not None) == is_charged


@dataclass
class History:
    """One customer's payments and subscriptions, to which decisions are applied in memory."""

    package: PackageSnapshot
    now: datetime = NOW
    payments: dict[UUID, PaymentSnapshot] = field(default_factory=dict)
    subscriptions: dict[int, SubscriptionSnapshot] = field(default_factory=dict)

    def running(self) -> SubscriptionSnapshot | None:
        runs = [
            one for one in self.subscriptions.values() if one.state != SubscriptionState.EXPIRED
        ]
        assert len(runs) <= 1
        return runs[0] if runs else None

    def buy(self) -> None:
        number = UUID(int=len(self.payments) + 1)
        self.payments[number] = payment(
            id=number, subscription_id=None, trigger=Trigger.PURCHASE, period_start=None
        )

    def charge(self) -> None:
        runs = self.running()
        pending = [one for one in self.payments.values() if one.state == PENDING]
        if runs is None or any(one.subscription_id == runs.id for one in pending):
            return
        period = rules.next_period(runs, self.package, self.now)
        number = UUID(int=len(self.payments) + 1)
        self.payments[number] = payment(
            id=number,
            subscription_id=runs.id,
            period_start=period.start,
            period_end=period.end,
        )

    def expire(self) -> None:
        runs = self.running()
        if runs is not None and runs.ended_at <= self.now:
            ended = rules.move(runs, SubscriptionState.EXPIRED)
            self.subscriptions[runs.id or 0] = ended

    def hear(self, which: int, kind: str) -> None:
        """Apply a result of the provider to a payment, which is one of its own there."""
        if not self.payments:
            return
        known = list(self.payments.values())[which % len(self.payments)]
        result = RESULTS[kind]
        if isinstance(result, ProviderPayment):
            result = replace(result, external_id=f"of-{known.id}")
        own = self.subscriptions.get(known.subscription_id or 0)
        runs = self.running()
        decision = decide(known, own, self.package, result, self.now, running=runs)
        after, paid = decision.subscription, decision.payment
        if after is not None:
            after = replace(after, id=after.id or len(self.subscriptions) + 1)
            self.subscriptions[after.id or 0] = after
            paid = replace(paid, subscription_id=after.id)
        self.payments[known.id] = paid
        if decision.given is not None and decision.given_next is not None and after is not None:
            self._postpone(paid, decision)

    def _postpone(self, paid: PaymentSnapshot, decision: Decision) -> None:
        assert decision.given is not None
        assert decision.given_next is not None
        for other in list(self.payments.values()):
            same = (other.subscription_id, other.period_start) == (
                paid.subscription_id,
                decision.given.start,
            )
            if same and other.state == PENDING:
                behind = decision.given_next
                self.payments[other.id] = replace(
                    other, period_start=behind.start, period_end=behind.end
                )

    def check(self) -> None:
        periods = Counter(
            (one.subscription_id, one.period_start)
            for one in self.payments.values()
            if one.state in (PENDING, SUCCEEDED) and one.period_start is not None
        )
        assert not periods or max(periods.values()) == 1, (self.payments, self.subscriptions)
        for number, held in self.subscriptions.items():
            paid = sorted(
                (one.period_start, one.period_end)
                for one in self.payments.values()
                if one.subscription_id == number and one.state == SUCCEEDED
            )
            assert all(one[1] <= other[0] for one, other in itertools.pairwise(paid))
            assert not paid or paid[-1][1] == held.ended_at


STEPS: dict[str, Callable[[History, int], None]] = {
    "buy": lambda history, _: history.buy(),
    "charge": lambda history, _: history.charge(),
    "expire": lambda history, _: history.expire(),
    "wait": lambda history, days: setattr(history, "now", history.now + days * DAY),
} | {
    kind: lambda history, which, kind=kind: history.hear(which, kind)  # type: ignore[misc]
    for kind in RESULTS
}


@hypothesis_settings(max_examples=300)
@given(packages, st.lists(st.tuples(st.sampled_from(list(STEPS)), st.integers(0, 40)), max_size=40))
def test_no_history_has_two_payments_for_a_period(
    package: PackageSnapshot, steps: list[tuple[str, int]]
) -> None:
    history = History(package)
    for name in ("buy", "paid"):
        STEPS[name](history, 0)
    for name, number in steps:
        STEPS[name](history, number)
        history.check()


def test_every_counted_try_is_of_the_cycle() -> None:
    assert set(COUNTED_TRIGGERS) == {Trigger.SUBSCRIPTION_CYCLE, Trigger.RETRY_DUNNING}
