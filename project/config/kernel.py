"""The settings of the kernel: what every part of the product stands on."""

import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from project.config.declare import (
    ConfigurationError,
    Decimal,
    Derived,
    Items,
    NoRunningCopy,
    Parsed,
    RateLimit,
    Reader,
    Secret,
    Secrets,
    Settings,
    Switch,
    Text,
    Url,
    Whole,
    setting,
)
from project.config.secrets import MAKE_ONE

MIGRATIONS_DIR = Path(__file__).resolve().parents[2] / "migrations"
DEVELOPMENT_SECRET = "development-only-secret-key-change-me"
COMPATIBILITY_SWITCHES = ("report-order", "error-words", "empty-filters", "form-ids")
ENVIRONMENTS = ("development", "testing", "production")
LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
CALL_SECONDS = Decimal(0.05, 120)
"""How long one call, or one wait, may be made to take."""
QUEUE_NAME = r"^[a-z][a-z0-9_-]{0,49}$"

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def networks(name: str) -> Items[tuple[Network, ...]]:
    """Return the kind of a setting that names networks."""

    def parse(items: list[str]) -> tuple[Network, ...]:
        try:
            return tuple(ipaddress.ip_network(item.strip()) for item in items)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error

    return Items(parse, lambda found: ",".join(map(str, found)), "networks")


def _switches(items: list[str]) -> frozenset[str]:
    switches = frozenset(item.strip() for item in items if item.strip())
    unknown = sorted(switches - set(COMPATIBILITY_SWITCHES))
    if unknown:
        known = ", ".join(COMPATIBILITY_SWITCHES)
        raise ValueError(f"COMPATIBILITY names {', '.join(unknown)}; there is {known}")
    return switches


def _dns_servers(items: list[str]) -> tuple[str, ...]:
    servers = tuple(item.strip() for item in items if item.strip())
    for server in servers:
        try:
            parsed = urlsplit(f"//{server}")
            ipaddress.ip_address(parsed.hostname or "")
            if parsed.port == 0:
                raise ValueError("port 0")
        except ValueError as error:
            raise ValueError(
                "CALLBACK_DNS_SERVERS are addresses such as 10.0.0.2 or 10.0.0.2:53"
            ) from error
    return servers


def _database_url(url: str) -> str:
    """Accept the usual spellings of a Postgres URL and name the driver that is installed."""
    for prefix in ("postgres://", "postgresql://"):
        if url.startswith(prefix):
            return "postgresql+psycopg://" + url.removeprefix(prefix)
    return url


@dataclass(frozen=True)
class CoreSettings(Settings):
    """What this copy is, its own secrets, its time and its logs."""

    title = "The copy itself"

    app_env: str = setting(
        "APP_ENV",
        Text(one_of=ENVIRONMENTS),
        "development",
        help="development: simulated stores, providers and gateways. production: the real ones; "
        "default secrets and the test clock are refused",
        first_value="development",
    )
    api_key: str | None = setting(
        "API_KEY",
        Secret(),
        None,
        help="The operator's key, sent as `Authorization: Bearer <API_KEY>`; more are made with "
        "`flask api-key create`",
        first_value="",
    )
    secret_keys: tuple[str, ...] = setting(
        "SECRET_KEY",
        Secrets(),
        (DEVELOPMENT_SECRET,),
        help="Encrypts what is kept and signs what is handed out; several, separated by commas, "
        "while one is being replaced",
        first_value="",
    )
    compatibility: frozenset[str] = setting(
        "COMPATIBILITY",
        Items(_switches, lambda found: ",".join(sorted(found)), "switches"),
        frozenset(),
        help="Ways of the older services that clients still count on, separated by commas; "
        f"docs/migrating.md says what each does: {', '.join(COMPATIBILITY_SWITCHES)}",
    )
    test_clock: bool = setting(
        "TEST_CLOCK",
        Switch(),
        False,
        help="1: `flask clock advance 25h` moves the time. Never in production",
        first_value="1",
    )
    log_level: str = setting(
        "LOG_LEVEL", Text(one_of=LOG_LEVELS), "INFO", help="The least that is logged"
    )
    log_format: str = setting(
        "LOG_FORMAT", Text(one_of=("text", "json")), "text", help="How a line of the log is written"
    )

    @property
    def production(self) -> bool:
        """Tell whether this copy serves real customers."""
        return self.app_env == "production"

    def problems(self, read: Reader) -> Iterator[ConfigurationError]:
        """Return what keeps a copy from serving real customers."""
        if self.production and DEVELOPMENT_SECRET in self.secret_keys:
            yield ConfigurationError(
                "SECRET_KEY is not set. Production does not start with the development default. "
                f"{MAKE_ONE}"
            )
        if self.production and self.test_clock:
            yield ConfigurationError("TEST_CLOCK=1 moves the time of real customers. Unset it.")


