"""Shapes of the subscribers' routes."""

from collections.abc import Mapping
from typing import Any

from marshmallow import Schema, ValidationError, fields, pre_load, validates_schema

from project.core.http.input import Choice, Id, InputSchema, Moment, PageSchema
from project.weather.input import Degrees, Msisdn, ServedMsisdn
from project.weather.serviceability import Obstacle
from project.weather.states import (
    EndReason,
    Language,
    MessageState,
    Plan,
    SubscriberState,
)

WANTED_STATES = (SubscriberState.ACTIVE, SubscriberState.CANCELED)


class NearestForecastSchema(Schema):
    """A subscriber's forecast and the way to it over the sphere."""

    gid = fields.Integer(required=True)
    distance_km = fields.Float(required=True)


class LastMessageSchema(Schema):
    """The latest message of a subscriber."""

    id = fields.UUID(required=True)
    date = fields.Date(required=True)
    state = Choice(MessageState, required=True)


class SubscriberSchema(Schema):
    """A subscriber; without a forecast if none is near enough."""

    msisdn = fields.String(required=True)
    lat = fields.Float(required=True)
    lon = fields.Float(required=True)
    plan = Choice(Plan, required=True)
    state = Choice(SubscriberState, required=True)
    language = Choice(Language, required=True)
    zone = fields.String(required=True)
    forecast = fields.Nested(NearestForecastSchema, required=True, allow_none=True)
    next_billing_date = Moment(required=True, allow_none=True)
    last_message = fields.Nested(LastMessageSchema, required=True, allow_none=True)
    created_at = Moment(required=True)
    canceled_at = Moment(required=True, allow_none=True)
    end_reason = Choice(
        EndReason,
        required=True,
        allow_none=True,
        metadata={
            "description": "Why it is not active: `requested`, `unpaid` (it comes back by itself if"
            " the money comes after all), `unreachable` (its gateway refused too many messages in"
            " a row), or `stop`."
        },
    )
    obstacle = Choice(
        Obstacle,
        required=True,
        allow_none=True,
        metadata={"description": "Why it is not charged now: nothing could be sent for it."},
    )
    refused_messages = fields.Integer(
        required=True,
        metadata={"description": "How many messages in a row its gateway has refused for good."},
    )


class SubscriberQuerySchema(PageSchema):
    """Which subscribers to list; `forecast` is a gid."""

    plan = Choice(Plan)
    state = Choice(SubscriberState)
    forecast = Id()
    msisdn = Msisdn()


class SubscriberValuesSchema(InputSchema):
    """All that is said of a subscriber; `original_sub_plan` is what files call its plan."""

    aliases = {"original_sub_plan": "plan"}

    lat = Degrees(90, required=True)
    lon = Degrees(180, required=True)
    plan = Choice(Plan, required=True)


class SubscriberCreateSchema(SubscriberValuesSchema):
    """A new subscriber."""

    msisdn = ServedMsisdn(required=True)


class SubscriberReplaceSchema(SubscriberValuesSchema):
    """All of a subscriber; without a state it stays as it is.

    What is shown of one is taken as it is: what only we say of it is passed over.
    """

    state = Choice(WANTED_STATES)

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
    plan = Choice(Plan)
    state = Choice(WANTED_STATES)

    @validates_schema
    def _something_changes(self, data: dict[str, Any], **_: Any) -> None:
        if not data:
            raise ValidationError("Give at least one field to change.", "lat")
