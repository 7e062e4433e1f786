"""Guards: what everybody may rely on, and what nobody may do by accident."""

import ast
import importlib
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from flask import Flask
from flask_migrate import downgrade, upgrade
from rq.utils import import_attribute
from sqlalchemy import Connection, Engine, create_engine, text

from project.config.kernel import MIGRATIONS_DIR
from project.core.http.auth import Credential
from project.core.work import probes
from project.core.work.queues import QueueName, Wakeup
from project.extensions import db
from project.schedule import EVERY_MINUTE, schedule

ROOT = Path(__file__).parents[1]
PROJECT = ROOT / "project"
MADE_BY_TOOLS = {
    ".git",
    ".hypothesis",
    ".import_linter_cache",
    ".mypy_cache",
    ".pytest_cache",
    ".ruff_cache",
    ".venv",
    "__pycache__",
    "htmlcov",
    "var",
}
KERNEL = (
    "project.core",
    "project.extensions",
    "project.redis_pool",
    "project.addresses",
    "project.config",
)
NOT_DOMAINS = {
    "addresses",
    "application",
    "areas",
    "background",
    "cli",
    "commands",
    "config",
    "core",
    "everything",
    "extensions",
    "front",
    "redis_pool",
    "schedule",
    "__init__",
}

PUBLIC = {
    "api-docs.openapi_json",
    "docs",
    "docs_assets",
    "clock.show_clock",
    "companies.log_in",
    "companies.register_company",
    "devices.register_device",
    "health.show_health",
    "health.show_live",
    "health.show_ready",
    "health_short.show_health",
    "health_short.show_live",
    "health_short.show_ready",
    "packages.list_packages",
    "payments.hear_yookassa",
}
"""Every route that anybody may call, without any credential. Think twice before adding one."""


SHARED = ("queries", "schemas", "service", "settings", "signals", "states", "subscription_state")
"""The modules of a domain that others may import; ADR 7 says why these."""


