"""Reads the recorded answers of a real FireFly and finds the typed messages they correspond to.

Bodies keep the exact spelling that was sent or received. `Route` is one line of
proto/rest/routes.yaml; both the unit tests and the gateway's tests go through it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from types import ModuleType
from urllib.parse import unquote

import msgspec
import yaml
from google.protobuf import descriptor_pool
from google.protobuf.descriptor import Descriptor, MethodDescriptor, ServiceDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

REPOSITORY = Path(__file__).resolve().parents[2]
GOLDEN = REPOSITORY / "tests" / "data" / "golden"
API = REPOSITORY / "proto" / "photinus" / "api" / "v1"


@dataclass(frozen=True)
class Route:
    """One REST route and the call behind it."""

    id: str
    http_method: str
    path: str
    statuses: tuple[int, ...]
    body: str
    handler: str
    filters: str
    scope: str
    method: MethodDescriptor

    @property
    def pattern(self) -> re.Pattern[str]:
        inner = re.sub(r"\\\{(did|iid)[^}]*\\\}", r"(did:.+|[^/]+)", re.escape(self.path))
        inner = re.sub(r"\\\{[^}]*\\\}", r"([^/]+)", inner)
        twin = r"(?:/namespaces/[^/]+)?" if self.scope == "namespace" else ""
        return re.compile(f"/api/v1{twin}{inner}")

    def response(self) -> Message:
        """An empty response of the call."""
        return GetMessageClass(self.method.output_type)()

    def body_message(self) -> Message | None:
        """An empty message for the request body, when the route takes one."""
        if not self.body:
            return None
        field: Descriptor | None = self.method.input_type.fields_by_name[self.body].message_type
        assert field is not None
        return GetMessageClass(field)()


def module(stem: str) -> ModuleType:
    """The generated module of one proto file."""
    return import_module(f"photinus.api.v1.{stem}_pb2")


@cache
def services() -> dict[str, ServiceDescriptor]:
    """All services of the typed API, by short name."""
    found: dict[str, ServiceDescriptor] = {}
    for file in sorted(API.glob("*_service.proto")):
        found |= module(file.stem).DESCRIPTOR.services_by_name
    return found


@cache
def routes(table_name: str = "routes.yaml") -> tuple[Route, ...]:
    """The route table of the API, or of the SPI."""
    table = yaml.safe_load((REPOSITORY / "proto" / "rest" / table_name).read_text())
    result = []
    for row in table["routes"]:
        http_method, path = row["route"].split(" ")
        service, call = row["rpc"].split(".")
        result.append(
            Route(
                id=row["id"],
                http_method=http_method,
                path=path,
                statuses=tuple(row.get("status", [200])),
                body=row.get("body", ""),
                handler=row.get("handler", ""),
                filters=row.get("filters", ""),
                scope=row.get("scope", "namespace"),
                method=services()[service].methods_by_name[call],
            )
        )
    return tuple(result)


def find_route(http_method: str, path: str) -> Route | None:
    """The route that serves a path; literal ones before those with parameters."""
    bare = unquote(path.split("?", maxsplit=1)[0])
    matching = [
        route
        for route in routes()
        if route.http_method == http_method and route.pattern.fullmatch(bare)
    ]
    return min(matching, key=lambda route: route.path.count("{"), default=None)


class Line(msgspec.Struct):
    """One line of a golden file; which fields are set depends on its kind."""

    id: str
    case: str
    member: int = 0
    method: str = ""
    path: str = ""
    status: int | None = None
    request_headers: dict[str, str] = {}
    response_headers: dict[str, str] = {}
    request_body: msgspec.Raw = msgspec.Raw(b"null")
    response_body: msgspec.Raw = msgspec.Raw(b"null")
    ws: int = 0
    event: str = ""
    frame: msgspec.Raw = msgspec.Raw(b"null")


def lines(area: str) -> Iterator[Line]:
    """The lines of one area, in the order they happened."""
    decoder = msgspec.json.Decoder(Line)
    for text in (GOLDEN / f"{area}.jsonl").read_bytes().splitlines():
        yield decoder.decode(text)


def is_json(body: bytes) -> bool:
    """False for bodies that stand for something else than JSON (`{"$text": …}`) or for nothing."""
    return body != b"null" and not re.match(rb'\{ ?"\$(text|base64|multipart)"', body)


def message_class(name: str) -> type[Message]:
    """The class of a message of the typed API."""
    services()
    found: Descriptor = descriptor_pool.Default().FindMessageTypeByName(f"photinus.api.v1.{name}")
    return GetMessageClass(found)
