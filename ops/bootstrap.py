"""Make the virtual environment: python3 ops/bootstrap.py .venv.

Runs before anything is installed, by whatever Python 3 there is: an old one must at least
understand this file, to look for a newer one or to tell what is missing.
"""

import os
import shutil
import subprocess
import sys

LEAST = (3, 11)
NEWER = ["python3.14", "python3.13", "python3.12", "python3.11"]


def main(folder: str) -> int:
    """Make the environment in `folder`; return the exit status."""
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    if sys.version_info[:2] < LEAST:
        return _pass_on(folder) or _refuse(
            f"Perennial needs Python 3.11 or newer, but {sys.executable} is {version}. "
            "Install a newer one and name it, as in: make run PYTHON=python3.12"
        )
    if _run(sys.executable, "-m", "venv", folder):
        return 0
    # Debian keeps ensurepip in a package of its own, but a pip may be there all the same.
    python = os.path.join(folder, "bin", "python")
    if _run(sys.executable, "-m", "venv", "--clear", "--without-pip", folder) and _run(
        sys.executable, "-m", "pip", "--python", python, "install", "-q", "pip"
    ):
        return 0
    return _refuse(
        f"Python {version} cannot make a virtual environment here. On Debian and Ubuntu its venv "
        f"module is a package of its own: apt-get install python{version}-venv"
    )


def _pass_on(folder: str) -> int:
    """Start again with a newer Python, if one is in PATH; return 0 if there is none."""
    for name in NEWER:
        python = shutil.which(name)
        if python and _run(python, "-c", "import sys"):
            os.execv(python, [python, __file__, folder])
    return 0


def _run(*command: str) -> bool:
    quiet = subprocess.DEVNULL
    return subprocess.run(command, stdout=quiet, stderr=quiet, check=False).returncode == 0


def _refuse(message: str) -> int:
    sys.stderr.write(message + "\n")
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
