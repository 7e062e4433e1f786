"""Turn the OpenAPI document into a Postman collection: `python -m ops.postman openapi.json`.

The same document gives the same collection to the letter, so that a test can tell a stale one.
"""

import json
import re
import sys
from pathlib import Path
from typing import Any

SCHEMA = "https://schema.getpostman.com/json/collection/v2.1.0/collection.json"
VARIABLES = {
    "baseUrl": "http://127.0.0.1:8000",
    "apiKey": "",
    "clientToken": "",
    "companyToken": "",
}
EXAMPLES: dict[str, Any] = {
    "name": "Weather",
    "endpoint": "http://127.0.0.1:8900/inbox/weather",
    "uid": "device-1",
    "appId": 1,
    "language": "en",
    "os": "ios",
    "client-token": "{{clientToken}}",
    "receipt": "receipt-1",
    "advance": "25h",
    "since": "2026-01-01T00:00:00+00:00",
}
EXAMPLES_OF: dict[str, dict[str, Any]] = {
    "CompanyRegister": {
        "site_url": "https://shop.example.com",
        "name": "Ada",
        "lastname": "Byron",
        "company_name": "Byron Looms",
        "email": "ada@shop.example.com",
        "password": "a quiet loom in spring",
        "callback_url": "http://127.0.0.1:8900/inbox/looms",
    },
    "CompanyChange": {"company_name": "Byron Looms and Daughters"},
    "Login": {"email": "ada@shop.example.com", "password": "a quiet loom in spring"},
    "PackageCreate": {"name": "Monthly", "price": 1000, "currency": "EUR"},
    "PackageChange": {"price": 1200},
    "PurchaseBegin": {
        "customer": "shopper-1",
        "package_id": 1,
        "return_url": "https://shop.example.com/thanks",
    },
    "Checkout": {"package_id": 1, "return_url": "https://shop.example.com/thanks"},
    "CaseResolve": {"note": "Paid back by hand."},
}
"""Whole bodies, by the name of their schema; other bodies are put together field by field."""
# Optional fields that would only get in the way of a first try.
LEFT_OUT = {"set", "reset", "click_id"}
KEEP_TOKEN = 'pm.collectionVariables.set("clientToken", pm.response.json()["client-token"]);'
KEEP_COMPANY = 'pm.collectionVariables.set("companyToken", pm.response.json()["token"]);'
KEPT_AT = {
    "/api/devices/register": KEEP_TOKEN,
    "/api/companies/register": KEEP_COMPANY,
    "/api/companies/login": KEEP_COMPANY,
}


def collection(document: dict[str, Any]) -> dict[str, Any]:
    """Return the collection: a folder per tag, a request per operation."""
    folders: dict[str, list[dict[str, Any]]] = {}
    for path, operations in sorted(document["paths"].items()):
        for method, operation in operations.items():
            if isinstance(operation, dict) and "responses" in operation:
                tag = (operation.get("tags") or ["other"])[0]
                folders.setdefault(tag, []).append(_request(document, path, method, operation))
    return {
        "info": {"name": document["info"]["title"], "schema": SCHEMA},
        "variable": [{"key": key, "value": value} for key, value in VARIABLES.items()],
        "auth": _bearer(),
        "item": [{"name": tag, "item": items} for tag, items in sorted(folders.items())],
    }


def _bearer(variable: str = "apiKey") -> dict[str, Any]:
    token = {"key": "token", "value": "{{" + variable + "}}", "type": "string"}
    return {"type": "bearer", "bearer": [token]}


def _request(
    document: dict[str, Any], path: str, method: str, operation: dict[str, Any]
) -> dict[str, Any]:
    request: dict[str, Any] = {
        "method": method.upper(),
        "description": operation.get("description") or operation.get("summary", ""),
        "url": _url(path, operation.get("parameters", [])),
        "header": [],
    }
    security = operation.get("security", [])
    if {"operatorKey": []} not in security:
        by_company = {"companyToken": []} in security
        request["auth"] = _bearer("companyToken") if by_company else {"type": "noauth"}
    body = operation.get("requestBody", {}).get("content", {}).get("application/json")
    if body:
        example = _example(document, body["schema"])
        request["header"] = [{"key": "Content-Type", "value": "application/json"}]
        request["body"] = {"mode": "raw", "raw": json.dumps(example, indent=2)}
    item = {"name": operation.get("summary") or path, "request": request}
    if path in KEPT_AT:
        item["event"] = [{"listen": "test", "script": {"exec": [KEPT_AT[path]]}}]
    return item


def _url(path: str, parameters: list[dict[str, Any]]) -> dict[str, Any]:
    written = re.sub(r"{([^}]+)}", r":\1", path)
    query = [
        {"key": one["name"], "value": "", "disabled": True}
        for one in parameters
        if one.get("in") == "query"
    ]
    names = re.findall(r"{([^}]+)}", path)
    return {
        "raw": "{{baseUrl}}" + written,
        "host": ["{{baseUrl}}"],
        "path": written.strip("/").split("/"),
        **({"query": query} if query else {}),
        **({"variable": [{"key": name, "value": "1"} for name in names]} if names else {}),
    }


def _example(document: dict[str, Any], schema: dict[str, Any]) -> Any:
    whole = EXAMPLES_OF.get(schema.get("$ref", "").rpartition("/")[2])
    if whole is not None:
        return whole
    schema = _resolved(document, schema)
    properties: dict[str, Any] = schema.get("properties", {})
    return {
        name: EXAMPLES.get(name, _of_type(_resolved(document, described)))
        for name, described in properties.items()
        if name not in LEFT_OUT
    }


def _of_type(schema: dict[str, Any]) -> Any:
    if "enum" in schema:
        return schema["enum"][0]
    return {"integer": 1, "number": 1.0, "boolean": True}.get(schema.get("type", ""), "text")


def _resolved(document: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    reference = schema.get("$ref")
    if reference is None:
        return schema
    found: Any = document
    for part in reference.removeprefix("#/").split("/"):
        found = found[part]
    return dict(found)


def main() -> None:
    """Read the document named on the command line and write the collection to standard output."""
    document = json.loads(Path(sys.argv[1]).read_text())
    sys.stdout.write(json.dumps(collection(document), indent=2, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
