"""Shapes of the subscribers' routes."""

from collections.abc import Mapping
from typing import Any

from marshmallow import Schema, ValidationError, fields, pre_load, validate, validates_schema

from project.core.http.input import Id, InputSchema, Moment, PageSchema
from project.weather.input import Degrees, Msisdn, ServedMsisdn
from project.weather.serviceability import Obstacle
from project.weather.states import (
    EndReason,
    Language,
    MessageState,
    Plan,
    SubscriberState,
)

PLAN = validate.OneOf([str(plan) for plan in Plan])
STATE = validate.OneOf([str(state) for state in SubscriberState])
WANTED_STATE = validate.OneOf([str(SubscriberState.ACTIVE), str(SubscriberState.CANCELED)])


class NearestForecastSchema(Schema):
    """A subscriber's forecast and the way to it over the sphere."""

    gid = fields.Integer(required=True)
    distance_km = fields.Float(required=True)


class LastMessageSchema(Schema):
    """The latest message of a subscriber."""

    id = fields.UUID(required=True)
    date = fields.Date(required=True)
    state = fields.String(
        required=True, validate=validate.OneOf([str(state) for state in MessageState])
    )


class SubscriberSchema(Schema):
    """A subscriber; without a forecast if none is near enough."""

    msisdn = fields.String(required=True)
    lat = fields.Float(required=True)
    lon = fields.Float(required=True)
    plan = fields.String(required=True, validate=PLAN)
    state = fields.String(required=True, validate=STATE)
    language = fields.String(
        required=True, validate=validate.OneOf([str(language) for language in Language])
    )
    zone = fields.String(required=True)
    forecast = fields.Nested(NearestForecastSchema, required=True, allow_none=True)
    next_billing_date = Moment(required=True, allow_none=True)
    last_message = fields.Nested(LastMessageSchema, required=True, allow_none=True)
    created_at = Moment(required=True)
    canceled_at = Moment(required=True, allow_none=True)
    end_reason = fields.String(
        required=True,
        allow_none=True,
        validate=validate.OneOf([str(reason) for reason in EndReason]),
        metadata={
            "description": "Why it is not active: `requested`, `unpaid` (it comes back by itself if"
            " the money comes after all), `unreachable` (its gateway refused too many messages in"
            " a row), or `stop`."
        },
    )
    obstacle = fields.String(
        required=True,
        allow_none=True,
        validate=validate.OneOf([str(obstacle) for obstacle in Obstacle]),
        metadata={"description": "Why it is not charged now: nothing could be sent for it."},
    )
    refused_messages = fields.Integer(
        required=True,
        metadata={"description": "How many messages in a row its gateway has refused for good."},
    )


class SubscriberQuerySchema(PageSchema):
    """Which subscribers to list; `forecast` is a gid."""

    plan = fields.String(validate=PLAN)
    state = fields.String(validate=STATE)
    forecast = Id()
    msisdn = Msisdn()


class SubscriberValuesSchema(InputSchema):
    """All that is said of a subscriber; `original_sub_plan` is what files call its plan."""

    aliases = {"original_sub_plan": "plan"}

    lat = Degrees(90, required=True)
    lon = Degrees(180, required=True)
    plan = fields.String(required=True, validate=PLAN)


class SubscriberCreateSchema(SubscriberValuesSchema):
    """A new subscriber."""

    msisdn = ServedMsisdn(required=True)


class SubscriberReplaceSchema(SubscriberValuesSchema):
    """All of a subscriber; without a state it stays as it is.

    What is shown of one is taken as it is: what only we say of it is passed over.
    """

    state = fields.String(validate=WANTED_STATE)

    @pre_load
    def _pass_over_what_is_only_shown(self, data: Any, **_: Any) -> Any:
        if not isinstance(data, Mapping):
            return data
        only_shown = SubscriberSchema().fields.keys() - self.fields.keys()
        return {name: value for name, value in data.items() if name not in only_shown}


class SubscriberChangeSchema(InputSchema):
    """What is to change of a subscriber."""

    aliases = {"original_sub_plan": "plan"}
    document = {"minProperties": 1}

    lat = Degrees(90)
    lon = Degrees(180)
    plan = fields.String(validate=PLAN)
    state = fields.String(validate=WANTED_STATE)

    @validates_schema
    def _something_changes(self, data: dict[str, Any], **_: Any) -> None:
        if not data:
            raise ValidationError("Give at least one field to change.", "lat")
