"""The settings that are in force, without any secret, and what is wrong with them."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from project.config.declare import Items, NoRunningCopy, Setting, Settings, settings_of
from project.config.environment import (
    Configuration,
    Inspection,
    SettingsFiles,
    given_text,
    read_settings_files,
    source_of,
)
from project.config.masking import without_credentials


@dataclass(frozen=True)
class SettingInForce:
    """A setting that is in force."""

    name: str
    value: str
    source: str


@dataclass
class SettingsReport:
    """All of them by the titles of their areas, what is wrong, and what is merely not there."""

    sections: dict[str, list[SettingInForce]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def report_on(areas: Sequence[type[Settings]]) -> SettingsReport:
    """Return what the environment says now of these areas, wherever it can be read or not."""
    report, configuration = SettingsReport(), Configuration()
    files = read_settings_files()
    for area in areas:
        found = configuration.inspect(area)
        report.sections[area.title] = [
            _setting_in_force(field, setting, found, files) for field, setting in settings_of(area)
        ]
        for problem in found.problems:
            kept = report.notes if isinstance(problem, NoRunningCopy) else report.problems
            if str(problem) not in kept:
                kept.append(str(problem))
    return report


def _setting_in_force(
    field: str, setting: Setting, found: Inspection, files: SettingsFiles
) -> SettingInForce:
    value, source = _text(field, setting, found), source_of(setting.name, files)
    if source == "default" and setting.default_text() not in ("", value):
        source = f"default: {setting.default_text()}"
    return SettingInForce(setting.name, value, source)


def _text(field: str, setting: Setting, found: Inspection) -> str:
    given = given_text(setting.name)
    if setting.kind.is_secret:
        return "set" if given else "not set"
    if field in found.wrong:
        return f"{without_credentials(given or '')} (cannot be used)"
    if field not in found.values:
        return "depends on what cannot be used"
    value = found.values[field]
    text = "" if value is None else setting.kind.write(value)
    items = text.split(",") if isinstance(setting.kind, Items) else [text]
    return ",".join(map(without_credentials, items))
