"""Shapes of the messages' routes."""

from typing import Any

from marshmallow import EXCLUDE, Schema, fields, validate

from project.core.http.input import Choice, InputSchema, Moment, PageSchema, Text
from project.weather.input import Msisdn, MsisdnOfGateway
from project.weather.states import MessageState


class MessageSchema(Schema):
    """A message; `last_error` says why it failed, or why it was tried again."""

    id = fields.UUID(required=True)
    msisdn = fields.String(required=True)
    date = fields.Date(required=True, attribute="local_date")
    text = fields.String(required=True)
    state = Choice(MessageState, required=True)
    gateway = fields.String(required=True, allow_none=True)
    attempts = fields.Integer(required=True)
    last_error = fields.String(required=True, allow_none=True)
    created_at = Moment(required=True)
    accepted_at = Moment(required=True, allow_none=True)
    delivered_at = Moment(required=True, allow_none=True)
    failed_at = Moment(required=True, allow_none=True)


class MessageEventSchema(Schema):
    """What was heard of a message: a gateway's answer, or a receipt."""

    kind = fields.String(required=True)
    gateway = fields.String(required=True, allow_none=True)
    status = fields.String(required=True)
    body = fields.String(required=True)
    received_at = Moment(required=True)


class MessageWithEventsSchema(MessageSchema):
    """A message with every gateway answer and receipt, oldest first."""

    events = fields.List(fields.Nested(MessageEventSchema), required=True)


class MessageQuerySchema(PageSchema):
    """Which messages to list; `date` is the local one of the number."""

    msisdn = Msisdn()
    date = fields.Date()
    state = Choice(MessageState)


class MessageRunSchema(Schema):
    """What became of the messages of a date."""

    date = fields.Date(required=True)
    due = fields.Integer(required=True)
    sent = fields.Integer(required=True)
    accepted = fields.Integer(required=True)
    delivered = fields.Integer(required=True)
    failed = fields.Integer(required=True)
    expired = fields.Integer(required=True)
    pending = fields.Integer(required=True)
    no_forecast = fields.Integer(required=True)


class RunBegunSchema(Schema):
    """A run that was asked for, and how many are due for it at this moment."""

    status = fields.String(required=True)
    run_id = fields.UUID(required=True)
    due = fields.Integer(required=True)


class ReceiptSchema(InputSchema):
    """A receipt; what else a gateway says is kept and not read.

    The msgid may also stand in the URL, where a gateway has no place for it.
    """

    class Meta:
        """Gateways say more than was asked of them."""

        unknown = EXCLUDE

    aliases = {"MessageStatus": "status", "message_id": "msgid", "ErrorCode": "reason"}
    document = {"additionalProperties": True}

    msgid = Text(validate=validate.Length(1, 200))
    status = Text(required=True, validate=validate.Length(1, 50))
    reason = fields.String(
        allow_none=True,
        metadata={"description": "`unknown_number` or `opted_out`, or Twilio's code for it."},
    )


class InboundSchema(InputSchema):
    """A message that a number sent."""

    class Meta:
        """Gateways say more than was asked of them."""

        unknown = EXCLUDE

    aliases = {"From": "msisdn", "Body": "text"}
    document = {"additionalProperties": True}

    msisdn = MsisdnOfGateway()
    text = fields.String(required=True, validate=validate.Length(max=5000))


class InboundAnswerSchema(Schema):
    """What an inbound message did: `stopped`, or `ignored`."""

    status = fields.String(required=True)
    action = fields.String(required=True, validate=validate.OneOf(["stopped", "ignored"]))


def shown_with_events(message: Any, events: Any) -> dict[str, Any]:
    """Return a message as MessageWithEventsSchema shows it."""
    names = (field.attribute or name for name, field in MessageSchema().fields.items())
    return {name: getattr(message, name) for name in names} | {"events": events}
