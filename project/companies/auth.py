"""Who calls: a company with its token, or an operator with a key."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any, TypeVar

from flask import g

from project.companies.models import Company
from project.companies.service import authenticate_company
from project.core.db.transaction import transaction
from project.core.errors import Forbidden
from project.core.http.auth import (
    Credential,
    Scope,
    act_as,
    authenticate_operator,
    bearer_token,
    requires,
)
from project.core.secrets import token_hash

TOKEN_PREFIX = "co_"
View = TypeVar("View", bound=Callable[..., Any])


@dataclass(frozen=True)
class Caller:
    """A company, or an operator if `company` is None."""

    company: Company | None

    def may_see(self, company_id: int) -> bool:
        """Tell whether the caller may see this company's things."""
        return self.company is None or self.company.id == company_id

    def require_own(self, company_id: int) -> None:
        """Raise Forbidden unless the caller is an operator or this company."""
        if not self.may_see(company_id):
            raise Forbidden("This is not your company.")


def company(view: View) -> View:
    """Let a company through with its token, as `g.company`."""

    @wraps(view)
    def guarded(*args: Any, **kwargs: Any) -> Any:
        token = bearer_token()
        with transaction():
            g.company = authenticate_company(token)
        act_as("company", g.company.id)
        return view(*args, **kwargs)

    return requires(Credential.COMPANY)(guarded)  # type: ignore[return-value]


def company_or_operator(scope: Scope) -> Callable[[View], View]:
    """Let a company through with its token or an operator with the scope, as `g.caller`."""

    def decorate(view: View) -> View:
        @wraps(view)
        def guarded(*args: Any, **kwargs: Any) -> Any:
            token = bearer_token()
            with transaction():
                if token.startswith(TOKEN_PREFIX):
                    company = authenticate_company(token)
                    g.caller = Caller(company)
                    act_as("company", company.id)
                else:
                    authenticate_operator(token, scope)
                    g.caller = Caller(None)
                    act_as("operator", token_hash(token).hex())
            return view(*args, **kwargs)

        return requires(Credential.COMPANY_OR_OPERATOR)(guarded)  # type: ignore[return-value]

    return decorate
