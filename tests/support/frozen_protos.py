"""The connector protocol as it was released, from its descriptor image and from nothing else.

`Protocol("released")` has the messages of the image; `Protocol("next")` those of a minor version to
come: each message has a field more, each enum a value more, and each choice (`oneof`) a case more
that nobody knew at the release. Our own generated code is not used, so that it cannot hide a
difference; use this in a process of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import Message

RELEASED: Final = Path(__file__).resolve().parents[2] / "proto" / "released.binpb"
PACKAGE: Final = "photinus.connector.v1"
VERSIONS: Final = ("released", "next")

LATER_FIELD: Final = "from_a_later_version"
LATER_CASE: Final = "case_of_a_later_version"
LATER_NUMBER: Final = 1000
LATER_CASE_NUMBER: Final = 1001
"""The first case more; others of the message follow."""
LATER_VALUE: Final = 1000
LATER_TEXT: Final = "you cannot know this"


def released_files() -> descriptor_pb2.FileDescriptorSet:
    """The image; what buf adds to it is of no interest here."""
    return descriptor_pb2.FileDescriptorSet.FromString(RELEASED.read_bytes())


class Protocol:
    """One version of the protocol.

    Args:
        version: `released` or `next`.
    """

    def __init__(self, version: str) -> None:
        assert version in VERSIONS
        self.is_next = version == "next"
        self._pool = descriptor_pool.DescriptorPool()
        for file in released_files().file:
            if self.is_next and file.package == PACKAGE:
                _grow(file)
            self._pool.Add(file)

    def message(self, name: str, /, **fields: Any) -> Any:
        """A message of the package, or of a full name; one of the next version says more."""
        full = name if "." in name else f"{PACKAGE}.{name}"
        made = self._class(full)(**fields)
        return self.grown(made)

    def grown(self, message: Any) -> Any:
        """Fills in what only the next version has, also in the messages within."""
        if self.is_next:
            _fill(message)
        return message

    def value(self, enum: str, name: str) -> int:
        """Number of an enum's value."""
        return int(self._pool.FindEnumTypeByName(f"{PACKAGE}.{enum}").values_by_name[name].number)

    def service(self, name: str) -> ServiceDescriptor:
        """A service of the package, or of a full name."""
        full = name if "." in name else f"{PACKAGE}.{name}"
        return self._pool.FindServiceByName(full)

    def stub(self, channel: grpc.aio.Channel, service: str) -> Callable[[str], Any]:
        """Makes callables for the methods of a service, as generated stubs have them."""
        found = self.service(service)

        def method(name: str) -> Any:
            described = found.methods_by_name[name]
            make = {
                (False, False): channel.unary_unary,
                (False, True): channel.unary_stream,
                (True, False): channel.stream_unary,
                (True, True): channel.stream_stream,
            }[described.client_streaming, described.server_streaming]
            encode, decode = self._codecs(described)
            return make(
                f"/{found.full_name}/{name}",
                request_serializer=encode,
                response_deserializer=decode,
            )

        return method

    def handlers(self, service: str, methods: dict[str, Any]) -> grpc.GenericRpcHandler:
        """Handlers for the methods of a service, as generated servicers have them."""
        found = self.service(service)
        made = {}
        for name, act in methods.items():
            described = found.methods_by_name[name]
            make: Any = {
                (False, False): grpc.unary_unary_rpc_method_handler,
                (False, True): grpc.unary_stream_rpc_method_handler,
                (True, False): grpc.stream_unary_rpc_method_handler,
                (True, True): grpc.stream_stream_rpc_method_handler,
            }[described.client_streaming, described.server_streaming]
            request = self._class(described.input_type.full_name)
            made[name] = make(act, request.FromString, _serialized)
        return grpc.method_handlers_generic_handler(found.full_name, made)

    def _codecs(self, method: MethodDescriptor) -> tuple[Any, Any]:
        return _serialized, self._class(method.output_type.full_name).FromString

    def _class(self, full_name: str) -> Any:
        return message_factory.GetMessageClass(self._pool.FindMessageTypeByName(full_name))


def _serialized(message: Message) -> bytes:
    return message.SerializeToString()


def _grow(file: descriptor_pb2.FileDescriptorProto) -> None:
    """Adds what a minor version may add: fields, values, cases."""
    for enum in file.enum_type:
        enum.value.add(name=f"{enum.name}_OF_A_LATER_VERSION", number=LATER_VALUE)
    for message in file.message_type:
        _grow_message(message, file.package)


def _grow_message(message: descriptor_pb2.DescriptorProto, package: str) -> None:
    field = descriptor_pb2.FieldDescriptorProto
    if message.options.map_entry:
        return
    message.field.add(
        name=LATER_FIELD,
        number=LATER_NUMBER,
        type=field.TYPE_STRING,
        label=field.LABEL_OPTIONAL,
    )
    for index in range(len(message.oneof_decl)):
        message.field.add(
            name=f"{LATER_CASE}{index or ''}",
            number=LATER_CASE_NUMBER + index,
            type=field.TYPE_STRING,
            label=field.LABEL_OPTIONAL,
            oneof_index=index,
        )
    for nested in message.nested_type:
        _grow_message(nested, package)


def _fill(message: Any) -> None:
    """Sets the field of a later version in a message of ours and in all within it."""
    if message.DESCRIPTOR.file.package != PACKAGE or message.DESCRIPTOR.GetOptions().map_entry:
        return
    setattr(message, LATER_FIELD, LATER_TEXT)
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        if field.message_type.GetOptions().map_entry:
            if field.message_type.fields_by_name["value"].message_type is not None:
                for each in value.values():
                    _fill(each)
        elif field.is_repeated:
            for each in value:
                _fill(each)
        else:
            _fill(value)
