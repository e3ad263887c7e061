"""Goal: the route table is FireFly's, whole for what the API offers, and the document follows from it.

Method: the table is compared with the operations of FireFly's own OpenAPI document (recorded), and with the calls of
the typed API; the generated document is compared with both.
"""

from __future__ import annotations

import json
import re

import pytest
import yaml

from tests.support import golden

OURS = {
    *("getNodeInfo", "getCluster", "getConnectors"),
    *("getMsgReceipts", "getMsgExplanation", "getPinExplanation"),
    "getDataRootPaths",
    *("getDeadLetters", "postDeadLetterRetry", "postDeadLettersRetry", "deleteDeadLetter"),
}
"""Routes that FireFly does not have."""

NOT_OVER_REST = {
    "SpiService.WatchChanges",
    *("EventService.Subscribe", "DataService.UploadData"),  # hand-written handlers, not routes
    *("NodeService.Drain", "NodeService.PruneCollection"),  # an operator's, on one replica
}
"""Calls that no route of the table is bound to."""

FIREFLY = json.loads((golden.GOLDEN / "openapi-operations.json").read_text())
LINE_CHARS_MAX = 140
DOCUMENT = yaml.safe_load((golden.REPOSITORY / "docs" / "api" / "openapi.yaml").read_text())


@pytest.mark.parametrize("route", golden.routes(), ids=lambda route: route.id)
def test_route_is_fireflys(route: golden.Route) -> None:
    path = re.sub(r":\w+}", "}", route.path)
    operation = DOCUMENT["paths"][path][route.http_method.lower()]
    assert operation["operationId"] == route.id
    assert {int(status) for status in operation["responses"] if status != "default"} == set(
        route.statuses
    )
    if route.id in OURS:
        return
    theirs = FIREFLY[route.id]
    assert (theirs["method"], theirs["path"], theirs["statuses"]) == (
        route.http_method,
        path,
        sorted(route.statuses),
    )
    # FireFly's document offers the filters of messages on some routes that take none.
    if route.filters:
        offered = {
            parameter["name"].lower()
            for parameter in operation["parameters"]
            if parameter["in"] == "query"
        }
        assert {name.lower() for name in theirs["query"]} - offered == set()


def test_every_call_has_a_route() -> None:
    bound = {
        f"{route.method.containing_service.name}.{route.method.name}"
        for route in (*golden.routes(), *golden.routes("spi.yaml"))
    }
    calls = {
        f"{service.name}.{call.name}"
        for service in golden.services().values()
        for call in service.methods
    }
    assert calls - bound == NOT_OVER_REST


def test_every_route_is_bound_twice() -> None:
    rules = yaml.safe_load((golden.REPOSITORY / "proto" / "rest" / "firefly_v1.yaml").read_text())[
        "http"
    ]["rules"]
    bound = set()
    for rule in rules:
        for binding in (rule, *rule.get("additional_bindings", [])):
            for method in ("get", "post", "put", "patch", "delete"):
                if method in binding:
                    bound.add((method.upper(), re.sub(r"{\w+}", "{}", binding[method])))
    for route in golden.routes():
        if route.handler in ("download", "alias"):
            continue
        path = re.sub(r"{[^}]*}", "{}", route.path)
        if route.filters:
            assert ("POST", f"/api/v1{path}/query") in bound
            assert ("POST", f"/api/v1/namespaces/{{}}{path}/query") in bound
        assert (route.http_method, f"/api/v1{path}") in bound
        if route.scope == "namespace":
            assert (route.http_method, f"/api/v1/namespaces/{{}}{path}") in bound


def test_every_list_takes_its_query_as_json() -> None:
    lists = [route for route in golden.routes() if route.filters]
    assert lists
    for route in lists:
        path = re.sub(r":\w+}", "}", route.path) + "/query"
        listing = DOCUMENT["paths"][path.removesuffix("/query")]["get"]
        operation = DOCUMENT["paths"][path]["post"]
        assert operation["operationId"] == route.id.replace("get", "query", 1)
        assert DOCUMENT["paths"][f"/namespaces/{{ns}}{path}"]["post"]["requestBody"]
        (schema,) = operation["requestBody"]["content"].values()
        assert schema == {"schema": {"$ref": "#/components/schemas/JSONQuery"}}
        assert operation["responses"] == listing["responses"]
        kept = [p["name"] for p in operation["parameters"]]
        assert not {"limit", "sort", "count"} & set(kept), "the body says it"
        flags = {p["name"] for p in listing["parameters"] if p["name"].startswith("fetch")}
        assert flags <= set(kept)


def test_every_reference_of_the_document_is_there() -> None:
    names = set(re.findall(r"#/components/schemas/(\w+)", json.dumps(DOCUMENT)))
    assert names == set(DOCUMENT["components"]["schemas"])


def test_document_says_how_callers_prove_themselves() -> None:
    assert DOCUMENT["security"] == [{}, {"basic": []}, {"bearer": []}]
    schemes = DOCUMENT["components"]["securitySchemes"]
    assert {name: each["scheme"] for name, each in schemes.items()} == {
        "basic": "basic",
        "bearer": "bearer",
    }


def test_every_operation_has_a_line_for_the_list() -> None:
    operations = [o for path in DOCUMENT["paths"].values() for o in path.values()]
    assert operations
    for operation in operations:
        line, text = operation["summary"], operation["description"]
        assert line, operation["operationId"]
        assert text.startswith(line), "the first sentence of the call's comment"
        assert text[len(line) : len(line) + 1] in (".", ":", "")
        assert len(line) <= LINE_CHARS_MAX, line
