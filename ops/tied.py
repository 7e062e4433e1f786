"""Run a Python module whose forked children end when it ends: python -m ops.tied MODULE ...

The processes of the API would otherwise outlive a killed main process, and go on serving old code
on the same port beside the new ones.
"""

import os
import runpy
import signal
import sys

from ops.launch import tie_to_parent


def main() -> None:
    """Run the module named on the command line as `python -m` does."""
    if sys.platform == "linux":
        os.register_at_fork(after_in_child=lambda: tie_to_parent(signal.SIGTERM))
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
