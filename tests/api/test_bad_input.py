"""Bad input: each gets a clear problem answer, never a 500, and leaves nothing behind."""

import json
from typing import Any

import pytest
from flask.testing import FlaskClient

from tests.api.problems import assert_problem
from tests.companies.shop import registration
from tests.factories import Factory

REGISTER = "/api/devices/register"
BODIES = ["/api/apps", REGISTER, "/api/purchase", "/api/purchase/check", "/api/callbacks/replay"]
BODIES += ["/api/clock", "/api/companies/register", "/api/companies/login", "/api/packages"]
BODIES += ["/api/companies/packages", "/api/payments"]
LISTS = ["/api/apps", "/api/devices", "/api/purchases", "/api/reports", "/api/callbacks"]
LISTS += ["/api/companies", "/api/packages", "/api/payments", "/api/subscriptions"]
LISTS += ["/api/reconciliation/cases"]

NO_JSON: dict[str, bytes] = {
    "nothing": b"",
    "white space": b"  \n",
    "broken": b'{"uid": ',
    "two values": b"{} {}",
    "single quotes": b"{'uid': 'x'}",
    "a trailing comma": b'{"uid": "x",}',
    "invalid bytes": b'{"uid": "\xff\xfe"}',
    "a control character": b'{"uid": "\x00"}',
    "NaN": b'{"appId": NaN}',
    "Infinity": b'{"appId": -Infinity}',
    "endless digits": b'{"appId": ' + b"9" * 100_000 + b"}",
    "deep lists": b"[" * 200_000,
    "deep objects": b'{"a":' * 100_000,
    "a form": b"uid=x&appId=1",
    "XML": b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY y SYSTEM "file:///etc/passwd">]><x>&y;</x>',
}
NO_OBJECT: dict[str, bytes] = {
    "a list": b"[]",
    "a list of objects": b'[{"uid": "x"}]',
    "text": b'"uid"',
    "a number": b"7",
    "null": b"null",
    "true": b"true",
}


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize(
    "body",
    [*NO_JSON.values(), *NO_OBJECT.values()],
    ids=[*NO_JSON, *NO_OBJECT],
)
def test_a_body_that_is_no_json_object(operator: FlaskClient, path: str, body: bytes) -> None:
    answer = operator.post(path, data=body, content_type="application/json")
    problem = assert_problem(answer, 400)
    assert problem["detail"] in (
        "The body is not valid JSON.",
        "The body must be a JSON object.",
    )


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize(
    "content_type",
    ["text/plain", "text/json", "application/xml", "application/octet-stream", "x", "", "a/b; c"],
)
def test_a_body_of_another_type(operator: FlaskClient, path: str, content_type: str) -> None:
    assert_problem(operator.post(path, data=b"{}", content_type=content_type), 415)


@pytest.mark.parametrize("content_type", ["application/json; charset=utf-8", "APPLICATION/JSON"])
def test_a_content_type_may_be_spelt_in_other_ways(
    client: FlaskClient, factory: Factory, content_type: str
) -> None:
    body = {"uid": "x", "appId": factory.app().id, "language": "en", "os": "ios"}
    answer = client.post(REGISTER, data=json.dumps(body), content_type=content_type)
    assert answer.status_code == 200


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize(
    "content_type",
    ["application/json", "application/x-www-form-urlencoded", "multipart/form-data; boundary=b"],
)
def test_a_body_over_the_limit(operator: FlaskClient, path: str, content_type: str) -> None:
    bodies = {
        "application/json": b'{"uid": "' + b"x" * 1_100_000 + b'"}',
        "application/x-www-form-urlencoded": b"uid=" + b"x" * 1_100_000,
        "multipart/form-data; boundary=b": b'--b\r\nContent-Disposition: form-data; name="uid"'
        b"\r\n\r\n" + b"x" * 1_100_000 + b"\r\n--b--\r\n",
    }
    answer = operator.post(path, data=bodies[content_type], content_type=content_type)
    assert_problem(answer, 413)


