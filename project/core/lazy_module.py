"""Modules that take long to import and are seldom used: imported when they are first needed."""

from importlib import import_module
from types import ModuleType
from typing import Any


class LazyModule(ModuleType):
    """Stands for a module until something of it is asked for; then its names are here too."""

    def __getattr__(self, name: str) -> Any:
        """Import the module and return what it has under this name."""
        module = import_module(self.__name__)
        self.__dict__.update(vars(module))
        return getattr(module, name)
