"""Every setting is declared once; what people read of it is derived, and shows no secret."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops import settings as documents
from project.areas import AREAS, LISTED
from project.config.declare import settings_of
from project.config.environment import Configuration
from project.config.masking import without_credentials
from tests.core.commands import run_flask

ROOT = Path(__file__).parents[1]
ALL = [(field, setting) for area in LISTED for field, setting in settings_of(area)]
SECRETS = [setting.name for _, setting in ALL if setting.kind.is_secret]
MARK = "plainly-a-secret-of-some-length"
URLS = {
    "DATABASE_URL": f"postgresql://perennial:{MARK}@db.example.com/perennial?sslpassword={MARK}",
    "REDIS_URL": f"rediss://:{MARK}@redis.example.com:6379/0",
    "YOOKASSA_URL": f"https://shop:{MARK}@pay.example.com/v3",
    "FINANCE_SERVICE_URL": f"https://{MARK}@finance.example.com/",
    "SMS_GATEWAYS": f"twilio://AC12:{MARK}@api.twilio.com?from=1,https://a:{MARK}@sms.example/?token={MARK}",
}


def flask_settings(tmp_path: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command in an environment that has nothing but this."""
    env_file = environment.pop("ENV_FILE", os.devnull)
    given = {"ENV_FILE": env_file, "VAR_DIR": str(tmp_path), "FLASK_SKIP_DOTENV": "1"}
    with pytest.MonkeyPatch.context() as patch:
        for _, setting in ALL:
            patch.delenv(setting.name, raising=False)
        return run_flask("settings", **given, **environment)


def shown(output: str) -> dict[str, list[str]]:
    """Return the value and the source of each setting that the command has shown."""
    rows = re.findall(r"^  ([A-Z0-9_]+)  (.*)$", output, re.MULTILINE)
    return {
        name.strip(): re.split(r"\s{2,}", f"{name}  {rest}".rstrip())[1:] for name, rest in rows
    }