def test_a_form_of_too_many_parts(client: FlaskClient) -> None:
    body = {f"field{number}": "x" for number in range(1500)}
    answer = client.post(REGISTER, data=body, content_type="multipart/form-data")
    assert_problem(answer, 413)


@pytest.mark.parametrize(
    ("body", "boundary"),
    [
        (b"--b\r\n", "boundary=b"),
        (b"no parts at all", "boundary=b"),
        (b'--b\r\nContent-Disposition: form-data; name="uid"\r\n\r\nx', "boundary=b"),
        (b'--b\r\nContent-Disposition: form-data; name="uid"\r\n\r\nx\r\n--b--', ""),
        (b"--b\r\nnonsense\r\n\r\nx\r\n--b--\r\n", "boundary=b"),
    ],
)
def test_a_broken_multipart_form(client: FlaskClient, body: bytes, boundary: str) -> None:
    content_type = f"multipart/form-data; {boundary}"
    assert_problem(client.post(REGISTER, data=body, content_type=content_type), 400)


def test_a_form_that_cannot_be_read_is_not_taken_for_an_empty_one(client: FlaskClient) -> None:
    part = 'name="uid"; filename="Prévisions.csv"'.encode("latin-1")
    body = b"--b\r\nContent-Disposition: form-data; " + part + b"\r\n\r\nx\r\n--b--\r\n"

    answer = client.post(REGISTER, data=body, content_type="multipart/form-data; boundary=b")

    assert_problem(answer, 400)
    assert answer.get_json()["detail"] == "The form must be UTF-8, names of files too."


def test_a_file_in_place_of_a_field_is_not_read(client: FlaskClient, factory: Factory) -> None:
    app = factory.app()
    parts = {"appId": str(app.id), "language": "en", "os": "ios"}
    boundary = "b"
    body = "".join(
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in parts.items()
    )
    body += (
        f'--{boundary}\r\nContent-Disposition: form-data; name="uid"; filename="uid.txt"\r\n\r\n'
        f"x\r\n--{boundary}--\r\n"
    )
    content_type = f"multipart/form-data; boundary={boundary}"
    assert_problem(client.post(REGISTER, data=body, content_type=content_type), 400, "uid")


LONG = "x" * 10_000
ODD_VALUES: list[object] = [
    None,
    True,
    -1,
    0,
    1.5,
    1e308,
    2**63,
    10**400,
    [],
    ["x"],
    [[[[]]]],
    {},
    {"$gt": ""},
    {"__class__": "x"},
    LONG,
    "nul\x00byte",
    "\ud800",
    "line\r\nX-Injected: yes",
]


NEEDS_MORE = {
    "/api/companies/login": 401,
    "/api/companies/packages": 404,
    "/api/payments": 404,
}
"""What good input gets where it names somebody or something that is not there."""


def what_is_sent(path: str, factory: Factory) -> dict[str, Any]:
    return {
        "/api/apps": {"name": "App", "endpoint": "http://127.0.0.1:9/"},
        REGISTER: {
            "uid": "x",
            "appId": factory.app().id,
            "language": "en",
            "os": "ios",
            "click_id": "c",
        },
        "/api/purchase": {"client-token": factory.device().token, "receipt": "a-receipt-1"},
        "/api/purchase/check": {"client-token": factory.device().token},
        "/api/callbacks/replay": {
            "since": "2027-01-01T00:00:00Z",
            "app_id": 1,
            "state": "failed",
        },
        "/api/clock": {"advance": "1h"},
        "/api/companies/register": registration(),
        "/api/companies/login": {"email": "ada@example.com", "password": "a quiet loom"},
        "/api/companies/packages": {"company_id": 1, "package_id": 1},
        "/api/packages": {"name": "Monthly", "price": 1000, "currency": "EUR"},
        "/api/payments": {
            "customer": "shopper-1",
            "package_id": 1,
            "return_url": "https://shop.example.com/",
        },
    }[path]


