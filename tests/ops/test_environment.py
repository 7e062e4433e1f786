import shutil
from pathlib import Path

import pytest
from dotenv import dotenv_values

from ops import environment
from ops.environment import PROJECT, load, read_env_file, write_env_file
from ops.errors import OpsError

SECRETS = ("API_KEY", "SECRET_KEY")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    shutil.copy(PROJECT / ".env.example", tmp_path)
    return tmp_path


class TestEnvFile:
    def test_the_first_start_writes_it_with_random_secrets(self, project: Path):
        assert write_env_file(project, project / ".env")
        given = dotenv_values(project / ".env")
        assert str(given["API_KEY"]).startswith("pk_")
        assert all(len(str(given[name])) > 40 for name in SECRETS)
        assert given["APP_ENV"] == "development"
        assert given["TEST_CLOCK"] == "1"
        assert given["CALLBACK_ALLOWED_NETWORKS"] == "127.0.0.0/8,::1/128"

    def test_nobody_else_can_read_it(self, project: Path):
        write_env_file(project, project / ".env")
        assert (project / ".env").stat().st_mode & 0o777 == 0o600

    def test_no_two_are_alike(self, project: Path):
        write_env_file(project, project / "one.env")
        write_env_file(project, project / "two.env")
        one, two = dotenv_values(project / "one.env"), dotenv_values(project / "two.env")
        assert all(one[name] != two[name] for name in SECRETS)

    def test_one_that_is_there_is_left_alone(self, project: Path):
        (project / ".env").write_text("API_KEY=mine\n")
        assert not write_env_file(project, project / ".env")
        assert (project / ".env").read_text() == "API_KEY=mine\n"

    @pytest.mark.parametrize(
        "line",
        [
            "NAME=value",
            "NAME = value ",
            "export NAME=value",
            "NAME=value # a comment",
            "NAME=a#b",
            "NAME=",
            "NAME='single # quoted'",
            'NAME="double # quoted"',
            r"NAME='it\'s \\ here'",
            "#NAME=commented",
            "NAME=postgresql://u:p@h/d?host=%2Fa",
        ],
    )
    def test_it_is_read_as_the_application_reads_it(self, tmp_path: Path, line: str):
        path = tmp_path / ".env"
        path.write_text(f"{line}\n")
        assert read_env_file(path) == dotenv_values(path, interpolate=False)


class TestRuntimeFile:
    @pytest.mark.parametrize("value", ["plain", "with space", "it's", "back\\slash", "#hash", ""])
    def test_the_application_reads_what_the_launcher_wrote(self, tmp_path: Path, value: str):
        path = tmp_path / "runtime.env"
        environment.write_runtime_file(path, {"NAME": value})
        assert dotenv_values(path) == {"NAME": value} == read_env_file(path)
        assert path.stat().st_mode & 0o777 == 0o600


class TestSettings:
    def test_defaults(self, project: Path):
        settings = load(project, {})
        assert (settings.port, settings.simulator_port, settings.workers) == (8000, 8900, 8)
        assert settings.var_dir == project / "var"
        assert settings.with_simulator

    def test_the_environment_wins_over_the_file(self, project: Path):
        (project / ".env").write_text("PORT=8001\nWORKERS=3\n")
        settings = load(project, {"PORT": "8002"})
        assert (settings.port, settings.workers) == (8002, 3)

    @pytest.mark.parametrize("text", ["0", "-1", "abc", "65536", "8000.0", "²"])
    def test_what_is_no_port_is_refused(self, project: Path, text: str):
        with pytest.raises(OpsError, match="must be a number from 1 to 65535"):
            load(project, {"PORT": text})

    @pytest.mark.parametrize(
        "given", [{"SIMULATOR": "0"}, {"APP_ENV": "production"}, {"SIMULATOR": "off"}]
    )
    def test_the_simulator_can_be_left_out(self, project: Path, given: dict[str, str]):
        assert not load(project, given).with_simulator
