"""What is committed for readers agrees with the code."""

import json
from pathlib import Path

from flask.testing import FlaskClient

from ops.postman import collection

DOCS = Path(__file__).parents[1] / "docs"


def test_the_committed_api_document_is_the_one_that_is_served(client: FlaskClient) -> None:
    committed = json.loads((DOCS / "openapi.json").read_text())

    assert committed == client.get("/openapi.json").get_json(), "run `make openapi`"


def test_the_postman_collection_is_made_from_the_api_document() -> None:
    document = json.loads((DOCS / "openapi.json").read_text())
    committed = json.loads((DOCS / "postman_collection.json").read_text())

    assert committed == collection(document), "run `make postman`"


def test_every_request_of_the_postman_collection_has_a_name_and_an_address() -> None:
    committed = json.loads((DOCS / "postman_collection.json").read_text())
    requests = [item for folder in committed["item"] for item in folder["item"]]

    assert len(requests) >= 17
    assert all(item["name"] and item["request"]["url"]["raw"] for item in requests)
