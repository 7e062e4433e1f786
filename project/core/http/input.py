"""How input is read: JSON or a form, strict fields, one set of names."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, ClassVar
from urllib.parse import unquote_to_bytes

import structlog
from flask import Request, g
from marshmallow import RAISE, Schema, ValidationError, fields, pre_load, validate
from webargs.flaskparser import FlaskParser
from webargs.multidictproxy import MultiDictProxy
from werkzeug.exceptions import BadRequest, UnsupportedMediaType
from werkzeug.formparser import FormDataParser

from project.config.environment import get_settings
from project.config.kernel import CoreSettings
from project.core.errors import BadRequest as BadInput

log = structlog.get_logger()

FORM_TYPES = ("application/x-www-form-urlencoded", "multipart/form-data")
MAX_BIGINT = 2**63 - 1
MAX_CLICK_ID_LENGTH = 2_048
"""Characters. Ids of clicks are made by others: those of ad networks have some hundred."""
MAX_LIMIT = 1000
MAX_PAGE = 1_000_000
_DIGITS = re.compile(r"[0-9]{1,19}")
_CONTROL_CHARACTERS = re.compile(r"[\x00-\x1f\x7f]")


class ApiRequest(Request):
    """A request whose form is read as a whole or refused.

    By itself werkzeug takes one that it cannot read for an empty one.
    """

    def make_form_data_parser(self) -> FormDataParser:
        """Return a parser that raises ValueError for a form that is not in order."""
        parser = super().make_form_data_parser()
        parser.silent = False
        return parser

    def _load_form_data(self) -> None:
        try:
            super()._load_form_data()
        except UnicodeDecodeError as error:
            raise BadRequest("The form must be UTF-8, names of files too.") from error
        except ValueError as error:
            raise BadRequest("The form cannot be read.") from error


class InputParser(FlaskParser):
    """Reads a body from JSON or, for the same flat object, from a form."""

    DEFAULT_VALIDATION_STATUS = 400
    # A parameter that is not known is an error, or a misspelt filter would list everything.
    DEFAULT_UNKNOWN_BY_LOCATION: dict[str, str | None] = {
        **FlaskParser.DEFAULT_UNKNOWN_BY_LOCATION,
        "query": RAISE,
    }

    def load_json(self, req: Request, schema: Any) -> Any:
        """Return the body's object. Aborts with 400 for broken JSON, with 415 for another type."""
        return read_body(req)

    def load_querystring(self, req: Request, schema: Any) -> Any:
        """Return the query's parameters, each of which may come once."""
        _require_utf8(unquote_to_bytes(req.query_string), "query")
        given = _single(req.args.to_dict(flat=False), "query")
        if "empty-filters" in get_settings(CoreSettings).compatibility:
            given = {name: value for name, value in given.items() if value}
        return MultiDictProxy(given, schema)


def read_body(req: Request) -> dict[str, Any]:
    """Return the flat object in the body, parsed once per request."""
    if "body" not in g:
        g.body = _parse_form(req) if req.mimetype in FORM_TYPES else _parse_json(req)
    return dict(g.body)


def _parse_json(req: Request) -> dict[str, Any]:
    raw = req.get_data(cache=True)
    if not raw and not req.mimetype:
        return {}
    if not req.is_json:
        raise UnsupportedMediaType
    return parse_object(raw)


