"""Moving in from the older mobile service: clients keep their ids and their tokens."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import Result
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import func, select

from project.callbacks.models import Event
from project.extensions import db
from project.mobile.models import App, Device, Purchase
from project.mobile.purchases.jobs import verify_due_purchases
from simulator.client import SimulatorClient
from tests.time_machine import Clock

Import = Callable[..., Result]

DUMP = r"""
# Made by a tool
/*!40101 SET NAMES utf8 */;
DROP TABLE IF EXISTS `apps`;
CREATE TABLE `apps` (
  `id` int(10) unsigned NOT NULL AUTO_INCREMENT,
  `name` varchar(255) COLLATE utf8mb4_unicode_ci NOT NULL,
  `endpoint` varchar(255) NOT NULL,
  `created_at` timestamp NULL DEFAULT NULL,
  PRIMARY KEY (`id`)
) ENGINE=InnoDB;
INSERT INTO `apps` VALUES (4,'O\'Hara; Sons','{inbox}/four','2021-03-14 00:48:52'),
(7,'Twice (a) ''b''','{inbox}/seven',NULL);
INSERT INTO `devices` (`id`, `uid`, `app_id`, `language`, `os`, `token`, `created_at`, `updated_at`)
VALUES
	(21,347732,4,'de','ios','token-of-21','2021-03-14 00:48:52','2021-03-14 00:48:52'),
	(22,200849,7,'tr','android','token-of-22','2021-03-14 00:48:52','2021-03-14 00:48:52'),
	(23,11,9,'tr','android','token-of-23','2021-03-14 00:48:52','2021-03-14 00:48:52'),
	(24,12,7,'tr','symbian','token-of-24','2021-03-14 00:48:52','2021-03-14 00:48:52');
INSERT INTO `purchases`
 (`id`, `device_id`, `receipt`, `expire-date`, `status`, `created_at`, `updated_at`)
VALUES (301,21,'receipt of 21','2021-04-14 00:00:00',1,'2021-03-14 00:48:53','2021-03-14 00:48:53'),
 (302,22,'kept-1','2099-04-14 06:30:00',1,'2021-03-14 00:48:53','2021-03-14 00:48:53'),
 (303,22,'left-2','2021-04-14 00:00:00',0,'2021-03-14 00:48:53','2021-03-15 00:48:53'),
 (304,23,'nobody-1','2021-04-14 00:00:00',1,NULL,NULL);
