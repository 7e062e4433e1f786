"""Lists in pages."""

from collections.abc import Callable
from functools import cache
from typing import Any

from marshmallow import Schema, fields
from sqlalchemy import Select, func, select

from project.extensions import db


class PaginationSchema(Schema):
    """Where in a list the answer stands."""

    current_page = fields.Integer(required=True)
    per_page = fields.Integer(required=True)
    total = fields.Integer(required=True)
    last_page = fields.Integer(required=True)


def pagination(total: int, *, page: int, limit: int) -> dict[str, int]:
    """Return where in a list of so many the page stands."""
    return {
        "current_page": page,
        "per_page": limit,
        "total": total,
        "last_page": max(1, -(-total // limit)),
    }


def page_of(
    statement: Select[*tuple[Any, ...]],
    *,
    page: int,
    limit: int,
    show: Callable[[Any], Any] = lambda row: row,
) -> dict[str, Any]:
    """Return one page: {status, data: [show(row), ...], pagination}."""
    total = db.session.scalar(select(func.count()).select_from(statement.order_by(None).subquery()))
    rows = db.session.execute(statement.limit(limit).offset((page - 1) * limit)).all()
    return {
        "status": "success",
        "data": [show(row) for row in rows],
        "pagination": pagination(total or 0, page=page, limit=limit),
    }


@cache
def data_schema(item: type[Schema]) -> type[Schema]:
    """Return the schema of an answer with one resource: {status, data}."""
    name = item.__name__.removesuffix("Schema") + "AnswerSchema"
    return Schema.from_dict(
        {"status": fields.String(required=True), "data": fields.Nested(item, required=True)},
        name=name,
    )


@cache
def list_schema(item: type[Schema]) -> type[Schema]:
    """Return the schema of an answer with a list: {status, data: [...], pagination}."""
    name = item.__name__.removesuffix("Schema") + "ListSchema"
    return Schema.from_dict(
        {
            "status": fields.String(required=True),
            "data": fields.List(fields.Nested(item), required=True),
            "pagination": fields.Nested(PaginationSchema, required=True),
        },
        name=name,
    )
