"""What exports are asked, and what they answer."""

from marshmallow import Schema, fields

from project.core.http.input import InputSchema, Moment


class ForwardSchema(InputSchema):
    """Which day (UTC) finance is to get."""

    date = fields.Date(required=True)


class ForwardedSchema(Schema):
    """The export that was begun, or that was already under way."""

    status = fields.String(required=True)
    message = fields.String(required=True)
    date = fields.Date(required=True)
    export_id = fields.Integer(required=True)


class ExportQuerySchema(InputSchema):
    """Which day (UTC)."""

    date = fields.Date(required=True)


class ExportStatusSchema(Schema):
    """How a day's newest export stands; `state` is null for a day that was never exported."""

    date = fields.Date(required=True)
    finance_service_available = fields.Boolean(required=True)
    export_ready = fields.Boolean(required=True)
    state = fields.String(required=True, allow_none=True)
    clicks_sent = fields.Integer(required=True, allow_none=True)
    attempts = fields.Integer(required=True, allow_none=True)
    last_error = fields.String(required=True, allow_none=True)
    finished_at = Moment(required=True, allow_none=True)
    checksum = fields.String(required=True, allow_none=True)
    changed_since_export = fields.Boolean(required=True, allow_none=True)


class ExportedClickSchema(Schema):
    """A click as finance gets it."""

    click_id = fields.String(required=True)
    offer_id = fields.Integer(required=True)
    source = fields.String(required=True)
    timestamp = Moment(required=True)
    signature = fields.String(required=True, allow_none=True)


class ExportedDaySchema(Schema):
    """A day as finance gets it."""

    date = fields.Date(required=True)
    total_clicks = fields.Integer(required=True)
    clicks = fields.List(fields.Nested(ExportedClickSchema), required=True)