"""


@pytest.fixture
def dump(simulator: SimulatorClient, tmp_path: Path) -> Path:
    """A dump of the older service, whose endpoints are inboxes of the simulator."""
    path = tmp_path / "older.sql"
    path.write_text(DUMP.replace("{inbox}", f"{simulator.base_url}/inbox"))
    return path


@pytest.fixture
def import_mobile(app: Flask) -> Import:
    """Run the command."""

    def run(path: Path, *options: str) -> Result:
        runner = app.test_cli_runner()
        return runner.invoke(args=["import-legacy", "mobile", str(path), *options])

    return run


def test_apps_devices_and_purchases_come_with_their_ids(import_mobile: Import, dump: Path) -> None:
    done = import_mobile(dump)

    assert done.exit_code == 0, done.output
    assert "apps: 2 imported, 0 known" in done.output
    assert "devices: 2 imported, 0 known" in done.output
    assert "purchases: 3 imported, 0 known" in done.output
    assert "3 left out:" in done.output
    assert "devices 23: there is no app 9" in done.output
    assert "devices 24: os is 'symbian', not ios or android" in done.output
    named = db.session.execute(select(App.id, App.name))
    assert {row.id: row.name for row in named} == {4: "O'Hara; Sons", 7: "Twice (a) 'b'"}
    assert db.session.scalars(select(Device.id).order_by(Device.id)).all() == [21, 22]
    states = db.session.execute(select(Purchase.id, Purchase.state))
    assert {row.id: row.state for row in states} == {301: "active", 302: "active", 303: "canceled"}
    assert db.session.scalar(select(func.count()).select_from(Event)) == 0


def test_of_two_rows_for_one_thing_the_last_counts_and_the_other_is_told(
    import_mobile: Import, dump: Path
) -> None:
    whole = dump.read_text()
    whole += (
        "INSERT INTO `devices` (`id`, `uid`, `app_id`, `language`, `os`, `token`) VALUES"
        " (31,'200849',7,'tr','android','token-of-31');\n"
        "INSERT INTO `purchases` (`id`, `device_id`, `receipt`, `expire-date`, `status`) VALUES"
        " (311,31,'kept-1','2099-05-14 06:30:00',1);\n"
    )
    dump.write_text(whole)

    done = import_mobile(dump)

    assert "devices 22: the same app and uid as 31, which counts" in done.output
    assert "purchases 302: the same receipt as 311, which counts" in done.output
    assert db.session.scalars(select(Device.id).order_by(Device.id)).all() == [21, 31]
    assert db.session.scalars(select(Purchase.id).order_by(Purchase.id)).all() == [301, 303, 311]
    assert set(db.session.scalars(select(Purchase.device_id))) == {21, 31}


def test_a_client_goes_on_with_its_token(
    import_mobile: Import, dump: Path, client: FlaskClient
) -> None:
    import_mobile(dump, "--timezone", "Europe/Istanbul")

    checked = client.post("/api/purchase/check", json={"client-token": "token-of-22"})

    assert checked.status_code == 200
    assert checked.get_json()["active"] is True
    expires = datetime.fromisoformat(checked.get_json()["expire-date"])
    assert expires == datetime(2099, 4, 14, 3, 30, tzinfo=UTC)


def test_what_has_expired_meanwhile_is_asked_at_the_store(
    import_mobile: Import, dump: Path, simulator: SimulatorClient, clock: Clock
) -> None:
    import_mobile(dump)
    simulator.control("PUT", "/receipts/app-store/receipt%20of%2021", {"state": "active"})

    assert verify_due_purchases() == 1

    purchase = db.session.get_one(Purchase, 301)
    assert purchase.expire_date is not None
    assert purchase.expire_date > clock.now()
    assert db.session.scalars(select(Event.type)).all() == ["renewed"]


def test_a_second_run_changes_nothing_and_new_ids_follow(
    import_mobile: Import, dump: Path, client: FlaskClient
) -> None:
    import_mobile(dump)
    again = import_mobile(dump)
    assert "purchases: 0 imported, 3 known" in again.output

    body = {"uid": "new", "appId": 4, "language": "en", "os": "ios"}
    assert client.post("/api/devices/register", json=body).status_code == 200
    assert db.session.scalar(select(func.max(Device.id))) == 23


def test_a_dry_run_keeps_nothing(import_mobile: Import, dump: Path) -> None:
    done = import_mobile(dump, "--dry-run")

    assert "devices: 2 imported" in done.output
    assert "Nothing was kept" in done.output
    assert db.session.scalar(select(func.count()).select_from(App)) == 0


def test_an_id_that_something_else_has_stops_the_import(
    import_mobile: Import, dump: Path, app: Flask, simulator: SimulatorClient
) -> None:
    db.session.add(App(id=4, name="Another", created_at=datetime.now(UTC)))
    db.session.commit()

    done = import_mobile(dump)

    assert done.exit_code != 0
    assert "The app 4 here is 'Another'" in done.output
    assert db.session.scalar(select(func.count()).select_from(Device)) == 0


@pytest.mark.parametrize("cut", range(1, 60, 7))
def test_a_dump_that_ends_in_the_middle_imports_nothing(
    import_mobile: Import, dump: Path, cut: int
) -> None:
    dump.write_text(dump.read_text().rstrip("\n;")[:-cut])

    done = import_mobile(dump)

    assert done.exit_code == 1, done.output
    assert "the file ends in the middle of a row" in done.output
    assert db.session.scalar(select(func.count()).select_from(App)) == 0


def test_one_row_that_no_table_takes_costs_no_other(import_mobile: Import, tmp_path: Path) -> None:
    path = tmp_path / "older.sql"
    path.write_text(
        "INSERT INTO `apps` (`id`, `name`, `endpoint`) VALUES (1,'One','https://one.example/'),"
        "(-2,'Two','https://two.example/'),(3,'Th\\0ree','https://three.example/'),"
        "(0,'Nought','https://nought.example/'),(5,'Five','https://five.example/'),"
        "(5,'Five again','https://five.example/');"
    )

    done = import_mobile(path)

    assert done.exit_code == 0, done.output
    assert "apps: 2 imported, 0 known" in done.output
    assert "apps -2: id is '-2', which is no id of the older system" in done.output
    assert "apps 3: name has a NUL character" in done.output
    assert "apps 0: has no id" in done.output
    assert "apps 5: its id stands in a later row, which counts" in done.output
    assert "The dump has no rows of purchases." in done.output
    assert db.session.get_one(App, 5).name == "Five again"
