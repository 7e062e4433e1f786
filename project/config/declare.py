"""How a setting is declared: once, with its name, kind, default, unit and what it is for.

Each area of the product declares its own as a frozen dataclass. Whatever else is known of a
setting is derived from the declaration: how it is read (`project.config.environment`), what
`flask settings` says, `.env.example` and the table in docs/operations.md. Nothing here needs a
package, because `make env` runs before there are any.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, Protocol, TypeVar

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
DECLARATION = "setting"


class ConfigurationError(Exception):
    """A setting that cannot be used; the message says which one, and what to do."""


class NoRunningCopy(ConfigurationError):
    """A server that no setting names and no running copy has: nothing is set wrong."""


class Kind(Generic[T_co]):
    """What a setting's text means. `project.config.environment` reads each kind."""

    noun = "text"
    is_secret = False
    """Whether a value is shown to nobody."""

    def write(self, value: Any) -> str:
        """Return a value as one writes it into the environment."""
        return str(value)

    def bounds(self) -> str:
        """Return what may be set, for people; nothing if any text may."""
        return ""


@dataclass(frozen=True)
class Text(Kind[str]):
    """Any text; a blank one is as good as none if `may_be_blank` is false."""

    one_of: Sequence[str] = ()
    pattern: str = ""
    may_be_blank: bool = True
    is_secret: bool = False

    def bounds(self) -> str:
        """Return the choice, if there is one."""
        return "secret" if self.is_secret else ", ".join(self.one_of)


@dataclass(frozen=True)
class Whole(Kind[int]):
    """A whole number."""

    least: int | None = None
    most: int | None = None
    noun = "whole number"

    def bounds(self) -> str:
        """Return the range."""
        return _range(self.least, self.most)


@dataclass(frozen=True)
class Decimal(Kind[float]):
    """A number that may have a fraction."""

    least: float | None = None
    most: float | None = None
    noun = "number"

    def write(self, value: Any) -> str:
        """Return 10 for 10.0."""
        return f"{value:g}"

    def bounds(self) -> str:
        """Return the range."""
        return _range(self.least, self.most)


@dataclass(frozen=True)
class Switch(Kind[bool]):
    """1 or 0."""

    noun = "switch"

    def write(self, value: Any) -> str:
        """Return 1 or 0."""
        return str(int(value))

    def bounds(self) -> str:
        """Return both."""
        return "0 or 1"


@dataclass(frozen=True)
class Cron(Kind[str]):
    """When something runs, in UTC."""

    noun = "cron, in UTC"


@dataclass(frozen=True)
class RateLimit(Kind[str]):
    """A limit such as 300/minute, or several of them."""

    is_single: bool = False
    noun = "such as 300/minute"


@dataclass(frozen=True)
class Url(Kind[str]):
    """Where another system answers; a blank one is as good as none if `may_be_blank` is false.

    `is_base`: paths are put behind it, so that a slash at its end is taken off.
    """

    may_be_blank: bool = True
    is_base: bool = False
    noun = "URL"


@dataclass(frozen=True)
class Secret(Kind[str]):
    """What proves who somebody is; never shown. One that we make is longer than a given one."""

    is_ours: bool = True
    noun = "secret"
    is_secret = True


@dataclass(frozen=True)
class Secrets(Kind[tuple[str, ...]]):
    """Several secrets, separated by commas: any of them is taken, the first is used."""

    is_ours: bool = True
    noun = "secrets"
    is_secret = True


@dataclass(frozen=True)
class Parsed(Kind[T_co]):
    """A text that a function makes a value of, or raises ValueError that names the setting."""

    parse: Callable[[str], T_co]
    written: Callable[[Any], str] = str
    noun: str = "text"

    def write(self, value: Any) -> str:
        """Return a value as one writes it."""
        return self.written(value)


@dataclass(frozen=True)
class Items(Kind[T_co]):
    """A list, separated by commas, that a function makes a value of; no items are no setting."""

    parse: Callable[[list[str]], T_co]
    written: Callable[[Any], str] = ",".join
    noun: str = "list"

    def write(self, value: Any) -> str:
        """Return a value as one writes it."""
        return self.written(value)


class Settings:
    """The settings of one area: a frozen dataclass whose fields are all declared by `setting`."""

    title: ClassVar[str]

    def problems(self, read: "Reader") -> Iterator[ConfigurationError]:
        """Return what is wrong although each setting by itself can be used."""
        yield from ()


S = TypeVar("S", bound=Settings)


class Reader(Protocol):
    """Gives the settings of another area, on which a default or a check depends."""

    def __call__(self, area: type[S], /) -> S:
        """Return the settings of an area. Raises ConfigurationError."""


@dataclass(frozen=True)
class Derived(Generic[T_co]):
    """A default that depends on other settings; `shown` says in words what it is.

    It is given the means to read other areas, and the fields before it in its own.
    """

    value: Callable[[Reader, Mapping[str, Any]], T_co]
    shown: str


@dataclass(frozen=True)
class Setting:
    """All that is known of a setting."""

    name: str
    kind: Kind[Any]
    default: Any
    help: str
    unit: str
    example: str
    first_value: str | None

    def takes(self) -> str:
        """Return what may be set, for people, such as `seconds, 1 to 60`."""
        known = (self.unit, self.kind.bounds())
        return ", ".join(filter(None, known)) or self.kind.noun

    def default_text(self) -> str:
        """Return the default as it is written, or in words; nothing if there is none."""
        if isinstance(self.default, Derived):
            return self.default.shown
        if self.kind.is_secret:
            return "for development" if self.default else ""
        return "" if self.default is None else self.kind.write(self.default)


def setting(
    name: str,
    kind: Kind[T],
    default: T | Derived[T],
    *,
    help: str,
    unit: str = "",
    example: str = "",
    first_value: str | None = None,
) -> T:
    """Declare a field of an area as the setting `name` of the environment.

    `example` stands in .env.example where the default says nothing; `first_value` is what the
    first start of a copy writes into its .env.
    """
    declared = Setting(name, kind, default, help, unit, example, first_value)
    field: T = dataclasses.field(metadata={DECLARATION: declared})
    return field


def settings_of(area: type[Settings]) -> Iterator[tuple[str, Setting]]:
    """Return the fields of an area, in their order, each with its declaration."""
    for field in dataclasses.fields(area):  # type: ignore[arg-type]
        yield field.name, field.metadata[DECLARATION]


def _range(least: float | None, most: float | None) -> str:
    if least is None:
        return ""
    return f"{least:,} or more" if most is None else f"{least:,} to {most:,}"
