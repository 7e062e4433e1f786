"""Settings: read in one place, and each that cannot be used is named in one clear sentence."""

import ipaddress
import os
import re
from pathlib import Path

import pytest

from project.areas import AREAS, read_settings
from project.config.declare import ConfigurationError, Secrets, settings_of
from project.config.environment import load_environment
from project.config.kernel import DEVELOPMENT_SECRET
from project.config.secrets import MIN_GIVEN_SECRET_LENGTH
from tests.core.commands import run_flask
from tests.support.settings import AREA_OF, DECLARED, Everything

SECRETS = sorted(name for name, declared in DECLARED.items() if declared.kind.is_secret)
SEVERAL = [name for name in SECRETS if isinstance(DECLARED[name].kind, Secrets)]
FIELD_OF = {declared.name: field for area in AREAS for field, declared in settings_of(area)}
LONG_SECRET = "a-secret-of-more-than-24-characters"


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is set but what everybody has to set."""
    for name in os.environ:
        if name not in ("PATH", "HOME", "LANG"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("DATABASE_URL", "postgresql://perennial@db.example.com/perennial")
    monkeypatch.setenv("REDIS_URL", "redis://redis.example.com:6379/0")


def read(monkeypatch: pytest.MonkeyPatch, **environment: str) -> Everything:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return Everything(read_settings())


def test_two_settings_are_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = read(monkeypatch)

    assert settings.app_env == "development"
    assert settings.workers == 8
    assert (settings.callback_retry_seconds, settings.callback_max_attempts) == (3600, 3)
    assert settings.callback_allowed_networks == ()
    assert settings.app_store_url == "http://127.0.0.1:8900/app-store"
    assert not settings.test_clock
    assert settings.api_key is None


def test_the_simulators_port_moves_the_stores(monkeypatch: pytest.MonkeyPatch) -> None:
    assert read(monkeypatch, SIMULATOR_PORT="9100").google_play_url == (
        "http://127.0.0.1:9100/google-play"
    )


def test_what_is_empty_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = read(monkeypatch, SECRET_KEY="", API_KEY="", CALLBACK_ALLOWED_NETWORKS="")

    assert settings.secret_keys == (DEVELOPMENT_SECRET,)
    assert settings.api_key is None
    assert settings.callback_allowed_networks == ()


def test_the_simulator_may_be_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = read(monkeypatch, SIMULATOR_URL="http://simulator:8900")

    assert settings.app_store_url == "http://simulator:8900/app-store"


@pytest.mark.parametrize("prefix", ["postgres://", "postgresql://", "postgresql+psycopg://"])
def test_the_usual_spellings_of_a_database_url(
    monkeypatch: pytest.MonkeyPatch, prefix: str
) -> None:
    settings = read(monkeypatch, DATABASE_URL=f"{prefix}u:p@db/name")

    assert settings.database_url == "postgresql+psycopg://u:p@db/name"


def test_lists_are_separated_by_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = read(
        monkeypatch,
        CALLBACK_ALLOWED_NETWORKS="127.0.0.0/8, ::1/128,10.0.0.1",
        SECRET_KEY=f"{LONG_SECRET}-1,{LONG_SECRET}-2",
    )

    assert settings.callback_allowed_networks == (
        ipaddress.ip_network("127.0.0.0/8"),
        ipaddress.ip_network("::1/128"),
        ipaddress.ip_network("10.0.0.1/32"),
    )
    assert settings.secret_keys == (f"{LONG_SECRET}-1", f"{LONG_SECRET}-2")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("APP_ENV", "prod"),
        ("APP_ENV", ""),
        ("DATABASE_URL", ""),
        ("DATABASE_URL", "mysql://u@db/name"),
        ("DATABASE_URL", "not a url"),
        ("REDIS_URL", ""),
        ("REDIS_URL", "localhost:6379"),
        ("SECRET_KEY", "short"),
        ("SECRET_KEY", f"{LONG_SECRET},short"),
        ("TEST_CLOCK", "maybe"),
        ("WORKERS", "0"),
        ("WORKERS", "many"),
        ("WORKERS", "1.5"),
        ("TRUSTED_PROXIES", "-1"),
        ("MAX_BODY_BYTES", "1"),
        ("LOG_LEVEL", "LOUD"),
        ("LOG_FORMAT", "xml"),
        ("REGISTER_RATE_LIMIT", "often"),
        ("DATABASE_POOL_SIZE", "0"),
        ("DATABASE_CONNECT_TIMEOUT_SECONDS", "-1"),
        ("STATEMENT_TIMEOUT_SECONDS", "0"),
        ("WORKER_MAX_JOBS", "0"),
        ("PUMP_SECONDS", "600"),
        ("STORE_TIMEOUT_SECONDS", "0"),
        ("STORE_TIMEOUT_SECONDS", "nan"),
        ("STORE_INTERACTIVE_TIMEOUT_SECONDS", "1000"),
        ("STORE_LIMIT_RETRY_SECONDS", "0"),
        ("STORE_CONCURRENCY", "0"),
        ("CALLBACK_RETRY_SECONDS", "0"),
        ("CALLBACK_MAX_ATTEMPTS", "0"),
        ("CALLBACK_TIMEOUT_SECONDS", "-1"),
        ("CALLBACK_MAX_ANSWER_BYTES", "0"),
        ("CALLBACK_CONCURRENCY", "1"),
        ("CALLBACK_ALLOWED_NETWORKS", "10.0.0.1/8"),
        ("CALLBACK_ALLOWED_NETWORKS", "intranet"),
        ("CALLBACK_SECRET_OVERLAP_SECONDS", "-1"),
        ("SIMULATOR_PORT", "http"),
        ("MAX_BILLING_TRY_LIMIT", "0"),
        ("BILLING_TRY_PAUSE_SECONDS", "soon"),
        ("FORECAST_DAILY_PRICE", "0"),
        ("FORECAST_CURRENCY", "rub"),
        ("SMS_GATEWAYS", "ftp://gateway.example"),
        ("SMS_GATEWAYS", "https://gateway.example,nowhere"),
        ("SMS_SEND_AT", "8"),
        ("SMS_SEND_AT", "25:00"),
        ("SMS_SEND_AT", "23:30"),
        ("SMS_QUIET_HOURS", "21:00"),
        ("SMS_QUIET_HOURS", "21:00-24:61"),
        ("MAX_SMS_TRY_LIMIT", "0"),
        ("SMS_RECEIPT_DAYS", "0"),
        ("SELF_CALLBACK", "perhaps"),
    ],
)
def test_a_wrong_setting_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        read(monkeypatch, **{name: value})

    sentence = str(raised.value)
    assert name in sentence
    assert "\n" not in sentence
    assert 20 < len(sentence) < 250


def test_the_callback_secret_is_derived_unless_given(monkeypatch: pytest.MonkeyPatch) -> None:
    derived = read(monkeypatch, SECRET_KEY=LONG_SECRET).sms_receipt_secret

    assert derived == read(monkeypatch, SECRET_KEY=LONG_SECRET).sms_receipt_secret
    assert derived != read(monkeypatch, SECRET_KEY=f"{LONG_SECRET}2").sms_receipt_secret
    assert LONG_SECRET not in derived
    given = read(monkeypatch, SMS_CALLBACK_SECRET=LONG_SECRET[::-1])
    assert given.sms_receipt_secret == LONG_SECRET[::-1]


@pytest.fixture(params=["development", "testing", "production"])
def environment(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each of the environments, with every secret set as it should be."""
    for name in SECRETS:
        monkeypatch.setenv(name, f"{name}-{LONG_SECRET}")
    monkeypatch.setenv("APP_ENV", request.param)
    named: str = request.param
    return named


