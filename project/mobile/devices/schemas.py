"""Shapes of the devices' routes."""

from marshmallow import Schema, fields, validate

from project.core.http.input import (
    Choice,
    ClickId,
    ForeignId,
    Id,
    InputSchema,
    Moment,
    PageSchema,
    Text,
)
from project.mobile.models import MAX_TOKEN_LENGTH
from project.mobile.states import DeviceOs


class DeviceRegisterSchema(InputSchema):
    """A device that registers; a known one proves itself where its app requires a proof.

    Its client-token may come in the header X-Client-Token instead; `proof` is what the app's back
    end has signed.
    """

    aliases = {"app_id": "appId", "client_token": "client-token"}

    uid = ForeignId(required=True, validate=validate.Length(1, 255))
    app_id = Id(required=True, data_key="appId")
    language = Text(required=True, validate=validate.Length(1, 35))
    os = Choice(DeviceOs, required=True)
    click_id = ClickId()
    client_token = fields.String(
        data_key="client-token", validate=validate.Length(1, MAX_TOKEN_LENGTH)
    )
    proof = fields.String(validate=validate.Length(1, 200))


class DeviceRegisteredSchema(Schema):
    """The answer to a registration: the client-token is shown this once."""

    status = fields.String(required=True)
    register = fields.String(required=True)
    client_token = fields.String(required=True, data_key="client-token")


class DeviceQuerySchema(PageSchema):
    """Which devices to list."""

    aliases = {"appId": "app_id"}

    app_id = Id()
    os = Choice(DeviceOs)


class DeviceSchema(Schema):
    """A device; never its token."""

    id = fields.Integer(required=True)
    app_id = fields.Integer(required=True)
    uid = fields.String(required=True)
    language = fields.String(required=True)
    os = Choice(DeviceOs, required=True)
    click_id = fields.String(required=True, allow_none=True)
    created_at = Moment(required=True)
    updated_at = Moment(required=True)
