"""Which addresses and URLs users may send callbacks to."""

import ipaddress

import pytest

from project.core.errors import BadRequest
from project.core.net.network_guard import FORBIDDEN_NETWORKS, check_url, is_allowed
from tests.conftest import ChangeSettings

FORBIDDEN = {
    "this network": ["0.0.0.0", "0.255.255.255"],
    "private": ["10.0.0.0", "10.255.255.255", "172.16.0.1", "172.31.255.255", "192.168.0.1"],
    "carrier-grade NAT": ["100.64.0.1", "100.127.255.255"],
    "loopback": ["127.0.0.1", "127.255.255.254", "::1"],
    "link-local": ["169.254.0.1", "fe80::1", "febf::1"],
    "cloud metadata": ["169.254.169.254", "fd00:ec2::254", "168.63.129.16", "192.0.0.192"],
    "protocol assignments": ["192.0.0.1", "192.0.0.171", "2001::1", "2001:1ff:ffff::1"],
    "documentation": ["192.0.2.1", "198.51.100.1", "203.0.113.255", "2001:db8::1", "3fff::1"],
    "AS112": ["192.31.196.1", "192.175.48.1", "2620:4f:8000::1"],
    "AMT": ["192.52.193.1"],
    "6to4 relays": ["192.88.99.1"],
    "benchmarking": ["198.18.0.1", "198.19.255.255"],
    "multicast": ["224.0.0.1", "239.255.255.255", "ff02::1"],
    "reserved": ["240.0.0.1", "255.255.255.255"],
    "unspecified": ["::"],
    "IPv4-compatible": ["::127.0.0.1", "::10.0.0.1", "::8.8.8.8"],
    "IPv4-mapped": ["::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:8.8.8.8"],
    "NAT64": ["64:ff9b::7f00:1", "64:ff9b::808:808", "64:ff9b:1::1", "64:ff9b:1:ffff::1"],
    "discard": ["100::1", "100:0:0:1::1"],
    "IPv4-translated": ["::ffff:0:7f00:1", "::ffff:0:808:808"],
    "not given out": ["1::1", "1fff::1", "4000::1", "7fff::1", "8000::1", "c000::1", "fbff::1"],
    "Teredo": ["2001:0:4136:e378:8000:63bf:3fff:fdd2"],
    "6to4": ["2002:7f00:1::1", "2002:a00:1::", "2002:808:808::1"],
    "segment routing": ["5f00::1"],
    "unique local": ["fc00::1", "fdff::1"],
    "site-local": ["fec0::1"],
}
ALLOWED = [
    "1.1.1.1",
    "8.8.8.8",
    "9.255.255.255",
    "11.0.0.0",
    "100.63.255.255",
    "100.128.0.0",
    "126.255.255.255",
    "128.0.0.1",
    "168.63.129.15",
    "169.253.255.255",
    "169.255.0.0",
    "172.15.255.255",
    "172.32.0.0",
    "192.167.255.255",
    "192.169.0.0",
    "198.17.255.255",
    "198.20.0.0",
    "223.255.255.255",
    "2606:4700:4700::1111",
    "2001:4860:4860::8888",
    "2a00:1450:4001::1",
    "2003::1",
    "3ffd::1",
]


@pytest.fixture
def nothing_allowed(change_settings: ChangeSettings) -> None:
    change_settings(callback_allowed_networks=())


@pytest.mark.usefixtures("nothing_allowed")
@pytest.mark.parametrize(
    "address", [pytest.param(one, id=f"{why}-{one}") for why in FORBIDDEN for one in FORBIDDEN[why]]
)
def test_addresses_that_callbacks_may_not_reach(address: str) -> None:
    assert not is_allowed(ipaddress.ip_address(address))


@pytest.mark.usefixtures("nothing_allowed")
@pytest.mark.parametrize("address", ALLOWED)
def test_addresses_that_they_may(address: str) -> None:
    assert is_allowed(ipaddress.ip_address(address))


@pytest.mark.usefixtures("nothing_allowed")
def test_both_ends_of_every_forbidden_network_are_forbidden() -> None:
    for network in FORBIDDEN_NETWORKS:
        assert not is_allowed(network.network_address), network
        assert not is_allowed(network.broadcast_address), network


def test_a_network_that_is_opened_lets_only_itself_through(
    change_settings: ChangeSettings,
) -> None:
    opened = (ipaddress.ip_network("10.1.0.0/16"), ipaddress.ip_network("::1/128"))
    change_settings(callback_allowed_networks=opened)

    reachable = ["10.1.0.1", "::1"]
    still_closed = ["10.2.0.1", "10.0.255.255", "::2", "127.0.0.1", "::ffff:10.1.0.1"]

    assert all(is_allowed(ipaddress.ip_address(address)) for address in reachable)
    assert not any(is_allowed(ipaddress.ip_address(address)) for address in still_closed)


