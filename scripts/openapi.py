"""Makes the OpenAPI 3 document of the REST interface from the route table and the protos.

Everything said about a call, a field or a value is a comment in the protos; the shape of the JSON
follows from the same options that both walkers obey. Used by `generate_rest.py`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

from google.protobuf import descriptor_pb2
from photinus.options.v1 import json_pb2

from scripts import json_query

Json = dict[str, Any]
Field = descriptor_pb2.FieldDescriptorProto
Message = descriptor_pb2.DescriptorProto

QUERY: Final = ".photinus.api.v1.Query"
TIMESTAMP: Final = ".google.protobuf.Timestamp"
LIST_PARAMETERS: Final = {
    "sort": "Fields to sort by, comma separated or repeated; `-` in front for descending",
    "ascending": "Sort all given fields ascending",
    "descending": "Sort all given fields descending",
    "skip": "Rows to leave out at the start (most: 1000)",
    "limit": "Rows to return (default 25, most: 1000)",
    "count": "Answer `{count, total, items}`, with the number of all rows that match",
}
FILTER: Final = "Filter on this field: a value, with prefixes = @ ^ $ > >= < <= ! : ? [ ]"
TIMEOUT: Final = {
    "name": "Request-Timeout",
    "in": "header",
    "description": "Longest time the server takes: seconds, or with a unit like 500ms",
    "schema": {"type": "string", "default": "2m0s"},
}
SECURITY: Final[Json] = {
    "basic": {"type": "http", "scheme": "basic", "description": "A user of a password file"},
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "JWT",
        "description": "A token of an issuer whose keys the node knows",
    },
}
"""How callers prove themselves; see docs/security.md."""
SCALARS: Final[dict[int, Json]] = {
    Field.TYPE_BOOL: {"type": "boolean"},
    Field.TYPE_STRING: {"type": "string"},
    Field.TYPE_BYTES: {"type": "string", "format": "byte"},
    Field.TYPE_DOUBLE: {"type": "number", "format": "double"},
    Field.TYPE_INT32: {"type": "integer", "format": "int32"},
    Field.TYPE_UINT32: {"type": "integer", "format": "int64", "minimum": 0},
    Field.TYPE_INT64: {"type": "integer", "format": "int64"},
}
# Other names under which the gateway takes a parameter.
ALIASES: Final = {"fetchreferences": "fetchreference"}
# Fields of the multipart form of an upload, in the order in which they must come.
UPLOAD_FORM: Final = (
    ("autometa", "`true` adds `filename` and `mimetype` to the value"),
    ("metadata", "Value: JSON, or text"),
    ("validator", "Validator of the value, `json` or `none`"),
    ("datatype.name", "Name of the value's datatype"),
    ("datatype.version", "Version of the value's datatype"),
)


@dataclass(frozen=True)
class Route:
    """One row of the route table. `parameters` maps names in the path to request fields."""

    id: str
    method: str
    path: str
    parameters: dict[str, str]
    service: str
    call: str
    body: str
    statuses: tuple[int, ...]
    filters: tuple[str, ...]
    handler: str
    deprecated: bool
    per_namespace: bool
    counted: bool


class Protos:
    """Messages and calls of the typed API with their comments."""

    def __init__(self, files: descriptor_pb2.FileDescriptorSet) -> None:
        self.messages: dict[str, Message] = {}
        self.calls: dict[str, descriptor_pb2.MethodDescriptorProto] = {}
        self.comments: dict[str, str] = {}
        for file in files.file:
            if file.package == "photinus.api.v1":
                self._take(file)

    def _take(self, file: descriptor_pb2.FileDescriptorProto) -> None:
        comments = {
            tuple(place.path): _prose(place.leading_comments)
            for place in file.source_code_info.location
        }
        for number, message in enumerate(file.message_type):
            self.messages[f".{file.package}.{message.name}"] = message
            self.comments[message.name] = comments.get((4, number), "")
            for index, field in enumerate(message.field):
                self.comments[f"{message.name}.{field.name}"] = comments.get(
                    (4, number, 2, index), ""
                )
        for number, service in enumerate(file.service):
            for index, call in enumerate(service.method):
                name = f"{service.name}.{call.name}"
                self.calls[name] = call
                self.comments[name] = comments.get((6, number, 2, index), "")


class Document:
    """Builds the document."""

    def __init__(self, routes: list[Route], protos: Protos, title: str, base: str) -> None:
        self._routes = routes
        self._protos = protos
        self._title = title
        self._base = base
        self._schemas: dict[str, Json] = {
            "Error": {
                "type": "object",
                "properties": {"error": {"type": "string", "description": "`FFnnnnn: text`"}},
                "required": ["error"],
            }
        }

    @cached_property
    def json(self) -> Json:
        """The document; the gateway puts its own address into `servers`."""
        paths: dict[str, Json] = {}
        for route in self._routes:
            tag = "Default Namespace" if route.per_namespace else "Global"
            operation = self._operation(route)
            paths.setdefault(route.path, {})[route.method.lower()] = {**operation, "tags": [tag]}
            if route.per_namespace:
                twin = {
                    **operation,
                    "operationId": f"{route.id}Namespace",
                    "tags": ["Non-Default Namespace"],
                    "parameters": [_path_parameter("ns", "Namespace"), *operation["parameters"]],
                }
                path = f"/namespaces/{{ns}}{route.path}"
                paths.setdefault(path, {})[route.method.lower()] = twin
        return {
            "openapi": "3.0.2",
            "info": {"title": self._title, "version": "1.0"},
            "servers": [{"url": self._base}],
            "security": [{}, *({name: []} for name in SECURITY)],  # {}: where a node is open to all
            "paths": dict(sorted(paths.items())),
            "components": {
                "schemas": dict(sorted(self._schemas.items())),
                "securitySchemes": SECURITY,
            },
        }

    def _operation(self, route: Route) -> Json:
        call = self._protos.calls[f"{route.service}.{route.call}"]
        request = self._protos.messages[call.input_type]
        comment = self._protos.comments[f"{route.service}.{route.call}"]
        operation: Json = {
            "operationId": route.id,
            "summary": headline(comment),
            "description": comment,
            "parameters": [*self._parameters(route, request), TIMEOUT],
            "responses": self._responses(route, call),
        }
        if route.deprecated:
            operation["deprecated"] = True
        if route.body:
            field = next(field for field in request.field if field.name == route.body)
            content = {"application/json": {"schema": self._taken(field.type_name)}}
            if route.handler == "upload":
                content["multipart/form-data"] = {"schema": _upload_form()}
            operation["requestBody"] = {"required": True, "content": content}
        return operation

    def _parameters(self, route: Route, request: Message) -> list[Json]:
        fields = {field.name: field for field in request.field}
        found = []
        for name, bound in route.parameters.items():
            found.append(_path_parameter(name, self._comment(request, fields[bound])))
        taken = {"namespace", route.body, *route.parameters.values()}
        for field in request.field:
            if field.type_name == QUERY and field.name not in taken:
                found += [_query_parameter(name, FILTER) for name in sorted(route.filters)]
                found += [_query_parameter(name, text) for name, text in LIST_PARAMETERS.items()]
            elif field.name not in taken and field.type != Field.TYPE_MESSAGE:
                name = field.name.replace("_", "")
                found.append(_query_parameter(name, self._comment(request, field)))
                if name in ALIASES:
                    found.append(_query_parameter(ALIASES[name], f"As `{name}`"))
        return found

    def _responses(self, route: Route, call: descriptor_pb2.MethodDescriptorProto) -> Json:
        found: Json = {}
        for status in sorted(route.statuses):
            answer: Json = {"description": "Success"}
            found[str(status)] = answer
            if route.handler == "download":
                schema: Json = {"type": "string", "format": "binary"}
                answer["content"] = {"application/octet-stream": {"schema": schema}}
                answer["headers"] = {
                    name: {"schema": {"type": "string"}}
                    for name in ("x-ff-blob-hash-sha256", "x-ff-blob-size")
                }
            elif status != 204:
                schema = self._body(call.output_type)
                if route.counted:
                    schema = _counted(schema)
                elif self._is_list(call):
                    schema = {"oneOf": [schema, _counted(schema)]}  # the latter with `count`
                answer["content"] = {"application/json": {"schema": schema}}
        error = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
        found["default"] = {"description": "Failure", "content": error}
        return found

    def _is_list(self, call: descriptor_pb2.MethodDescriptorProto) -> bool:
        """Whether a call takes a query, as parameters or as its body."""
        request = self._protos.messages[call.input_type]
        return any(field.type_name == QUERY for field in request.field)

    def _body(self, type_name: str) -> Json:
        """The schema of a response, whose one inline field usually stands for all of it."""
        message = self._protos.messages[type_name]
        options = _message_options(message)
        fields = {field.name: field for field in message.field}
        if options.raw_body:
            return {"description": self._comment(message, fields[options.raw_body])}
        if options.list_of:
            item = self._schema(message, fields[options.list_of], repeated=False)
            return {"type": "array", "items": item}
        shown = [field for field in message.field if not _options(field).hidden]
        if len(shown) == 1 and _options(shown[0]).inline:
            return self._reference(shown[0].type_name)
        return self._reference(type_name)

    def _taken(self, type_name: str) -> Json:
        """The schema of a request's body."""
        if type_name != QUERY:
            return self._reference(type_name)
        fields = {field.name: field for field in self._protos.messages[QUERY].field}
        text = self._comment(self._protos.messages[QUERY], fields["json"])
        self._schemas |= json_query.schemas(text)
        return {"$ref": "#/components/schemas/JSONQuery"}

    def _reference(self, type_name: str) -> Json:
        name = type_name.rsplit(".", 1)[1].removesuffix("Response")
        if name not in self._schemas:
            self._schemas[name] = {}  # taken, should the message hold itself
            message = self._protos.messages[type_name]
            self._schemas[name] = {
                "type": "object",
                "description": self._protos.comments[message.name],
                "properties": self._properties(message),
            }
        return {"$ref": f"#/components/schemas/{name}"}

    def _properties(self, message: Message) -> Json:
        found: Json = {}
        for field in message.field:
            options = _options(field)
            if options.hidden or (options.inline and options.raw):
                continue
            if options.inline:
                found |= self._properties(self._protos.messages[field.type_name])
                continue
            found[options.name or field.json_name] = self._described(message, field)
        return found

    def _described(self, message: Message, field: Field) -> Json:
        schema = self._schema(message, field, repeated=field.label == Field.LABEL_REPEATED)
        nullable = _options(field).empty == json_pb2.EMPTY_NULL
        if "$ref" in schema:
            # Beside a $ref nothing counts in OpenAPI 3.0.
            schema = {"allOf": [schema]}
        if nullable:
            schema["nullable"] = True
        return {**schema, "description": self._comment(message, field)}

    def _schema(self, message: Message, field: Field, *, repeated: bool) -> Json:
        if repeated:
            return {"type": "array", "items": self._schema(message, field, repeated=False)}
        if _options(field).raw:
            return {}
        if field.type_name == TIMESTAMP:
            return {"type": "string", "format": "date-time"}
        if field.type == Field.TYPE_MESSAGE:
            return self._reference(field.type_name)
        return dict(SCALARS[field.type])

    def _comment(self, message: Message, field: Field) -> str:
        return self._protos.comments[f"{message.name}.{field.name}"]


