"""Shapes of the packages' routes."""

import re
from typing import Any

from marshmallow import Schema, ValidationError, fields, validate, validates_schema

from project.billing.states import AtRetryEnd, Audience, PeriodUnit
from project.core.http.input import InputSchema, Moment, PageSchema, Text
from project.core.money import CURRENCIES

MAX_PRICE = 10**12
_DIGITS = re.compile(r"[0-9]{1,19}")
DAY_SECONDS = 86_400
PERIOD = validate.OneOf([str(unit) for unit in PeriodUnit])
STATUS = validate.OneOf(["active", "inactive"])
RETRY_END = validate.OneOf([str(end) for end in AtRetryEnd])
AUDIENCE = validate.OneOf([str(audience) for audience in Audience])
NAME_LENGTH = validate.Length(1, 128)


class WholeNumber(fields.Integer):
    """A number without a fraction; true and false are none."""

    def __init__(self, least: int, most: int, **kwargs: Any) -> None:
        super().__init__(strict=True, validate=validate.Range(least, most), **kwargs)

    def _validated(self, value: Any) -> Any:
        if isinstance(value, bool):
            raise self.make_error("invalid", input=value)
        # Forms have no numbers, only their digits.
        if isinstance(value, str) and _DIGITS.fullmatch(value):
            value = int(value)
        return super()._validated(value)


class PackageChangeSchema(InputSchema):
    """What is to change of a package; the price is in minor units of the currency."""

    document = {"minProperties": 1}

    name = Text(validate=NAME_LENGTH)
    price = WholeNumber(1, MAX_PRICE)
    currency = fields.String(validate=validate.OneOf(sorted(CURRENCIES)))
    period = fields.String(validate=PERIOD)
    period_count = WholeNumber(1, 366)
    status = fields.String(validate=STATUS)
    retry_attempts = WholeNumber(1, 100)
    retry_interval_seconds = WholeNumber(60, 90 * DAY_SECONDS)
    at_retry_end = fields.String(validate=RETRY_END)

    @validates_schema
    def _something_changes(self, data: dict[str, object], **_: object) -> None:
        if not data:
            raise ValidationError("Give at least one field to change.", "name")


class PackageCreateSchema(PackageChangeSchema):
    """A new package: monthly in EUR, tried three times a day apart, unless it says otherwise."""

    name = Text(required=True, validate=NAME_LENGTH)
    price = WholeNumber(1, MAX_PRICE, required=True)
    currency = fields.String(load_default="EUR", validate=validate.OneOf(sorted(CURRENCIES)))
    period = fields.String(load_default=str(PeriodUnit.MONTH), validate=PERIOD)
    period_count = WholeNumber(1, 366, load_default=1)
    status = fields.String(load_default="active", validate=STATUS)
    retry_attempts = WholeNumber(1, 100, load_default=3)
    retry_interval_seconds = WholeNumber(60, 90 * DAY_SECONDS, load_default=DAY_SECONDS)
    at_retry_end = fields.String(load_default=str(AtRetryEnd.EXPIRE), validate=RETRY_END)


class PackageSchema(Schema):
    """A package; an internal one is shown to operators only."""

    id = fields.Integer(required=True)
    name = fields.String(required=True)
    price = fields.Integer(required=True)
    currency = fields.String(required=True)
    period = fields.String(required=True, validate=PERIOD)
    period_count = fields.Integer(required=True)
    status = fields.String(required=True, validate=STATUS)
    retry_attempts = fields.Integer(required=True)
    retry_interval_seconds = fields.Integer(required=True)
    at_retry_end = fields.String(required=True, validate=RETRY_END)
    audience = fields.String(required=True, validate=AUDIENCE)
    created_at = Moment(required=True)


class PackageQuerySchema(PageSchema):
    """Which packages to list."""

    status = fields.String(validate=STATUS)
