"""The states of the forecast SMS, what may follow what, and the other names it stores."""

from enum import StrEnum

from project.core.states import Moves


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

    @classmethod
    def unfinished(cls) -> frozenset["TaskState"]:
        """Return those of a task that is worked on, or is to be."""
        return frozenset((cls.PENDING, cls.STARTED))


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


SUBSCRIBER_MOVES = Moves[SubscriberState](
    {
        SubscriberState.ACTIVE: {SubscriberState.CANCELED, SubscriberState.STOPPED},
        SubscriberState.CANCELED: {SubscriberState.ACTIVE, SubscriberState.STOPPED},
        SubscriberState.STOPPED: (),
    }
)
TASK_MOVES = Moves[TaskState](
    {
        TaskState.PENDING: {TaskState.STARTED, TaskState.FAILURE, TaskState.CANCELED},
        TaskState.STARTED: {TaskState.SUCCESS, TaskState.FAILURE, TaskState.CANCELED},
        TaskState.SUCCESS: (),
        TaskState.FAILURE: {TaskState.PENDING},
        TaskState.CANCELED: {TaskState.PENDING},
    }
)
# Only forward. The handset's word is the last one: it counts even after we had given up.
MESSAGE_MOVES = Moves[MessageState](
    {
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
        MessageState.DELIVERED: (),
        MessageState.FAILED: {MessageState.DELIVERED},
        MessageState.EXPIRED: {MessageState.DELIVERED, MessageState.FAILED},
    }
)

EXPIRED_TASK = "EXPIRED"
"""What is told of a task that is not known, or whose end is too long ago."""
TASK_STATUSES = {state: state.name for state in TaskState} | {
    TaskState.CANCELED: TaskState.FAILURE.name
}
"""What is told of a task by its state, in the words that older clients know."""
