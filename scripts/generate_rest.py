"""Generates what follows from the route tables, proto/rest/routes.yaml and, for the SPI, spi.yaml.

Made are the gateway's bindings (proto/rest/firefly_v1.yaml, from which `generate_protos.py` makes the REST handlers:
run this first) and the OpenAPI documents, once to be read (docs/api) and once to be built into the gateway. Run it as
`python -m scripts.generate_rest`; `--check` changes nothing and fails when what is committed is not what would be made.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml
from google.protobuf import descriptor_pb2

from scripts.openapi import Document, Protos, Route

ROOT = Path(__file__).resolve().parent.parent
PROTO = ROOT / "proto"
TABLE = PROTO / "rest" / "routes.yaml"
BINDINGS = PROTO / "rest" / "firefly_v1.yaml"
SPI_TABLE = PROTO / "rest" / "spi.yaml"
DOCUMENT = ROOT / "docs" / "api" / "openapi.yaml"
SPI_DOCUMENT = ROOT / "docs" / "api" / "spi.yaml"
EMBEDDED = ROOT / "gateway" / "internal" / "apidocs" / "openapi.json"
SPI_EMBEDDED = EMBEDDED.with_name("spi.json")
HEADER = "# Generated from proto/rest/{} by scripts/generate_rest.py; do not edit.\n"
API = "/api/v1"
SPI = "/spi/v1"
NAMESPACE = "/namespaces/{namespace}"


class PlainDumper(yaml.SafeDumper):
    """Writes equal parts out instead of naming them."""

    def ignore_aliases(self, _data: object) -> bool:
        return True


def dump(document: dict[str, Any], table: Path = TABLE) -> str:
    """YAML with our line length and the order of the keys kept."""
    return HEADER.format(table.name) + yaml.dump(
        document, Dumper=PlainDumper, sort_keys=False, width=120, allow_unicode=True
    )


def read_routes() -> list[Route]:
    """The route table; ids and paths are unique."""
    table = yaml.safe_load(TABLE.read_text())
    routes = []
    for row in table["routes"]:
        routes.append(route := _route(row, table["filters"]))
        if route.filters:
            routes.append(_with_json_query(route))
    _check_unique(routes)
    return routes


def read_spi_routes() -> list[Route]:
    """The route table of the SPI: none of its routes belongs to a namespace, or takes queries as JSON."""
    filters = yaml.safe_load(TABLE.read_text())["filters"]
    table = yaml.safe_load(SPI_TABLE.read_text())
    routes = [_route({**row, "scope": "node"}, filters) for row in table["routes"]]
    _check_unique(routes)
    return routes


def _check_unique(routes: list[Route]) -> None:
    for key in ([route.id for route in routes], [(r.method, r.path) for r in routes]):
        if len(set(key)) != len(key):
            sys.exit("generate_rest: a route table holds an id or a path twice")


def _route(row: dict[str, Any], filters: dict[str, list[str]]) -> Route:
    method, path = row["route"].split(" ")
    service, call = row["rpc"].split(".")
    parameters = {}
    for name in re.findall(r"{([^}]*)}", path):
        shown, _, field = name.partition(":")
        parameters[shown] = field or shown
    return Route(
        id=row["id"],
        method=method,
        path=re.sub(r":\w+}", "}", path),
        parameters=parameters,
        service=service,
        call=call,
        body=row.get("body", ""),
        statuses=tuple(row.get("status", [200])),
        filters=tuple(filters[row["filters"]]) if "filters" in row else (),
        handler=row.get("handler", ""),
        deprecated=row.get("deprecated", False),
        counted=row.get("counted", False),
        per_namespace=row.get("scope", "namespace") == "namespace",
    )


def _with_json_query(route: Route) -> Route:
    """The twin of a list: its query is the JSON body of a POST to `query` below it."""
    return replace(
        route,
        id="query" + route.id.removeprefix("get"),
        method="POST",
        path=f"{route.path}/query",
        body="query",
        filters=(),
    )


def read_protos() -> Protos:
    """The typed API with its comments."""
    files = sorted(path.relative_to(PROTO) for path in (PROTO / "photinus/api").rglob("*.proto"))
    with tempfile.TemporaryDirectory(prefix="photinus-rest-") as folder:
        out = Path(folder) / "api.pb"
        command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{PROTO}", "--include_imports"]
        command += ["--include_source_info", f"--descriptor_set_out={out}", *map(str, files)]
        if subprocess.run(command, check=False).returncode != 0:
            sys.exit("generate_rest: protoc failed (see above)")
        return Protos(descriptor_pb2.FileDescriptorSet.FromString(out.read_bytes()))


def make_bindings(routes: list[Route], spi_routes: list[Route]) -> str:
    """grpc-gateway's API configuration: one rule for each call, with all its paths."""
    calls: dict[str, list[dict[str, Any]]] = {}
    for base, route in [*((API, each) for each in routes), *((SPI, each) for each in spi_routes)]:
        if route.handler in ("download", "alias"):
            continue
        path = route.path
        for name, field in route.parameters.items():
            path = path.replace(f"{{{name}}}", f"{{{field}}}")
        bindings = calls.setdefault(f"photinus.api.v1.{route.service}.{route.call}", [])
        body = {"body": route.body} if route.body else {}
        bindings.append({route.method.lower(): f"{base}{path}", **body})
        if route.per_namespace:
            bindings.append({route.method.lower(): f"{base}{NAMESPACE}{path}", **body})
    rules = []
    for selector, (first, *others) in calls.items():
        more = {"additional_bindings": others} if others else {}
        rules.append({"selector": selector, **first, **more})
    document = {"type": "google.api.Service", "config_version": 3, "http": {"rules": rules}}
    return dump(document)


def make_all() -> dict[Path, str]:
    """The text of every generated file."""
    routes, spi_routes, protos = read_routes(), read_spi_routes(), read_protos()
    document = Document(routes, protos, "Photinus", API).json
    spi_document = Document(spi_routes, protos, "Photinus SPI", SPI).json
    return {
        BINDINGS: make_bindings(routes, spi_routes),
        DOCUMENT: dump(document),
        SPI_DOCUMENT: dump(spi_document, SPI_TABLE),
        EMBEDDED: json.dumps(document, ensure_ascii=False, indent=1) + "\n",
        SPI_EMBEDDED: json.dumps(spi_document, ensure_ascii=False, indent=1) + "\n",
    }


def main() -> None:
    """Generates, or with --check only compares."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing, fail on differences")
    options = parser.parse_args()
    stale = False
    for path, text in make_all().items():
        if path.exists() and path.read_text() == text:
            continue
        stale = True
        verb = "is not current:" if options.check else "wrote"
        print(f"generate_rest: {verb} {path.relative_to(ROOT)}")
        if not options.check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    if options.check and stale:
        sys.exit("generate_rest: run `make proto` and commit what it writes")


if __name__ == "__main__":
    main()