@dataclass(frozen=True)
class HttpSettings(Settings):
    """Where the API listens, how much of it runs, and what it takes from a sender."""

    title = "The API"

    host: str = setting("HOST", Text(), "127.0.0.1", help="The address on which the API listens")
    port: int = setting(
        "PORT",
        Whole(0, 65_535),
        8000,
        help="The port on which it listens; two copies run side by side with other ports and "
        "another VAR_DIR",
    )
    api_workers: int = setting(
        "API_WORKERS", Whole(1, 256), 2, help="Processes of the API: one per core"
    )
    api_threads: int = setting(
        "API_THREADS",
        Whole(1, 1000),
        24,
        help="Threads of each process, for what is not answered at once",
    )
    api_wait_seconds: float = setting(
        "API_WAIT_SECONDS",
        CALL_SECONDS,
        10,
        unit="seconds",
        help="How long a request may wait for a thread before it is answered 503",
    )
    api_connections: int = setting(
        "API_CONNECTIONS",
        Whole(16),
        10_000,
        help="Connections that each process holds; past it the one that idles longest is closed",
    )
    trusted_proxies: int = setting(
        "TRUSTED_PROXIES",
        Whole(0, 10),
        0,
        help="How many proxies in front set X-Forwarded-For",
    )
    max_body_bytes: int = setting(
        "MAX_BODY_BYTES",
        Whole(1024),
        1_048_576,
        unit="bytes",
        help="The longest body of a request; files and batches of clicks have limits of their own",
    )
    body_timeout_seconds: float = setting(
        "BODY_TIMEOUT_SECONDS",
        CALL_SECONDS,
        30,
        unit="seconds",
        help="A body must be there by then; a long one has more time while it keeps coming",
    )
    body_min_bytes_per_second: int = setting(
        "BODY_MIN_BYTES_PER_SECOND",
        Whole(1),
        4096,
        unit="bytes per second",
        help="How fast a long body has to keep coming",
    )
    bodies_memory_bytes: int = setting(
        "BODIES_MEMORY_BYTES",
        Whole(65_536),
        64 * 1024**2,
        unit="bytes",
        help="The memory that all bodies and long answers of a process take up; 503 past it",
    )
    bodies_disk_bytes: int = setting(
        "BODIES_DISK_BYTES",
        Whole(65_536),
        4 * 1024**3,
        unit="bytes",
        help="The disk that they take up; 503 past it",
    )
    register_rate_limit: str = setting(
        "REGISTER_RATE_LIMIT",
        RateLimit(),
        "300/minute",
        help="Registrations of devices and of companies per address",
    )


