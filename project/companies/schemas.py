"""Shapes of the companies' routes."""

from collections.abc import Mapping
from typing import Any

from marshmallow import Schema, ValidationError, fields, validate, validates_schema

from project.billing.packages.schemas import PackageSchema
from project.billing.schemas import SUBSCRIPTION_STATE
from project.companies.emails import normalised_email, require_one_script
from project.companies.passwords import MAX_LENGTH, MIN_LENGTH, check_password
from project.companies.states import CompanyState
from project.core.http.input import Choice, ClickId, Id, InputSchema, Moment, PageSchema, Text
from project.core.net.network_guard import MAX_URL_LENGTH

NAME = validate.Length(1, 200)
URL = validate.Length(1, MAX_URL_LENGTH)
MAX_EMAIL_LENGTH = 254


class Email(Text):
    """An email address; what looks the same is the same account."""

    def __init__(self, **kwargs: Any) -> None:
        checks = [validate.Email(), validate.Length(max=MAX_EMAIL_LENGTH), require_one_script]
        super().__init__(validate=checks, **kwargs)

    def _deserialize(self, value: Any, attr: Any, data: Any, **kwargs: Any) -> Any:
        return normalised_email(super()._deserialize(value, attr, data, **kwargs))


class Password(Text):
    """A password that is good enough to be set."""

    def __init__(self, **kwargs: Any) -> None:
        described = {"minLength": MIN_LENGTH, "maxLength": MAX_LENGTH, "format": "password"}
        super().__init__(validate=check_password, load_only=True, metadata=described, **kwargs)


class CompanyRegisterSchema(InputSchema):
    """A company that registers."""

    site_url = Text(required=True, validate=[URL, validate.URL(schemes={"http", "https"})])
    name = Text(required=True, validate=NAME)
    lastname = Text(required=True, validate=NAME)
    company_name = Text(required=True, validate=NAME)
    email = Email(required=True)
    password = Password(required=True)
    callback_url = Text(validate=URL)
    click_id = ClickId()

    @validates_schema
    def _password_is_not_the_name(self, data: dict[str, Any], **_: Any) -> None:
        _require_own_password(data)


class CompanyChangeSchema(InputSchema):
    """What is to change of a company; another email or password takes the present password."""

    document = {"minProperties": 1}

    site_url = Text(validate=[URL, validate.URL(schemes={"http", "https"})])
    name = Text(validate=NAME)
    lastname = Text(validate=NAME)
    company_name = Text(validate=NAME)
    email = Email()
    password = Password()
    current_password = Text(load_only=True, validate=validate.Length(1, MAX_LENGTH))
    callback_url = Text(validate=URL)

    @validates_schema
    def _something_changes(self, data: dict[str, object], **_: object) -> None:
        if not data.keys() - {"current_password"}:
            raise ValidationError("Give at least one field to change.", "name")
        _require_own_password(data)


def _require_own_password(data: Mapping[str, Any]) -> None:
    known = {str(data.get(name, "")).lower() for name in ("email", "company_name")}
    if str(data.get("password", "")).lower() in known - {""}:
        raise ValidationError("Must not be the email or the company's name.", "password")


class LoginSchema(InputSchema):
    """An email and a password."""

    email = Email(required=True)
    password = Text(required=True, load_only=True, validate=validate.Length(1, MAX_LENGTH))


class LoggedInSchema(Schema):
    """A token, shown this once; `callback_secret` only where callbacks have been set up."""

    status = fields.String(required=True)
    token = fields.String(required=True)
    company_id = fields.Integer(required=True)
    callback_secret = fields.String()


class CompanySchema(Schema):
    """A company; never its password."""

    id = fields.Integer(required=True)
    site_url = fields.String(required=True)
    name = fields.String(required=True)
    lastname = fields.String(required=True)
    company_name = fields.String(required=True)
    email = fields.String(required=True)
    status = fields.Integer(required=True)
    state = Choice(CompanyState, required=True)
    created_at = Moment(required=True)


class CompanyChangedSchema(Schema):
    """A company as it now is; `callback_secret` only where callbacks have just been set up."""

    status = fields.String(required=True)
    data = fields.Nested(CompanySchema, required=True)
    callback_secret = fields.String()


class CompanySecretSchema(Schema):
    """A company's new signing secret, shown this once."""

    id = fields.Integer(required=True)
    callback_secret = fields.String(required=True)


class CompanyQuerySchema(PageSchema):
    """Which companies to list."""

    state = Choice(CompanyState)


class PackageAssignSchema(InputSchema):
    """The package that a company takes; its own if company_id is left out."""

    company_id = Id()
    package_id = Id(required=True)


class CheckoutSchema(InputSchema):
    """What is to be paid for, the company's own package if left out, and where to come back to."""

    company_id = Id()
    package_id = Id()
    return_url = Text(required=True, validate=URL)


class CompanyOnlySchema(InputSchema):
    """The company meant; its own if left out."""

    company_id = Id()


class CompanyPackageSchema(Schema):
    """A company's package; `takes_effect_at` if it counts from `paid_until` on.

    Start and end are those of the period that runs. `paid_until` is later where more is paid for
    already; `next_package_id` is another package that follows, at `next_package_at`.
    """

    status = fields.String(required=True)
    start_date = Moment(required=True)
    end_date = Moment(required=True)
    state = fields.String(required=True, validate=SUBSCRIPTION_STATE)
    package = fields.Nested(PackageSchema, required=True)
    paid_until = Moment(required=True)
    next_package_id = fields.Integer(required=True, allow_none=True)
    next_package_at = Moment(required=True, allow_none=True)
    takes_effect_at = Moment(required=True, allow_none=True)


class CompanyCheckSchema(Schema):
    """The company and its package; the package's fields are null without one.

    Start and end are those of the period that runs. `paid_until` is later where more is paid for
    already; `next_package_id` is another package that follows, at `next_package_at`.
    """

    status = fields.String(required=True)
    company = fields.Nested(CompanySchema, required=True)
    package = fields.Nested(PackageSchema, required=True, allow_none=True)
    start_date = Moment(required=True, allow_none=True)
    end_date = Moment(required=True, allow_none=True)
    state = fields.String(required=True, allow_none=True, validate=SUBSCRIPTION_STATE)
    paid_until = Moment(required=True, allow_none=True)
    next_package_id = fields.Integer(required=True, allow_none=True)
    next_package_at = Moment(required=True, allow_none=True)
