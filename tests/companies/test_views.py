"""The views that people query: one row per package of a company, one per payment."""

from flask.testing import FlaskClient
from sqlalchemy import text

from project.extensions import db
from tests.companies.conftest import NewPackage, NewShop
from tests.companies.shop import END, NEXT_END, Run, Shop, registration
from tests.time_machine import Clock


def test_packages_and_payments_of_companies_can_be_queried(
    shop: Shop, new_shop: NewShop, new_package: NewPackage, clock: Clock, run: Run
) -> None:
    new_shop()
    package_id = new_package(name="Monthly")
    shop.take(package_id)
    clock.set_to(END)
    run("autopayments-run", "--inline")

    [package] = db.session.execute(text("SELECT * FROM company_packages")).mappings()
    [payment] = db.session.execute(text("SELECT * FROM company_payments")).mappings()

    assert package["company_id"] == payment["company_id"] == shop.id
    assert (package["package_id"], package["package"]) == (package_id, "Monthly")
    assert package["state"] == "active"
    assert package["start_date"].date() == END.date()
    assert package["end_date"].date() == NEXT_END.date()
    [shown] = shop.get(f"/{shop.id}/payments")["data"]
    assert str(payment["payment_id"]) == shown["id"]
    for name in ("state", "amount", "currency", "attempt", "trigger", "reason", "provider"):
        assert payment[name] == shown[name]
    assert payment["settled_at"].isoformat() == shown["settled_at"]


def test_letters_are_written_in_one_way_however_it_is_asked(client: FlaskClient) -> None:
    body = registration(company_name="Bjørn & Söhne 天")
    token = client.post("/api/companies/register", json=body).get_json()["token"]
    headers = {"Authorization": f"Bearer {token}"}

    answers = [
        client.get("/api/companies/check", headers=headers),
        client.post("/api/companies/check", headers=headers),
        client.post("/api/companies/check", headers=headers, data={"a": "b"}),
        client.get("/api/companies/me", headers=headers),
    ]

    for answer in answers:
        assert answer.status_code == 200
        assert "Bjørn & Söhne 天".encode() in answer.get_data()