class Module:
    """A module of the product: its name, what it imports and what it calls."""

    def __init__(self, path: Path) -> None:
        relative = path.relative_to(ROOT).with_suffix("")
        self.name = ".".join(relative.parts).removesuffix(".__init__")
        self.path = path
        self.tree = ast.parse(path.read_text())

    @property
    def domain(self) -> str | None:
        """The domain it belongs to; None for the kernel and what holds all together."""
        parts = self.name.split(".")
        return parts[1] if len(parts) > 1 and parts[1] not in NOT_DOMAINS else None

    @property
    def role(self) -> str:
        """What it is in its domain: routes, service, models ..."""
        return self.path.stem

    def imports(self) -> Iterator[str]:
        """The full names of what it imports: `project.core.clock`, `aiohttp.ClientSession`."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{self.name} imports relatively"
                yield from (f"{node.module}.{alias.name}" for alias in node.names)

    def calls(self) -> Iterator[str]:
        """What it calls, as written: `clock.now`, `db.session.execute`."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Call):
                yield ast.unparse(node.func)

    def mentions(self) -> Iterator[str]:
        """Every dotted name in it, as written."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Attribute):
                yield ast.unparse(node)


MODULES = [Module(path) for path in sorted(PROJECT.rglob("*.py"))]


def named(*roles: str) -> list[Module]:
    found = [module for module in MODULES if module.domain and module.role in roles]
    assert found, roles
    return found


def module_of(imported: str) -> tuple[str | None, str]:
    """Return the domain and the role of what an import of the product names."""
    parts = imported.split(".")
    if parts[0] != "project" or len(parts) < 2 or parts[1] in NOT_DOMAINS:
        return None, ""
    known = {module.name: module for module in MODULES}
    for length in range(len(parts), 1, -1):
        name = ".".join(parts[:length])
        if name in known:
            return parts[1], known[name].role
    raise AssertionError(f"{imported} is not a module")


class TestRoutes:
    def test_every_route_takes_a_credential_or_is_on_the_list_of_public_ones(
        self, app: Flask
    ) -> None:
        credentials = {
            rule.endpoint: getattr(app.view_functions[rule.endpoint], "credential", None)
            for rule in app.url_map.iter_rules()
            if rule.endpoint != "static"
        }

        assert not [endpoint for endpoint, credential in credentials.items() if credential is None]
        public = {name for name, one in credentials.items() if one is Credential.PUBLIC}
        assert public == PUBLIC

    def test_routes_with_a_credential_answer_401_without_it(self, app: Flask) -> None:
        client = app.test_client()
        for rule in app.url_map.iter_rules():
            if rule.endpoint in PUBLIC | {"static"}:
                continue
            path = re.sub(r"<uuid:[^>]+>", str(UUID(int=1)), rule.rule)
            path = re.sub(r"<[^>]+>", "1", path)
            for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}:
                answer = client.open(path, method=method)
                assert answer.status_code == 401, (method, path)

    def test_nothing_is_served_from_a_static_folder(self, app: Flask) -> None:
        assert not (PROJECT / "static").exists()
        assert app.test_client().get("/static/../config.py").status_code == 404

    def test_paths_work_with_and_without_a_slash_at_their_end(self, app: Flask) -> None:
        client = app.test_client()
        for path in ("/api/health", "/api/clock", "/api/apps", "/api/packages"):
            plain, slashed = client.get(path), client.get(path + "/")
            assert plain.status_code == slashed.status_code != 404


class TestImports:
    def test_across_domains_only_what_is_meant_to_be_shared_is_imported(self) -> None:
        wrong = [
            (module.name, imported)
            for module in MODULES
            if module.domain
            for imported in module.imports()
            for domain, role in [module_of(imported)]
            if domain and domain != module.domain and role not in SHARED
        ]

        assert wrong == []

    def test_the_kernel_knows_no_domain(self) -> None:
        wrong = [
            (module.name, imported)
            for module in MODULES
            if module.name.startswith(KERNEL)
            for imported in module.imports()
            if module_of(imported)[0]
        ]

        assert wrong == []

    @pytest.mark.parametrize(
        ("roles", "forbidden"),
        [
            (("states",), {"models", "service", "queries", "routes", "schemas", "jobs"}),
            (("signals",), {"models", "service", "queries", "routes", "schemas", "jobs"}),
            (("models",), {"service", "queries", "routes", "schemas", "jobs", "delivery"}),
            (("queries",), {"service", "routes", "schemas", "jobs", "delivery", "verification"}),
            (("schemas",), {"service", "queries", "routes", "jobs", "delivery", "verification"}),
            (("service",), {"routes", "schemas", "jobs", "delivery", "verification"}),
            (("delivery", "verification"), {"routes", "schemas", "jobs"}),
            (("jobs",), {"routes", "schemas", "models"}),
            (("routes",), {"routes", "jobs"}),
        ],
        ids=lambda value: "+".join(sorted(value)) if isinstance(value, tuple) else "",
    )
    def test_layers_inside_a_domain_import_downwards(
        self, roles: tuple[str, ...], forbidden: set[str]
    ) -> None:
        wrong = [
            (module.name, imported)
            for module in named(*roles)
            for imported in module.imports()
            if module_of(imported)[1] in forbidden and module_of(imported)[0]
        ]

        assert wrong == []

    def test_routes_hold_no_sql(self) -> None:
        for module in named("routes"):
            assert not [name for name in module.imports() if name.startswith("sqlalchemy")]
            assert not [name for name in module.mentions() if name.startswith("db.session")], (
                module.name
            )

    def test_only_the_client_and_its_guard_speak_http(self) -> None:
        speakers = {
            module.name
            for module in MODULES
            for imported in module.imports()
            if imported.split(".")[0] in ("aiohttp", "requests", "httpx", "urllib3")
            or imported.startswith(("http.client", "urllib.request"))
        }

        assert speakers == {"project.core.net.http_client", "project.core.net.network_guard"}

    def test_only_the_settings_read_the_environment(self) -> None:
        readers = {
            module.name
            for module in MODULES
            if {"os.environ", "os.getenv"} & set(module.mentions())
            or {"os.environ", "os.getenv"} & set(module.imports())
        }

        assert readers == {"project.config.environment"}

    def test_only_the_clock_knows_the_time_of_day(self) -> None:
        asks_for_time = re.compile(r"(datetime|date)\.(now|utcnow|today)|time\.time(_ns)?")
        askers = {
            module.name
            for module in MODULES
            for call in module.calls()
            if asks_for_time.fullmatch(call)
        }

        assert askers == {"project.core.clock"}

    def test_only_the_wrapper_commits(self) -> None:
        committers = {
            module.name
            for module in MODULES
            for call in module.calls()
            if call.endswith((".commit", ".rollback"))
        }

        assert committers == {"project.core.db.transaction"}

    def test_only_the_models_of_a_resource_make_tables(self) -> None:
        makers = {
            module.name
            for module in MODULES
            if "__tablename__"
            in {node.id for node in ast.walk(module.tree) if isinstance(node, ast.Name)}
        }

        assert {name.split(".")[-1] for name in makers} == {"models"}


class TestMigrations:
    @pytest.fixture
    def scripts(self, app: Flask) -> ScriptDirectory:
        settings = Config()
        settings.set_main_option("script_location", str(MIGRATIONS_DIR))
        return ScriptDirectory.from_config(settings)

    @pytest.fixture
    def other_database(self, app: Flask) -> Iterator[Engine]:
        """An empty database, to which the application's engine is pointed for a while."""
        server = create_engine(db.engine.url.set(database="postgres"), isolation_level="AUTOCOMMIT")
        other = create_engine(db.engine.url.set(database="round_trip"))
        engines = db.engines
        with server.connect() as connection:
            connection.execute(text("DROP DATABASE IF EXISTS round_trip WITH (FORCE)"))
            connection.execute(text("CREATE DATABASE round_trip"))
            before = engines[None]
            engines[None] = other
            try:
                yield other
            finally:
                engines[None] = before
                other.dispose()
                connection.execute(text("DROP DATABASE round_trip WITH (FORCE)"))
        server.dispose()

    def test_there_is_one_head(self, scripts: ScriptDirectory) -> None:
        assert len(scripts.get_heads()) == 1

    def test_revisions_are_numbered_in_their_order(self, scripts: ScriptDirectory) -> None:
        revisions = [script.revision for script in reversed(list(scripts.walk_revisions()))]

        assert revisions == [f"{number:04}" for number in range(1, len(revisions) + 1)]
        for script in scripts.walk_revisions():
            assert Path(script.path).name.startswith(f"{script.revision}_")

    def test_the_models_are_what_the_migrations_make(self, app: Flask) -> None:
        with db.engine.connect() as connection:
            options = {"compare_type": True, "compare_server_default": True}
            context = MigrationContext.configure(connection, opts=options)
            differences = compare_metadata(context, db.metadata)

        assert differences == []

    def test_every_migration_can_be_taken_back_and_made_again(self, other_database: Engine) -> None:
        upgrade()
        made = describe_schema(other_database)
        assert {"purchases", "callbacks", "company_payments"} <= {row[0] for row in made}

        downgrade(revision="base")
        assert {row[0] for row in describe_schema(other_database)} <= {"alembic_version"}

        upgrade()
        assert describe_schema(other_database) == made

    def test_checks_and_indexes_hold_what_the_models_say(self, app: Flask) -> None:
        """Alembic compares neither the texts of checks nor the conditions of indexes."""
        with db.engine.connect() as connection:
            upgraded = conditions(connection, "public")
            connection.execute(text("CREATE SCHEMA declared"))
            connection.execute(text("SET LOCAL search_path TO declared"))
            db.metadata.create_all(connection, checkfirst=False)
            declared = conditions(connection, "declared")

        assert declared == {name: upgraded.get(name) for name in declared}
        assert {name for name in upgraded if name.startswith("ck_")} <= set(declared)


