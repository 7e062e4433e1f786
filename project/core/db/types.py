"""Columns whose texts have a type: the members of an enum, and nothing else."""

from collections.abc import Iterable
from enum import StrEnum
from typing import Any, TypeVar

from sqlalchemy import Dialect, Text, TypeDecorator
from sqlalchemy.sql import operators
from sqlalchemy.types import TypeEngine

Member = TypeVar("Member", bound=StrEnum)

_COMPARISONS = (
    operators.eq,
    operators.ne,
    operators.lt,
    operators.le,
    operators.gt,
    operators.ge,
    operators.in_op,
    operators.not_in_op,
    operators.is_distinct_from,
    operators.is_not_distinct_from,
)


class StringEnum(TypeDecorator[Member]):
    """A text that is a member of an enum here, so that neither mypy nor the column takes others.

    A text that only another version of the product knows is loaded as a member without a name of
    its own: it can be shown, compared and written back, and equals none that we know.
    """

    impl = Text
    cache_ok = True

    def __init__(self, enum: type[Member]) -> None:
        super().__init__()
        self.enum = enum
        self._members = {member.value: member for member in enum}

    def text_of(self, value: Any) -> str | None:
        """Return a member's text. Raises ValueError for anything else, members of others too."""
        if value is None or isinstance(value, self.enum):
            return value and value.value
        if isinstance(value, str) and not isinstance(value, StrEnum) and value in self._members:
            return value
        raise ValueError(f"{value!r} is not a {self.enum.__name__}")

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:
        """Return what is sent. Raises what `text_of` raises."""
        return self.text_of(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> Member | None:
        """Return the member of a text."""
        return None if value is None else self._members.get(value) or self._unknown(value)

    def coerce_compared_value(self, op: Any, value: Any) -> TypeEngine[Any]:
        """Take members where the column is compared, and any text where it is searched."""
        return self if op in _COMPARISONS else Text()

    def _unknown(self, text: str) -> Member:
        member = str.__new__(self.enum, text)
        member._name_ = member._value_ = text
        return member


def one_of(column: str, members: Iterable[StrEnum]) -> str:
    """Return the SQL that holds where the column has one of the members, for a CHECK or an index.

    Given is the whole enum, or some of its members; they are written in the enum's order.
    """
    wanted = set(members)
    texts = [f"'{member}'" for member in type(next(iter(wanted))) if member in wanted]
    return f"{column} = {texts[0]}" if len(texts) == 1 else f"{column} IN ({', '.join(texts)})"


def render_type(kind: str, item: Any, _context: Any) -> str | bool:
    """Return how a migration names a column's type: by the text that it is; False for others."""
    return "sa.Text()" if kind == "type" and isinstance(item, StringEnum) else False
