"""A site is given one first period, however it is written and whoever registers it again."""

import pytest
from flask.testing import FlaskClient

from project.companies.sites import site_of
from tests.api.problems import assert_problem
from tests.companies.conftest import NewPackage, NewShop


@pytest.mark.parametrize(
    "url",
    [
        "https://bücher.example.com",
        "http://bücher.example.com/",
        "https://BÜCHER.Example.COM/laden?ref=1#top",
        "https://www.bücher.example.com:8443",
        "https://xn--bcher-kva.example.com.",
        "https://user@WWW.xn--bcher-kva.example.com/a/b",
    ],
)
def test_the_same_site_gets_no_second_first_period(
    new_shop: NewShop, new_package: NewPackage, operator: FlaskClient, url: str
) -> None:
    package_id = new_package()
    new_shop(site_url="https://bücher.example.com").take(package_id)
    again = new_shop(site_url=url)

    answer = again.call("POST", "/packages", json={"package_id": package_id})

    problem = assert_problem(answer, 409, "package_id")
    assert "checkout" in problem["detail"]
    assert again.get("/check")["package"] is None
    body = {"package_id": package_id, "return_url": "https://shop.example.com/thanks"}
    assert again.call("POST", "/packages/checkout", json=body).status_code == 201
    given = {"company_id": again.id, "package_id": package_id}
    assert operator.post("/api/companies/packages", json=given).status_code == 201


def test_another_site_gets_its_own(new_shop: NewShop, new_package: NewPackage) -> None:
    package_id = new_package()
    for url in ("https://one.example.com", "https://two.example.com", "https://example.com"):
        new_shop(site_url=url).take(package_id)


def test_a_site_that_was_left_is_not_given_again(
    new_shop: NewShop, new_package: NewPackage
) -> None:
    package_id = new_package()
    first = new_shop(site_url="https://loom.example.com")
    first.take(package_id)
    assert first.call("PATCH", "/me", json={"site_url": "https://x.example"}).status_code == 200

    second = new_shop(site_url="https://loom.example.com")

    assert_problem(second.call("POST", "/packages", json={"package_id": package_id}), 409)


def test_what_was_refused_gives_nothing_away(new_shop: NewShop, new_package: NewPackage) -> None:
    shop = new_shop(site_url="https://weave.example.com")
    assert_problem(shop.call("POST", "/packages", json={"package_id": 999}), 404)

    new_shop(site_url="https://weave.example.com").take(new_package())


@pytest.mark.parametrize("url", ["https://" + "a" * 70 + ".example", "http://[::1", "x"])
def test_a_host_without_another_form_is_its_own(url: str) -> None:
    assert site_of(url) == site_of(url.upper())