@dataclass(frozen=True)
class StorageSettings(Settings):
    """Postgres, which keeps everything, and Redis, which wakes the workers."""

    title = "Where it keeps its data"

    database_url: str = setting(
        "DATABASE_URL",
        Parsed(_database_url, noun="URL"),
        "",
        help="A Postgres of your own; the embedded one is then not started",
        example="postgresql://perennial:secret@db.example.com/perennial",
    )
    redis_url: str = setting(
        "REDIS_URL",
        Url(),
        "",
        help="A Redis or Valkey of your own; the embedded one is then not started",
        example="redis://:secret@redis.example.com:6379/0",
    )
    database_pool_size: int = setting(
        "DATABASE_POOL_SIZE",
        Whole(2),
        10,
        help="Connections to Postgres that each process keeps; twice as many at a peak",
    )
    database_connect_timeout_seconds: int = setting(
        "DATABASE_CONNECT_TIMEOUT_SECONDS",
        Whole(1, 60),
        3,
        unit="seconds",
        help="How long a connection to Postgres may take to be made or proved",
    )
    statement_timeout_seconds: int = setting(
        "STATEMENT_TIMEOUT_SECONDS",
        Whole(1),
        15,
        unit="seconds",
        help="How long Postgres works on one statement; two seconds later it is given up",
    )

    def problems(self, read: Reader) -> Iterator[ConfigurationError]:
        """Return what is missing, and what is no Postgres and no Redis."""
        for name, value in (("DATABASE_URL", self.database_url), ("REDIS_URL", self.redis_url)):
            if not value:
                yield NoRunningCopy(
                    f"{name} is not set and no running copy was found. Start one with `make run`, "
                    f"or set {name} in the environment or in .env."
                )
        if self.database_url and not self.database_url.startswith("postgresql+psycopg://"):
            yield ConfigurationError(
                "DATABASE_URL must name a Postgres: postgresql://user:password@host:port/database"
            )
        if self.redis_url and not self.redis_url.startswith(("redis://", "rediss://", "unix://")):
            yield ConfigurationError("REDIS_URL must begin with redis://, rediss:// or unix://")

    def engine_options(self) -> dict[str, Any]:
        """Return what SQLAlchemy is given to make an engine."""
        timeout_ms = self.statement_timeout_seconds * 1000
        return {
            "pool_size": self.database_pool_size,
            "max_overflow": self.database_pool_size,
            "pool_timeout": 5,
            # Errors are logged, and the values in them are customers'.
            "hide_parameters": True,
            "connect_args": {
                "connect_timeout": self.database_connect_timeout_seconds,
                "options": f"-c timezone=UTC -c statement_timeout={timeout_ms}"
                f" -c idle_in_transaction_session_timeout=60000",
                "application_name": "perennial",
            },
        }


@dataclass(frozen=True)
class WorkSettings(Settings):
    """The workers, and how they share work out."""

    title = "Background work"

    workers: int = setting(
        "WORKERS",
        Whole(1, 512),
        8,
        help="Workers on this machine; at most half of them do one kind of work",
    )
    worker_max_jobs: int = setting(
        "WORKER_MAX_JOBS",
        Whole(1),
        2000,
        unit="jobs",
        help="After how many jobs a worker starts afresh",
    )
    pump_seconds: int = setting(
        "PUMP_SECONDS",
        Whole(1, 120),
        50,
        unit="seconds",
        help="How long a job goes on taking work up before it lets another one go on",
    )
    lease_slack_seconds: int = setting(
        "LEASE_SLACK_SECONDS",
        Whole(1, 600),
        30,
        unit="seconds",
        help="How much longer than its longest call a worker keeps what it has taken up; work of "
        "a worker that died is taken up by another one then",
    )
    clicks_queue_name: str = setting(
        "CLICKS_QUEUE_NAME",
        Text(pattern=QUEUE_NAME),
        "default",
        help="The queue of the job that counts clicks; workers of `default` take it too",
    )


@dataclass(frozen=True)
class NetworkSettings(Settings):
    """Where calls to the addresses that users give may lead."""

    title = "Users' addresses"

    callback_allowed_networks: tuple[Network, ...] = setting(
        "CALLBACK_ALLOWED_NETWORKS",
        networks("CALLBACK_ALLOWED_NETWORKS"),
        (),
        help="Networks that callbacks may reach although they are private; empty in production",
        first_value="127.0.0.0/8,::1/128",
    )
    callback_dns_servers: tuple[str, ...] = setting(
        "CALLBACK_DNS_SERVERS",
        Items(_dns_servers, noun="addresses"),
        (),
        help="Name servers for callbacks' names, such as 10.0.0.2 or 10.0.0.2:53; those of the "
        "machine if there are none",
    )


@dataclass(frozen=True)
class SimulatorSettings(Settings):
    """The simulated outside world, which stands for every system that no setting names."""

    title = "The simulator"

    simulator_port: int = setting(
        "SIMULATOR_PORT", Whole(), 8900, help="The port on which it listens"
    )
    simulator_url: str = setting(
        "SIMULATOR_URL",
        Url(may_be_blank=False),
        Derived(
            lambda _, before: f"http://127.0.0.1:{before['simulator_port']}", "on this machine"
        ),
        help="Where it answers, if it runs elsewhere",
        example="http://127.0.0.1:8900",
    )


def simulated(path: str) -> Derived[str]:
    """Return the default of an outside system's URL: its place in the simulator."""
    return Derived(lambda read, _: read(SimulatorSettings).simulator_url + path, "the simulator")
