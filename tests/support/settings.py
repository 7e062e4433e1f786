"""Settings by their field alone, whichever area they are in."""

from typing import Any

from project.areas import AREAS
from project.config.declare import Settings, settings_of
from project.config.environment import Configuration

AREA_OF: dict[str, type[Settings]] = {
    field: area for area in AREAS for field, _ in settings_of(area)
}
DECLARED = {declared.name: declared for area in AREAS for _, declared in settings_of(area)}
"""Every setting, by its name in the environment."""


class Everything:
    """All settings of a configuration, as if they stood in one place."""

    def __init__(self, configuration: Configuration) -> None:
        self._configuration = configuration

    def __getattr__(self, field: str) -> Any:
        return getattr(self._configuration.get(AREA_OF[field]), field)

    def all(self) -> dict[str, Any]:
        return {field: getattr(self, field) for field in AREA_OF}
