"""Reconciliation cases, for operators."""

from typing import Any

from marshmallow import Schema, fields, validate

from project.billing import cases
from project.billing.reconciliation.resolution import Decision, resolve
from project.billing.states import CaseKind
from project.core.http.api import Blueprint
from project.core.http.auth import Scope, operator
from project.core.http.input import InputSchema, Moment, PageSchema, Text
from project.core.http.pages import data_schema, list_schema, page_of

KIND = validate.OneOf([str(kind) for kind in CaseKind])
STATE = validate.OneOf([cases.OPEN, cases.RESOLVED])

blueprint = Blueprint(
    "reconciliation",
    __name__,
    url_prefix="/api/reconciliation/cases",
    description="Differences between the provider's books and ours.",
)


class CaseQuerySchema(PageSchema):
    """Which cases to list."""

    kind = fields.String(validate=KIND)
    state = fields.String(validate=STATE)


class CaseSchema(Schema):
    """A difference: its evidence from both sides, and what was done."""

    id = fields.Integer(required=True)
    kind = fields.String(required=True, validate=KIND)
    provider = fields.String(required=True)
    external_id = fields.String(required=True, allow_none=True)
    payment_id = fields.UUID(required=True, allow_none=True)
    evidence = fields.Dict(required=True)
    action = fields.String(required=True)
    state = fields.String(required=True, validate=STATE)
    note = fields.String(required=True, allow_none=True)
    opened_at = Moment(required=True)
    resolved_at = Moment(required=True, allow_none=True)


class CaseResolveSchema(InputSchema):
    """What was done about a case."""

    note = Text(required=True, validate=validate.Length(1, 2000))
    decision = fields.Enum(
        Decision,
        by_value=True,
        metadata={
            "description": "accept: the payment is paid, with what the provider took; "
            "drop: it was not made, and its period is charged anew"
        },
    )


@blueprint.get("")
@operator(Scope.READ)
@blueprint.arguments(CaseQuerySchema, location="query")
@blueprint.response(200, list_schema(CaseSchema))
def list_cases(query: dict[str, Any]) -> dict[str, Any]:
    """List cases, newest first."""
    page, limit = query.pop("page"), query.pop("limit")
    statement = cases.listed_cases(**query)
    return page_of(statement, page=page, limit=limit, show=lambda row: row.ReconciliationCase)


@blueprint.post("/<id:case_id>/resolve")
@operator(Scope.WRITE)
@blueprint.arguments(CaseResolveSchema)
@blueprint.response(200, data_schema(CaseSchema))
@blueprint.alt_response(409, description="The case has no payment that is yet to be decided.")
def resolve_case(body: dict[str, Any], case_id: int) -> dict[str, Any]:
    """Close a case, saying what was done, and what is decided about its payment."""
    case = resolve(case_id, body["note"], body.get("decision"))
    return {"status": "success", "data": case}