def conditions(connection: Connection, schema: str) -> dict[str, tuple[str, list[str]]]:
    """Return each check and index: its definition, and the texts in it without their order."""
    statement = text(
        "SELECT conname::text, pg_get_constraintdef(oid) FROM pg_constraint"
        " WHERE contype = 'c' AND conrelid <> 0"
        " AND connamespace = CAST(CAST(:schema AS text) AS regnamespace)"
        " UNION ALL SELECT indexname::text, indexdef FROM pg_indexes WHERE schemaname = :schema"
    )
    rows = connection.execute(statement, {"schema": schema}).all()
    return {
        name: (
            re.sub(r"'\w*'", "''", definition).replace(f"{schema}.", ""),
            sorted(re.findall(r"'(\w*)'", definition)),
        )
        for name, definition in rows
    }


def describe_schema(engine: Engine) -> list[Any]:
    """Return every column, index and constraint of the public schema."""
    statements = (
        "SELECT table_name::text, column_name::text, data_type::text, is_nullable::text,"
        " column_default::text FROM information_schema.columns WHERE table_schema = 'public'",
        "SELECT tablename::text, indexname::text, indexdef, '', ''"
        " FROM pg_indexes WHERE schemaname = 'public'",
        "SELECT conrelid::regclass::text, conname::text, pg_get_constraintdef(oid), '', ''"
        " FROM pg_constraint WHERE connamespace = 'public'::regnamespace AND conrelid <> 0",
    )
    with engine.connect() as connection:
        rows = [tuple(row) for one in statements for row in connection.execute(text(one))]
    return sorted(rows, key=repr)


