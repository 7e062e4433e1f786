"""Shapes of the purchases' routes."""

from marshmallow import Schema, fields, validate

from project.core.http.input import Choice, Id, InputSchema, Moment, PageSchema, Text
from project.mobile.models import MAX_TOKEN_LENGTH
from project.mobile.states import PurchaseState

MAX_RECEIPT_LENGTH = 100_000


class DeviceCredentialSchema(InputSchema):
    """What a device sends; its client-token may come in the header X-Client-Token instead."""

    aliases = {"client_token": "client-token"}

    client_token = fields.String(
        data_key="client-token", validate=validate.Length(1, MAX_TOKEN_LENGTH)
    )


class PurchaseCreateSchema(DeviceCredentialSchema):
    """A receipt from the device's store."""

    receipt = Text(required=True, validate=validate.Length(1, MAX_RECEIPT_LENGTH))


class PurchaseStateSchema(Schema):
    """What became of a receipt."""

    status = fields.String(required=True)
    state = Choice(PurchaseState, required=True)
    expire_date = Moment(data_key="expire-date")


class EntitlementSchema(Schema):
    """Whether the device's subscription is active; state is null if it never bought anything."""

    status = fields.String(required=True)
    active = fields.Boolean(required=True)
    state = Choice(PurchaseState, required=True, allow_none=True)
    expire_date = Moment(required=True, allow_none=True, data_key="expire-date")


class PurchaseQuerySchema(PageSchema):
    """Which purchases to list."""

    aliases = {"appId": "app_id"}

    app_id = Id()
    device_id = Id()
    state = Choice(PurchaseState)
    expires_before = Moment()


class PurchaseSchema(Schema):
    """A purchase; `receipt` is shortened, because whoever has it can move the purchase."""

    id = fields.Integer(required=True)
    app_id = fields.Integer(required=True)
    device_id = fields.Integer(required=True)
    os = fields.String(required=True)
    receipt = fields.String(required=True)
    state = Choice(PurchaseState, required=True)
    reason = fields.String(required=True, allow_none=True)
    expire_date = Moment(required=True, allow_none=True, data_key="expire-date")
    next_check_at = Moment(required=True, allow_none=True)
    started_at = Moment(required=True, allow_none=True)
    canceled_at = Moment(required=True, allow_none=True)
    checked_at = Moment(required=True, allow_none=True)
    created_at = Moment(required=True)


class PurchaseEventSchema(Schema):
    """Something that happened to a purchase."""

    id = fields.String(required=True)
    type = fields.String(required=True)
    occurred_at = Moment(required=True)
    data = fields.Dict(required=True)


class PurchaseDetailSchema(PurchaseSchema):
    """A purchase with its events, oldest first."""

    events = fields.List(fields.Nested(PurchaseEventSchema), required=True)
