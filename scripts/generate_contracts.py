"""Writes the contracts of the connector protocol as Python classes, for those who implement them.

Of each contract's service comes a class with one method per RPC, in snake case, with the comments of
the proto. The forms of a call are those of `photinus_sdk`: bytes travel as iterators of bytes, and an
answer that only wraps a `Submission` is one. Part of `generate_protos.py`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
    MethodDescriptorProto,
    ServiceDescriptorProto,
)

PACKAGE = "photinus.connector.v1"
SUBMISSION = f".{PACKAGE}.Submission"
# Served by the kit itself; the other services are contracts.
KITS_OWN = frozenset({"ConnectorService", "OperationService", "EventService"})
SERVICE_FIELD, METHOD_FIELD = 6, 2  # in FileDescriptorProto and ServiceDescriptorProto

HEAD = f'''"""Generated from proto/{PACKAGE.replace(".", "/")}; do not edit.

The contracts as classes to be implemented. `Call` is what travels beside a request.
"""

from collections.abc import AsyncIterator
from typing import Generic, TypeVar

%s

Call = TypeVar("Call")
'''


def python_of(found: FileDescriptorSet) -> str:
    """The module, from descriptors with source information."""
    files = [file for file in found.file if file.package == PACKAGE]
    messages = {
        f".{PACKAGE}.{message.name}": (message, file)
        for file in files
        for message in file.message_type
    }
    classes = [
        "\n".join(_class(file, number, service, messages))
        for file in files
        for number, service in enumerate(file.service)
        if service.name not in KITS_OWN
    ]
    modules = sorted({name for text in classes for name in re.findall(r"\b(\w+_pb2)\.", text)})
    imports = "\n".join(f"from {PACKAGE} import {name}" for name in modules)
    return HEAD % imports + "\n\n" + "\n\n\n".join(classes) + "\n"


Messages = dict[str, tuple[DescriptorProto, FileDescriptorProto]]


def _class(
    file: FileDescriptorProto, number: int, service: ServiceDescriptorProto, messages: Messages
) -> Iterator[str]:
    comments = {
        tuple(location.path): location.leading_comments
        for location in file.source_code_info.location
    }
    yield f"class {service.name.removesuffix('Service')}Methods(Generic[Call]):"
    yield from _docstring(comments[SERVICE_FIELD, number], "    ")
    for index, method in enumerate(service.method):
        yield ""
        yield from _method(method, messages)
        yield from _docstring(comments[SERVICE_FIELD, number, METHOD_FIELD, index], "        ")
        yield f'        raise TypeError("this class does not offer {method.name}")'


def _method(method: MethodDescriptorProto, messages: Messages) -> Iterator[str]:
    name = re.sub(r"(?<!^)(?=[A-Z])", "_", method.name).lower()
    answer, _ = messages[method.output_type]
    fields = [field.name for field in answer.field]
    returned = _type(method.output_type, messages)
    if [field.type_name for field in answer.field] == [SUBMISSION]:
        returned = _type(SUBMISSION, messages)
    if method.server_streaming:
        returned = f"AsyncIterator[{'bytes' if fields == ['chunk'] else returned}]"
    if method.client_streaming:
        request, _ = messages[method.input_type]
        (header,) = [field.type_name for field in request.field if field.name == "header"]
        arguments = [f"header: {_type(header, messages)}", "chunks: AsyncIterator[bytes]"]
    else:
        arguments = [f"request: {_type(method.input_type, messages)}"]
    # An async generator is called, not awaited.
    yield f"    {'' if method.server_streaming else 'async '}def {name}("
    yield f"        self, {', '.join(arguments)}, call: Call"
    yield f"    ) -> {returned}:"


def _type(name: str, messages: Messages) -> str:
    message, file = messages[name]
    return f"{file.name.rpartition('/')[2].removesuffix('.proto')}_pb2.{message.name}"


def _docstring(comment: str, indent: str) -> list[str]:
    """The lines of a comment, as they stand in the proto."""
    lines = [f"{indent}{line.strip()}".rstrip() for line in comment.strip().splitlines()]
    lines[0] = f'{indent}"""{lines[0].strip()}'
    return [f'{lines[0]}"""'] if len(lines) == 1 else [*lines, f'{indent}"""']