def parse_object(raw: bytes) -> dict[str, Any]:
    """Return the JSON object that a body is. Raises BadRequest."""
    try:
        parsed = json.loads(raw, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise BadRequest("The body is not valid JSON.") from error
    if not isinstance(parsed, dict):
        raise BadRequest("The body must be a JSON object.")
    return parsed


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _parse_form(req: Request) -> dict[str, Any]:
    raw = req.get_data(cache=True)
    given = _single(req.form.to_dict(flat=False), "form")
    if req.mimetype == FORM_TYPES[0]:
        _require_utf8(unquote_to_bytes(raw), "form")
    elif any("\ufffd" in value for value in given.values()):
        _require_utf8(raw, "form")
    return given


def _require_utf8(raw: bytes, where: str) -> None:
    """Raise BadRequest for bytes that werkzeug has put other characters in the place of."""
    try:
        raw.decode()
    except UnicodeDecodeError as error:
        raise BadRequest(f"The {where} must be UTF-8.") from error


def _single(values: Mapping[str, list[str]], where: str) -> dict[str, Any]:
    for name, given in values.items():
        if len(given) > 1:
            raise BadRequest(f"The {where} names {name[:100]!r} more than once.")
    return {name: given[0] for name, given in values.items()}


def require_known_fields(body: Mapping[str, Any], known: Sequence[str]) -> None:
    """Raise BadRequest for fields that are not known, and for two spellings of the known one."""
    unknown = [str(name) for name in body if name not in known]
    if unknown:
        errors = {name: ["Unknown field."] for name in unknown}
        raise BadInput("The input has fields that are not known.", errors)
    if len(body) > 1:
        raise BadInput(
            "The input says the same twice.", {known[0]: ["Given twice, under two spellings."]}
        )


def has_control_characters(text: str) -> bool:
    """Tell whether a text holds what neither people nor databases want in a name."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return _CONTROL_CHARACTERS.search(text) is not None


def storable(text: str) -> str:
    """Return the text without halves of surrogate pairs and NUL, which no database takes."""
    return text.encode("utf-8", "replace").decode().replace("\0", "")


class InputSchema(Schema):
    """A body or query of known fields. `aliases` maps other spellings to a field's own name."""

    aliases: ClassVar[Mapping[str, str]] = {}
    document: ClassVar[Mapping[str, Any]] = {}
    """What the API document says of it beside its fields, as JSON Schema."""

    @pre_load
    def _use_own_names(self, data: Any, **_: Any) -> Any:
        if not self.aliases or not isinstance(data, Mapping):
            return data
        renamed: dict[str, Any] = {}
        for name, value in data.items():
            own_name = self.aliases.get(name, name)
            if own_name in renamed:
                raise ValidationError("Given twice, under two spellings.", own_name)
            renamed[own_name] = value
        return renamed


class Text(fields.String):
    """Text without control characters, which neither people nor databases want in a name."""

    def __init__(self, **kwargs: Any) -> None:
        described = {"pattern": r"^[^\u0000-\u001f\u007f]*$", **kwargs.pop("metadata", {})}
        super().__init__(metadata=described, **kwargs)

    def _deserialize(self, value: Any, attr: Any, data: Any, **kwargs: Any) -> Any:
        text = super()._deserialize(value, attr, data, **kwargs)
        if _CONTROL_CHARACTERS.search(text):
            raise ValidationError("Must not contain control characters.")
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise ValidationError("Must be valid Unicode.") from error
        return text


class Choice(fields.String):
    """One of the members, such as a whole enum; of one that we do not know, the text is shown."""

    def __init__(self, members: Iterable[StrEnum], **kwargs: Any) -> None:
        self._members = {member.value: member for member in members}
        super().__init__(validate=validate.OneOf(list(self._members)), **kwargs)

    def _deserialize(self, value: Any, attr: Any, data: Any, **kwargs: Any) -> Any:
        text = super()._deserialize(value, attr, data, **kwargs)
        return self._members.get(text, text)


def id_as_text(given: Any) -> Any:
    """Return an id that others gave; its number as text where COMPATIBILITY names form-ids."""
    is_number = isinstance(given, int) and not isinstance(given, bool)
    return (
        str(given)
        if is_number and "form-ids" in get_settings(CoreSettings).compatibility
        else given
    )


class ForeignId(Text):
    """An id that others gave: text."""

    def _deserialize(self, value: Any, attr: Any, data: Any, **kwargs: Any) -> Any:
        return super()._deserialize(id_as_text(value), attr, data, **kwargs)


class ClickId(fields.Raw):
    """The click that brought somebody; one that does not fit stops nobody, and is left out."""

    def __init__(self, **kwargs: Any) -> None:
        described = f"Up to {MAX_CLICK_ID_LENGTH:,} characters; one that does not fit is left out."
        super().__init__(metadata={"description": described}, **kwargs)
        self._as_text = Text(validate=validate.Length(1, MAX_CLICK_ID_LENGTH))

    def deserialize(self, value: Any, attr: Any = None, data: Any = None, **kwargs: Any) -> Any:
        """Return the id, or None with a line in the log."""
        try:
            return self._as_text.deserialize(value, attr, data, **kwargs)
        except ValidationError as error:
            log.warning("click_id.left_out", reasons=error.messages)
            return None


class Id(fields.Integer):
    """A positive 64-bit number; its decimal digits in a string are taken too, as forms send it."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(strict=True, validate=validate.Range(1, MAX_BIGINT), **kwargs)

    def _validated(self, value: Any) -> Any:
        if isinstance(value, bool):
            raise self.make_error("invalid", input=value)
        if isinstance(value, str):
            if not _DIGITS.fullmatch(value):
                raise self.make_error("invalid", input=value)
            value = int(value)
        return super()._validated(value)


class Moment(fields.AwareDateTime):
    """A time with an offset (ISO 8601), turned to UTC."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(format="iso", **kwargs)

    def _deserialize(self, value: Any, attr: Any, data: Any, **kwargs: Any) -> Any:
        if not isinstance(value, str) or len(value) > 40:
            raise self.make_error("invalid", input=value, obj_type=self.OBJ_TYPE)
        # A plus sign in a query is a space by the time it gets here.
        moment = super()._deserialize(value.replace(" ", "+"), attr, data, **kwargs)
        try:
            return moment.astimezone(UTC)
        except OverflowError as error:
            raise self.make_error("invalid", input=value, obj_type=self.OBJ_TYPE) from error

    def _serialize(self, value: datetime | None, attr: Any, obj: Any, **kwargs: Any) -> Any:
        return None if value is None else value.astimezone(UTC).isoformat()


class PageSchema(InputSchema):
    """The query of a list."""

    page = fields.Integer(strict=False, load_default=1, validate=validate.Range(1, MAX_PAGE))
    limit = fields.Integer(strict=False, load_default=100, validate=validate.Range(1, MAX_LIMIT))
