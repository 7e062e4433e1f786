"""The test clock over HTTP; without TEST_CLOCK=1 there is nothing at this address."""

from typing import Any

from flask import Flask
from marshmallow import Schema, ValidationError, fields, validate, validates_schema

from project.core import clock
from project.core.db.transaction import own_transactions
from project.core.http.api import Blueprint, rest_api
from project.core.http.auth import Scope, operator, public
from project.core.http.input import InputSchema, Moment

blueprint = Blueprint("clock", __name__, url_prefix="/api/clock", description="The test clock.")


class ClockMoveSchema(InputSchema):
    """How to move the clock: one of the three."""

    document = {"minProperties": 1, "maxProperties": 1}

    advance = fields.String(
        validate=validate.Length(1, 40), metadata={"pattern": "^([0-9]{1,9}[smhdw])+$"}
    )
    set = Moment()
    reset = fields.Boolean(
        truthy={True, "true", "1"}, falsy={False, "false", "0"}, metadata={"enum": [True]}
    )

    @validates_schema
    def _one_way(self, data: dict[str, object], **_: object) -> None:
        if len(data) != 1 or data.get("reset") is False:
            raise ValidationError("Give one of advance, set or reset: true.", "advance")


class ClockSchema(Schema):
    """The product's present moment, and how many seconds it is ahead of real time."""

    status = fields.String(required=True)
    now = Moment(required=True)
    offset_seconds = fields.Float(required=True)


def register(_app: Flask) -> None:
    """Serve the clock."""
    rest_api.register_blueprint(blueprint)


@blueprint.get("")
@public
@blueprint.response(200, ClockSchema)
@blueprint.alt_response(404, description="This copy runs on real time.")
@own_transactions
def show_clock() -> dict[str, Any]:
    """Show the product's time."""
    clock.require_test_clock()
    return _shown()


@blueprint.post("")
@operator(Scope.WRITE)
@blueprint.arguments(ClockMoveSchema)
@blueprint.response(200, ClockSchema)
@blueprint.alt_response(404, description="This copy runs on real time.")
@own_transactions
def move_clock(body: dict[str, Any]) -> dict[str, Any]:
    """Move the clock; every process sees it at once."""
    clock.require_test_clock()
    if "advance" in body:
        clock.advance(clock.parse_duration(body["advance"]))
    elif "set" in body:
        clock.set_to(body["set"])
    else:
        clock.reset()
    return _shown()


def _shown() -> dict[str, Any]:
    return {
        "status": "success",
        "now": clock.now(),
        "offset_seconds": clock.read_offset().total_seconds(),
    }
