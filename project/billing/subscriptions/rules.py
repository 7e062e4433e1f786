"""The rules of subscriptions: which period is next, when it is charged, what a result changes.

Pure: values in, values out; whoever locked the row writes them to it.
"""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from project.billing.models import Package, Subscription
from project.billing.periods import EXPIRED_AFTER, Period, period_at, period_from
from project.billing.signals import SubscriptionChange
from project.billing.snapshots import PackageSnapshot, SubscriptionSnapshot
from project.billing.states import (
    AtRetryEnd,
    ChargeTime,
    SubscriptionState,
    may_subscription_move,
)

ONE_DAY = timedelta(days=1)
TWO_RUNS = timedelta(days=2)
REJECTED_RETRY = timedelta(hours=1)
LONGEST_REJECTED_RETRY = timedelta(hours=8)
MOST_DOUBLINGS = 8

AnyPackage = Package | PackageSnapshot
AnySubscription = Subscription | SubscriptionSnapshot


def charge_day(moment: datetime) -> datetime:
    """Return the beginning of the day (UTC): a period is charged on the day on which it ends."""
    return moment.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


def charge_time(package: AnyPackage, ends_at: datetime) -> datetime:
    """Return when the period after this one is charged; the package says which of two ways."""
    return ends_at if package.charged == ChargeTime.AT_THE_END else charge_day(ends_at)


def is_payment_due(subscription: AnySubscription, package: AnyPackage, now: datetime) -> bool:
    """Tell whether the next period is to be paid; somebody may have paid ahead meanwhile."""
    return charge_time(package, subscription.ended_at) <= now


def retry_time(package: AnyPackage, now: datetime) -> datetime:
    """Return when to try again; whole days count from the day's beginning.

    So the daily run of the next day finds the row, also when it starts a minute earlier.
    """
    interval = timedelta(seconds=package.retry_interval_seconds)
    is_whole_days = interval % ONE_DAY == timedelta(0)
    return charge_time(package, now + interval) if is_whole_days else now + interval


def next_period(
    subscription: SubscriptionSnapshot, package: PackageSnapshot, now: datetime
) -> Period:
    """Return the period to be paid for next.

    It follows the last one; after one that has expired it begins now. If it would already be over,
    because nobody could charge for that long, it is the one in which `now` lies;
    BILL_MISSED_PERIODS=1 charges each of them instead.
    """
    unit, count = package.rhythm
    if subscription.state == SubscriptionState.EXPIRED and subscription.ended_at <= now:
        return period_from(now, unit, count, now)
    same_rhythm = package.rhythm == subscription.rhythm
    anchor = subscription.anchor_at if same_rhythm else subscription.ended_at
    following = period_from(anchor, unit, count, subscription.ended_at)
    if following.end > now or package.bill_missed:
        return following
    return period_at(anchor, unit, count, now)


def period_beginning(
    subscription: SubscriptionSnapshot, package: PackageSnapshot, start: datetime
) -> Period:
    """Return the period that begins at a moment for which it was once asked for."""
    unit, count = package.rhythm
    if package.rhythm == subscription.rhythm and start >= subscription.anchor_at:
        found = period_at(subscription.anchor_at, unit, count, start)
        if found.start == start:
            return found
    return period_from(start, unit, count, start)


def begin(customer_id: int, package: PackageSnapshot, now: datetime) -> SubscriptionSnapshot:
    """Return a subscription that is yet to get its first period, which begins now."""
    period = period_from(now, *package.rhythm, now)
    return SubscriptionSnapshot(
        id=None,
        customer_id=customer_id,
        package_id=package.id,
        rhythm=package.rhythm,
        state=SubscriptionState.PENDING,
        anchor_at=period.start,
        current_period_start=period.start,
        ended_at=period.end,
    )


def _anchor_of(
    subscription: SubscriptionSnapshot, package: PackageSnapshot, period: Period
) -> datetime:
    """Return the anchor that the period goes by: the old one if it fits, else its own start."""
    anchor = subscription.anchor_at
    if period.start >= anchor and period_at(anchor, *package.rhythm, period.start) == period:
        return anchor
    return period.start


def move(
    subscription: SubscriptionSnapshot, state: SubscriptionState, due_at: datetime | None = None
) -> SubscriptionSnapshot:
    """Change the state. Raises AssertionError for a move that is not allowed."""
    if not may_subscription_move(SubscriptionState(subscription.state), state):
        raise AssertionError(f"{subscription.state} -> {state} is not a move of a subscription")
    return replace(subscription, state=state, due_at=due_at)


def renew(
    subscription: SubscriptionSnapshot,
    package: PackageSnapshot,
    period: Period,
    *,
    is_asked_for: bool,
) -> SubscriptionSnapshot:
    """Give the paid period: one that its customer canceled gets it too, but will not renew.

    Unless it had expired and somebody has asked to pay for it (`is_asked_for`) since.
    """
    is_next = subscription.next_package_id == package.id
    paid = replace(
        subscription,
        anchor_at=_anchor_of(subscription, package, period),
        package_id=package.id,
        rhythm=package.rhythm,
        next_package_id=None if is_next else subscription.next_package_id,
        current_period_start=period.start,
        ended_at=period.end,
        refusals=0,
        refused_at=None,
        not_taken=0,
        past_due_at=None,
        exhausted_at=None,
    )
    if _stays_canceled(subscription, is_asked_for=is_asked_for):
        return move(paid, SubscriptionState.CANCELED)
    active = move(paid, SubscriptionState.ACTIVE, charge_time(package, period.end))
    return replace(active, canceled_at=None)


