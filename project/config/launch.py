"""What the launchers and docker compose read from the same `.env`; the product only lists it."""

from dataclasses import dataclass

from project.config.declare import Settings, Text, setting


@dataclass(frozen=True)
class LaunchSettings(Settings):
    """What `make run` goes by."""

    title = "make run"

    var_dir: str = setting(
        "VAR_DIR", Text(), "var", help="Databases, sockets and logs of the embedded servers"
    )
    simulator: str = setting("SIMULATOR", Text(), "1", help="0 leaves the simulator out")
    postgres_bin_dir: str = setting(
        "POSTGRES_BIN_DIR",
        Text(),
        "",
        help="The folder of initdb and postgres, where the packaged ones do not fit",
        example="/usr/lib/postgresql/17/bin",
    )


@dataclass(frozen=True)
class ComposeSettings(Settings):
    """What docker-compose.yml takes from `.env`, and nobody else."""

    title = "docker compose"

    postgres_password: str = setting(
        "POSTGRES_PASSWORD",
        Text(is_secret=True),
        "",
        help="The password of the containers' Postgres",
        first_value="",
    )
    redis_password: str = setting(
        "REDIS_PASSWORD",
        Text(is_secret=True),
        "",
        help="The password of the containers' Valkey",
        first_value="",
    )
    compose_profiles: str = setting(
        "COMPOSE_PROFILES",
        Text(),
        "",
        help="development starts the simulator too; empty in production",
        first_value="development",
    )
