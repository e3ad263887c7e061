"""Goal: the service provider interface has FireFly's routes, and its document follows from them.

Method: table and document are compared with the operations that FireFly publishes for its SPI.
"""

from __future__ import annotations

import json
import re

import yaml

from tests.support import golden

FIREFLY = {
    "spiGetNamespaces": ("GET", "/namespaces", 200),
    "spiGetNamespaceByName": ("GET", "/namespaces/{ns}", 200),
    "spiGetOps": ("GET", "/namespaces/{ns}/operations", 200),
    "spiGetOpByID": ("GET", "/operations/{nsopid}", 200),
    "spiPatchOpByID": ("PATCH", "/operations/{nsopid}", 200),
    "spiPostReset": ("POST", "/reset", 204),
}
DOCUMENT = yaml.safe_load((golden.REPOSITORY / "docs" / "api" / "spi.yaml").read_text())


def test_the_routes_are_fireflys() -> None:
    ours = {
        route.id: (route.http_method, re.sub(r":\w+}", "}", route.path), *route.statuses)
        for route in golden.routes("spi.yaml")
    }
    assert ours == FIREFLY


def test_the_document_names_the_same_operations() -> None:
    documented = {
        operation["operationId"]: (
            method.upper(),
            path,
            *(int(status) for status in operation["responses"] if status != "default"),
        )
        for path, operations in DOCUMENT["paths"].items()
        for method, operation in operations.items()
    }
    assert documented == FIREFLY
    assert DOCUMENT["servers"] == [{"url": "/spi/v1"}]
    schemas = set(re.findall(r"#/components/schemas/(\w+)", json.dumps(DOCUMENT)))
    assert schemas == set(DOCUMENT["components"]["schemas"])


def test_they_are_bound_to_a_path_of_their_own() -> None:
    bindings = golden.REPOSITORY / "proto" / "rest" / "firefly_v1.yaml"
    rules = yaml.safe_load(bindings.read_text())["http"]["rules"]
    bound = {
        (method.upper(), re.sub(r"{\w+}", "{}", rule[method]))
        for rule in rules
        if ".SpiService." in rule["selector"]
        for method in ("get", "post", "patch")
        if method in rule
    }
    assert bound == {
        (method, "/spi/v1" + re.sub(r"{\w+}", "{}", path)) for method, path, _ in FIREFLY.values()
    }
