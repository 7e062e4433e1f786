"""Shapes of the callbacks' routes."""

from marshmallow import Schema, fields

from project.callbacks.states import CallbackState
from project.core.http.input import Choice, Id, InputSchema, Moment, PageSchema


class CallbackSchema(Schema):
    """A callback in a list."""

    id = fields.Integer(required=True)
    webhook_id = fields.String(required=True)
    type = fields.String(required=True)
    app_id = fields.Integer(required=True, allow_none=True)
    company_id = fields.Integer(required=True, allow_none=True)
    endpoint = fields.String(required=True)
    state = Choice(CallbackState, required=True)
    attempts = fields.Integer(required=True)
    next_attempt_at = Moment(required=True, allow_none=True)
    last_status = fields.Integer(required=True, allow_none=True)
    last_error = fields.String(required=True, allow_none=True)
    created_at = Moment(required=True)
    delivered_at = Moment(required=True, allow_none=True)


class CallbackAttemptSchema(Schema):
    """One request, and what was answered."""

    number = fields.Integer(required=True)
    trigger = fields.String(required=True)
    url = fields.String(required=True)
    status = fields.Integer(required=True, allow_none=True)
    error = fields.String(required=True, allow_none=True)
    answer = fields.String(required=True, allow_none=True)
    duration_ms = fields.Integer(required=True)
    attempted_at = Moment(required=True)


class CallbackDetailSchema(CallbackSchema):
    """A callback with its body as it is sent and every attempt."""

    body = fields.String(required=True)
    attempt_history = fields.List(fields.Nested(CallbackAttemptSchema), required=True)


class CallbackQuerySchema(PageSchema):
    """Which callbacks to list."""

    aliases = {"appId": "app_id"}

    state = Choice(CallbackState)
    app_id = Id()
    company_id = Id()
    since = Moment()


class ReplayManySchema(InputSchema):
    """Which callbacks to replay: made since then, of the state (failed)."""

    aliases = {"appId": "app_id"}

    since = Moment(required=True)
    app_id = Id()
    company_id = Id()
    state = Choice(CallbackState, load_default=CallbackState.FAILED)


class ReplayedSchema(Schema):
    """How many callbacks are sent again."""

    status = fields.String(required=True)
    replayed = fields.Integer(required=True)
