"""Companies: they register, log in, take a package, pay; operators see them all."""

from typing import Any

from flask import g, request
from marshmallow import Schema, fields
from werkzeug.exceptions import HTTPException

from project.billing import queries as billing
from project.billing.schemas import PaymentSchema, PurchaseBegunSchema
from project.companies import login_throttle, packages, service
from project.companies.auth import company, company_or_operator
from project.companies.passwords import account_key
from project.companies.schemas import (
    CheckoutSchema,
    CompanyChangedSchema,
    CompanyChangeSchema,
    CompanyCheckSchema,
    CompanyOnlySchema,
    CompanyPackageSchema,
    CompanyQuerySchema,
    CompanyRegisterSchema,
    CompanySchema,
    CompanySecretSchema,
    LoggedInSchema,
    LoginSchema,
    PackageAssignSchema,
)
from project.companies.settings import CompanySettings
from project.config.environment import get_settings
from project.config.kernel import HttpSettings
from project.core.db.transaction import own_transactions, transaction
from project.core.errors import BadRequest, NotFound, Unauthorized
from project.core.fast_path import Call, flask_call
from project.core.http.api import Blueprint, described_by
from project.core.http.auth import (
    Credential,
    Scope,
    bearer_token,
    operator,
    public,
    requires,
    token_of,
)
from project.core.http.idempotency import idempotent, idempotent_by
from project.core.http.input import PageSchema, read_body
from project.core.http.limiter import limiter, sender_key
from project.core.http.pages import data_schema, list_schema, page_of
from project.core.loop import finish
from project.core.net.http_client import check_endpoint
from project.core.net.network_guard import check_url

blueprint = Blueprint("companies", __name__, url_prefix="/api/companies", description="Companies.")


class DoneSchema(Schema):
    """It was done."""

    status = fields.String(required=True)


def _own_account() -> str:
    return f"company:{g.company.id}"


def _proves_nothing() -> bool:
    # An error here would be taken for a Redis that is away, and the limits for counted in memory.
    try:
        return "current_password" not in read_body(request)
    except HTTPException:
        return True


@blueprint.post("/register")
@public
@limiter.limit(lambda: get_settings(HttpSettings).register_rate_limit)
@idempotent_by()
@blueprint.arguments(CompanyRegisterSchema)
@blueprint.response(201, LoggedInSchema)
@blueprint.alt_response(409, description="The email is registered already.")
@own_transactions
def register_company(body: dict[str, Any]) -> dict[str, Any]:
    """Register a company."""
    if "callback_url" in body:
        check_endpoint(body["callback_url"], field="callback_url")
    password = body.pop("password")
    with transaction():
        made, token, secret = service.register_company(body, password, address=sender_key())
    answer = {"status": "success", "token": token, "company_id": made.id}
    return answer | ({"callback_secret": secret} if secret else {})


@blueprint.post("/login")
@public
@limiter.limit(lambda: get_settings(CompanySettings).login_rate_limit)
@blueprint.arguments(LoginSchema)
@blueprint.response(200, LoggedInSchema)
@blueprint.alt_response(401, description="The email or the password is wrong.")
def log_in(body: dict[str, Any]) -> dict[str, Any]:
    """Log in; the first login makes the company active."""
    address, account = sender_key(), f"account:{account_key(body['email'])}"
    is_known = service.is_known_at(body["email"], address)
    if not is_known:
        login_throttle.require_try(account, address)
    try:
        found, token = service.log_in(body["email"], body["password"], address=address)
    except Unauthorized:
        if not is_known:
            login_throttle.note_wrong_password(account)
        raise
    return {"status": "success", "token": token, "company_id": found.id}


@blueprint.post("/logout")
@company
@blueprint.response(200, DoneSchema)
def log_out() -> dict[str, str]:
    """End this login."""
    service.log_out(bearer_token())
    return {"status": "success"}


@blueprint.get("")
@operator(Scope.READ)
@blueprint.arguments(CompanyQuerySchema, location="query")
@blueprint.response(200, list_schema(CompanySchema))
def list_companies(query: dict[str, Any]) -> dict[str, Any]:
    """List companies, newest first."""
    page, limit = query.pop("page"), query.pop("limit")
    statement = service.listed_companies(**query)
    return page_of(statement, page=page, limit=limit, show=lambda row: row.Company)


@blueprint.get("/me")
@company
@blueprint.response(200, data_schema(CompanySchema))
def show_own_company() -> dict[str, Any]:
    """Show the company of the token."""
    return {"status": "success", "data": g.company}


@blueprint.patch("/me")
@company
@limiter.limit(
    lambda: get_settings(CompanySettings).login_rate_limit,
    key_func=_own_account,
    exempt_when=_proves_nothing,
)
@blueprint.arguments(CompanyChangeSchema)
@blueprint.response(200, CompanyChangedSchema)
@blueprint.alt_response(403, description="The present password is wrong.")
@blueprint.alt_response(409, description="The email is registered already.")
@own_transactions
def change_own_company(body: dict[str, Any]) -> dict[str, Any]:
    """Change the company; a new password ends every login, a new email every other one."""
    if "callback_url" in body:
        check_endpoint(body["callback_url"], field="callback_url")
    password = body.pop("password", None)
    current_password = body.pop("current_password", None)
    with transaction():
        changed, secret = service.change_company(
            g.company,
            body,
            password,
            current_password=current_password,
            token=bearer_token(),
        )
    shown: dict[str, Any] = {"status": "success", "data": changed}
    return shown | ({"callback_secret": secret} if secret else {})