@pytest.mark.parametrize("path", BODIES)
def test_every_field_with_every_odd_value_is_refused(
    operator: FlaskClient, factory: Factory, path: str
) -> None:
    good = what_is_sent(path, factory)
    for name in good.keys() - {"click_id"}:
        for value in ODD_VALUES:
            if name == "receipt" and value == LONG:
                continue
            answer = operator.post(path, json={**good, name: value})
            status = 401 if name == "client-token" else 400
            assert answer.status_code == status, (name, value, answer.get_data(as_text=True))
            assert_problem(answer, status)
    assert operator.post(path, json=good).status_code in (200, 201, 202, NEEDS_MORE.get(path))


@pytest.mark.parametrize("value", ODD_VALUES)
def test_an_odd_click_id_is_left_out_and_stops_no_device(
    operator: FlaskClient, factory: Factory, value: object
) -> None:
    body = what_is_sent(REGISTER, factory) | {"click_id": value}

    assert operator.post(REGISTER, json=body).status_code == 200
    assert operator.get("/api/devices").get_json()["data"][0]["click_id"] is None


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"name=Caf%E9&price=5", "application/x-www-form-urlencoded"),
        (b"name=Caf%C3&price=5", "application/x-www-form-urlencoded"),
        (b"name=Caf\xe9&price=5", "application/x-www-form-urlencoded"),
        (b"name=Caf%ED%A0%BD&price=5", "application/x-www-form-urlencoded"),
        (
            b'--b\r\nContent-Disposition: form-data; name="name"\r\n\r\nCaf\xe9\r\n--b\r\n'
            b'Content-Disposition: form-data; name="price"\r\n\r\n5\r\n--b--\r\n',
            "multipart/form-data; boundary=b",
        ),
    ],
)
def test_a_form_in_another_encoding_is_refused_and_nothing_else_is_read_into_it(
    operator: FlaskClient, body: bytes, content_type: str
) -> None:
    answer = operator.post("/api/packages", data=body, content_type=content_type)

    assert_problem(answer, 400)
    assert answer.get_json()["detail"].startswith("The form must be UTF-8")
    assert operator.get("/api/packages").get_json()["data"] == []


def test_so_is_a_query(operator: FlaskClient) -> None:
    days = "start_date=2026-01-01&end_date=2026-01-31"

    assert_problem(operator.get(f"/api/reports/aggregated?{days}&source=caf%E9"), 400)
    assert operator.get(f"/api/reports/aggregated?{days}&source=caf%C3%A9").status_code == 200


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize(
    "name", ["unknown", "", "\x00", "\ud800", "__proto__", "<script>", "x" * 10_000, "ü"]
)
def test_a_field_that_nobody_knows_is_refused(
    operator: FlaskClient, factory: Factory, path: str, name: str
) -> None:
    good = what_is_sent(path, factory)
    assert_problem(operator.post(path, json={**good, name: "x"}), 400)


@pytest.mark.parametrize("field", ["uid", "click_id"])
def test_text_of_many_scripts_is_kept(
    client: FlaskClient, operator: FlaskClient, factory: Factory, field: str
) -> None:
    text = "Ωμέγα 😀 天気 'quoted' \"double\" <b> %00"
    body = {"uid": "x", "appId": factory.app().id, "language": "en", "os": "ios", field: text}
    assert client.post(REGISTER, json=body).status_code == 200
    assert operator.get("/api/devices").get_json()["data"][0][field] == text


def test_text_that_looks_like_sql_is_text(
    client: FlaskClient, operator: FlaskClient, factory: Factory
) -> None:
    uid = "x'); DROP TABLE devices; --"
    body = {"uid": uid, "appId": factory.app().id, "language": "' OR '1'='1", "os": "ios"}
    assert client.post(REGISTER, json=body).status_code == 200
    [device] = operator.get("/api/devices").get_json()["data"]
    assert (device["uid"], device["language"]) == (uid, "' OR '1'='1")


