"""The states of billing, what may follow what, and the other names it stores."""

from enum import StrEnum


class SubscriptionState(StrEnum):
    """Where a subscription stands.

    Active while its period is paid or granted; past_due while a refused charge is tried again, and
    after the last try until its period ends; canceled when it will not renew, though its period
    still runs; expired when access is gone.
    """

    PENDING = "pending"
    ACTIVE = "active"
    PAST_DUE = "past_due"
    CANCELED = "canceled"
    EXPIRED = "expired"


class PaymentState(StrEnum):
    """Pending until the provider has said yes (succeeded) or no (canceled), or nobody knows."""

    PENDING = "pending"
    SUCCEEDED = "succeeded"
    CANCELED = "canceled"
    EXPIRED = "expired"


class Trigger(StrEnum):
    """What asked for a payment; those of the customer and the operator do not use up retries."""

    PURCHASE = "purchase"
    SUBSCRIPTION_CYCLE = "subscription_cycle"
    RETRY_DUNNING = "retry_dunning"
    RETRY_CUSTOMER = "retry_customer"
    RETRY_ADMIN = "retry_admin"


COUNTED_TRIGGERS = (Trigger.SUBSCRIPTION_CYCLE, Trigger.RETRY_DUNNING)
"""Those of which a refusal uses up a try."""


class AtRetryEnd(StrEnum):
    """What becomes of a subscription when its last try is refused."""

    EXPIRE = "expire"
    CANCEL = "cancel"


class Audience(StrEnum):
    """Whom a package is for: companies take them; internal ones are made and kept by settings."""

    COMPANIES = "companies"
    INTERNAL = "internal"


class PeriodUnit(StrEnum):
    """What a period is counted in."""

    DAY = "day"
    WEEK = "week"
    MONTH = "month"
    YEAR = "year"


class ChargeTime(StrEnum):
    """When a period's successor is charged: on the day (UTC) of its end, or when it ends."""

    ON_THE_DAY = "on_the_day"
    AT_THE_END = "at_the_end"


class CaseKind(StrEnum):
    """How the provider's books and ours can differ."""

    PAID_THERE_PENDING_HERE = "paid_there_pending_here"
    PAID_THERE_MISSING_HERE = "paid_there_missing_here"
    PAID_HERE_UNKNOWN_THERE = "paid_here_unknown_there"
    PAID_HERE_UNPAID_THERE = "paid_here_unpaid_there"
    AMOUNT_DIFFERS = "amount_differs"
    UNREADABLE_THERE = "unreadable_there"
    REFUNDED_THERE = "refunded_there"
    GIVEN_UP = "given_up"
    NOT_TAKEN = "not_taken"


_SUBSCRIPTION_MOVES = {
    SubscriptionState.PENDING: {SubscriptionState.ACTIVE, SubscriptionState.EXPIRED},
    SubscriptionState.ACTIVE: {
        SubscriptionState.PAST_DUE,
        SubscriptionState.CANCELED,
        SubscriptionState.EXPIRED,
    },
    SubscriptionState.PAST_DUE: {
        SubscriptionState.ACTIVE,
        SubscriptionState.CANCELED,
        SubscriptionState.EXPIRED,
    },
    SubscriptionState.CANCELED: {
        SubscriptionState.ACTIVE,
        SubscriptionState.PAST_DUE,
        SubscriptionState.EXPIRED,
    },
    # Canceled again by money that was asked for before the cancellation and came after the end.
    SubscriptionState.EXPIRED: {SubscriptionState.ACTIVE, SubscriptionState.CANCELED},
}
# A late yes of the provider counts: money that was taken is never denied.
_PAYMENT_MOVES = {
    PaymentState.PENDING: {PaymentState.SUCCEEDED, PaymentState.CANCELED, PaymentState.EXPIRED},
    PaymentState.SUCCEEDED: set[PaymentState](),
    PaymentState.CANCELED: set[PaymentState](),
    PaymentState.EXPIRED: {PaymentState.SUCCEEDED},
}


def may_subscription_move(old: SubscriptionState, new: SubscriptionState) -> bool:
    """Tell whether a subscription may go from one state to another; staying is always allowed."""
    return old == new or new in _SUBSCRIPTION_MOVES[old]


def may_payment_move(old: PaymentState, new: PaymentState) -> bool:
    """Tell whether a payment may go from one state to another; staying is always allowed."""
    return old == new or new in _PAYMENT_MOVES[old]
