"""Endpoints into forbidden networks: refused at registration, and again at delivery."""

import ipaddress
from urllib.parse import urlsplit

import pytest
from flask.testing import FlaskClient

from project.callbacks.jobs import deliver_due_callbacks
from simulator.client import SimulatorClient
from tests.api.problems import assert_problem
from tests.callbacks.conftest import Happen, Shown
from tests.conftest import ChangeSettings
from tests.factories import Factory
from tests.time_machine import Clock

FORBIDDEN_HOSTS = [
    "127.0.0.1",
    "127.0.0.2",
    "127.255.255.254",
    "127.1",
    "127.0.1",
    "0177.0.0.1",
    "0x7f.1",
    "0x7f.0.0.1",
    "0x7f000001",
    "2130706433",
    "017700000001",
    "①②⑦.⓪.⓪.①",
    "127。0。0。1",
    "localhost",
    "LOCALHOST",
    "0.0.0.0",
    "0",
    "10.0.0.1",
    "10.1",
    "172.16.0.1",
    "172.31.255.255",
    "192.168.0.1",
    "192.168.257",
    "100.64.0.1",
    "100.100.100.200",
    "169.254.169.254",
    "169.254.43518",
    "0xa9fea9fe",
    "2852039166",
    "168.63.129.16",
    "192.0.0.192",
    "192.0.2.1",
    "198.18.0.1",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "[::]",
    "[::1]",
    "[0:0:0:0:0:0:0:1]",
    "[::127.0.0.1]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[::ffff:10.0.0.1]",
    "[::ffff:169.254.169.254]",
    "[64:ff9b::7f00:1]",
    "[64:ff9b::169.254.169.254]",
    "[64:ff9b:1::a00:1]",
    "[2002:7f00:1::]",
    "[2002:a9fe:a9fe::1]",
    "[2001::1]",
    "[2001:db8::1]",
    "[fc00::1]",
    "[fd00:ec2::254]",
    "[fe80::1]",
    "[fe80::1%25eth0]",
    "[fec0::1]",
    "[ff02::1]",
    "[100::1]",
    "[5f00::1]",
]
NO_ENDPOINTS = [
    "",
    "callbacks",
    "//93.184.216.34/",
    "http://",
    "http:///path",
    "http://[::1",
    "http://93.184.216.34:99999/",
    "http://93.184.216.34:port/",
    "ftp://93.184.216.34/",
    "file:///etc/passwd",
    "gopher://93.184.216.34/",
    "javascript:alert(1)",
    "http://user:password@93.184.216.34/",
    "http://user@93.184.216.34/",
    "http://93.184.216.34 /",
    "http://93.184.216.34/\r\nHost: 10.0.0.1",
    "http://93.184.216.34/\x00",
    "http://93.184.216.34/" + "x" * 2048,
]


@pytest.fixture
def nothing_allowed(change_settings: ChangeSettings) -> None:
    """Have no network opened, as in production."""
    change_settings(callback_allowed_networks=())


@pytest.mark.usefixtures("nothing_allowed")
@pytest.mark.parametrize("host", FORBIDDEN_HOSTS)
def test_an_endpoint_into_a_forbidden_network_is_refused_at_registration(
    operator: FlaskClient, host: str
) -> None:
    for url in (f"http://{host}/callbacks", f"https://{host}:8443/"):
        answer = operator.post("/api/apps", json={"name": "Inside", "endpoint": url})
        assert_problem(answer, 400, "endpoint")
    assert operator.get("/api/apps").get_json()["data"] == []


@pytest.mark.usefixtures("nothing_allowed")
@pytest.mark.parametrize("host", ["127.0.0.1", "127.1", "2130706433", "localhost", "[::1]"])
def test_an_endpoint_cannot_be_changed_into_a_forbidden_network(
    operator: FlaskClient, host: str
) -> None:
    public = {"name": "Outside", "endpoint": "https://93.184.216.34/callbacks"}
    app = operator.post("/api/apps", json=public).get_json()["data"]
    change = {"endpoint": f"http://{host}/"}
    assert_problem(operator.patch(f"/api/apps/{app['id']}", json=change), 400, "endpoint")
    shown = operator.get(f"/api/apps/{app['id']}").get_json()["data"]
    assert shown["endpoint"] == public["endpoint"]