@pytest.mark.parametrize("path", LISTS)
@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("page=0", "page"),
        ("page=-1", "page"),
        ("page=1000001", "page"),
        ("page=9223372036854775808", "page"),
        ("page=" + "9" * 5000, "page"),
        ("page=1.5", "page"),
        ("page=NaN", "page"),
        ("page=1e3", "page"),
        ("page=", "page"),
        ("page=one", "page"),
        ("page=%00", "page"),
        ("page=1;DROP TABLE apps", "page"),
        ("limit=0", "limit"),
        ("limit=-1", "limit"),
        ("limit=1001", "limit"),
        ("limit=all", "limit"),
    ],
)
def test_pages_that_there_cannot_be(
    operator: FlaskClient, path: str, query: str, field: str
) -> None:
    assert_problem(operator.get(f"{path}?{query}"), 400, field)


@pytest.mark.parametrize("path", LISTS)
def test_a_page_after_the_last_is_empty(operator: FlaskClient, path: str) -> None:
    found = operator.get(f"{path}?page=1000000&limit=1000").get_json()
    assert found["data"] == []
    assert found["pagination"]["total"] == 0
    assert found["pagination"]["last_page"] == 1


@pytest.mark.parametrize("path", LISTS)
@pytest.mark.parametrize("query", ["page=1&page=2", "limit=5&page=1&limit=5"])
def test_a_doubled_parameter_is_refused(operator: FlaskClient, path: str, query: str) -> None:
    assert_problem(operator.get(f"{path}?{query}"), 400)


@pytest.mark.parametrize(
    "query",
    [
        "/api/devices?os=ios' OR '1'='1",
        "/api/devices?os=%00",
        "/api/devices?os=%ff",
        "/api/devices?app_id=1 OR 1=1",
        "/api/devices?app_id=1&appId=1",
        "/api/purchases?state=active%27--",
        "/api/purchases?expires_before=now()",
        "/api/purchases?device_id=99999999999999999999",
        "/api/callbacks?since=1;SELECT pg_sleep(5)",
        "/api/callbacks?state=",
        "/api/reports?start_date=0000-00-00",
        "/api/reports?start_date=2027-01-01'",
    ],
)
def test_a_filter_that_is_no_value(operator: FlaskClient, query: str) -> None:
    assert_problem(operator.get(query), 400)


@pytest.mark.parametrize("content_type", [None, "multipart/form-data"])
def test_a_doubled_form_field_is_refused(
    client: FlaskClient, operator: FlaskClient, factory: Factory, content_type: str | None
) -> None:
    body = {"uid": ["one", "two"], "appId": factory.app().id, "language": "en", "os": "ios"}
    answer = client.post(REGISTER, data=body, content_type=content_type)
    assert "uid" in assert_problem(answer, 400)["detail"]
    assert operator.get("/api/devices").get_json()["data"] == []


@pytest.mark.parametrize("content_type", [None, "multipart/form-data"])
@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("uid", ""),
        ("uid", "x" * 10_000),
        ("uid", "nul\x00"),
        ("appId", "x"),
        ("appId", " 1"),
        ("appId", "9" * 30),
        ("os", "windows"),
        ("colour", "red"),
    ],
)
def test_a_form_is_held_to_the_same_rules(
    client: FlaskClient, factory: Factory, content_type: str | None, field: str, value: str
) -> None:
    body = {"uid": "x", "appId": str(factory.app().id), "language": "en", "os": "ios"}
    answer = client.post(REGISTER, data={**body, field: value}, content_type=content_type)
    assert_problem(answer, 400, field)


@pytest.mark.parametrize("resource", ["apps", "devices", "purchases", "callbacks"])
@pytest.mark.parametrize(
    "written",
    [
        "0",
        "-1",
        "9223372036854775808",
        "9" * 400,
        "1.0",
        "1e1",
        "one",
        "%00",
        "%ff",
        "1%20OR%201=1",
        "1'--",
        "..%2f..%2fetc%2fpasswd",
        "²",
    ],
)
def test_an_id_that_there_cannot_be(operator: FlaskClient, resource: str, written: str) -> None:
    assert_problem(operator.get(f"/api/{resource}/{written}"), 404)


