"""What the README tells a newcomer to type does what it says, whatever is there already."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from simulator.client import SimulatorClient
from tests.conftest import API_KEY

README = (Path(__file__).parents[1] / "README.md").read_text()
MAIN_JOB = README.partition("## The main job")[2].partition("\n## ")[0]
BLOCKS = re.findall(r"^```\n(.*?)^```", MAIN_JOB, re.MULTILINE | re.DOTALL)


@pytest.mark.usefixtures("app")
def test_the_commands_of_the_readme_work_also_a_second_time(
    api_url: str, simulator: SimulatorClient, tmp_path: Path
) -> None:
    (tmp_path / ".env").write_text(f"API_KEY={API_KEY}\n")
    script = "\n".join(BLOCKS).replace("http://127.0.0.1:8000", api_url)
    script = script.replace("http://127.0.0.1:8900", simulator.base_url)
    script = script.replace("curl -s ", "curl --fail-with-body -sS -w '\\n' ")

    for _ in range(2):
        done = subprocess.run(
            ["bash", "-e", "-o", "pipefail", "-c", script],
            cwd=tmp_path,
            env={"PATH": os.environ["PATH"], "NO_PROXY": "*"},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

        assert done.returncode == 0, done.stdout + done.stderr
        assert '"Monthly' in done.stdout
        assert "+90532" in done.stdout


@pytest.mark.parametrize("name", ["purchase", "companies", "clicks", "callback", "forecast"])
def test_all_five_services_are_named(name: str) -> None:
    assert name in README.lower()


def test_every_page_of_the_documentation_is_linked() -> None:
    pages = {f"docs/{path.name}" for path in (Path(__file__).parents[1] / "docs").glob("*.md")}
    assert pages - set(re.findall(r"\((docs/[^)]+\.md)\)", README)) == set()
