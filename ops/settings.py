"""Writes what people read of the settings out of their declarations: make settings."""

import textwrap
from collections.abc import Iterator
from pathlib import Path

from ops.environment import PROJECT
from project.areas import LISTED
from project.config.declare import Derived, Setting, Settings, Text, settings_of

WIDTH = 100
EXAMPLE, OPERATIONS = Path(".env.example"), Path("docs/operations.md")
BEGIN, END = "<!-- Written by `make settings`. -->", "<!-- The end of what it writes. -->"
INTRODUCTION = (
    "Every setting of one copy, written by `make settings` out of the code. `make run` writes .env "
    "from this file the first time, with random secrets in place of the empty ones. The "
    "environment wins over .env. What is commented out shows the default, or an example where the "
    "default is empty or the simulator. Secrets have 24 characters or more, those that others give "
    "you 8."
)


def env_example() -> str:
    """Return `.env.example`: each setting with what it is for and the default or an example."""
    lines = [*_comment(INTRODUCTION)]
    for area in LISTED:
        lines += ["", f"# --- {area.title} ---"]
        for _, setting in settings_of(area):
            lines += _comment(_explained(setting))
            if setting.first_value is None:
                lines.append(f"#{setting.name}={setting.example or plain_default(setting)}")
            else:
                lines.append(f"{setting.name}={setting.first_value}")
    return "\n".join(lines) + "\n"


def table() -> str:
    """Return the settings as they stand in docs/operations.md, a table for each area."""
    return "\n\n".join("\n".join(_rows(area)) for area in LISTED)


def operations() -> str:
    """Return docs/operations.md with the tables as they are to be now."""
    before, _, rest = (PROJECT / OPERATIONS).read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{table()}\n\n{END}{after}"


def _rows(area: type[Settings]) -> Iterator[str]:
    yield f"### {area.title}"
    yield ""
    yield "| setting | default | takes | |"
    yield "|---|---|---|---|"
    for _, setting in settings_of(area):
        cells = setting.default_text(), setting.takes(), setting.help
        yield (
            f"| `{setting.name}` | " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
        )


def _explained(setting: Setting) -> str:
    takes = setting.takes()
    return f"{setting.help}." if takes == Text.noun else f"{setting.help} ({takes})."


def _comment(text: str) -> list[str]:
    return textwrap.wrap(
        text,
        WIDTH,
        initial_indent="# ",
        subsequent_indent="# ",
        break_long_words=False,
        break_on_hyphens=False,
    )


def plain_default(setting: Setting) -> str:
    """Return the default as it stands in `.env.example`; nothing where it is told in words."""
    return "" if isinstance(setting.default, Derived) else setting.default_text()


def main() -> None:
    """Write both files."""
    for path, text in ((EXAMPLE, env_example()), (OPERATIONS, operations())):
        (PROJECT / path).write_text(text, encoding="utf-8")
        print(f"Wrote {path}.")


if __name__ == "__main__":
    main()
