"""The one place that reads the environment: each area of settings, whole or not at all.

The settings belong to the process, as its environment does: they are there before an application
is, and threads without one ask for them too.
"""

import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import singledispatch
from pathlib import Path
from typing import Any

from dotenv import dotenv_values, load_dotenv
from environs import Env, EnvError
from marshmallow import ValidationError
from marshmallow.validate import OneOf, Range, Regexp

from project.config.declare import (
    ConfigurationError,
    Cron,
    Decimal,
    Derived,
    Items,
    Kind,
    Parsed,
    RateLimit,
    S,
    Secret,
    Secrets,
    Setting,
    Settings,
    Switch,
    Text,
    Url,
    Whole,
    settings_of,
)
from project.config.secrets import check_secret

ROOT = Path(__file__).resolve().parents[2]


class Configuration:
    """The settings as one environment has them; each area is read when it is first asked for."""

    def __init__(self, *areas: Settings) -> None:
        self._areas: dict[type[Settings], Any] = {type(area): area for area in areas}

    def get(self, area: type[S]) -> S:
        """Return the settings of an area. Raises ConfigurationError."""
        found: S | None = self._areas.get(area)
        if found is None:
            found = self._areas[area] = self._read(area)
        return found

    def replaced(self, *areas: Settings) -> "Configuration":
        """Return the same with other settings for some areas."""
        return Configuration(*{**self._areas, **{type(area): area for area in areas}}.values())

    def inspect(self, area: type[Settings]) -> "Inspection":
        """Return what an area holds, and everything that is wrong with it."""
        values: dict[str, Any] = {}
        problems: list[ConfigurationError] = []
        wrong: set[str] = set()
        for field, setting in settings_of(area):
            try:
                found = _given(setting)
            except ConfigurationError as problem:
                problems.append(problem)
                wrong.add(field)
                found = None
            try:
                values[field] = self._default(setting, values) if found is None else found
            except ConfigurationError as problem:
                problems.append(problem)
        try:
            if not problems:
                problems += area(**values).problems(self.get)
        except ConfigurationError as problem:
            problems.append(problem)
        return Inspection(values, frozenset(wrong), problems)

    def _default(self, setting: Setting, before: Mapping[str, Any]) -> Any:
        default = setting.default
        return default.value(self.get, before) if isinstance(default, Derived) else default

    def _read(self, area: type[S]) -> S:
        found = self.inspect(area)
        for problem in found.problems:
            raise problem
        return area(**found.values)


@dataclass(frozen=True)
class Inspection:
    """The values of an area by their fields, which of them are wrong, and why.

    The default stands for a wrong value; a field is left out if that cannot be told either.
    """

    values: dict[str, Any]
    wrong: frozenset[str]
    problems: list[ConfigurationError]


_current: Configuration | None = None


def get_settings(area: type[S]) -> S:
    """Return the settings of an area in this process, read once. Raises ConfigurationError."""
    return configuration().get(area)


def configuration() -> Configuration:
    """Return the settings of this process, all areas of them."""
    global _current
    if _current is None:
        load_environment()
        _current = Configuration()
    return _current


def use_settings(settings: Configuration | None) -> None:
    """Replace the settings of this process; None reads the environment again at the next use."""
    global _current
    _current = settings


def given_text(name: str) -> str | None:
    """Return what the environment says in a setting, as it stands there."""
    return os.environ.get(name)


def is_given(name: str) -> bool:
    """Tell whether the environment, or a file that fills it, has a setting."""
    return name in os.environ


SettingsFiles = Mapping[Path, Mapping[str, str | None]]
"""What the files that fill the environment say, the one that wins first."""


def read_settings_files() -> SettingsFiles:
    """Return what the files that fill the environment say."""
    return {path: dotenv_values(path) for path in settings_files()}


def source_of(name: str, files: SettingsFiles) -> str:
    """Return where a setting comes from: the environment, one of the files, or its default.

    What stands in the environment and, with the same value, in a file comes from the file: Flask
    reads `.env` by itself before it runs a command.
    """
    if not is_given(name):
        return "default"
    for path, values in files.items():
        if values.get(name) == os.environ[name]:
            return str(path.relative_to(ROOT) if path.is_relative_to(ROOT) else path)
    return "environment"