def _prose(comment: str) -> str:
    """A comment as paragraphs: lines joined, but for empty ones and lists."""
    text = "\n".join(line.strip() for line in comment.strip().splitlines())
    return re.sub(r"(?<!\n)\n(?!\n|- )", " ", text)


def _options(field: Field) -> json_pb2.JsonField:
    return field.options.Extensions[json_pb2.json]


def _message_options(message: Message) -> json_pb2.JsonMessage:
    return message.options.Extensions[json_pb2.json_message]


def headline(comment: str) -> str:
    """The first sentence of a comment, without its full stop: what a list of operations shows."""
    first = re.split(r"[.:] |\.$", comment, maxsplit=1)[0]
    return first.strip()


def _counted(rows: Json) -> Json:
    """The schema of a list that is given with its count and total."""
    number = {"type": "integer", "format": "int64"}
    return {
        "type": "object",
        "properties": {
            "count": {**number, "description": "Rows in `items`"},
            "total": {**number, "description": "All rows that match"},
            "items": rows,
        },
    }


def _path_parameter(name: str, description: str) -> Json:
    return {
        "name": name,
        "in": "path",
        "required": True,
        "description": description,
        "schema": {"type": "string"},
    }


def _query_parameter(name: str, description: str) -> Json:
    return {
        "name": name,
        "in": "query",
        "description": description,
        "schema": {"type": "string"},
    }


def _upload_form() -> Json:
    properties: Json = {name: {"type": "string", "description": text} for name, text in UPLOAD_FORM}
    properties["file"] = {
        "type": "string",
        "format": "binary",
        "description": "The blob; the last part of the form, under any name",
    }
    return {"type": "object", "properties": properties, "required": ["file"]}
