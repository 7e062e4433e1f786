"""The rules of subscriptions: which period is next, when it is charged, what a result changes."""

from datetime import UTC, datetime, timedelta

from project.billing.models import Package, Subscription
from project.billing.periods import Period, PeriodUnit, period_at, period_from
from project.billing.settings import BillingSettings
from project.billing.signals import SubscriptionChange
from project.billing.states import (
    AtRetryEnd,
    ChargeTime,
    SubscriptionState,
    may_subscription_move,
)
from project.config.environment import get_settings

ONE_DAY = timedelta(days=1)
NOT_TAKEN_RETRY = timedelta(hours=1)
LONGEST_NOT_TAKEN_RETRY = timedelta(hours=8)
MOST_DOUBLINGS = 8


def charge_day(moment: datetime) -> datetime:
    """Return the beginning of the day (UTC): a period is charged on the day on which it ends."""
    return moment.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


def charge_time(package: Package, ends_at: datetime) -> datetime:
    """Return when the period after this one is charged; the package says which of two ways."""
    return ends_at if package.charged == ChargeTime.AT_THE_END else charge_day(ends_at)


def is_payment_due(subscription: Subscription, package: Package, now: datetime) -> bool:
    """Tell whether the next period is to be paid; somebody may have paid ahead meanwhile."""
    return charge_time(package, subscription.ended_at) <= now


def retry_time(package: Package, now: datetime) -> datetime:
    """Return when to try again; whole days count from the day's beginning.

    So the daily run of the next day finds the row, also when it starts a minute earlier.
    """
    interval = timedelta(seconds=package.retry_interval_seconds)
    is_whole_days = interval % ONE_DAY == timedelta(0)
    return charge_time(package, now + interval) if is_whole_days else now + interval


def next_period(
    subscription: Subscription, package: Package, current: Package, now: datetime
) -> Period:
    """Return the period to be paid for next.

    It follows the last one; after one that has expired it begins now. If it would already be over,
    because nobody could charge for that long, it is the one in which `now` lies;
    BILL_MISSED_PERIODS=1 charges each of them instead.
    """
    unit, count = PeriodUnit(package.period), package.period_count
    if subscription.state == SubscriptionState.EXPIRED and subscription.ended_at <= now:
        return period_from(now, unit, count, now)
    same_rhythm = (package.period, package.period_count) == (current.period, current.period_count)
    anchor = subscription.anchor_at if same_rhythm else subscription.ended_at
    following = period_from(anchor, unit, count, subscription.ended_at)
    if following.end > now or get_settings(BillingSettings).bill_missed_periods:
        return following
    return period_at(anchor, unit, count, now)


def period_beginning(
    subscription: Subscription, package: Package, current: Package, start: datetime
) -> Period:
    """Return the period that begins at a moment for which it was once asked for."""
    unit, count = PeriodUnit(package.period), package.period_count
    same_rhythm = (package.period, package.period_count) == (current.period, current.period_count)
    if same_rhythm and start >= subscription.anchor_at:
        found = period_at(subscription.anchor_at, unit, count, start)
        if found.start == start:
            return found
    return period_from(start, unit, count, start)


def anchor_of(subscription: Subscription, package: Package, period: Period) -> datetime:
    """Return the anchor that the period goes by: the old one if it fits, else its own start."""
    unit, count = PeriodUnit(package.period), package.period_count
    anchor = subscription.anchor_at
    if period.start >= anchor and period_at(anchor, unit, count, period.start) == period:
        return anchor
    return period.start


def move(subscription: Subscription, state: SubscriptionState) -> None:
    """Change the state. Raises AssertionError for a move that is not allowed."""
    if not may_subscription_move(SubscriptionState(subscription.state), state):
        raise AssertionError(f"{subscription.state} -> {state} is not a move of a subscription")
    subscription.state = str(state)
    if state not in (SubscriptionState.ACTIVE, SubscriptionState.PAST_DUE):
        subscription.due_at = None


def renew(
    subscription: Subscription,
    package: Package,
    period: Period,
    now: datetime,
    *,
    is_asked_for: bool,
) -> SubscriptionChange:
    """Give the paid period: one that its customer canceled gets it too, but will not renew.

    Unless it had expired and somebody has asked to pay for it (`is_asked_for`) since.
    """
    subscription.anchor_at = anchor_of(subscription, package, period)
    subscription.package_id = package.id
    if subscription.next_package_id == package.id:
        subscription.next_package_id = None
    subscription.current_period_start = period.start
    subscription.ended_at = period.end
    stays_canceled = _stays_canceled(subscription, is_asked_for=is_asked_for)
    subscription.refusals = 0
    subscription.refused_at = None
    subscription.not_taken = 0
    subscription.past_due_at = subscription.exhausted_at = None
    if stays_canceled:
        move(subscription, SubscriptionState.CANCELED)
    else:
        move(subscription, SubscriptionState.ACTIVE)
        subscription.canceled_at = None
        subscription.due_at = charge_time(package, period.end)
    return change("renewed", subscription, now)