@pytest.mark.usefixtures("nothing_allowed")
@pytest.mark.parametrize("url", NO_ENDPOINTS)
def test_what_is_no_endpoint_is_refused(operator: FlaskClient, url: str) -> None:
    answer = operator.post("/api/apps", json={"name": "Odd", "endpoint": url})
    assert_problem(answer, 400, "endpoint")


@pytest.mark.usefixtures("nothing_allowed")
@pytest.mark.parametrize(
    "url",
    [
        "https://93.184.216.34/callbacks?app=1",
        "http://93.184.216.34:8080",
        "https://[2606:2800:220:1:248:1893:25c8:1946]/",
        "http://172.15.255.255/",
        "http://172.32.0.1/",
        "http://nobody.invalid/callbacks",
        "https://münchen.invalid/",
    ],
)
def test_a_public_endpoint_is_taken_as_it_was_given(operator: FlaskClient, url: str) -> None:
    answer = operator.post("/api/apps", json={"name": "Outside", "endpoint": url})
    assert answer.status_code == 201
    assert answer.get_json()["data"]["endpoint"] == url


REACHABLE_HERE = [
    "127.0.0.1",
    "127.1",
    "0x7f.1",
    "0x7f000001",
    "2130706433",
    "0177.0.0.1",
    "localhost",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "①②⑦.⓪.⓪.①",
]


@pytest.mark.parametrize("host", REACHABLE_HERE)
def test_a_forbidden_endpoint_is_refused_again_at_delivery(
    happen: Happen,
    shown: Shown,
    factory: Factory,
    simulator: SimulatorClient,
    clock: Clock,
    change_settings: ChangeSettings,
    host: str,
) -> None:
    """An address may have been allowed, or a name have led elsewhere, when it was registered."""
    port = urlsplit(simulator.base_url).port
    happen(factory.app(f"http://{host}:{port}/inbox/inside"))
    change_settings(callback_allowed_networks=())
    deliver_due_callbacks()
    assert simulator.inbox("inside")["count"] == 0
    callback = shown()
    assert (callback["state"], callback["attempts"]) == ("pending", 1)
    assert callback["last_status"] is None
    assert callback["last_error"].startswith("refused: ")
    for _ in range(2):
        clock.advance(hours=1)
        deliver_due_callbacks()
    assert shown()["state"] == "failed"
    assert simulator.inbox("inside")["count"] == 0


def test_an_escaped_address_leads_nowhere(
    happen: Happen, shown: Shown, factory: Factory, simulator: SimulatorClient
) -> None:
    port = urlsplit(simulator.base_url).port
    happen(factory.app(f"http://%31%32%37.0.0.1:{port}/inbox/inside"))
    deliver_due_callbacks()
    assert simulator.inbox("inside")["count"] == 0
    assert (shown()["state"], shown()["last_status"]) == ("pending", None)


def test_a_redirect_does_not_lead_into_a_forbidden_network(
    happen: Happen, shown: Shown, factory: Factory, simulator: SimulatorClient
) -> None:
    app = factory.app()
    inside = f"{simulator.base_url}/inbox/inside"
    simulator.add_fault(f"/inbox/{app.inbox}", status=307, headers={"Location": inside})
    happen(app)
    deliver_due_callbacks()
    assert simulator.inbox("inside")["count"] == 0
    assert shown()["last_status"] == 307


def test_an_allowed_network_opens_only_itself(
    operator: FlaskClient, change_settings: ChangeSettings
) -> None:
    change_settings(callback_allowed_networks=(ipaddress.ip_network("10.1.0.0/16"),))
    inside = {"name": "Inside", "endpoint": "http://10.1.2.3/"}
    assert operator.post("/api/apps", json=inside).status_code == 201
    for host in ("10.2.0.1", "127.0.0.1", "[::ffff:10.1.2.3]"):
        outside = {"name": "Outside", "endpoint": f"http://{host}/"}
        assert_problem(operator.post("/api/apps", json=outside), 400, "endpoint")
