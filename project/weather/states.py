"""The states of the forecast SMS, what may follow what, and the other names it stores."""

from enum import StrEnum


class SubscriberState(StrEnum):
    """Active until canceled by us or stopped by the number's own STOP, which is for ever."""

    ACTIVE = "active"
    CANCELED = "canceled"
    STOPPED = "stopped"


class EndReason(StrEnum):
    """Why a subscriber is not active: what it or we asked for, or what kept us from going on.

    `unpaid` is the one that money can undo; `unreachable` is what its gateway says of the number.
    """

    REQUESTED = "requested"
    UNPAID = "unpaid"
    UNREACHABLE = "unreachable"
    STOP = "stop"


class Plan(StrEnum):
    """How often a subscriber is billed; the message comes every day."""

    DAILY = "daily"
    WEEKLY = "weekly"


class Language(StrEnum):
    """The languages that messages are written in."""

    EN = "en"
    TR = "tr"
    RU = "ru"


class TaskKind(StrEnum):
    """What a task does: reads a file of this kind, or finds subscribers their forecast anew."""

    FORECASTS = "forecasts"
    ADDITIONS = "additions"
    CANCELLATIONS = "cancellations"
    UPDATES = "updates"
    ASSIGNMENTS = "assignments"


class TaskState(StrEnum):
    """Pending until a worker has begun; a failed or canceled one goes on when it is resumed."""

    PENDING = "pending"
    STARTED = "started"
    SUCCESS = "success"
    FAILURE = "failure"
    CANCELED = "canceled"


class MessageState(StrEnum):
    """Where a message stands; a receipt may still come for one that nobody waits for any more."""

    PENDING = "pending"
    ACCEPTED = "accepted"
    DELIVERED = "delivered"
    FAILED = "failed"
    EXPIRED = "expired"


class MessageEventKind(StrEnum):
    """What was heard of a message: a gateway's answer to our request, or its later receipt."""

    ANSWER = "answer"
    RECEIPT = "receipt"


class RowOutcome(StrEnum):
    """What became of a row."""

    CREATED = "created"
    UPDATED = "updated"
    SKIPPED = "skipped"
    UNKNOWN = "unknown"
    STOPPED = "stopped"


_SUBSCRIBER_MOVES = {
    SubscriberState.ACTIVE: {SubscriberState.CANCELED, SubscriberState.STOPPED},
    SubscriberState.CANCELED: {SubscriberState.ACTIVE, SubscriberState.STOPPED},
    SubscriberState.STOPPED: set[SubscriberState](),
}
_TASK_MOVES = {
    TaskState.PENDING: {TaskState.STARTED, TaskState.FAILURE, TaskState.CANCELED},
    TaskState.STARTED: {TaskState.SUCCESS, TaskState.FAILURE, TaskState.CANCELED},
    TaskState.SUCCESS: set[TaskState](),
    TaskState.FAILURE: {TaskState.PENDING},
    TaskState.CANCELED: {TaskState.PENDING},
}
# Only forward. The handset's word is the last one: it counts even after we had given up.
_MESSAGE_MOVES = {
    MessageState.PENDING: {
        MessageState.ACCEPTED,
        MessageState.DELIVERED,
        MessageState.FAILED,
        MessageState.EXPIRED,
    },
    MessageState.ACCEPTED: {
        MessageState.DELIVERED,
        MessageState.FAILED,
        MessageState.EXPIRED,
    },
    MessageState.DELIVERED: set[MessageState](),
    MessageState.FAILED: {MessageState.DELIVERED},
    MessageState.EXPIRED: {MessageState.DELIVERED, MessageState.FAILED},
}

EXPIRED_TASK = "EXPIRED"
"""What is told of a task that is not known, or whose end is too long ago."""
TASK_STATUSES = {state: state.name for state in TaskState} | {
    TaskState.CANCELED: TaskState.FAILURE.name
}
"""What is told of a task by its state, in the words that older clients know."""


def may_subscriber_move(old: SubscriberState, new: SubscriberState) -> bool:
    """Tell whether a subscriber may go from one state to another; staying is always allowed."""
    return old == new or new in _SUBSCRIBER_MOVES[old]


def may_task_move(old: TaskState, new: TaskState) -> bool:
    """Tell whether a task may go from one state to another; staying is always allowed."""
    return old == new or new in _TASK_MOVES[old]


def may_message_move(old: MessageState, new: MessageState) -> bool:
    """Tell whether a message may go from one state to another; staying is always allowed."""
    return old == new or new in _MESSAGE_MOVES[old]


def subscriber_states_before(new: SubscriberState) -> list[str]:
    """Return the states from which a subscriber may come to this one, for a statement's WHERE."""
    return [str(old) for old in SubscriberState if old != new and may_subscriber_move(old, new)]


def message_states_before(new: MessageState) -> list[str]:
    """Return the states from which a message may come to this one, for a statement's WHERE."""
    return [str(old) for old in MessageState if old != new and may_message_move(old, new)]
