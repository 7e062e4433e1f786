"""The API keeps what its document promises, for good input and for bad."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import schemathesis
from flask import Flask
from flask.testing import FlaskClient
from hypothesis import HealthCheck, settings
from schemathesis.specs.openapi.checks import positive_data_acceptance
from schemathesis.specs.openapi.definitions import OPENAPI_30_VALIDATOR
from sqlalchemy import update

from project.billing.cases import new_case, open_cases
from project.billing.models import Payment
from project.billing.packages.schemas import PackageCreateSchema
from project.billing.packages.service import create_package
from project.billing.states import CaseKind, PaymentState, Trigger
from project.companies import packages as company_packages
from project.companies import service as companies
from project.companies.models import CompanyToken
from project.core import clock
from project.core.db.transaction import transaction
from project.core.secrets import token_hash
from project.extensions import db
from project.mobile.models import Device
from project.weather.api import PATHS
from project.weather.models import Message, Task
from project.weather.states import MessageState, TaskKind, TaskState
from tests.conftest import API_KEY
from tests.factories import Factory, MadeDevice

DOCUMENT = Path(__file__).parents[1] / "docs" / "openapi.json"
CLIENT_TOKEN = "ct_known-before-the-device-is-there"
COMPANY_TOKEN = "co_known-before-the-company-is-there"
PAYMENT_ID = TASK_ID = MESSAGE_ID = UUID(int=1)
MSISDN = "+905321234567"
EXAMPLES = 25
UNDESCRIBED = {
    "GET /docs",
    "GET /docs/assets/{name}",
    # Described under /api/health.
    "GET /health",
    "GET /health/live",
    "GET /health/ready",
    "GET /openapi.json",
    "GET /static/{filename}",
}
METHODS = {"get", "put", "post", "delete", "options", "head", "patch", "trace"}


@pytest.fixture
def document(client: FlaskClient) -> dict[str, Any]:
    told: dict[str, Any] = client.get("/openapi.json").get_json()
    return told


def operations(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            if method in METHODS:
                yield f"{method.upper()} {path}", operation


@pytest.fixture
def device(factory: Factory) -> MadeDevice:
    """Real things with the id 1: an app, a device, a purchase and its callback."""
    made = factory.device()
    factory.purchase(made)
    with transaction():
        # Requests are made up before there is a device, so its token must be known beforehand.
        db.session.execute(update(Device).values(token_hash=token_hash(CLIENT_TOKEN)))
    return made


@pytest.fixture
def shop(device: MadeDevice) -> None:
    """Real things with the id 1: a company, its package, subscription, payment and a case."""
    values = {
        "site_url": "https://shop.example.com",
        "name": "Ada",
        "lastname": "Byron",
        "company_name": "Byron Looms",
        "email": "ada@shop.example.com",
    }
    with transaction():
        made, _, _ = companies.register_company(values, "a quiet loom in spring")
        db.session.flush()
        db.session.execute(update(CompanyToken).values(token_hash=token_hash(COMPANY_TOKEN)))
        package = create_package(PackageCreateSchema().load({"name": "Monthly", "price": 1000}))
        company_packages.assign(made.id, package.id, by_operator=True)
        payment = Payment(
            id=PAYMENT_ID,
            customer_id=made.customer_id,
            package_id=package.id,
            state=str(PaymentState.CANCELED),
            trigger=str(Trigger.PURCHASE),
            attempt=1,
            amount=package.price,
            currency=package.currency,
            provider="yookassa",
            created_at=clock.now(),
        )
        db.session.add(payment)
        db.session.flush()
        kind = CaseKind.PAID_HERE_UNKNOWN_THERE
        open_cases([new_case(kind, payment.provider, payment, None)])


@pytest.fixture
def subscriber(operator: FlaskClient) -> None:
    """Real things with known keys: a forecast, a number, its task and its message."""
    place = {"lat": 41.0, "lon": 29.0}
    forecast = {"gid": 1, **place, "fcat24": "Sun", "fcat48": "Rain"}
    assert operator.post("/api/forecasts", json=forecast).status_code == 201
    number = {"msisdn": MSISDN, **place, "plan": "daily"}
    assert operator.post("/api/subscribers", json=number).status_code == 201
    now = clock.now()
    with transaction() as session:
        session.add(
            Task(
                id=TASK_ID,
                kind=str(TaskKind.ADDITIONS),
                state=str(TaskState.FAILURE),
                has_file=False,
                created_at=now,
                finished_at=now,
            )
        )
        session.add(
            Message(
                id=MESSAGE_ID,
                msisdn=MSISDN,
                local_date=now.date(),
                text="Sun",
                state=str(MessageState.DELIVERED),
                created_at=now,
            )
        )


SAFE_TO_REPEAT = {
    "callback",
    "inbound",
    "task_status",
    "trigger_send_sms",
    "upload_additions_csv",
    "upload_cancellations_csv",
    "upload_csv",
    "upload_updates_csv",
}
"""Ends of paths of the forecast SMS whose POST changes nothing when it comes twice."""


def test_the_document_is_valid_openapi(document: dict[str, Any]) -> None:
    assert document["openapi"].startswith("3.0.")
    OPENAPI_30_VALIDATOR.validate(document)


def test_nothing_is_described_that_is_not_served_and_the_other_way_round(
    app: Flask, document: dict[str, Any]
) -> None:
    served = {
        method + " " + re.sub(r"<(?:[^:<>]+:)?([^<>]+)>", r"{\1}", rule.rule)
        for rule in app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }

    described = {name for name, _ in operations(document)}
    assert served - described == UNDESCRIBED
    assert described <= served


def test_an_older_path_leads_where_the_new_one_does(app: Flask) -> None:
    def views(path: str) -> dict[tuple[str, ...], Any]:
        return {
            (rule.rule.removeprefix(path), *sorted(rule.methods or ())): app.view_functions[
                rule.endpoint
            ]
            for rule in app.url_map.iter_rules()
            if rule.rule.startswith(path)
        }

    for path, *older in PATHS.values():
        assert views(path)
        assert all(views(one) == views(path) for one in older)


def test_every_operation_says_what_it_does_and_who_may_call_it(document: dict[str, Any]) -> None:
    for name, operation in operations(document):
        assert operation["summary"].endswith("."), name
        assert operation["tags"], name
        assert "security" in operation, name
    schemes = document["components"]["securitySchemes"]
    assert schemes["operatorKey"] == {"type": "http", "scheme": "bearer"}
    assert schemes["companyToken"] == {"type": "http", "scheme": "bearer"}
    assert schemes["clientToken"]["name"] == "X-Client-Token"


def test_every_operation_describes_its_problems(document: dict[str, Any]) -> None:
    for name, operation in operations(document):
        described = {int(status) for status in operation["responses"]}
        expected = {429, 503}
        if {"operatorKey": []} in operation["security"]:
            expected |= {401, 403}
        if operation["security"]:
            expected |= {401}
        if "{" in name:
            expected |= {404}
        if operation.get("parameters"):
            expected |= {400}
        if not name.startswith("GET "):
            expected |= {400, 413, 415}
        assert expected <= described, name
        assert any(status < 300 for status in described), name


def test_problems_have_one_shape(document: dict[str, Any]) -> None:
    for name, operation in operations(document):
        for status, response in operation["responses"].items():
            kinds = set(response.get("content", {}))
            if int(status) < 400:
                kinds -= {"text/csv"} if name == "GET /api/reports/aggregated" else set()
                wanted = set() if status == "204" else {"application/json"}
                assert kinds == ({"text/csv"} if name.endswith(".csv") else wanted), (name, status)
            elif "health" not in name:
                assert kinds == {"application/problem+json"}, (name, status)
                schema = response["content"]["application/problem+json"]["schema"]
                assert schema == {"$ref": "#/components/schemas/Problem"}


def test_every_create_and_charge_takes_an_idempotency_key(document: dict[str, Any]) -> None:
    takers = {
        name
        for name, operation in operations(document)
        if "Idempotency-Key" in {one.get("name") for one in operation.get("parameters", [])}
    }

    posts = {
        name
        for name, _ in operations(document)
        if name.startswith("POST ") and name.rpartition("/")[2] not in SAFE_TO_REPEAT
    }
    assert posts - takers == {
        "POST /api/clock",
        "POST /api/companies/check",
        "POST /api/companies/login",
        "POST /api/companies/logout",
        "POST /api/companies/packages/cancel",
        "POST /api/payments/webhooks/yookassa",
        "POST /api/purchase/check",
        "POST /api/reconciliation/cases/{case_id}/resolve",
        "POST /api/webhook/clicks",
        "POST /api/webhook/clicks/batch",
    }


def test_bodies_come_as_json_or_as_a_form(document: dict[str, Any]) -> None:
    for name, operation in operations(document):
        if "requestBody" in operation:
            wanted = {"application/json", "application/x-www-form-urlencoded"}
            if name.endswith("_csv"):
                wanted = {"multipart/form-data", "text/csv"}
            if operation["security"] == [{"bodySignature": []}]:
                wanted = {"application/json"}
            assert set(operation["requestBody"]["content"]) == wanted, name


def test_the_documentation_needs_nothing_from_elsewhere(client: FlaskClient) -> None:
    page = client.get("/docs")
    assert page.status_code == 200
    linked = re.findall(r'(?:src|href)="([^"]+)"', page.get_data(as_text=True))

    assert any(link.endswith("swagger-ui.css") for link in linked)
    for link in linked:
        assert link.startswith("/docs/assets/"), link
        with client.get(link) as asset:
            assert asset.status_code == 200, link


def test_the_documentation_runs_only_what_is_ours_and_in_nobodys_frame(client: FlaskClient) -> None:
    page = client.get("/docs")
    policy = dict(
        rule.strip().partition(" ")[::2]
        for rule in page.headers["Content-Security-Policy"].split(";")
    )

    assert policy["default-src"] == policy["frame-ancestors"] == "'none'"
    assert {policy[name] for name in ("script-src", "style-src", "connect-src")} == {"'self'"}
    assert page.headers["X-Frame-Options"] == "DENY"
    assert page.headers["Referrer-Policy"] == "no-referrer"
    inline = re.findall(
        r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son\w+=", page.get_data(as_text=True)
    )
    assert inline == []


def test_the_documentation_keeps_no_key(client: FlaskClient) -> None:
    with client.get("/docs/assets/start.js") as script:
        assert "persistAuthorization: false" in script.get_data(as_text=True)


def test_the_health_checks_are_described_once(document: dict[str, Any]) -> None:
    described = [path for path in document["paths"] if re.search(r"/(health|live|ready)$", path)]
    assert described == ["/api/health", "/api/health/live", "/api/health/ready"]


def test_a_browser_shows_the_documentation_without_an_error(api_url: str, tmp_path: Path) -> None:
    """With scripts running: what the policy forbids would be told on the console."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no Chromium is installed")
    shown = subprocess.run(
        [
            *(browser, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"),
            *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
            *("--enable-logging=stderr", "--virtual-time-budget=20000", "--dump-dom"),
            *(f"--user-data-dir={tmp_path / 'profile'}", f"{api_url}/docs"),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    told = [line for line in shown.stderr.splitlines() if "CONSOLE" in line]

    assert 'data-path="/api/health"' in shown.stdout, shown.stderr
    assert told == []


serving: list[Flask] = []
"""The application of the test that runs; the operations are known before there is one."""


def serve(environ: Any, start_response: Any) -> Any:
    with serving[-1].app_context():
        return serving[-1](environ, start_response)


UPLOADS = [
    "POST /api/forecasts/upload_csv",
    "POST /api/subscribers/upload_additions_csv",
    "POST /api/subscribers/upload_cancellations_csv",
    "POST /api/subscribers/upload_updates_csv",
]
TAKES_MORE = {
    # A file is any text.
    *UPLOADS,
    # A form says true and false as 1 and 0 too.
    "POST /api/forecasts",
    "PUT /api/forecasts/{gid}",
    "PATCH /api/forecasts/{gid}",
}
"""Operations that take more than the document can say."""
ALSO_FOR_GOOD_INPUT = {
    # How far the clock goes depends on where it stands.
    "POST /api/clock": 400,
    # Where a name leads, only a look at DNS can tell.
    "POST /api/apps": 400,
    "PATCH /api/apps/{app_id}": 400,
    # A click id that does not fit is left out, but a form may name it once only.
    "POST /api/devices/register": 400,
    # Whether one day is before another is beyond JSON Schema.
    "GET /api/reports": 400,
    "GET /api/reports/aggregated": 400,
    "GET /api/reports/summary": 400,
    # Whether a day has begun, only the clock can tell.
    "POST /api/export/forward": 400,
    # The store or the provider decides.
    "POST /api/purchase": 402,
    # What is a good password, a host or an email address is beyond JSON Schema.
    "POST /api/companies/register": 400,
    "POST /api/companies/login": 400,
    "PATCH /api/companies/me": 400,
    # An operator says which company.
    "POST /api/companies/packages": 400,
    "POST /api/companies/packages/cancel": 400,
    # Where a URL leads, only a look at it can tell.
    "POST /api/companies/packages/checkout": 400,
    "POST /api/companies/packages/pay": 400,
    "POST /api/companies/secret": 400,
    # Whether all tries fit in before the expiry is beyond JSON Schema.
    "POST /api/packages": 400,
    "PATCH /api/packages/{package_id}": 400,
    # Customers are known or not.
    "POST /api/payments": 400,
    # What a provider sends is the provider's to describe.
    "POST /api/payments/webhooks/yookassa": 400,
    # What is a number that can be called is beyond JSON Schema.
    "GET /api/messages": 400,
    "GET /api/subscribers": 400,
    "POST /api/subscribers": 400,
    # The task may be named in the query or in the body, but it must be named.
    "GET /api/subscribers/task_status": 400,
    "GET /api/forecasts/task_status": 400,
    "POST /api/subscribers/task_status": 400,
    "POST /api/forecasts/task_status": 400,
    # A file is any text; what is in it is told by the task.
    **dict.fromkeys(UPLOADS, 400),
}
"""Operations that may refuse what the document allows, for a reason that no document can tell."""
OLDER = "|".join(f"^{re.escape(path)}" for _, *older in PATHS.values() for path in older)
"""The same views once more; see test_an_older_path_leads_where_the_new_one_does."""
ACCEPTING = ["2xx", 401, 403, 404, 409]

api = schemathesis.openapi.from_path(
    DOCUMENT,
    config=schemathesis.Config.from_dict(
        {
            "operations": [
                {
                    "include-name": name,
                    "checks": {
                        "positive_data_acceptance": {"expected-statuses": [*ACCEPTING, status]},
                        "negative_data_rejection": {"enabled": name not in TAKES_MORE},
                    },
                }
                for name, status in ALSO_FOR_GOOD_INPUT.items()
            ]
            + [
                {
                    "include-name": name,
                    "checks": {"negative_data_rejection": {"enabled": False}},
                }
                for name in sorted(TAKES_MORE - ALSO_FOR_GOOD_INPUT.keys())
            ]
        }
    ),
)
api.app = serve


WITH_IDS_OF_REAL_THINGS = {
    "parameters": {
        **dict.fromkeys(("app_id", "callback_id", "case_id", "company_id"), 1),
        **dict.fromkeys(("device_id", "package_id", "purchase_id", "subscription_id"), 1),
        **dict.fromkeys(("payment_id", "task_id", "message_id"), str(PAYMENT_ID)),
        "day": "2026-01-31",
        "gid": 1,
        "msisdn": MSISDN,
    },
    "generation": {"mode": "positive"},
    "phases": {"coverage": {"enabled": False}},
}
api_of_real_things = schemathesis.openapi.from_path(
    DOCUMENT, config=schemathesis.Config.from_dict(WITH_IDS_OF_REAL_THINGS)
)
api_of_real_things.app = serve
FOR_COMPANIES = {
    name
    for name, operation in operations(json.loads(DOCUMENT.read_text()))
    if operation["security"] == [{"companyToken": []}]
}
bounded = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)


@api_of_real_things.auth()
@api.auth()
class Credentials:
    """A company's token where only that will do, else the operator's key; a device's token."""

    def get(self, case: schemathesis.Case, context: Any) -> dict[str, str]:
        token = COMPANY_TOKEN if case.operation.label in FOR_COMPANIES else API_KEY
        return {"Authorization": f"Bearer {token}", "X-Client-Token": CLIENT_TOKEN}

    def set(self, case: schemathesis.Case, data: dict[str, str], context: Any) -> None:
        case.headers.update(data)


@pytest.fixture
def _served(app: Flask, shop: None, subscriber: None) -> None:
    serving[:] = [app]


@api.exclude(path_regex=OLDER).parametrize()
@pytest.mark.usefixtures("_served")
@bounded
def test_an_operation_keeps_its_promise(case: schemathesis.Case) -> None:
    case.call_and_validate()


@(
    api_of_real_things.include(path_regex="{")
    .exclude(method="DELETE")
    .exclude(path_regex=OLDER)
    .parametrize()
)
@pytest.mark.usefixtures("_served")
@bounded
def test_an_operation_keeps_its_promise_about_real_things(case: schemathesis.Case) -> None:
    answer = case.call()

    assert answer.status_code not in (401, 403, 404)
    case.validate_response(answer, excluded_checks=[positive_data_acceptance])
