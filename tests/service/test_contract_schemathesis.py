"""The OpenAPI document is true: what it allows is answered as it says, and its examples work."""

import re

import httpx
import hypothesis
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
METHODS = {"get", "put", "post", "delete", "patch"}


@pytest.fixture(scope="module")
def service(start_shared_service):
    return start_shared_service()


@pytest.fixture(scope="module")
def schema(service):
    return schemathesis.openapi.from_url(f"{service.url}/openapi.json")


def test_every_operation_answers_as_documented(schema, service):
    """Bodies of the schema and near it, against the live service."""
    operations = [result.ok() for result in schema.get_all_operations()]
    assert len(operations) >= 8
    for operation in operations:
        _exercise(operation)
    counts = re.findall(
        r"^recjpq_requests_total{(.*)} (.*)", httpx.get(f"{service.url}/metrics").text, re.MULTILINE
    )
    answered = {labels: float(count) for labels, count in counts if float(count)}
    assert sum(answered.values()) > 5 * len(operations)  # they were really asked
    assert {re.search('status="(.)', labels)[1] for labels in answered} == {"2", "4"}


def _exercise(operation) -> None:
    @hypothesis.settings(
        max_examples=30,
        deadline=None,
        derandomize=True,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @hypothesis.given(case=operation.as_strategy())
    def check(case) -> None:
        case.call_and_validate(checks=CHECKS, timeout=20)

    check()


def examples(client) -> list[tuple[str, str, dict | None]]:
    """Every example of a body, and every route without one, its parameters filled from their examples."""
    document = client.app.openapi()
    found = []
    for path, methods in document["paths"].items():
        for method in METHODS & methods.keys():
            operation = methods[method]
            for parameter in operation.get("parameters", []):
                if parameter["in"] == "path":
                    path = path.replace(f"{{{parameter['name']}}}", _example_of(parameter))  # noqa: PLW2901
            if "requestBody" not in operation:
                found.append((method, path, None))
                continue
            content = operation["requestBody"]["content"]["application/json"]
            name = content["schema"]["$ref"].rpartition("/")[2]
            bodies = content.get("examples") or document["components"]["schemas"][name].get("examples")
            assert bodies, f"{method} {path}: no example"
            values = bodies.values() if isinstance(bodies, dict) else bodies
            found += [(method, path, body.get("value", body)) for body in values]
    return sorted(found, key=lambda example: example[0] != "post")  # writes first: what they store is read


def _example_of(parameter: dict) -> str:
    schema = parameter.get("schema", {})
    given = parameter.get("example") or (schema.get("examples") or [None])[0] or schema.get("example")
    return given or "i1"


def test_every_example_of_the_document_works(client):
    tried = examples(client)
    assert len(tried) >= 8
    for method, path, body in tried:
        response = client.request(method.upper(), path, json=body)
        assert response.is_success, (method, path, body, response.text)