class TestDeclarations:
    def test_every_area_is_on_the_list(self) -> None:
        declared = {
            (str(path.relative_to(ROOT)), name)
            for path in ROOT.glob("project/**/*.py")
            for name in re.findall(r"^class (\w+)\(Settings\)", path.read_text(), re.MULTILINE)
        }

        listed = {(f"{area.__module__.replace('.', '/')}.py", area.__name__) for area in LISTED}
        assert declared == listed
        assert set(AREAS) < set(LISTED)

    def test_each_has_one_name_and_one_field(self) -> None:
        names, fields = [setting.name for _, setting in ALL], [field for field, _ in ALL]

        assert sorted(set(names)) == sorted(names)
        assert sorted(set(fields)) == sorted(fields)

    def test_each_says_what_it_is_for_and_in_which_unit(self) -> None:
        units = {"seconds": "seconds", "bytes": "bytes", "days": "days", "months": "months"}

        for field, setting in ALL:
            assert 8 < len(setting.help) < 250, setting.name
            assert not setting.help.endswith("."), setting.name
            unit = units.get(field.split("_")[-1])
            assert unit is None or setting.unit == unit, setting.name

    def test_a_default_is_one_that_might_be_set(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for _, setting in ALL:
            monkeypatch.delenv(setting.name, raising=False)
            if setting.default and not setting.kind.is_secret and not setting.example:
                monkeypatch.setenv(setting.name, documents.plain_default(setting))

        for area in LISTED:
            wrong = Configuration().inspect(area).wrong
            assert not wrong, wrong


class TestDocuments:
    @pytest.mark.parametrize(
        ("path", "text"),
        [(documents.EXAMPLE, documents.env_example), (documents.OPERATIONS, documents.operations)],
        ids=["env-example", "operations"],
    )
    def test_they_are_what_the_declarations_make(self, path: Path, text: object) -> None:
        assert callable(text)
        assert (ROOT / path).read_text() == text(), "stale: run `make settings`"

    def test_they_name_every_setting(self) -> None:
        example = (ROOT / documents.EXAMPLE).read_text()
        table = (ROOT / documents.OPERATIONS).read_text()

        for _, setting in ALL:
            assert re.search(rf"^#?{setting.name}=", example, re.MULTILINE), setting.name
            assert f"\n| `{setting.name}` | " in table, setting.name


class TestCommand:
    def test_it_shows_every_setting_and_where_it_comes_from(self, tmp_path: Path) -> None:
        env_file = tmp_path / "copy.env"
        env_file.write_text(
            "PUMP_SECONDS=41\nCALLBACK_MAX_ATTEMPTS=7\nSMS_QUIET_HOURS=22:30-07:15\n"
        )
        (tmp_path / "run").mkdir()
        runtime = tmp_path / "run" / "runtime.env"
        runtime.write_text("REDIS_URL='redis://r.example/1'\nDATABASE_URL='postgresql://d/x'\n")

        ended = flask_settings(tmp_path, ENV_FILE=str(env_file), CALLBACK_MAX_ATTEMPTS="5")

        found = shown(ended.stdout)
        assert ended.returncode == 0, ended.stderr
        assert set(found) == {setting.name for _, setting in ALL}
        assert found["PUMP_SECONDS"] == ["41", str(env_file)]
        assert found["SMS_QUIET_HOURS"] == ["22:30-07:15", str(env_file)]
        assert found["CALLBACK_MAX_ATTEMPTS"] == ["5", "environment"]
        assert found["REDIS_URL"] == ["redis://r.example/1", str(runtime)]
        assert found["LEASE_SLACK_SECONDS"] == ["30", "default"]
        assert found["APP_STORE_URL"][1] == "default: the simulator"

    def test_it_needs_no_running_copy(self, tmp_path: Path) -> None:
        ended = flask_settings(tmp_path)

        assert ended.returncode == 0, ended.stderr
        assert "DATABASE_URL is not set" in ended.stdout
        assert shown(ended.stdout)["WORKERS"] == ["8", "default"]

    @pytest.mark.parametrize("wrong", [{}, {"WORKERS": "none"}], ids=["all right", "one wrong"])
    def test_no_secret_is_shown(self, tmp_path: Path, wrong: dict[str, str]) -> None:
        ended = flask_settings(tmp_path, **dict.fromkeys(SECRETS, MARK), **URLS, **wrong)

        found = shown(ended.stdout)
        assert ended.returncode == bool(wrong), ended.stderr
        assert MARK not in ended.stdout + ended.stderr
        assert {tuple(found[name]) for name in SECRETS} == {("set", "environment")}
        assert found["DATABASE_URL"][0].startswith("postgresql+psycopg://perennial:***@db.example")
        assert found["SMS_GATEWAYS"][0].startswith("twilio://AC12:***@api.twilio.com?from=1,https")

    def test_one_that_is_not_set_is_said_not_to_be(self, tmp_path: Path) -> None:
        found = shown(flask_settings(tmp_path, API_KEY="").stdout)

        assert {found[name][0] for name in SECRETS} == {"not set"}
        assert found["SMS_CALLBACK_SECRET"] == ["not set", "default: derived from SECRET_KEY"]

    def test_it_says_all_that_is_wrong(self, tmp_path: Path) -> None:
        wrong = {
            "WORKERS": "many",
            "SECRET_KEY": "short-and-bad",
            "SMS_GATEWAYS": f"https://:{MARK}@gateway.example",
            "CLICK_DEDUP_DAYS": "3",
            "SIMULATOR_PORT": "http",
        }

        ended = flask_settings(tmp_path, **wrong)

        assert ended.returncode == 1
        for name in wrong:
            assert name in ended.stderr
        assert "Traceback" not in ended.stderr
        assert MARK not in ended.stdout + ended.stderr
        assert "short-and-bad" not in ended.stdout + ended.stderr
        assert shown(ended.stdout)["WORKERS"] == ["many (cannot be used)", "environment"]
        assert shown(ended.stdout)["PUMP_SECONDS"] == ["50", "default"]

    def test_other_commands_say_it_too_and_do_nothing(self, tmp_path: Path) -> None:
        ended = run_flask(
            "schedule", "list", ENV_FILE=os.devnull, VAR_DIR=str(tmp_path), PUMP_SECONDS="0"
        )

        assert ended.returncode == 1
        assert ended.stderr.startswith("Perennial cannot start.")
        assert "PUMP_SECONDS" in ended.stderr

    def test_it_loads_settings_and_nothing_else_of_a_domain(self) -> None:
        script = "import sys, project.commands.settings; print(*sys.modules)"
        told = subprocess.run(
            [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
        )

        ours = {name for name in told.stdout.split() if name.startswith("project.")}
        packages = {name for name in ours if (ROOT / name.replace(".", "/")).is_dir()}
        allowed = re.compile(r"project\.(areas|commands\.settings|config\.\w+|.*\.settings)")
        assert [name for name in ours - packages if not allowed.fullmatch(name)] == []
        assert not {"flask", "sqlalchemy", "redis", "rq"} & set(told.stdout.split())


class TestMasking:
    SECRET = st.text(st.characters(exclude_categories=("C", "Z")), min_size=6, max_size=30)

    @given(
        scheme=st.sampled_from(["postgresql", "redis", "https", "twilio", "postgresql+psycopg"]),
        user=st.sampled_from(["", "perennial", "AC0"]),
        secret=SECRET.filter(lambda text: "@" not in text[-1:]),
        rest=st.sampled_from(["h", "db.example.com:5432/x", "/run/socket?db=0", "[::1]/"]),
    )
    def test_a_password_is_never_left(self, scheme: str, user: str, secret: str, rest: str) -> None:
        masked = without_credentials(f"{scheme}://{user}:{secret}@{rest}")

        assert masked == f"{scheme}://{user}:***@{rest}"

    @pytest.mark.parametrize(
        ("text", "masked"),
        [
            ("https://api.example.com/v3?limit=3", "https://api.example.com/v3?limit=3"),
            ("https://h/x?api_key=abc&limit=3", "https://h/x?api_key=***&limit=3"),
            ("https://token@h/x", "https://***@h/x"),
            ("postgresql://perennial@h/x", "postgresql://perennial@h/x"),
            ("postgresql:/u:abc@h", "postgresql:***@h"),
            ("10.0.0.0/8", "10.0.0.0/8"),
        ],
    )
    def test_what_holds_none_stays(self, text: str, masked: str) -> None:
        assert without_credentials(text) == masked
