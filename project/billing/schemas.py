"""Shapes of the payments' and subscriptions' routes."""

from marshmallow import Schema, fields, validate

from project.billing.states import PaymentState, SubscriptionState, Trigger
from project.core.http.input import Id, InputSchema, Moment, PageSchema, Text
from project.core.net.network_guard import MAX_URL_LENGTH

PAYMENT_STATE = validate.OneOf([str(state) for state in PaymentState])
SUBSCRIPTION_STATE = validate.OneOf([str(state) for state in SubscriptionState])
TRIGGER = validate.OneOf([str(trigger) for trigger in Trigger])


class PaymentSchema(Schema):
    """A payment; amounts are in minor units, `refunded_amount` is what was given back so far."""

    id = fields.UUID(required=True)
    customer_id = fields.Integer(required=True)
    subscription_id = fields.Integer(required=True, allow_none=True)
    package_id = fields.Integer(required=True)
    state = fields.String(required=True, validate=PAYMENT_STATE)
    amount = fields.Integer(required=True)
    refunded_amount = fields.Integer(required=True)
    currency = fields.String(required=True)
    period_start = Moment(required=True, allow_none=True)
    period_end = Moment(required=True, allow_none=True)
    attempt = fields.Integer(required=True)
    trigger = fields.String(required=True, validate=TRIGGER)
    reason = fields.String(required=True, allow_none=True)
    provider = fields.String(required=True)
    external_id = fields.String(required=True, allow_none=True)
    created_at = Moment(required=True)
    settled_at = Moment(required=True, allow_none=True)


class PaymentQuerySchema(PageSchema):
    """Which payments to list."""

    customer_id = Id()
    subscription_id = Id()
    state = fields.String(validate=PAYMENT_STATE)
    since = Moment()


class PurchaseBeginSchema(InputSchema):
    """A first purchase: `customer` is kind:reference, or a reference of your own."""

    customer = Text(required=True, validate=validate.Length(1, 220))
    package_id = Id(required=True)
    return_url = Text(required=True, validate=validate.Length(1, MAX_URL_LENGTH))


class PurchaseBegunSchema(Schema):
    """A payment that waits for the customer, who confirms it at `confirmation_url`."""

    status = fields.String(required=True)
    payment_id = fields.UUID(required=True)
    state = fields.String(required=True, validate=PAYMENT_STATE)
    confirmation_url = fields.String(required=True, allow_none=True)


class SubscriptionSchema(Schema):
    """A subscription: the package and period that run, and what follows.

    `ended_at` is the end of all that is paid for or given; `next_package_id` another package that
    is paid for already, or will be charged.
    """

    id = fields.Integer(required=True)
    customer_id = fields.Integer(required=True)
    package_id = fields.Integer(required=True)
    next_package_id = fields.Integer(required=True, allow_none=True)
    state = fields.String(required=True, validate=SUBSCRIPTION_STATE)
    anchor_at = Moment(required=True)
    current_period_start = Moment(required=True, attribute="period_start")
    current_period_end = Moment(required=True, attribute="period_end")
    ended_at = Moment(required=True)
    next_charge_at = Moment(required=True, allow_none=True, attribute="due_at")
    refusals = fields.Integer(required=True)
    past_due_at = Moment(required=True, allow_none=True)
    exhausted_at = Moment(required=True, allow_none=True)
    canceled_at = Moment(required=True, allow_none=True)
    created_at = Moment(required=True)


class SubscriptionDetailSchema(SubscriptionSchema):
    """A subscription with its payments, newest first."""

    payments = fields.List(fields.Nested(PaymentSchema), required=True)


class SubscriptionQuerySchema(PageSchema):
    """Which subscriptions to list."""

    customer_id = Id()
    package_id = Id()
    state = fields.String(validate=SUBSCRIPTION_STATE)
    ended_before = Moment()


class NoticeSchema(Schema):
    """What became of a provider's notice."""

    status = fields.String(required=True)
