"""The webhook as the API document describes it; `reading.py` is what reads it."""

from marshmallow import Schema, fields, validate

from project.clicks.intake.parsing import (
    MAX_CLICKS,
    MAX_SIGNATURE_LENGTH,
)
from project.clicks.models import MAX_SOURCE_LENGTH
from project.core.http.input import MAX_CLICK_ID_LENGTH, Id, Text


class ClickSchema(Schema):
    """A click; the timestamp is RFC 3339 with an offset."""

    click_id = Text(required=True, validate=validate.Length(1, MAX_CLICK_ID_LENGTH))
    offer_id = Id(required=True)
    source = Text(required=True, validate=validate.Length(1, MAX_SOURCE_LENGTH))
    timestamp = fields.AwareDateTime(required=True, format="iso")
    signature = Text(allow_none=True, validate=validate.Length(max=MAX_SIGNATURE_LENGTH))


class ClickBatchSchema(Schema):
    """Many clicks; the good ones are taken, the bad ones are named."""

    clicks = fields.List(
        fields.Nested(ClickSchema), required=True, validate=validate.Length(1, MAX_CLICKS)
    )


class TakenSchema(Schema):
    """The click is on disk and will be counted, once."""

    status = fields.String(required=True)
    message = fields.String(required=True)
    click_id = fields.String(required=True)


class BadClickSchema(Schema):
    """A click that was not taken, and why; `index` counts from 0."""

    index = fields.Integer(required=True)
    click_id = fields.String(required=True, allow_none=True)
    errors = fields.Dict(keys=fields.String(), required=True)


class BatchTakenSchema(Schema):
    """How many clicks were taken (processed) and not taken (failed)."""

    status = fields.String(required=True)
    processed = fields.Integer(required=True)
    failed = fields.Integer(required=True)
    total = fields.Integer(required=True)
    errors = fields.List(fields.Nested(BadClickSchema), required=True)
