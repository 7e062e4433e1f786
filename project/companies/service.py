"""Companies: registered, logged in and out, changed."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Select, delete, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import IntegrityError

from project.billing.customers import service as customers
from project.callbacks import service as callbacks
from project.companies.emails import normalised_email
from project.companies.events import CompanyEvent, tell
from project.companies.models import Company, CompanyAddress, CompanyToken
from project.companies.passwords import hash_password, is_password
from project.companies.states import COMPANY_MOVES, CompanyState
from project.config.environment import get_settings
from project.config.kernel import CoreSettings
from project.core import clock
from project.core.db.rows import get_current
from project.core.errors import BadRequest, Conflict, Forbidden, NotFound, Unauthorized
from project.core.secrets import new_token, token_hash
from project.extensions import db

KIND = customers.COMPANY
WRONG_LOGIN = "The email or the password is wrong."
TOKEN_LIVES_FOR = timedelta(days=30)
ADDRESS_KNOWN_FOR = timedelta(days=180)
MAX_ADDRESSES = 50


def register_company(
    values: Mapping[str, Any], password: str, *, address: str | None = None
) -> tuple[Company, str, str | None]:
    """Register a company; return it with a token and the secret that signs its callbacks.

    `address` is where it is known from now on, see `is_known_at`. Raises Conflict for an
    email that is registered.
    """
    now = clock.now()
    company_id = db.session.scalar(
        insert(Company)
        .values(
            **{name: value for name, value in values.items() if name != "callback_url"},
            password_hash=hash_password(password),
            state=CompanyState.REGISTERED,
            created_at=now,
            updated_at=now,
        )
        .on_conflict_do_nothing(index_elements=["email"])
        .returning(Company.id)
    )
    if company_id is None:
        raise _email_taken()
    company = existing_company(company_id)
    company.customer_id = _new_customer(company_id)
    secret = None
    if values.get("callback_url"):
        company.endpoint_id, secret = callbacks.create_endpoint(
            values["callback_url"], owner_type=KIND, owner_id=company_id
        )
    _remember_address(company_id, address)
    return company, _new_token(company_id), secret


def _new_customer(company_id: int) -> int:
    # In development anything is a saved payment method; a real shop saves one by paying.
    method = None if get_settings(CoreSettings).production else f"development-{company_id}"
    return customers.ensure_customer(KIND, str(company_id), payment_method_id=method).id


def _new_token(company_id: int) -> str:
    token = new_token("co")
    now = clock.now()
    db.session.add(
        CompanyToken(
            company_id=company_id,
            token_hash=token_hash(token),
            created_at=now,
            expires_at=now + TOKEN_LIVES_FOR,
        )
    )
    return token


def log_in(email: str, password: str, *, address: str | None = None) -> tuple[Company, str]:
    """Return the company and a new token; the first login makes it active. Raises Unauthorized.

    `address` is where the company is known from now on, see `is_known_at`.
    """
    known = db.session.execute(
        select(Company.id, Company.password_hash).where(Company.email == email)
    ).one_or_none()
    # Verified before the row is locked: guesses at a password must not hold its owner up.
    if not is_password(password, known.password_hash if known else None) or known is None:
        raise Unauthorized(WRONG_LOGIN)
    company = _locked_company(known.id)
    if company.password_hash != known.password_hash:
        raise Unauthorized(WRONG_LOGIN)
    _forget_ended_logins(company.id)
    _remember_address(company.id, address)
    if company.state is CompanyState.REGISTERED:
        move(company, CompanyState.ACTIVE, clock.now())
        tell([CompanyEvent("company.activated", company, clock.now(), {"reason": "first login"})])
    return company, _new_token(company.id)


def move(company: Company, state: CompanyState, now: datetime) -> None:
    """Change the state. Raises ForbiddenMoveError for a move that is not allowed."""
    COMPANY_MOVES.require(company.state, state)
    company.state = state
    company.updated_at = now


def is_known_at(email: str, address: str) -> bool:
    """Tell whether a company has logged in with this email from this address lately."""
    return bool(
        db.session.scalar(
            select(CompanyAddress.used_at)
            .join(Company, Company.id == CompanyAddress.company_id)
            .where(
                Company.email == normalised_email(email),
                CompanyAddress.address_hash == token_hash(address),
            )
        )
    )


def _remember_address(company_id: int, address: str | None) -> None:
    if address is None:
        return
    now = clock.now()
    used = insert(CompanyAddress).values(
        company_id=company_id, address_hash=token_hash(address), used_at=now
    )
    db.session.execute(
        used.on_conflict_do_update(
            index_elements=["company_id", "address_hash"], set_={"used_at": now}
        )
    )
    kept = (
        select(CompanyAddress.address_hash)
        .where(
            CompanyAddress.company_id == company_id,
            CompanyAddress.used_at > now - ADDRESS_KNOWN_FOR,
        )
        .order_by(CompanyAddress.used_at.desc())
        .limit(MAX_ADDRESSES)
    )
    db.session.execute(
        delete(CompanyAddress).where(
            CompanyAddress.company_id == company_id, CompanyAddress.address_hash.not_in(kept)
        )
    )


def set_password(email: str, password: str) -> None:
    """Give a company another password, as an operator may; every login ends. Raises NotFound."""
    company = db.session.scalars(
        select(Company).where(Company.email == normalised_email(email)).with_for_update()
    ).one_or_none()
    if company is None:
        raise NotFound(f"There is no company with the email {email}.")
    _set_password(company, password)
    company.updated_at = clock.now()
    tell([CompanyEvent("company.updated", company, clock.now(), {"changed": ["password"]})])


def _set_password(company: Company, password: str) -> None:
    company.password_hash = hash_password(password)
    db.session.execute(delete(CompanyToken).where(CompanyToken.company_id == company.id))


def _forget_ended_logins(company_id: int) -> None:
    db.session.execute(
        delete(CompanyToken).where(
            CompanyToken.company_id == company_id, CompanyToken.expires_at <= clock.now()
        )
    )


def log_out(token: str) -> None:
    """End the login of this token."""
    db.session.execute(delete(CompanyToken).where(CompanyToken.token_hash == token_hash(token)))


def authenticate_company(token: str) -> Company:
    """Return the company of the token. Raises Unauthorized."""
    company = db.session.scalars(
        select(Company)
        .join(CompanyToken, CompanyToken.company_id == Company.id)
        .where(CompanyToken.token_hash == token_hash(token), CompanyToken.expires_at > clock.now())
    ).one_or_none()
    if company is None:
        raise unknown_token()
    return company


def unknown_token() -> Unauthorized:
    """Return the answer to a token that is not in force."""
    return Unauthorized("This token is not known or has ended. Log in again.")


def rotate_secret(company_id: int) -> str:
    """Give the company a new signing secret and return it; the old one signs along for 24 hours.

    Raises NotFound for a company that has no callback URL.
    """
    company = _locked_company(company_id)
    if company.endpoint_id is None:
        raise NotFound("There is no callback URL. Set one with PATCH /api/companies/me.")
    return callbacks.rotate_secret(company.endpoint_id)


def change_company(
    company: Company,
    values: Mapping[str, Any],
    password: str | None,
    *,
    current_password: str | None,
    token: str,
) -> tuple[Company, str | None]:
    """Change what a company says of itself; a token alone is not enough for another owner.

    A new password ends every login, a new email every one but `token`'s. Returns the company with
    the secret that signs its callbacks, if they have just been set up. Raises Conflict for an
    email that is registered, and BadRequest or Forbidden where the email or password changes and
    `current_password` is missing or wrong.
    """
    known_hash = company.password_hash
    has_new_email = values.get("email", company.email) != company.email
    if password is not None or has_new_email:
        # Verified before the row is locked: guesses at a password must not hold its owner up.
        _require_password(current_password, known_hash)
    company_id = company.id
    company = _locked_company(company_id)
    if company.password_hash != known_hash:
        raise Conflict("The password has just been changed.")
    for name, value in values.items():
        if name != "callback_url":
            setattr(company, name, value)
    try:
        db.session.flush()
    except IntegrityError as error:
        raise _email_taken() from error
    secret = None
    if "callback_url" in values:
        secret = _change_endpoint(company, values["callback_url"])
    if password is not None:
        _set_password(company, password)
    elif has_new_email:
        others = CompanyToken.token_hash != token_hash(token)
        db.session.execute(
            delete(CompanyToken).where(CompanyToken.company_id == company_id, others)
        )
    company.updated_at = clock.now()
    changed = sorted([*values, *(["password"] if password is not None else [])])
    tell([CompanyEvent("company.updated", company, clock.now(), {"changed": changed})])
    return company, secret


def _require_password(given: str | None, password_hash: str) -> None:
    if given is None:
        raise BadRequest(
            "Another email or password takes the present password.",
            {"current_password": ["Missing."]},
        )
    if not is_password(given, password_hash):
        raise Forbidden("This is not the present password.", {"current_password": ["Is wrong."]})


def _email_taken() -> Conflict:
    return Conflict("This email is registered already.", {"email": ["Registered already."]})


def _change_endpoint(company: Company, url: str) -> str | None:
    if company.endpoint_id is not None:
        callbacks.change_url(company.endpoint_id, url)
        return None
    company.endpoint_id, secret = callbacks.create_endpoint(
        url, owner_type=KIND, owner_id=company.id
    )
    return secret


def _locked_company(company_id: int) -> Company:
    company = get_current(Company, company_id, lock=True)
    if company is None:
        raise NotFound(f"There is no company {company_id}.")
    return company


def existing_company(company_id: int) -> Company:
    """Return the company. Raises NotFound."""
    company = get_current(Company, company_id)
    if company is None:
        raise NotFound(f"There is no company {company_id}.")
    return company


def listed_companies(*, state: CompanyState | None = None) -> Select[Any]:
    """Select companies, newest first."""
    statement = select(Company).order_by(Company.id.desc())
    return statement if state is None else statement.where(Company.state == state)