@pytest.mark.usefixtures("nothing_allowed")
@pytest.mark.parametrize(
    "url",
    [
        "https://example.com",
        "https://example.com/hook?x=1#y",
        "http://example.com:8080/hook",
        "https://bücher.example/hook",
        "https://8.8.8.8/hook",
        "https://[2606:4700:4700::1111]/hook",
        "HTTPS://EXAMPLE.COM/",
    ],
)
def test_urls_that_can_be_endpoints(url: str) -> None:
    check_url(url)


@pytest.mark.usefixtures("nothing_allowed")
@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("", "http or https"),
        ("example.com/hook", "http or https"),
        ("//example.com/hook", "http or https"),
        ("http://", "http or https"),
        ("ftp://example.com/", "http or https"),
        ("file:///etc/passwd", "http or https"),
        ("gopher://127.0.0.1:6379/_FLUSHALL", "http or https"),
        ("javascript:alert(1)", "http or https"),
        ("http://user:secret@example.com/", "user name or password"),
        ("http://user@example.com/", "user name or password"),
        ("http://example.com/a b", "white space or control"),
        ("http://example.com/\r\nX-Injected: 1", "white space or control"),
        ("http://example.com/\x00", "white space or control"),
        ("http://example.com/\u2003", "white space or control"),
        ("https://example.com/" + "x" * 2048, "longer than 2048"),
        ("http://[::1", "not a URL"),
        ("http://example.com:port/", "not a URL"),
        ("http://example.com:99999/", "not a URL"),
        ("http://127.0.0.1/", "not allowed"),
        ("http://127.1/", "not allowed"),
        ("http://2130706433/", "not allowed"),
        ("http://0177.0.0.1/", "not allowed"),
        ("http://[::1]/", "not allowed"),
        ("http://[::ffff:169.254.169.254]/", "not allowed"),
        ("http://[fe80::1%25eth0]/", "not allowed"),
        ("http://169.254.169.254/latest/meta-data", "not allowed"),
    ],
)
def test_urls_that_cannot(url: str, reason: str) -> None:
    with pytest.raises(BadRequest) as raised:
        check_url(url, field="endpoint")

    assert raised.value.errors is not None
    (said,) = raised.value.errors["endpoint"]
    assert reason in said


@pytest.mark.usefixtures("nothing_allowed")
def test_a_name_is_judged_by_all_that_it_resolves_to() -> None:
    check_url("https://example.com/", ["93.184.215.14", "2606:2800:21f:cb07:6820::"])

    with pytest.raises(BadRequest):
        check_url("https://example.com/", ["93.184.215.14", "10.0.0.7"])


UNSENDABLE = [
    "http://hook..example.com/",
    "http://.example.com/",
    "http://./",
    "http://../",
    f"http://{'x' * 64}.example.com/",
    f"http://{'.'.join(['label'] * 51)}/",
    "http://[v7.10.0.0.1]/",
    "http://[vF.2606:4700::1]/",
    "http://[v9.relay]/",
    "http://example.com:0/",
    "http://example.com:70000/",
    "http://sp%20ace.example.com/",
    "http://exa$mple.com/",
    "http://*.example.com/",
    "http://a,b.example.com/",
    "http://example.1/",
    "http://example.0x7f/",
    "http://1.2.3.4.5/",
    "http://256.1.1.1/",
]


@pytest.mark.parametrize("url", UNSENDABLE)
def test_a_url_that_nothing_can_be_sent_to_is_refused_in_words(url: str) -> None:
    with pytest.raises(BadRequest) as refused:
        check_url(url, field="callback_url")

    assert refused.value.status == 400
    assert refused.value.errors is not None
    [reason] = refused.value.errors["callback_url"]
    assert reason.endswith(".")


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com",
        "https://example.com./hook",
        f"https://{'x' * 63}.example.com/",
        f"https://{'.'.join(['x' * 49] * 5)}/",
        "http://my_service.example.com:8443/",
        "https://bücher.example/",
        "https://3com.example/1",
        "https://a--b.example-.com/",
        "https://9.9.9.9:1/",
        "https://[2606:4700:4700::1111]:65535/",
    ],
)
def test_a_url_that_something_can_be_sent_to_is_taken(url: str) -> None:
    check_url(url)