def _stays_canceled(subscription: SubscriptionSnapshot, *, is_asked_for: bool) -> bool:
    if subscription.exhausted_at is not None:
        return False
    was_canceled = subscription.canceled_at is not None and not is_asked_for
    return subscription.state == SubscriptionState.CANCELED or (
        subscription.state == SubscriptionState.EXPIRED and was_canceled
    )


def refuse(
    subscription: SubscriptionSnapshot, package: PackageSnapshot, now: datetime, *, is_hard: bool
) -> tuple[SubscriptionSnapshot, str | None]:
    """Count a refusal: try again later, or no more after the last try or a hard refusal.

    What is paid for or given runs to its end all the same: access ends then. Returns what is to be
    told of it too, if anything.
    """
    refusals = subscription.refusals + 1
    refused = replace(subscription, refusals=refusals, refused_at=now, not_taken=0)
    if subscription.due_at is None:
        return refused, None
    refused = replace(refused, past_due_at=subscription.past_due_at or now)
    if not is_hard and refusals < package.retry_attempts:
        due_at = retry_time(package, now)
        return move(refused, SubscriptionState.PAST_DUE, due_at), "past_due"
    state = _last_state(subscription, package, now)
    canceled_at = now if state is SubscriptionState.CANCELED else subscription.canceled_at
    last = replace(move(refused, state), exhausted_at=now, canceled_at=canceled_at)
    return last, "exhausted"


def _last_state(
    subscription: SubscriptionSnapshot, package: PackageSnapshot, now: datetime
) -> SubscriptionState:
    """Return the state in which a subscription waits for its end, once nothing is tried again."""
    if package.at_retry_end == AtRetryEnd.CANCEL:
        return SubscriptionState.CANCELED
    has_access = subscription.ended_at > now
    return SubscriptionState.PAST_DUE if has_access else SubscriptionState.EXPIRED


def cancel(subscription: SubscriptionSnapshot, now: datetime) -> SubscriptionSnapshot:
    """Let it not renew: the period that is paid for still runs to its end."""
    canceled = move(subscription, SubscriptionState.CANCELED)
    return replace(canceled, canceled_at=now, next_package_id=None)


def resume(
    subscription: SubscriptionSnapshot, package: PackageSnapshot, refused_at: datetime | None
) -> SubscriptionSnapshot:
    """Let a canceled one renew again, where its dunning stood; `refused_at` is the last refusal."""
    if subscription.past_due_at is None or refused_at is None:
        state, due_at = SubscriptionState.ACTIVE, charge_time(package, subscription.ended_at)
    else:
        state, due_at = SubscriptionState.PAST_DUE, retry_time(package, refused_at)
    return replace(move(subscription, state, due_at), canceled_at=None)


def is_owed(subscription: AnySubscription, now: datetime) -> bool:
    """Tell whether money is owed: a charge was refused, or what was paid for or given is over.

    The one answer to this: who owes may pay, and who may not pay owes nothing.
    """
    is_unpaid = subscription.state in (SubscriptionState.PAST_DUE, SubscriptionState.EXPIRED)
    is_over = subscription.ended_at <= now
    return is_unpaid or is_over or subscription.exhausted_at is not None


def must_be_paid_first(subscription: AnySubscription, now: datetime) -> bool:
    """Tell whether nothing but a payment brings a subscription back; then money is owed too.

    While a charge is to come, as for one that is past due, another package may still be chosen.
    """
    is_charged_no_more = subscription.due_at is None
    return is_charged_no_more and is_owed(subscription, now)


def postpone(subscription: SubscriptionSnapshot, now: datetime) -> SubscriptionSnapshot:
    """Try again later what the provider did not take: that is no refusal, and ends nothing."""
    not_taken = subscription.not_taken + 1
    wait = min(REJECTED_RETRY * 2 ** min(not_taken - 1, MOST_DOUBLINGS), LONGEST_REJECTED_RETRY)
    due_at = None if subscription.due_at is None else now + wait
    return replace(subscription, refused_at=None, not_taken=not_taken, due_at=due_at)


def charge_anew(subscription: SubscriptionSnapshot, now: datetime) -> SubscriptionSnapshot:
    """Charge at once what surely never reached the provider, if it is still to be charged.

    A subscription that has expired without ever being refused is brought back for it.
    """
    has_expired_unasked = (
        subscription.state == SubscriptionState.EXPIRED
        and subscription.refusals == 0
        and subscription.canceled_at is None
    )
    if subscription.due_at is None and not has_expired_unasked:
        return subscription
    state = SubscriptionState.ACTIVE if has_expired_unasked else subscription.state
    unasked = replace(subscription, refused_at=None, not_taken=subscription.not_taken + 1)
    return move(unasked, SubscriptionState(state), now)


def end_unpaid(subscription: SubscriptionSnapshot, now: datetime) -> SubscriptionSnapshot:
    """Let a subscription expire whose payment the provider has and never decided.

    Its customer was asked to pay, and is not asked again: the provider may still say yes.
    """
    if subscription.due_at is None:
        return subscription
    deadline = subscription.ended_at + EXPIRED_AFTER
    due_at = max(deadline, now) + TWO_RUNS
    return replace(subscription, refused_at=subscription.ended_at, due_at=due_at)


def change(type_: str, subscription: Subscription, now: datetime) -> SubscriptionChange:
    """Return what is told of the subscription as it now is."""
    return SubscriptionChange(
        type_,
        subscription.id,
        subscription.customer_id,
        subscription.package_id,
        subscription.current_period_start,
        subscription.ended_at,
        now,
        SubscriptionState(subscription.state),
        subscription.next_package_id,
        subscription.exhausted_at is not None,
    )
