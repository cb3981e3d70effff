"""The OpenAPI document is true: what it allows is answered as it says, and its examples work."""

import re

import httpx
import hypothesis
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


def test_every_operation_answers_as_documented(start_with_admin):
    """Bodies of the schema and near it, against a live service that refuses no key."""
    service, headers = start_with_admin()
    schema = schemathesis.openapi.from_url(f"{service.url}/openapi.json")
    operations = [result.ok() for result in schema.get_all_operations()]
    assert len(operations) >= 8
    for operation in operations:
        _exercise(operation, headers)
    counts = re.findall(
        r"^recjpq_requests_total{(.*)} (.*)", httpx.get(f"{service.url}/metrics").text, re.MULTILINE
    )
    answered = {labels: float(count) for labels, count in counts if float(count)}
    assert sum(answered.values()) > 5 * len(operations)  # they were really asked
    assert {re.search('status="(.)', labels)[1] for labels in answered} == {"2", "4"}


def _exercise(operation, headers: dict[str, str]) -> None:
    @hypothesis.settings(
        max_examples=30,
        deadline=None,
        derandomize=True,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @hypothesis.given(case=operation.as_strategy())
    def check(case) -> None:
        _be_patient(case.body)
        case.call_and_validate(checks=CHECKS, headers=headers, timeout=20)

    check()


def _be_patient(body) -> None:
    """Lengthen deadlines that a request may miss, which is rightly a 504 and tested elsewhere."""
    if isinstance(body, dict):
        timeout_ms = body.get("timeout_ms")
        if isinstance(timeout_ms, int | float) and 1 <= timeout_ms < 10_000:
            body["timeout_ms"] = type(timeout_ms)(10_000)
        for entry in body.get("requests") if isinstance(body.get("requests"), list) else ():
            _be_patient(entry)


def examples(document: dict) -> list[tuple[str, str, dict | None]]:
    """Every route with each example of its body, the path's parameters filled from their examples."""
    found = []
    for path, operations in document["paths"].items():
        for method in METHODS & operations.keys():
            operation, filled = operations[method], path
            for parameter in operation.get("parameters", []):
                if parameter["in"] == "path":
                    (example,) = parameter["schema"]["examples"]
                    filled = filled.replace(f"{{{parameter['name']}}}", example)
            bodies = _bodies(operation, document) if "requestBody" in operation else [None]
            found += [(method, filled, body) for body in bodies]
    return sorted(found, key=_order)


def _bodies(operation: dict, document: dict) -> list[dict]:
    schema = operation["requestBody"]["content"]["application/json"]["schema"]
    name = schema["$ref"].rpartition("/")[2]
    return document["components"]["schemas"][name]["examples"]


def _order(example: tuple[str, str, dict | None]) -> int:
    """What is written is read after it, and removed last."""
    method, path, _ = example
    order = {("put", "/admin/challenger"): 0, ("delete", "/admin/challenger"): 1,
             ("post", "/admin/models/v2/activate"): 2, ("post", "/admin/rollback"): 3}  # fmt: skip
    return order.get((method, path), {"post": 4, "get": 5, "delete": 6}.get(method, 7))


def test_every_example_of_the_document_works(admin):
    document = admin.app.openapi()
    admin.post("/admin/models/v1/activate")  # so that the examples' v2 is another one
    tried = examples(document)
    assert {(method, path) for method, path, _ in tried} >= {("post", "/recommend"), ("get", "/model")}
    for method, path, body in tried:
        response = admin.request(method.upper(), path, json=body)
        assert response.is_success, (method, path, body, response.text)