class TestSecrets:
    """What holds for every setting that holds a secret, in every environment."""

    def test_all_of_them_are_known(self) -> None:
        looks_secret = re.compile(r"(secret|token|password|credential|key)s?$")
        secret = {field for field in AREA_OF if looks_secret.search(field)}

        assert secret == {FIELD_OF[name] for name in SECRETS}

    @pytest.mark.usefixtures("environment")
    @pytest.mark.parametrize("name", SECRETS)
    def test_what_stands_around_it_is_taken_off(
        self, monkeypatch: pytest.MonkeyPatch, name: str
    ) -> None:
        found = getattr(read(monkeypatch, **{name: f" \t{LONG_SECRET}\n"}), FIELD_OF[name])

        assert found == ((LONG_SECRET,) if name in SEVERAL else LONG_SECRET)

    @pytest.mark.usefixtures("environment")
    @pytest.mark.parametrize("name", SECRETS)
    @pytest.mark.parametrize("value", [" ", "\t\n", "x", "   short   ", "1234567"])
    def test_none_is_blank_or_short(
        self, monkeypatch: pytest.MonkeyPatch, name: str, value: str
    ) -> None:
        self.refused(monkeypatch, name, value)

    @pytest.mark.usefixtures("environment")
    @pytest.mark.parametrize("name", SEVERAL)
    @pytest.mark.parametrize(
        "pattern", ["{},", ",{}", "{},,{}", "{}, ,{}", ",", "{},x", "{}, short"]
    )
    def test_no_item_of_a_list_is_empty_blank_or_short(
        self, monkeypatch: pytest.MonkeyPatch, name: str, pattern: str
    ) -> None:
        self.refused(monkeypatch, name, pattern.format(LONG_SECRET, LONG_SECRET))

    @pytest.mark.parametrize("name", SECRETS)
    def test_one_that_is_not_set_is_never_an_empty_one(
        self, monkeypatch: pytest.MonkeyPatch, name: str
    ) -> None:
        field = FIELD_OF[name]

        unset, empty = (
            getattr(Everything(read_settings()), field),
            getattr(read(monkeypatch, **{name: ""}), field),
        )

        assert unset == empty
        for secret in unset if isinstance(unset, tuple) else (unset,):
            assert secret is None or len(secret) >= MIN_GIVEN_SECRET_LENGTH

    @pytest.mark.parametrize(
        "url",
        [
            "twilio://api.twilio.com?from=1",
            "twilio://AC1@api.twilio.com?from=1",
            "twilio://AC1:@api.twilio.com?from=1",
            "twilio://:token@api.twilio.com?from=1",
            "twilio://AC1:%20@api.twilio.com?from=1",
            "https://user:@gateway.example/send",
            "https://good.example/send,https://:@gateway.example/send",
        ],
    )
    def test_a_gateway_has_no_blank_credential(
        self, monkeypatch: pytest.MonkeyPatch, url: str
    ) -> None:
        self.refused(monkeypatch, "SMS_GATEWAYS", url)

    def refused(self, monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
        with pytest.raises(ConfigurationError, match=name) as raised:
            read(monkeypatch, **{name: value})
        sentence = str(raised.value)
        assert 20 < len(sentence) < 250
        assert "\n" not in sentence
        assert LONG_SECRET not in sentence


class TestProduction:
    @pytest.fixture(autouse=True)
    def _production(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("APP_ENV", "production")
        monkeypatch.setenv("YOOKASSA_SECRET_KEY", "a-shop-of-its-own")
        monkeypatch.setenv("WEBHOOK_SECRET_KEY", LONG_SECRET)

    def test_it_starts_with_secrets_of_its_own(self, monkeypatch: pytest.MonkeyPatch) -> None:
        settings = read(monkeypatch, SECRET_KEY=LONG_SECRET, API_KEY=f"pk_{LONG_SECRET}")

        assert settings.app_env == "production"

    def test_it_needs_no_key_in_the_environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert read(monkeypatch, SECRET_KEY=LONG_SECRET).api_key is None

    @pytest.mark.parametrize(
        ("environment", "named"),
        [
            ({}, "SECRET_KEY"),
            ({"SECRET_KEY": ""}, "SECRET_KEY"),
            ({"SECRET_KEY": "short"}, "SECRET_KEY"),
            ({"SECRET_KEY": DEVELOPMENT_SECRET}, "SECRET_KEY"),
            ({"SECRET_KEY": f"{LONG_SECRET},{DEVELOPMENT_SECRET}"}, "SECRET_KEY"),
            ({"SECRET_KEY": LONG_SECRET, "API_KEY": "admin"}, "API_KEY"),
            ({"SECRET_KEY": LONG_SECRET, "TEST_CLOCK": "1"}, "TEST_CLOCK"),
            (
                {"SECRET_KEY": LONG_SECRET, "YOOKASSA_SECRET_KEY": "development"},
                "YOOKASSA_SECRET_KEY",
            ),
            ({"SECRET_KEY": LONG_SECRET, "WEBHOOK_SECRET_KEY": ""}, "WEBHOOK_SECRET_KEY"),
            (
                {"SECRET_KEY": LONG_SECRET, "BILLING_URL": "https://carrier.example"},
                "BILLING_TOKEN",
            ),
        ],
        ids=[
            "missing",
            "empty",
            "short",
            "default",
            "default as old",
            "short key",
            "test clock",
            "the simulator's shop",
            "the default of the clicks",
            "a carrier without a token",
        ],
    )
    def test_it_does_not_start_with_what_is_for_development(
        self, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], named: str
    ) -> None:
        with pytest.raises(ConfigurationError, match=named):
            read(monkeypatch, **environment)


def test_the_environment_wins_over_the_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    env_file = tmp_path / "settings.env"
    env_file.write_text("WORKERS=3\nCALLBACK_MAX_ATTEMPTS=5\n")
    monkeypatch.setenv("ENV_FILE", str(env_file))
    monkeypatch.setenv("VAR_DIR", str(tmp_path))
    monkeypatch.setenv("WORKERS", "4")
    monkeypatch.delenv("REDIS_URL")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "runtime.env").write_text(
        "WORKERS=5\nREDIS_URL=unix:///run/valkey.sock?db=0\n"
    )

    load_environment()
    settings = Everything(read_settings())

    assert settings.workers == 4
    assert settings.callback_max_attempts == 5
    assert settings.redis_url == "unix:///run/valkey.sock?db=0"
    for name in ("CALLBACK_MAX_ATTEMPTS", "REDIS_URL"):
        os.environ.pop(name, None)


def test_commands_say_the_sentence_and_show_no_stack_trace(tmp_path: Path) -> None:
    ended = run_flask(
        "worker", ENV_FILE=os.devnull, VAR_DIR=str(tmp_path), APP_ENV="production", REDIS_URL=""
    )

    assert ended.returncode != 0
    assert "REDIS_URL is not set" in ended.stderr
    assert "Traceback" not in ended.stderr
