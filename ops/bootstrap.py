"""Make the virtual environment and install into it: python3 ops/bootstrap.py .venv [FILE...].

Runs before anything is installed, by whatever Python 3 there is: an old one must at least
understand this file, to look for a newer one or to tell what is missing.
"""

import os
import shutil
import subprocess
import sys

LEAST = (3, 11)
NEWER = ["python3.14", "python3.13", "python3.12", "python3.11"]
PIP = ["-m", "pip", "-q", "--disable-pip-version-check", "--no-input"]
INSTALL = ["install", "--require-hashes", "--no-build-isolation", "--retries", "2"]
# What the tools say, and what a person can do about it; the first that fits is told.
REASONS = [
    (
        ("No space left on device", "Disk quota exceeded", "Errno 28"),
        "There is no room left on the disk (or in the folder for temporary files, TMPDIR). "
        "Make some, then run the same command again.",
    ),
    (
        ("DO NOT MATCH THE HASHES",),
        "A package is not the one that the requirements pin by its hash, so it was not installed. "
        "Look at the index or proxy that it came from.",
    ),
    (
        ("Read-only file system", "Permission denied", "Errno 13", "Errno 30"),
        "{folder} cannot be written: the folder is read-only, or belongs to another user. Use a "
        "copy of the project that is yours, or make this one yours with chown.",
    ),
    (
        (
            *("NewConnectionError", "Failed to establish a new connection", "ProxyError"),
            *("name resolution", "Name or service not known", "Network is unreachable"),
            *("timed out", "Connection refused", "Connection reset", "SSLError", "Retrying"),
        ),
        "The package index cannot be reached. The first start fetches packages from the index in "
        "pip's settings: check the network and the proxy (HTTPS_PROXY), then run "
        "the same command again.",
    ),
]


def main(folder: str, files: "list[str]") -> int:
    """Make the environment in `folder`, or install `files` into it; return the exit status."""
    if files:
        return _install(folder, files)
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    if sys.version_info[:2] < LEAST:
        return _pass_on(folder) or _refuse(
            f"Perennial needs Python 3.11 or newer, but {sys.executable} is {version}. "
            "Install a newer one and name it, as in: make run PYTHON=python3.12"
        )
    made, said = _run(sys.executable, "-m", "venv", folder)
    if made:
        return 0
    # Debian keeps ensurepip in a package of its own, but a pip may be there all the same.
    python = os.path.join(folder, "bin", "python")
    made, _ = _run(sys.executable, "-m", "venv", "--clear", "--without-pip", folder)
    if made and _run(sys.executable, *PIP, "--python", python, "install", "pip")[0]:
        return 0
    return _refuse(
        _reason(said, folder)
        or f"Python {version} cannot make a virtual environment here. On Debian and Ubuntu its "
        f"venv module is a package of its own: apt-get install python{version}-venv",
        said,
    )


def _install(folder: str, files: "list[str]") -> int:
    """Install what is named in the files; one after the other, each builds with the one before."""
    python = os.path.join(folder, "bin", "python")
    for name in files:
        done, said = _run(python, *PIP, *INSTALL, "-r", name)
        if not done:
            return _refuse(_reason(said, folder) or f"pip could not install {name}.", said)
    return 0


def _reason(said: str, folder: str) -> str:
    for words, sentence in REASONS:
        if any(word in said for word in words):
            return sentence.format(folder=os.path.abspath(folder))
    return ""


def _pass_on(folder: str) -> int:
    """Start again with a newer Python, if one is in PATH; return 0 if there is none."""
    for name in NEWER:
        python = shutil.which(name)
        if python and _run(python, "-c", "import sys")[0]:
            os.execv(python, [python, __file__, folder])
    return 0


def _run(*command: str) -> "tuple[bool, str]":
    """Run a program; return whether it succeeded, and all that it said."""
    told = subprocess.run(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return told.returncode == 0, told.stdout


def _refuse(message: str, said: str = "") -> int:
    sys.stderr.write(message + "\n")
    lines = said.strip().splitlines()[-15:]
    sys.stderr.writelines(f"  | {line}\n" for line in lines)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
