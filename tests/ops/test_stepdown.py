"""What root gives to the account of a copy, and what it never touches."""

import os
import pwd
import subprocess
import sys
from pathlib import Path

import pytest

from ops import privileges, stepdown
from ops.environment import PROJECT

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root steps down")

NOBODY = pwd.getpwnam("nobody")
ACCOUNT = privileges.Account("nobody", NOBODY.pw_uid, NOBODY.pw_gid)


def owner(path: Path) -> int:
    return path.lstat().st_uid


class TestWhoRunsIt:
    def test_each_folder_has_an_account_of_its_own(self, tmp_path: Path):
        names = {privileges.copy_account_name(tmp_path / name) for name in ("a", "b")}
        assert len(names) == 2
        # useradd takes 32 characters.
        assert max(len(name) for name in names) <= 32

    def test_whoever_has_its_data_goes_on_with_them(self, tmp_path: Path):
        for folder in (tmp_path / "run", tmp_path / "postgres" / "data"):
            folder.mkdir(parents=True)
        os.chown(tmp_path / "postgres" / "data", ACCOUNT.uid, ACCOUNT.gid)
        folders = [tmp_path / "run", tmp_path / "postgres"]
        assert privileges.copy_account(tmp_path, folders) == ACCOUNT


class TestWhatIsGiven:
    def test_what_root_owns_in_the_folder(self, tmp_path: Path):
        (tmp_path / "log" / "old").mkdir(parents=True)
        (tmp_path / "log" / "old" / "api.log").touch()
        stepdown._give(tmp_path / "log", ACCOUNT)
        given = [tmp_path / "log", tmp_path / "log" / "old", tmp_path / "log" / "old" / "api.log"]
        assert {owner(path) for path in given} == {ACCOUNT.uid}
        assert owner(tmp_path) == 0

    @pytest.mark.parametrize("make", [os.symlink, os.link])
    def test_but_not_what_a_link_leads_to(self, tmp_path: Path, make):
        roots_own = tmp_path / "roots-own"
        roots_own.write_text("root")
        (tmp_path / "log").mkdir()
        make(roots_own, tmp_path / "log" / "api.log")
        stepdown._give(tmp_path / "log", ACCOUNT)
        assert owner(roots_own) == 0


REVEAL = """
import sys
from pathlib import Path
from ops import mounts, privileges
account = privileges.Account("nobody", int(sys.argv[1]), int(sys.argv[2]))
paths = [Path(path) for path in sys.argv[3:]]
mounts.reveal(paths, lambda folder: privileges.can_enter(account, folder))
print(privileges.run_as(account, ["cat", *(path / "file" for path in paths)]).stdout)
print(privileges.run_as(account, ["ls", paths[0].parent]).stdout)
"""


class TestPrivateFolders:
    @pytest.fixture
    def private(self, tmp_path: Path) -> Path:
        folder = tmp_path / "private"
        for name in ("shown", "hidden"):
            (folder / name).mkdir(parents=True)
            (folder / name / "file").write_text(f"what is {name}")
        folder.chmod(0o700)
        return folder

    def reveal(self, *paths: Path) -> subprocess.CompletedProcess[str]:
        numbers = [str(ACCOUNT.uid), str(ACCOUNT.gid)]
        answer = subprocess.run(
            [sys.executable, "-c", REVEAL, *numbers, *map(str, paths)],
            cwd=PROJECT,
            capture_output=True,
            text=True,
            check=False,
        )
        if "not permitted" in answer.stderr:
            pytest.skip("this root may not mount")
        assert answer.returncode == 0, answer.stderr
        return answer

    def test_only_what_is_needed_can_be_reached(self, private: Path):
        answer = self.reveal(private / "shown").stdout
        assert "what is shown" in answer
        assert "hidden" not in answer

    def test_the_way_may_lead_over_links(self, private: Path):
        (private / "way").symlink_to("shown")
        assert "what is shown" in self.reveal(private / "way").stdout

    def test_the_needed_folder_may_be_private_itself(self, private: Path):
        (private / "shown").chmod(0o700)
        assert "what is shown" in self.reveal(private / "shown").stdout

    def test_nobody_else_sees_a_change(self, private: Path):
        def look() -> list[tuple[Path, int, int]]:
            found = [private, *private.parents, *private.rglob("*")]
            return [(path, path.stat().st_mode, path.stat().st_uid) for path in found]

        before = look()
        self.reveal(private / "shown")
        assert look() == before
