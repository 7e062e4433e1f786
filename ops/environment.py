"""The settings of a copy: the environment, then `.env`, written with random secrets at first.

Needs no package, and of the product only the declarations of settings, which need none either, so
that `make env` works before anything is installed.
"""

import os
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ops.errors import OpsError
from ops.files import write_private
from project.config.declare import settings_of
from project.config.kernel import CoreSettings, HttpSettings, SimulatorSettings, WorkSettings
from project.config.launch import LaunchSettings

PROJECT = Path(__file__).resolve().parent.parent
# supervisord keeps three files open for each; more workers belong on more machines.
MOST_WORKERS = 128
LAST_PORT = 65_535
DEFAULTS: dict[str, Any] = {
    setting.name: setting.default
    for area in (CoreSettings, HttpSettings, WorkSettings, SimulatorSettings, LaunchSettings)
    for _, setting in settings_of(area)
}
NO = ("0", "false", "no", "off")
# What the first start makes up, with the prefix that tells an operator's key from other secrets.
SECRETS = {
    "API_KEY": "pk_",
    "SECRET_KEY": "",
    "WEBHOOK_SECRET_KEY": "",
    "POSTGRES_PASSWORD": "",
    "REDIS_PASSWORD": "",
}
_LINE = re.compile(r"^\s*(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)\s*=\s*(.*?)\s*$")


@dataclass(frozen=True)
class Settings:
    """What the launchers need to know; all the rest is the application's."""

    project: Path
    var_dir: Path
    host: str
    port: int
    simulator_port: int
    workers: int
    app_env: str
    with_simulator: bool
    database_url: str | None
    redis_url: str | None
    api_key: str | None
    postgres_bin_dir: Path | None

    @property
    def api_url(self) -> str:
        """Return where the API answers, as seen from this machine."""
        return f"http://{_visitable(self.host)}:{self.port}"

    @property
    def simulator_url(self) -> str:
        """Return where the simulated outside world answers."""
        return f"http://127.0.0.1:{self.simulator_port}"

    @property
    def runtime_file(self) -> Path:
        """Return where commands in another terminal find the running copy."""
        return self.var_dir / "run" / "runtime.env"


def load(project: Path = PROJECT, environ: Mapping[str, str] | None = None) -> Settings:
    """Read and check the launchers' settings. Raises OpsError."""
    given = merged(project, os.environ if environ is None else environ)
    app_env = given.get("APP_ENV") or DEFAULTS["APP_ENV"]
    asked = given.get("SIMULATOR", "").lower()
    return Settings(
        project=project,
        var_dir=_var_dir(project, given.get("VAR_DIR") or DEFAULTS["VAR_DIR"]),
        host=given.get("HOST") or DEFAULTS["HOST"],
        port=_number(given, "PORT", LAST_PORT),
        simulator_port=_number(given, "SIMULATOR_PORT", LAST_PORT),
        workers=_number(given, "WORKERS", MOST_WORKERS),
        app_env=app_env,
        with_simulator=app_env != "production" and asked not in NO,
        database_url=given.get("DATABASE_URL") or None,
        redis_url=given.get("REDIS_URL") or None,
        api_key=given.get("API_KEY") or None,
        postgres_bin_dir=_folder(given.get("POSTGRES_BIN_DIR")),
    )


def merged(project: Path, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment and, where it is silent, what `.env` says."""
    return read_env_file(env_file(project, environ)) | dict(environ)


def env_file(project: Path, environ: Mapping[str, str]) -> Path:
    """Return the `.env` of a copy; ENV_FILE names another one."""
    return project / (environ.get("ENV_FILE") or ".env")


def read_env_file(path: Path) -> dict[str, str]:
    """Return the variables of a `.env` file: NAME=value lines, quotes taken off."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise OpsError(f"Cannot read {path}: {error}.") from error
    matches = (_LINE.match(line) for line in lines)
    return {match[1]: _plain(match[2]) for match in matches if match}


def write_env_file(project: Path, path: Path) -> bool:
    """Write `.env` from `.env.example` with random secrets; tell whether it was missing."""
    if path.exists():
        return False
    template = (project / ".env.example").read_text(encoding="utf-8")
    write_private(path, "\n".join(_filled(line) for line in template.splitlines()) + "\n")
    return True


def write_runtime_file(path: Path, variables: Mapping[str, str]) -> None:
    """Write what the launcher worked out, for commands in another terminal."""
    lines = [f"{name}={_env_quoted(value)}" for name, value in variables.items()]
    write_private(path, "\n".join(("# Written at every start.", *lines, "")))


def _filled(line: str) -> str:
    name, separator, value = line.partition("=")
    if separator and not value.strip() and name in SECRETS:
        return f"{name}={SECRETS[name]}{secrets.token_urlsafe(32)}"
    return line


def _plain(value: str) -> str:
    for pattern in (r"'((?:\\.|[^'\\])*)'", r'"((?:\\.|[^"\\])*)"'):
        quoted = re.match(pattern, value)
        if quoted:
            return re.sub(r"\\(['\"\\])", r"\1", quoted[1])
    return re.split(r"(?:^|\s)#", value, maxsplit=1)[0].strip()


def _env_quoted(value: str) -> str:
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _var_dir(project: Path, value: str) -> Path:
    return Path(os.path.abspath(project / value))


def _folder(value: str | None) -> Path | None:
    return Path(value).expanduser().resolve() if value else None


def _number(given: Mapping[str, str], name: str, most: int) -> int:
    text = given.get(name) or str(DEFAULTS[name])
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= most):
        raise OpsError(f"{name}={text} cannot be used: it must be a number from 1 to {most}.")
    return int(text)


def _visitable(host: str) -> str:
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"[{host}]" if ":" in host else host


def main() -> None:
    """Write `.env` if there is none."""
    path = env_file(PROJECT, os.environ)
    print(f"Wrote {path}." if write_env_file(PROJECT, path) else f"{path} is there already.")


if __name__ == "__main__":
    main()
