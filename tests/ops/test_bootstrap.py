"""The first start where it cannot succeed: one sentence that helps, and the tool's own words."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ops import bootstrap
from ops.environment import PROJECT


def run(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, PROJECT / "ops" / "bootstrap.py", *arguments],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_a_folder_that_cannot_be_written(tmp_path: Path):
    # Root may write everywhere but here.
    folder = Path("/proc") if os.geteuid() == 0 else tmp_path
    if folder == tmp_path:
        tmp_path.chmod(0o500)
    answer = run(folder / ".venv")
    assert answer.returncode == 1
    sentence = answer.stderr.splitlines()[0]
    assert str(folder / ".venv") in sentence or folder == Path("/proc")
    assert "apt-get" not in sentence or folder == Path("/proc")
    assert "  | " in answer.stderr, "what venv said is shown too"


@pytest.fixture(scope="module")
def venv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bootstrap") / ".venv"
    assert run(folder).returncode == 0
    return folder


def test_no_network(venv: Path, tmp_path: Path):
    wanted = tmp_path / "wanted.txt"
    wanted.write_text(f"a-package-of-ours==1.0 --hash=sha256:{'0' * 64}\n")
    nobody = "http://127.0.0.1:9"
    answer = run(
        venv,
        wanted,
        **{
            "PIP_CONFIG_FILE": os.devnull,
            "PIP_INDEX_URL": f"{nobody}/simple",
            "PIP_FIND_LINKS": "",
        },
    )
    assert answer.returncode == 1
    assert answer.stderr.startswith("The package index cannot be reached.")
    assert "Connection refused" in answer.stderr


def test_a_package_that_is_another_one(venv: Path, tmp_path: Path):
    (tmp_path / "ours-1.0.tar.gz").write_bytes(b"not what was pinned")
    wanted = tmp_path / "wanted.txt"
    wanted.write_text(f"ours==1.0 --hash=sha256:{'0' * 64}\n")
    answer = run(venv, wanted, PIP_NO_INDEX="1", PIP_FIND_LINKS=str(tmp_path))
    assert answer.returncode == 1
    assert "pin by its hash" in answer.stderr.splitlines()[0]


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("Error: [Errno 13] Permission denied: '/srv/p/.venv'", "cannot be written"),
        ("Error: [Errno 30] Read-only file system: '/srv/p/.venv'", "cannot be written"),
        ("OSError: [Errno 28] No space left on device", "no room left"),
        ("Failed to establish a new connection: [Errno -2] Name or service not known", "network"),
        ("HTTPSConnectionPool(host='index.example', port=443): Read timed out.", "network"),
        ("ProxyError('Cannot connect to proxy.')", "proxy"),
    ],
)
def test_what_a_tool_says_is_put_into_one_sentence(said: str, words: str):
    sentence = bootstrap._reason(said, "/srv/p/.venv")
    assert words in sentence
    assert len(sentence) < 300


def test_what_is_not_known_is_not_guessed():
    assert bootstrap._reason("ModuleNotFoundError: No module named 'ensurepip'", ".venv") == ""