@blueprint.get("/<id:company_id>")
@company_or_operator(Scope.READ)
@blueprint.response(200, data_schema(CompanySchema))
def show_company(company_id: int) -> dict[str, Any]:
    """Show a company: a company sees itself only."""
    _require_visible(company_id)
    return {"status": "success", "data": service.existing_company(company_id)}


@blueprint.get("/<id:company_id>/payments")
@company_or_operator(Scope.READ)
@blueprint.arguments(PageSchema, location="query")
@blueprint.response(200, list_schema(PaymentSchema))
def list_company_payments(query: dict[str, Any], company_id: int) -> dict[str, Any]:
    """List every attempt to be paid by a company, newest first."""
    _require_visible(company_id)
    found = service.existing_company(company_id)
    statement = billing.listed_payments({"customer_id": found.customer_id})
    return page_of(statement, **query, show=lambda row: row.Payment)


def _require_visible(company_id: int) -> None:
    """Raise NotFound for another's company: not even its existence is told."""
    if not g.caller.may_see(company_id):
        raise NotFound(f"There is no company {company_id}.")


@blueprint.post("/packages")
@company_or_operator(Scope.WRITE)
@idempotent
@blueprint.arguments(PackageAssignSchema)
@blueprint.response(201, CompanyPackageSchema)
@blueprint.alt_response(404, description="There is no such company or package.")
@blueprint.alt_response(409, description="The package is running already, or money is owed.")
def assign_package(body: dict[str, Any]) -> dict[str, Any]:
    """Give a company a package; another than the running one counts from the period's end on."""
    by_operator = g.caller.company is None
    return packages.assign(_meant(body), body["package_id"], by_operator=by_operator)


@blueprint.post("/packages/cancel")
@company_or_operator(Scope.WRITE)
@blueprint.arguments(CompanyOnlySchema)
@blueprint.response(200, CompanyPackageSchema)
@blueprint.alt_response(404, description="There is no package to cancel.")
def cancel_package(body: dict[str, Any]) -> dict[str, Any]:
    """Do not renew the package; the period that runs is kept to its end."""
    return packages.cancel(_meant(body))


@blueprint.post("/packages/pay")
@company_or_operator(Scope.WRITE)
@idempotent
@blueprint.arguments(CompanyOnlySchema)
@blueprint.response(200, data_schema(PaymentSchema))
@blueprint.alt_response(
    202, schema=data_schema(PaymentSchema), description="The provider has not answered yet."
)
@blueprint.alt_response(402, description="The provider refused.")
@blueprint.alt_response(404, description="There is no package to pay for.")
@blueprint.alt_response(409, description="Nothing is owed, or a payment is under way.")
@own_transactions
def pay(body: dict[str, Any]) -> Any:
    """Pay what is owed now; it does not use up the retries."""
    with transaction():
        company_id = _meant(body)
    return packages.pay(company_id, by_operator=g.caller.company is None)


@blueprint.post("/packages/checkout")
@company_or_operator(Scope.WRITE)
@idempotent
@blueprint.arguments(CheckoutSchema)
@blueprint.response(201, PurchaseBegunSchema)
@blueprint.alt_response(402, description="The provider did not take it.")
@blueprint.alt_response(404, description="There is no such package, or none to pay for.")
@own_transactions
def check_out(body: dict[str, Any]) -> dict[str, Any]:
    """Begin a payment that the company confirms at the provider, where its card is saved.

    What is owed is paid by it, else the next period. The same again is the same payment while it
    is open.
    """
    check_url(body["return_url"], field="return_url")
    with transaction():
        company_id = _meant(body)
    return packages.checkout(company_id, body.get("package_id"), body["return_url"])


def _meant(body: dict[str, Any]) -> int:
    """Return the company that is meant. Raises BadRequest, Forbidden and NotFound."""
    own = g.caller.company
    company_id = body.get("company_id") or (own.id if own is not None else None)
    if company_id is None:
        raise BadRequest("Say which company.", {"company_id": ["Missing."]})
    g.caller.require_own(company_id)
    found: int = service.existing_company(company_id).id
    return found


@blueprint.post("/secret")
@company_or_operator(Scope.WRITE)
@idempotent
@blueprint.arguments(CompanyOnlySchema)
@blueprint.response(201, data_schema(CompanySecretSchema))
@blueprint.alt_response(404, description="There is no such company, or it has no callback URL.")
def rotate_secret(body: dict[str, Any]) -> dict[str, Any]:
    """Make a new signing secret; the old one signs along for 24 hours."""
    company_id = _meant(body)
    secret = service.rotate_secret(company_id)
    return {"status": "success", "data": {"id": company_id, "callback_secret": secret}}


@blueprint.route("/check", methods=["GET", "POST"])
@requires(Credential.COMPANY)
@described_by(blueprint.response(200, CompanyCheckSchema))
@own_transactions
def check() -> dict[str, Any]:
    """Show the company and its package."""
    return finish(check_at_once(flask_call()))


async def check_at_once(call: Call) -> dict[str, Any]:
    """Do the same for a call that is plainly in order."""
    return await packages.check(token_of(call.header("Authorization")))