@pytest.mark.usefixtures("app")
class TestJobs:
    def test_every_periodic_job_can_be_called(self) -> None:
        for entry in schedule():
            assert callable(import_attribute(entry.job)), entry

    def test_every_periodic_probe_is_watched(self, app: Flask) -> None:
        watched = {probe.name for probe in probes.due_probes()}

        assert {entry.due_probe for entry in schedule() if entry.due_probe} == watched

    def test_every_wakeup_names_a_job_that_the_schedule_runs_too(self) -> None:
        """Every minute where somebody waits for it; work of a day at its hour."""
        scheduled = {(entry.job, entry.queue): entry for entry in schedule()}
        wakeups = {
            wakeup.name: wakeup
            for module in MODULES
            for wakeup in vars(importlib.import_module(module.name)).values()
            if isinstance(wakeup, Wakeup)
        }

        assert {"autopayments", "callbacks", "purchases"} <= set(wakeups)
        for wakeup in wakeups.values():
            assert callable(import_attribute(wakeup.job))
            entry = scheduled[wakeup.job, wakeup.queue]
            assert (entry.due_probe == wakeup.name) == (entry.cron == EVERY_MINUTE), entry

    def test_every_queue_of_the_schedule_has_workers(self) -> None:
        assert {entry.queue for entry in schedule()} <= set(QueueName)


class TestFiles:
    def files(self) -> Sequence[Path]:
        """Return what people wrote here, without what tools make."""
        found: list[Path] = []
        for folder, folders, names in os.walk(ROOT):
            folders[:] = [name for name in folders if name not in MADE_BY_TOOLS]
            found += [Path(folder, name) for name in names if name not in (".env", ".git")]
        return found

    def texts(self) -> Iterator[tuple[Path, str]]:
        for path in self.files():
            try:
                yield path.relative_to(ROOT), path.read_text()
            except UnicodeDecodeError:
                continue

    def test_no_file_names_a_path_of_somebodys_machine(self) -> None:
        slash = "/"
        home = re.escape(str(Path.home())) if Path.home() != Path("/") else "never"
        private = [
            re.escape(str(ROOT)) + r"\b",
            home + slash,
            rf"{slash}home{slash}\w+",
            rf"{slash}Users{slash}\w+",
            rf"{slash}work{slash}(main|shared)",
            rf"{slash}opt{slash}(pypi|wheels)",
        ]
        found = [
            (str(path), match.group())
            for path, content in self.texts()
            for match in re.finditer("|".join(private), content)
        ]

        assert found == []

    def test_no_file_names_a_package_index(self) -> None:
        option = "--(extra-)?" + "index-url|--find" + "-links|--trusted" + "-host"
        host = r"https?://[^\s\"']*(" + "pypi" + r"\.org|pythonhosted|/simple\b)"
        found = [
            (str(path), match.group())
            for path, content in self.texts()
            for match in re.finditer(f"{option}|{host}", content)
            if "no-emit" not in content[max(0, match.start() - 12) : match.start()]
        ]

        assert found == []

    def test_no_secret_is_committed(self) -> None:
        key = re.compile(r"(pk|ct)_[A-Za-z0-9_-]{43}\b|whsec_[A-Za-z0-9+/]{43}=")
        found = [
            (str(path), match.group())
            for path, content in self.texts()
            for match in key.finditer(content)
            if path.parts[0] != "tests"
        ]

        assert found == []
        ignored = (ROOT / ".gitignore").read_text().splitlines()
        assert {".env", "var/"} <= set(ignored)

    def test_every_module_says_what_it_is_for(self) -> None:
        silent = [
            str(path.relative_to(ROOT))
            for path in self.files()
            if path.suffix == ".py"
            and path.relative_to(ROOT).parts[0] not in ("migrations", "tests")
            and path.stat().st_size
            and not ast.get_docstring(ast.parse(path.read_text()))
        ]

        assert silent == []

    def test_scripts_can_be_run(self) -> None:
        for path in self.files():
            if path.parent.name == ".ci":
                assert os.access(path, os.X_OK), path
