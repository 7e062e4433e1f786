"""What supervisord would run, as supervisord itself reads it."""

import configparser
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from ops import environment, supervision
from ops.environment import PROJECT
from project.core.work.queues import QueueName

QUEUES = " ".join(QueueName)
EVERYTHING = {
    "forkserver": 1,
    "postgres": 1,
    "redis": 1,
    "simulator": 1,
    "api": 1,
    "worker": 8,
    "scheduler": 1,
}
CONFIGURATIONS = [PROJECT / "supervisord.conf", *sorted(PROJECT.glob("ops/supervisor/*.conf"))]

# supervisord's own reading, in a process of its own because it takes its settings
# from the environment at import.
READ = """
import json, sys
from supervisor.options import ServerOptions
options = ServerOptions()
options.realize(["-c", "supervisord.conf"])
print(json.dumps({
    "programs": [
        {name: str(getattr(one, name)) for name in sys.argv[1:]} | {"group": group.name}
        for group in options.process_group_configs for one in group.process_configs
    ],
    "warnings": options.parse_warnings + options.parse_criticals,
    "servers": [server["section"] for server in options.server_configs],
}))
"""
ASKED = ("name", "command", "priority", "stopsignal", "stdout_logfile", "autorestart", "directory")


def read(tmp_path: Path, given: Mapping[str, str]) -> dict[str, Any]:
    variables = {"VAR_DIR": str(tmp_path), **given}
    (tmp_path / "log").mkdir(exist_ok=True)
    settings = environment.load(tmp_path, variables)
    where = supervision.control(settings)
    answer = subprocess.run(
        [sys.executable, "-c", READ, *ASKED],
        cwd=PROJECT,
        env=supervision.environment(settings, variables, where),
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr
    result: dict[str, Any] = json.loads(answer.stdout)
    return result


def counted(result: dict[str, Any]) -> Counter[str]:
    return Counter(program["group"] for program in result["programs"])


def test_a_whole_copy_has_fourteen_processes(tmp_path: Path):
    result = read(tmp_path, {})
    assert counted(result) == EVERYTHING
    assert sum(EVERYTHING.values()) == 14
    assert result["warnings"] == []


def test_workers_are_as_many_as_asked_for(tmp_path: Path):
    result = read(tmp_path, {"WORKERS": "2"})
    names = [one["name"] for one in result["programs"] if one["group"] == "worker"]
    assert names == ["worker_00", "worker_01"]


@pytest.mark.parametrize(
    ("given", "absent"),
    [
        ({"DATABASE_URL": "postgresql://db/x"}, {"postgres"}),
        ({"REDIS_URL": "redis://cache"}, {"redis"}),
        ({"SIMULATOR": "0"}, {"simulator"}),
        ({"APP_ENV": "production"}, {"simulator"}),
    ],
)
def test_what_is_not_wanted_does_not_appear(
    tmp_path: Path, given: dict[str, str], absent: set[str]
):
    assert set(counted(read(tmp_path, given))) == set(EVERYTHING) - absent


def test_workers_take_the_queues_in_their_order(tmp_path: Path):
    workers = [one for one in read(tmp_path, {})["programs"] if one["group"] == "worker"]
    assert {one["command"] for one in workers} == {
        f"python -m ops.launch python -m flask worker {QUEUES}"
    }


def test_the_containers_take_the_same_queues():
    assert f"command: python -m flask worker {QUEUES}\n" in (
        PROJECT / "docker-compose.yml"
    ).read_text(encoding="utf-8")


def test_servers_start_first_and_stop_last(tmp_path: Path):
    programs = read(tmp_path, {})["programs"]
    order = [
        {"forkserver"},
        {"postgres", "redis"},
        {"simulator"},
        {"api"},
        {"worker"},
        {"scheduler"},
    ]
    priorities = [
        {int(one["priority"]) for one in programs if one["group"] in groups} for groups in order
    ]
    assert all(len(found) == 1 for found in priorities)
    assert priorities == sorted(priorities, key=min)


def test_postgres_is_stopped_by_sigint(tmp_path: Path):
    signals = {one["group"]: one["stopsignal"] for one in read(tmp_path, {})["programs"]}
    assert signals.pop("postgres") == "2"
    assert set(signals.values()) == {"15"}


def test_every_program_ends_with_supervisord_and_comes_back_by_itself(tmp_path: Path):
    for program in read(tmp_path, {})["programs"]:
        assert program["command"].startswith("python -m ops."), program
        # supervisor's constant for autorestart=true.
        assert "RestartUnconditionally" in program["autorestart"], program
        assert Path(program["directory"]).resolve() == PROJECT, program


def test_a_long_path_is_controlled_over_a_port(tmp_path: Path):
    assert read(tmp_path, {})["servers"] == ["unix_http_server"]
    far = tmp_path / ("x" * 100)
    far.mkdir()
    assert read(far, {})["servers"] == ["inet_http_server"]


@pytest.mark.parametrize("path", CONFIGURATIONS, ids=lambda path: path.name)
def test_logs_are_rotated(path: Path):
    parser = configparser.RawConfigParser()
    parser.read(path)
    for section in parser.sections():
        if section.startswith("program:"):
            options = dict(parser[section])
            assert options["stdout_logfile"].startswith("%(ENV_VAR_DIR)s/log/"), section
            assert {"stdout_logfile_maxbytes", "stdout_logfile_backups"} <= options.keys(), section
            assert options["redirect_stderr"] == "true", section