def load_environment() -> None:
    """Fill what the environment leaves open from `.env`, then from what the launcher worked out.

    And go by UTC, whatever the machine's time zone is: rq-scheduler reads its crons in local time.
    """
    os.environ["TZ"] = "UTC"
    time.tzset()
    for path in settings_files():
        load_dotenv(path, override=False)


def settings_files() -> Iterator[Path]:
    """Return the files that fill the environment, the one that wins first."""
    yield Path(os.environ.get("ENV_FILE") or ROOT / ".env")
    # The first file may say where the second one is.
    yield ROOT / (os.environ.get("VAR_DIR") or "var") / "run" / "runtime.env"


def _given(setting: Setting) -> Any:
    """Return what the environment says in a setting, None if that is as good as nothing.

    Raises ConfigurationError, with a sentence for people.
    """
    if not is_given(setting.name):
        return None
    try:
        return _parsed(setting.kind, Env(eager=True), setting.name)
    except (EnvError, ValueError) as error:
        raise ConfigurationError(f"A setting cannot be used: {error}") from error


@singledispatch
def _parsed(kind: Kind[Any], _env: Env, name: str) -> Any:
    raise TypeError(f"{name} is of a kind that nobody reads: {kind}")


@_parsed.register
def _text(kind: Text, env: Env, name: str) -> str | None:
    validators: list[Any] = [OneOf(list(kind.one_of))] if kind.one_of else []
    validators += [Regexp(kind.pattern)] if kind.pattern else []
    text = env.str(name, validate=validators)
    return text if kind.may_be_blank else text.strip() or None


@_parsed.register
def _url(kind: Url, env: Env, name: str) -> str | None:
    text = env.str(name)
    text = text.rstrip("/") if kind.is_base else text
    return text if kind.may_be_blank else text or None


@_parsed.register
def _whole(kind: Whole, env: Env, name: str) -> int:
    return env.int(name, validate=Range(kind.least, kind.most))


@_parsed.register
def _decimal(kind: Decimal, env: Env, name: str) -> float:
    return env.float(name, validate=Range(kind.least, kind.most))


@_parsed.register
def _switch(_kind: Switch, env: Env, name: str) -> bool:
    return env.bool(name)


@_parsed.register
def _cron(_kind: Cron, env: Env, name: str) -> str:
    # Loaded where somebody sets one, as is `limits`: few processes need what they bring along.
    from croniter import croniter

    def check(text: str) -> None:
        if not croniter.is_valid(text):
            raise ValidationError("Not a cron expression such as 0 3 * * *.")

    return env.str(name, validate=check)


@_parsed.register
def _rate_limit(kind: RateLimit, env: Env, name: str) -> str:
    from limits import parse_many

    def check(text: str) -> None:
        try:
            limits = parse_many(text)
        except ValueError as error:
            raise ValidationError("Not a limit such as 300/minute.") from error
        if kind.is_single and len(limits) > 1:
            raise ValidationError("Must be a single limit such as 5000/second.")

    return env.str(name, validate=check)


@_parsed.register
def _secret(kind: Secret, env: Env, name: str) -> str | None:
    text = env.str(name)
    if not text:
        return None
    secret = text.strip()
    check_secret(name, secret, is_ours=kind.is_ours)
    return secret


@_parsed.register
def _secrets(kind: Secrets, env: Env, name: str) -> tuple[str, ...] | None:
    text = env.str(name)
    if not text:
        return None
    secrets = tuple(item.strip() for item in text.split(","))
    for number, secret in enumerate(secrets, 1):
        which = f", secret {number} of {len(secrets)}"
        check_secret(name, secret, is_ours=kind.is_ours, which=which)
    return secrets


@_parsed.register(Parsed)
def _value(kind: Parsed[Any], env: Env, name: str) -> Any:
    return kind.parse(env.str(name))


@_parsed.register(Items)
def _items(kind: Items[Any], env: Env, name: str) -> Any:
    return kind.parse(env.list(name)) or None