def _stays_canceled(subscription: Subscription, *, is_asked_for: bool) -> bool:
    if subscription.exhausted_at is not None:
        return False
    was_canceled = subscription.canceled_at is not None and not is_asked_for
    return subscription.state == SubscriptionState.CANCELED or (
        subscription.state == SubscriptionState.EXPIRED and was_canceled
    )


def refuse(
    subscription: Subscription, package: Package, now: datetime, *, is_hard: bool
) -> SubscriptionChange | None:
    """Count a refusal: try again later, or no more after the last try or a hard refusal.

    What is paid for or given runs to its end all the same: access ends then.
    """
    subscription.refusals += 1
    subscription.refused_at = now
    subscription.not_taken = 0
    if subscription.due_at is None:
        return None
    subscription.past_due_at = subscription.past_due_at or now
    if is_hard or subscription.refusals >= package.retry_attempts:
        subscription.exhausted_at = now
        move(subscription, _last_state(subscription, package, now))
        subscription.due_at = None
        if subscription.state == SubscriptionState.CANCELED:
            subscription.canceled_at = now
        return change("exhausted", subscription, now)
    move(subscription, SubscriptionState.PAST_DUE)
    subscription.due_at = retry_time(package, now)
    return change("past_due", subscription, now)


def _last_state(subscription: Subscription, package: Package, now: datetime) -> SubscriptionState:
    """Return the state in which a subscription waits for its end, once nothing is tried again."""
    if package.at_retry_end == AtRetryEnd.CANCEL:
        return SubscriptionState.CANCELED
    has_access = subscription.ended_at > now
    return SubscriptionState.PAST_DUE if has_access else SubscriptionState.EXPIRED


def resume(subscription: Subscription, package: Package, refused_at: datetime | None) -> None:
    """Let a canceled one renew again, where its dunning stood; `refused_at` is the last refusal."""
    subscription.canceled_at = None
    if subscription.past_due_at is None or refused_at is None:
        move(subscription, SubscriptionState.ACTIVE)
        subscription.due_at = charge_time(package, subscription.ended_at)
    else:
        move(subscription, SubscriptionState.PAST_DUE)
        subscription.due_at = retry_time(package, refused_at)


def is_owed(subscription: Subscription, now: datetime) -> bool:
    """Tell whether money is owed: a charge was refused, or what was paid for or given is over.

    The one answer to this: who owes may pay, and who may not pay owes nothing.
    """
    is_unpaid = subscription.state in (SubscriptionState.PAST_DUE, SubscriptionState.EXPIRED)
    is_over = subscription.ended_at <= now
    return is_unpaid or is_over or subscription.exhausted_at is not None


def must_be_paid_first(subscription: Subscription, now: datetime) -> bool:
    """Tell whether nothing but a payment brings a subscription back; then money is owed too.

    While a charge is to come, as for one that is past due, another package may still be chosen.
    """
    is_charged_no_more = subscription.due_at is None
    return is_charged_no_more and is_owed(subscription, now)


def put_off(subscription: Subscription, now: datetime) -> None:
    """Try again later what the provider did not take: that is no refusal, and ends nothing."""
    subscription.refused_at = None
    subscription.not_taken += 1
    if subscription.due_at is not None:
        wait = NOT_TAKEN_RETRY * 2 ** min(subscription.not_taken - 1, MOST_DOUBLINGS)
        subscription.due_at = now + min(wait, LONGEST_NOT_TAKEN_RETRY)


def take_up(subscription: Subscription, now: datetime) -> bool:
    """Charge at once what surely never reached the provider; tell whether it is to be charged.

    A subscription that has expired without ever being refused is brought back for it.
    """
    has_expired_unasked = (
        subscription.state == SubscriptionState.EXPIRED
        and subscription.refusals == 0
        and subscription.canceled_at is None
    )
    if has_expired_unasked:
        move(subscription, SubscriptionState.ACTIVE)
    elif subscription.due_at is None:
        return False
    subscription.refused_at = None
    subscription.not_taken += 1
    subscription.due_at = now
    return True


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
