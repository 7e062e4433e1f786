"""Shapes of the apps' routes."""

from marshmallow import Schema, ValidationError, fields, validate, validates_schema

from project.core.http.input import InputSchema, Moment, Text
from project.core.net.network_guard import MAX_URL_LENGTH

NAME_LENGTH = validate.Length(1, 200)
URL_LENGTH = validate.Length(1, MAX_URL_LENGTH)
URL_PATTERN = {"pattern": r"^[Hh][Tt][Tt][Pp][Ss]?://[^\s\u0000-\u001f\u007f]+$"}


class AppCreateSchema(InputSchema):
    """A new app."""

    name = Text(required=True, validate=NAME_LENGTH)
    endpoint = Text(required=True, validate=URL_LENGTH, metadata=URL_PATTERN)
    require_proof = fields.Boolean()


class AppChangeSchema(InputSchema):
    """What is to change of an app."""

    document = {"minProperties": 1}

    name = Text(validate=NAME_LENGTH)
    endpoint = Text(validate=URL_LENGTH, metadata=URL_PATTERN)
    require_proof = fields.Boolean()

    @validates_schema
    def _something_changes(self, data: dict[str, object], **_: object) -> None:
        if not data:
            raise ValidationError("Give a name, an endpoint or require_proof.", "name")


class AppSchema(Schema):
    """An app."""

    id = fields.Integer(required=True)
    name = fields.String(required=True)
    endpoint = fields.String(required=True)
    require_proof = fields.Boolean(required=True)
    created_at = Moment(required=True)


class CreatedAppSchema(AppSchema):
    """A new app with the secret that signs its callbacks, shown this once."""

    callback_secret = fields.String()


class AppSecretSchema(Schema):
    """A new signing secret, shown this once."""

    id = fields.Integer(required=True)
    callback_secret = fields.String(required=True)
