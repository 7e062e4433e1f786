"""The one exception of the launchers."""

import sys
from collections.abc import Callable


class OpsError(Exception):
    """Something that the person at the keyboard can put right; the message says how."""


def exit_status(main: Callable[[], int]) -> int:
    """Run `main`, print what it refuses in one line, and return the exit status."""
    try:
        return main()
    except OpsError as error:
        print(f"perennial: {error}", file=sys.stderr, flush=True)
        return 1
    except KeyboardInterrupt:
        return 130
