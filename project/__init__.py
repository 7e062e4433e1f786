"""Perennial: subscriptions from the first click to every renewal, retry and callback."""

import sys
from importlib import import_module

if "rich" not in sys.modules:
    # structlog loads `rich`, a tenth of what a process imports, for a kind of traceback that is
    # never printed here. A module that is None counts as one that is not installed.
    sys.modules["rich"] = None  # type: ignore[assignment]
    import_module("structlog.dev")
    del sys.modules["rich"]