def test_the_largest_id_is_looked_for(operator: FlaskClient) -> None:
    for resource in ("apps", "devices", "purchases", "callbacks"):
        assert_problem(operator.get(f"/api/{resource}/{2**63 - 1}"), 404)


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("DELETE", "/api/apps", {"GET", "POST"}),
        ("PUT", "/api/apps/1", {"GET", "PATCH"}),
        ("GET", "/api/apps/1/secret", {"POST"}),
        ("GET", "/api/devices/register", {"POST"}),
        ("POST", "/api/devices", {"GET"}),
        ("PATCH", "/api/devices/1", {"GET"}),
        ("GET", "/api/purchase", {"POST"}),
        ("DELETE", "/api/purchase/check", {"POST"}),
        ("POST", "/api/purchases", {"GET"}),
        ("POST", "/api/reports", {"GET"}),
        ("DELETE", "/api/callbacks/1", {"GET"}),
        ("GET", "/api/callbacks/replay", {"POST"}),
        ("POST", "/api/health", {"GET"}),
        ("POST", "/openapi.json", {"GET"}),
        ("TRACE", "/api/apps", {"GET", "POST"}),
    ],
)
def test_a_method_that_is_not_taken(
    operator: FlaskClient, method: str, path: str, allowed: set[str]
) -> None:
    answer = operator.open(path, method=method)
    assert_problem(answer, 405)
    named = {name.strip() for name in answer.headers["Allow"].split(",")}
    assert named - {"HEAD", "OPTIONS"} == allowed


@pytest.mark.parametrize(
    "path", ["/", "/api", "/api/nothing", "/api/apps/1/nothing", "/admin", "/%00", "/\ud7ff"]
)
def test_an_address_where_nothing_is(client: FlaskClient, path: str) -> None:
    assert_problem(client.get(path), 404)


@pytest.mark.parametrize("path", ["//api/apps", "/api//apps", "/api/apps//1"])
def test_doubled_slashes_lead_nowhere(operator: FlaskClient, path: str) -> None:
    assert_problem(operator.get(path), 404)


@pytest.mark.parametrize(
    "given", ["short", "x" * 65, "a b c d e f g h", "<script>alert(1)</script>", "12345678;9"]
)
def test_an_odd_request_id_is_not_echoed(client: FlaskClient, given: str) -> None:
    answer = client.get("/api/nothing", headers={"X-Request-ID": given})
    problem = assert_problem(answer, 404)
    assert problem["request_id"] != given
    assert len(problem["request_id"]) == 36


def test_a_good_request_id_is_kept(client: FlaskClient) -> None:
    answer = client.get("/api/nothing", headers={"X-Request-ID": "order-2027.01_17"})
    assert assert_problem(answer, 404)["request_id"] == "order-2027.01_17"


def test_a_header_cannot_be_smuggled_in_by_a_value(operator: FlaskClient, factory: Factory) -> None:
    for path, body in (
        ("/api/apps", {"name": "x\r\nSet-Cookie: a=b", "endpoint": "http://127.0.0.1:9/"}),
        ("/api/apps", {"name": "x", "endpoint": "http://127.0.0.1:9/\r\nSet-Cookie: a=b"}),
    ):
        answer = operator.post(path, json=body)
        assert_problem(answer, 400)
        assert "Set-Cookie" not in answer.headers
    assert operator.get("/api/apps").get_json()["data"] == []


@pytest.mark.parametrize("path", ["/api/apps?page=0", "/api/apps/999", "/api/nothing"])
@pytest.mark.parametrize("accept", ["text/html", "application/json", "*/*", "nonsense"])
def test_an_error_is_a_problem_document_whatever_is_accepted(
    operator: FlaskClient, path: str, accept: str
) -> None:
    answer = operator.get(path, headers={"Accept": accept})
    assert_problem(answer, answer.status_code)
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize(
    "path", ["/api/apps", "/api/devices", "/api/purchases", "/api/callbacks", "/api/reports"]
)
def test_a_filter_that_is_not_known_is_refused_and_not_ignored(
    operator: FlaskClient, path: str
) -> None:
    assert_problem(operator.get(f"{path}?appid=3"), 400, "appid")
