"""The REST API as a whole: its blueprints, request ids, and the document that describes it."""

import re
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

import flask_smorest
import flask_swagger_ui
from apispec.ext.marshmallow import MarshmallowPlugin
from apispec.ext.marshmallow.openapi import OpenAPIConverter
from flask import Flask, Request, Response, g, request, send_from_directory
from flask.json.provider import DefaultJSONProvider
from flask.sessions import SessionInterface, SessionMixin
from marshmallow import Schema, fields
from werkzeug.routing import IntegerConverter

from project.core.db.transaction import own_transactions
from project.core.errors import PROBLEM_JSON
from project.core.fast_path import ANSWER_HEADERS, JSON
from project.core.http import body_limits
from project.core.http import input as inputs
from project.core.http.auth import Credential, public
from project.core.http.idempotency import HEADER as IDEMPOTENCY_HEADER
from project.core.http.request_ids import begin_request

SWAGGER_ASSETS = Path(flask_swagger_ui.__file__).parent / "dist"
DOCS_PAGE = Path(__file__).parent / "docs_page"
# An operator types a key into this page: it runs no script but ours, talks to nobody else, and
# appears in nobody's frame.
DOCS_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}

rest_api = flask_smorest.Api()
View = TypeVar("View", bound=Callable[..., Any])


class Blueprint(flask_smorest.Blueprint):  # type: ignore[misc]
    """A resource's routes, with this product's way to read input."""

    ARGUMENTS_PARSER = inputs.InputParser()


def described_by(*decorators: Callable[[Any], Any]) -> Callable[[View], View]:
    """Describe a view in the API document by decorators that are not run at each request.

    For a route that must be fast and reads its input and writes its answer by hand.
    """

    def describe(view: View) -> View:
        described: Any = lambda: None  # noqa: E731
        for decorator in reversed(decorators):
            described = decorator(described)
        view._apidoc = described._apidoc  # type: ignore[attr-defined]
        return view

    return describe


class NoSessions(SessionInterface):
    """Nobody has a cookie session here, so none is looked for."""

    def open_session(self, app: Flask, request: Request) -> SessionMixin:
        """Return the session that holds nothing."""
        return self.make_null_session(app)

    def save_session(self, app: Flask, session: SessionMixin, response: Response) -> None:
        """Keep nothing."""


class AnswerJson(DefaultJSONProvider):
    """Writes answers as the fast path does: one address never writes a letter in two ways."""

    sort_keys = False

    def response(self, *args: Any, **kwargs: Any) -> Response:
        """Return what a view returned, as JSON with its letters as they are."""
        answer = self._prepare_response_obj(args, kwargs)
        text = self.dumps(answer, ensure_ascii=False, separators=(",", ":"))
        return Response(f"{text}\n", mimetype=self.mimetype)


class IdConverter(IntegerConverter):
    """An id in a path: a number that fits the database's 64 bits; any other is no such thing.

    The pattern alone decides: to a number that only a converter's own check refuses, werkzeug
    answers that the method is not allowed.
    """

    regex = r"[1-9][0-9]{0,17}"
    largest = 10**18 - 1


class DocumentConverter(OpenAPIConverter):
    """Describes input as it is read: known fields only, and as many as the schema asks for."""

    def schema2jsonschema(self, schema: Schema) -> dict[str, Any]:
        """Return the JSON Schema of a marshmallow schema."""
        described: dict[str, Any] = super().schema2jsonschema(schema)  # type: ignore[no-untyped-call]
        if isinstance(schema, inputs.InputSchema):
            described |= {"additionalProperties": False, **schema.document}
        return described


class DocumentPlugin(MarshmallowPlugin):
    """apispec's plugin for marshmallow, with our way to describe input."""

    Converter = DocumentConverter


class ProblemSchema(Schema):
    """RFC 9457 problem document."""

    type = fields.String(required=True)
    title = fields.String(required=True)
    status = fields.Integer(required=True)
    detail = fields.String(required=True)
    errors = fields.Dict(keys=fields.String())
    request_id = fields.String(required=True, allow_none=True)


def register(app: Flask) -> None:
    """Prepare the application for the blueprints of the domains."""
    app.request_class = inputs.ApiRequest
    app.session_interface = NoSessions()
    app.url_map.strict_slashes = False
    app.url_map.merge_slashes = False
    app.json = AnswerJson(app)
    app.url_map.converters["id"] = IdConverter
    app.before_request(_take_request_id)
    body_limits.register(app)
    app.after_request(_finish_answer)
    app.config.update(
        API_TITLE="Perennial",
        API_VERSION="1",
        OPENAPI_VERSION="3.0.3",
        OPENAPI_URL_PREFIX="/",
    )
    app.add_url_rule("/docs", "docs", public(_serve_docs))
    app.add_url_rule("/docs/assets/<path:name>", "docs_assets", public(_serve_docs_asset))
    rest_api.init_app(app, spec_kwargs={"marshmallow_plugin": DocumentPlugin()})
    rest_api.register_converter(
        IdConverter, lambda _: {"type": "integer", "minimum": 1, "maximum": IdConverter.largest}
    )
    document_view = app.view_functions["api-docs.openapi_json"]
    app.view_functions["api-docs.openapi_json"] = _written_once(document_view)


def _written_once(document_view: Any) -> Any:
    """Return a view of the document for everybody, who cannot make us write half a MB each time."""
    written: list[bytes] = []

    @public
    @own_transactions
    @wraps(document_view)
    def view() -> Response:
        if not written:
            written.append(document_view().get_data())
        return Response(written[0], mimetype="application/json")

    return view


