"""A database that was put back: nobody pays again for what was paid after the backup."""

import os
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import text

from ops.postgres import packaged_binaries
from project.billing import installation
from project.billing.customers.service import ensure_customer
from project.billing.jobs import charge_due, match_pending, match_successful
from project.billing.payments.charging import Autopayment, LateAutopayment, PromptAutopayment
from project.core.db.transaction import transaction
from project.core.errors import ServiceUnavailable
from project.extensions import db
from tests.billing.desk import Desk, close_to
from tests.time_machine import Clock

END = datetime(2027, 2, 15, 10, tzinfo=UTC)
CREATE = "/yookassa/v3/payments"
SUCCEEDED = {"status": "succeeded"}


class Backup:
    """A dump of the database as it was when this was made."""

    def __init__(self, path: Path) -> None:
        self.path = path
        run("pg_dump", "-Fc", "-f", str(path), "-d", database())

    def restore(self) -> None:
        """Put the dump back over what is there, as an operator does."""
        db.session.remove()
        db.engine.dispose()
        listed = run("pg_restore", "-l", str(self.path)).splitlines()
        ours = self.path.with_suffix(".list")
        # Extensions belong to the server's administrator, and stay.
        ours.write_text("\n".join(line for line in listed if "EXTENSION" not in line))
        run("pg_restore", "--clean", "-L", str(ours), "-d", database(), str(self.path))


def database() -> str:
    return os.environ["DATABASE_URL"].replace("+psycopg", "")


