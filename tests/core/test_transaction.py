"""One transaction per request and job; hooks run once it is committed."""

from collections.abc import Sequence

import pytest
from flask.testing import FlaskClient
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from project.core.db.models import ApiKey
from project.core.db.transaction import after_commit, transaction
from project.core.http import auth
from project.extensions import db

pytestmark = pytest.mark.usefixtures("app")


def add_key(name: str) -> None:
    auth.create_api_key(name, [auth.Scope.READ])


def names_that_others_see() -> Sequence[str]:
    with db.engine.connect() as connection:
        return connection.execute(text("SELECT name FROM api_keys ORDER BY name")).scalars().all()


def test_what_was_written_is_committed_at_the_end() -> None:
    with transaction():
        add_key("kept")
        assert names_that_others_see() == []

    assert names_that_others_see() == ["kept"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_an_error_rolls_everything_back_and_goes_on(error: type[BaseException]) -> None:
    def add_and_fail() -> None:
        with transaction():
            add_key("lost")
            raise error

    with pytest.raises(error):
        add_and_fail()

    assert names_that_others_see() == []


def test_hooks_run_in_order_once_others_can_see_what_was_written() -> None:
    seen: list[object] = []

    with transaction():
        after_commit(lambda: seen.append(names_that_others_see()))
        after_commit(lambda: seen.append("second"))
        add_key("kept")
        assert seen == []

    assert seen == [["kept"], "second"]


def test_hooks_are_forgotten_on_rollback() -> None:
    seen: list[str] = []

    def fail() -> None:
        with transaction():
            after_commit(lambda: seen.append("lost"))
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        fail()
    with transaction():
        pass

    assert seen == []


def test_hooks_are_forgotten_when_the_commit_itself_fails() -> None:
    seen: list[str] = []

    def add_twins() -> None:
        with transaction():
            after_commit(lambda: seen.append("lost"))
            for name in ("one", "two"):
                db.session.add(ApiKey(name=name, prefix="pk_", key_hash=b"the same", scopes=[]))

    with pytest.raises(IntegrityError):
        add_twins()

    assert seen == []
    assert names_that_others_see() == []


def test_a_hook_outside_of_a_transaction_runs_at_once() -> None:
    seen: list[str] = []

    after_commit(lambda: seen.append("now"))

    assert seen == ["now"]


def test_an_inner_transaction_is_part_of_the_outer_one() -> None:
    seen: list[str] = []

    with transaction():
        with transaction():
            add_key("inner")
            after_commit(lambda: seen.append("inner"))
        assert names_that_others_see() == []
        assert seen == []
        add_key("outer")

    assert names_that_others_see() == ["inner", "outer"]
    assert seen == ["inner"]


def test_an_error_after_an_inner_transaction_takes_that_back_too() -> None:
    seen: list[str] = []

    def fail_after_inner() -> None:
        with transaction():
            with transaction():
                add_key("inner")
                after_commit(lambda: seen.append("inner"))
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        fail_after_inner()

    assert names_that_others_see() == []
    assert seen == []


def test_a_hook_may_open_a_transaction_of_its_own() -> None:
    def write_more() -> None:
        with transaction():
            add_key("by the hook")

    with transaction():
        after_commit(write_more)

    assert names_that_others_see() == ["by the hook"]


def test_a_request_that_ends_in_an_error_leaves_nothing_behind(operator: FlaskClient) -> None:
    answer = operator.post("/api/apps/999/secret", headers={"Idempotency-Key": "a-key"})

    assert answer.status_code == 404
    with db.engine.connect() as connection:
        assert connection.scalar(text("SELECT count(*) FROM idempotency_keys")) == 0