@own_transactions
def _serve_docs() -> Response:
    page = (DOCS_PAGE / "index.html").read_bytes()
    return Response(page, mimetype="text/html", headers=DOCS_HEADERS)


@own_transactions
def _serve_docs_asset(name: str) -> Response:
    folder = DOCS_PAGE if name == "start.js" else SWAGGER_ASSETS
    return send_from_directory(folder, name, max_age=86_400)


def _take_request_id() -> None:
    g.request_id = begin_request(request.headers.get("X-Request-ID", ""))


def _finish_answer(response: Response) -> Response:
    response.headers["X-Request-ID"] = g.get("request_id", "")
    is_json = response.mimetype in (JSON, PROBLEM_JSON)
    for name, value in ANSWER_HEADERS:
        if is_json or name != "Cache-Control":
            response.headers.setdefault(name, value)
    return response


_SECURITY: dict[Credential, list[dict[str, list[str]]]] = {
    Credential.OPERATOR: [{"operatorKey": []}],
    Credential.DEVICE: [{}, {"clientToken": []}],
    Credential.COMPANY: [{"companyToken": []}],
    Credential.COMPANY_OR_OPERATOR: [{"companyToken": []}, {"operatorKey": []}],
    Credential.SIGNATURE: [{"bodySignature": []}],
    Credential.GATEWAY: [{"callbackSecret": []}, {"callbackSecretInUrl": []}],
    Credential.PUBLIC: [],
}
_PROBLEMS = {
    400: "The input cannot be used; `errors` names the fields.",
    401: "No credential, or one that is not known.",
    403: "The credential has not the scope that this takes.",
    404: "There is no such thing.",
    409: "The request contradicts what is there.",
    413: "The body is too large.",
    415: "The body is neither JSON nor a form.",
    429: "Too many requests; see Retry-After.",
    503: "Away for a moment; see Retry-After.",
}


def document(app: Flask) -> None:
    """Complete the API document: credentials, problem answers, headers, form bodies."""
    spec = rest_api.spec
    spec.components.security_scheme("operatorKey", {"type": "http", "scheme": "bearer"})
    spec.components.security_scheme("companyToken", {"type": "http", "scheme": "bearer"})
    spec.components.security_scheme(
        "clientToken", {"type": "apiKey", "in": "header", "name": "X-Client-Token"}
    )
    spec.components.security_scheme(
        "bodySignature", {"type": "apiKey", "in": "header", "name": "X-Signature"}
    )
    spec.components.security_scheme(
        "callbackSecret", {"type": "apiKey", "in": "header", "name": "X-Callback-Secret"}
    )
    spec.components.security_scheme(
        "callbackSecretInUrl", {"type": "apiKey", "in": "query", "name": "secret"}
    )
    if "Problem" not in spec.components.schemas:
        spec.components.schema("Problem", schema=ProblemSchema)
    views = {
        (_openapi_path(rule.rule), method.lower()): app.view_functions[rule.endpoint]
        for rule in app.url_map.iter_rules()
        for method in rule.methods or ()
    }
    for path, operations in spec._paths.items():
        for method, operation in operations.items():
            view = views.get((path, method))
            if view is not None and isinstance(operation, dict):
                _complete(operation, method, view, has_id="{" in path)
                if getattr(view, "credential", None) is not Credential.SIGNATURE:
                    _complete_body(operation, spec.components.schemas)


def _openapi_path(rule: str) -> str:
    return re.sub(r"<(?:[^:<>]+:)?([^<>]+)>", r"{\1}", rule)


def _complete(operation: dict[str, Any], method: str, view: Any, *, has_id: bool) -> None:
    credential = getattr(view, "credential", Credential.PUBLIC)
    operation["security"] = _SECURITY[credential]
    statuses = {429, 503}
    statuses |= {401} if credential is not Credential.PUBLIC else set()
    by_operator = credential in (Credential.OPERATOR, Credential.COMPANY_OR_OPERATOR)
    statuses |= {403} if by_operator else set()
    statuses |= {404} if has_id else set()
    statuses |= {400} if operation.get("parameters") else set()
    if method != "get":
        statuses |= {400, 413, 415}
    if getattr(view, "takes_idempotency_key", False):
        statuses |= {409}
        operation.setdefault("parameters", []).append(_idempotency_parameter())
    responses = operation.setdefault("responses", {})
    responses.pop("default", None)
    statuses |= {int(code) for code in responses if int(code) >= 400}
    for status in sorted(statuses):
        stated = responses.get(str(status), {})
        if "content" in stated:
            continue
        described = stated.get("description")
        responses[str(status)] = {
            "description": _PROBLEMS.get(status) or described or "A problem.",
            "content": {PROBLEM_JSON: {"schema": {"$ref": "#/components/schemas/Problem"}}},
        }


def _complete_body(operation: dict[str, Any], schemas: dict[str, Any]) -> None:
    """Say that a body may be a form, and that it may be left out where nothing in it is needed."""
    body = operation.get("requestBody", {})
    content = body.get("content", {})
    if "$ref" not in content.get("application/json", {}).get("schema", {}):
        return
    content["application/x-www-form-urlencoded"] = content["application/json"]
    schema = schemas[content["application/json"]["schema"]["$ref"].rpartition("/")[2]]
    body["required"] = bool(schema.get("required") or schema.get("minProperties"))


def _idempotency_parameter() -> dict[str, Any]:
    return {
        "in": "header",
        "name": IDEMPOTENCY_HEADER,
        "required": False,
        "description": "The same key with the same body gets the first answer, for 24 hours.",
        "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]{1,255}$"},
    }