def run(program: str, *arguments: str) -> str:
    command = [str(packaged_binaries() / program), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def due(desk: Desk, clock: Clock) -> list[int]:
    """Subscriptions whose periods end, and a backup is made, before any is charged."""
    package = desk.package()
    subs = [desk.subscription(package_id=package) for _ in range(4)]
    with transaction():
        assert installation.hold() is None
    clock.set_to(END)
    return subs


@pytest.fixture
def backup(due: list[int], tmp_path: Path) -> Backup:
    return Backup(tmp_path / "before.dump")


def once_each(desk: Desk, subs: list[int]) -> None:
    assert desk.asked_there() == len(subs)
    assert list(desk.paid_there().values()) == [1] * len(subs)
    assert [desk.states(sub) for sub in subs] == [["succeeded"]] * len(subs)
    ends = [desk.read(sub).ended_at for sub in subs]
    assert all(close_to(end, datetime(2027, 3, 15, 10, tzinfo=UTC)) for end in ends)


@pytest.mark.parametrize("later", [timedelta(), timedelta(hours=20), timedelta(days=3)], ids=str)
def test_whoever_paid_after_the_backup_pays_no_more(
    desk: Desk, clock: Clock, due: list[int], backup: Backup, later: timedelta
) -> None:
    charge_due()
    clock.set_to(END + later)
    backup.restore()
    assert [desk.states(sub) for sub in due] == [[]] * len(due)

    charge_due()
    match_successful()

    once_each(desk, due)


def test_what_was_paid_after_the_time_to_which_the_clock_went_back_is_not_paid_again(
    desk: Desk, clock: Clock, due: list[int], tmp_path: Path
) -> None:
    before = clock.set_to(END - timedelta(days=9))
    backup = Backup(tmp_path / "before.dump")
    clock.set_to(END)
    charge_due()
    backup.restore()
    clock.set_to(before + timedelta(hours=1))

    charge_due()
    clock.set_to(END + timedelta(days=2))
    charge_due()

    once_each(desk, due)


def test_while_the_key_lives_the_first_payment_answers_even_unread(
    desk: Desk, clock: Clock, due: list[int], backup: Backup
) -> None:
    charge_due()
    backup.restore()
    with transaction():
        installation.release_charges()

    charge_due()

    once_each(desk, due)


def test_nobody_is_charged_before_the_books_could_be_read(
    desk: Desk, clock: Clock, due: list[int], backup: Backup
) -> None:
    charge_due()
    clock.set_to(END + timedelta(days=2))
    backup.restore()
    fault = desk.simulator.add_fault(CREATE, status=500)

    charge_due()
    assert [desk.states(sub) for sub in due] == [[]] * len(due)
    with pytest.raises(ServiceUnavailable):
        desk.pay_now(due[0])
    desk.simulator.control("DELETE", f"/faults/{fault}")
    match_successful()
    charge_due()

    once_each(desk, due)


def test_what_was_under_way_at_the_backup_is_waited_for(
    desk: Desk, clock: Clock, tmp_path: Path
) -> None:
    sub = desk.subscription("pending")
    with transaction():
        assert installation.hold() is None
    clock.set_to(END)
    backup = Backup(tmp_path / "before.dump")
    charge_due()
    external_id = str(desk.payments(sub)[0].external_id)
    clock.set_to(END + timedelta(days=2))
    backup.restore()

    charge_due()
    assert desk.states(sub) == ["pending"]
    path = f"/yookassa/payments/{external_id}/settle"
    desk.simulator.control("POST", path, {"status": "succeeded"})
    clock.advance(hours=2)
    match_pending()

    once_each(desk, [sub])


def test_a_price_that_was_raised_since_changes_nothing_that_was_paid(
    desk: Desk, clock: Clock, due: list[int], backup: Backup
) -> None:
    charge_due()
    clock.set_to(END + timedelta(days=2))
    backup.restore()
    with transaction():
        db.session.execute(text("UPDATE packages SET price = price + 100"))

    charge_due()

    once_each(desk, due)


def test_last_transactions_that_a_failover_lost_are_found_in_the_books(
    desk: Desk, clock: Clock, due: list[int]
) -> None:
    before = rows("subscriptions")
    charge_due()
    clock.set_to(END + timedelta(days=2))
    with transaction():
        db.session.execute(text("DELETE FROM payments"))
        for row in before:
            values = ", ".join(f"{name} = :{name}" for name in row if name != "id")
            db.session.execute(text(f"UPDATE subscriptions SET {values} WHERE id = :id"), row)
        db.session.execute(text("UPDATE installation SET timeline = '00000000'"))

    charge_due()

    once_each(desk, due)


@pytest.mark.parametrize("lost", ["the company", "the package"])
def test_who_gets_the_number_of_what_was_lost_gets_none_of_its_money(
    desk: Desk, clock: Clock, tmp_path: Path, lost: str
) -> None:
    known = desk.package(price=2500)
    with transaction():
        assert installation.hold() is None
        ensure_customer("company", "40", payment_method_id="another's card")
    backup = Backup(tmp_path / "before.dump")
    number = "41" if lost == "the company" else "40"
    package = known if lost == "the company" else desk.package(price=2500)
    with transaction():
        payer = ensure_customer("company", number)
    paid = desk.purchase(payer, package)
    desk.simulator.control("POST", f"/yookassa/payments/{paid.external_id}/settle", SUCCEEDED)
    match_pending()
    backup.restore()

    clock.advance(minutes=10)
    with transaction():
        ensure_customer("company", number, payment_method_id="another's card")
    assert lost == "the company" or desk.package(price=9900) == package
    assert (match_successful(), match_successful()) == (1, 1)

    assert desk.payments() == []
    assert desk.cases() == [("paid_there_missing_here", "open")]
    with transaction():
        assert ensure_customer("company", number).payment_method_id == "another's card"


def rows(table: str) -> list[dict[str, Any]]:
    with transaction() as session:
        return [dict(row) for row in session.execute(text(f"SELECT * FROM {table}")).mappings()]


def test_a_hold_of_the_operator_stays_until_it_is_released(
    app: Flask, desk: Desk, clock: Clock, due: list[int]
) -> None:
    invoke = app.test_cli_runner().invoke
    assert invoke(args=["charges", "hold", "--reason", "we move"]).exit_code == 0
    charge_due()
    match_successful()
    assert desk.asked_there() == 0
    assert "we move" in invoke(args=["charges", "show"]).output
    assert invoke(args=["charges", "release"]).exit_code == 0
    charge_due()
    once_each(desk, due)


@pytest.mark.parametrize("kind", [Autopayment, LateAutopayment, PromptAutopayment])
def test_a_worker_finds_nothing_to_do_while_charges_are_held(
    desk: Desk, clock: Clock, kind: type[Autopayment]
) -> None:
    desk.subscription(package_id=desk.package(charged="at_the_end"))
    clock.set_to(END + timedelta(days=1))
    with transaction():
        assert kind().is_anything_due()
        installation.hold_charges("we move")
        assert kind().claim(1) == []
        assert not kind().is_anything_due(), "it would call itself again without end"


def test_a_payment_of_another_installation_is_nobodys_here(desk: Desk, clock: Clock) -> None:
    metadata = {
        "customer": "external:somebody",
        "package_id": str(desk.package()),
        "installation": "0f0e0d0c-0000-4000-8000-000000000001",
    }
    order = {"amount": "990.00", "status": "succeeded", "metadata": metadata}
    desk.simulator.control("POST", "/yookassa/payments", order)

    assert match_successful() == 0

    assert (desk.payments(), desk.cases()) == ([], [])
