"""Shapes of the routes of uploaded files and tasks."""

from typing import Any

from marshmallow import Schema, ValidationError, fields, validate

from project.core.errors import BadRequest
from project.core.http.input import Choice, InputSchema, Moment, PageSchema, Text
from project.weather.imports.encoding import STATED, canonical
from project.weather.input import Flag
from project.weather.states import EXPIRED_TASK, TASK_STATUSES, TaskKind, TaskState
from project.weather.timestamps import PRESETS, is_format, is_zone

STATUS = validate.OneOf([*dict.fromkeys(TASK_STATUSES.values()), EXPIRED_TASK])


def _known_format(form: str) -> None:
    if not is_format(form):
        raise ValidationError(
            "Not iso, dmy, mdy, excel or a pattern such as %d.%m.%Y %H:%M, with its percent signs."
        )


def _known_encoding(name: str) -> None:
    if canonical(name) is None:
        raise ValidationError(f"Not one of {', '.join(STATED)}.")


def _known_zone(name: str) -> None:
    if not is_zone(name):
        raise ValidationError("Not a time zone such as Europe/Istanbul.")


class ForecastsQuerySchema(InputSchema):
    """How a file is read, and whether it is only looked at."""

    dry_run = Flag(load_default=False)
    encoding = fields.String(
        validate=_known_encoding,
        metadata={"description": f"In what the file is written: {', '.join(STATED)}."},
    )


class EventsQuerySchema(ForecastsQuerySchema):
    """The same for a file whose rows say when they happened."""

    ts_format = fields.String(
        validate=_known_format,
        metadata={"description": f"How `ts` is written: {', '.join(PRESETS)}, or a pattern."},
    )
    ts_timezone = fields.String(
        validate=_known_zone,
        metadata={"description": "The time zone of a `ts` that says none; otherwise it is UTC."},
    )


MAX_ID_LENGTH = 100


class TaskReferenceSchema(InputSchema):
    """Which task is meant; an id that no task can have is answered EXPIRED, as any unknown one."""

    task_id = Text(required=True, validate=validate.Length(1, MAX_ID_LENGTH))


class TaskReferenceQuerySchema(InputSchema):
    """Which task is meant, unless the body says it."""

    task_id = Text(validate=validate.Length(1, MAX_ID_LENGTH))


def read_reference(body: dict[str, Any]) -> dict[str, Any]:
    """Return which task a body means. Raises BadRequest."""
    try:
        read: dict[str, Any] = TaskReferenceSchema().load(body)
    except ValidationError as error:
        raise BadRequest("The input has errors; see `errors`.", error.messages_dict) from error
    return read


class AcceptedFileSchema(Schema):
    """A file that is being read in the background."""

    status = fields.String(required=True)
    task_id = fields.UUID(required=True)


class BadRowSchema(Schema):
    """A row that would not be taken; the header is row 1."""

    row = fields.Integer(required=True)
    column = fields.String(required=True)
    reason = fields.String(required=True)
    value = fields.String(required=True)


class PreviewSchema(Schema):
    """What a file would change."""

    total = fields.Integer(required=True)
    created = fields.Integer(required=True)
    updated = fields.Integer(required=True)
    skipped = fields.Integer(required=True)
    failed = fields.Integer(required=True)
    blank = fields.Integer(required=True)
    encoding = fields.String(required=True, allow_none=True)
    note = fields.String(required=True, allow_none=True)
    doubles = fields.Integer(required=True)
    missing_columns = fields.List(fields.String(), required=True)
    error = fields.String(required=True, allow_none=True)
    bad_rows = fields.List(fields.Nested(BadRowSchema), required=True)


class ProgressSchema(Schema):
    """How far a task is; `total` is known once its file was looked through."""

    total = fields.Integer(required=True, allow_none=True)
    done = fields.Integer(required=True)
    created = fields.Integer(required=True)
    updated = fields.Integer(required=True)
    skipped = fields.Integer(required=True)
    failed = fields.Integer(required=True)
    blank = fields.Integer(required=True)
    note = fields.String(required=True, allow_none=True)
    error = fields.String(required=True, allow_none=True)
    started_at = Moment(required=True, allow_none=True)
    finished_at = Moment(required=True, allow_none=True)


class TaskStatusSchema(Schema):
    """How far a task is, in the words of older clients; EXPIRED has nothing but its id."""

    status = fields.String(required=True)
    task_status = fields.String(required=True, validate=STATUS)
    task_id = fields.String(required=True)
    total = fields.Integer(allow_none=True)
    done = fields.Integer()
    created = fields.Integer()
    updated = fields.Integer()
    skipped = fields.Integer()
    failed = fields.Integer()
    blank = fields.Integer()
    encoding = fields.String(allow_none=True)
    note = fields.String(allow_none=True)
    error = fields.String(allow_none=True)
    message = fields.String(allow_none=True)
    started_at = Moment(allow_none=True)
    finished_at = Moment(allow_none=True)


class TaskSchema(ProgressSchema):
    """A task."""

    id = fields.UUID(required=True)
    kind = Choice(TaskKind, required=True)
    state = Choice(TaskState, required=True)
    file_name = fields.String(required=True, allow_none=True)
    file_bytes = fields.Integer(required=True, allow_none=True)
    encoding = fields.String(required=True, allow_none=True)
    delimiter = fields.String(required=True, allow_none=True)
    created_at = Moment(required=True)


class TaskQuerySchema(PageSchema):
    """Which tasks to list."""

    kind = Choice(TaskKind)
    state = Choice(TaskState)
