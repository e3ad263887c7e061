"""Goal: the gateway's walker and the core's write and read the same JSON.

Method: a small Go program (gateway/internal/fireflyjson/walk) runs the gateway's walker over what the core's is run
over: every recorded answer, request and frame; random messages of every type of the API (seeded, so that a failure
repeats); damaged and hostile JSON. Texts, messages and error codes must be equal.
"""

from __future__ import annotations

import base64
import json
import math
import os
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from photinus.options.v1 import json_pb2
from photinus_core.model.errors import Rejected
from photinus_core.rpc.fireflyjson import decode, encode

from tests.support import golden

RANDOM_PER_MESSAGE = 40
SEED = int(os.environ.get("PHOTINUS_SEED", "1"))
BUILD_TIMEOUT_S = 300
RUN_TIMEOUT_S = 120

STRINGS = (
    "",
    "a",
    "name-1",
    'q"\\/',
    "<&>",
    "\u2028\u2029",
    "\x00\x1f\x7f",
    "é€😀",
    "\u20ac\u2027\u202a",
    "\t\r\n\b\f",
)
NUMBERS = (0, 1, -1, 7, 2**31 - 1, -(2**31), 2**32 - 1, 2**53 + 1, 2**63 - 1, -(2**63), 2**64 - 1)
DOUBLES = (
    0.0,
    -0.0,
    1.0,
    0.1,
    1e20,
    1e21,
    1.5e-7,
    1e-6,
    1e-7,
    123456.789,
    1e300,
    -2.5e-300,
    math.inf,
    math.nan,
)
RAWS = (
    "",
    "null",
    "1e400",
    "12345678901234567890",
    '"<&>\u2028"',
    '{"z":[1,2.50],"a":{}}',
    "[]",
    "true",
)
RAW_OBJECTS = ("", "{}", '{"x":1}', '{"custom":{"k":"<"},"\u2029":null}')


@pytest.fixture(scope="module")
def walk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    program = tmp_path_factory.mktemp("walk") / "walk"
    command = ["go", "build", "-o", str(program), "./internal/fireflyjson/walk"]
    subprocess.run(command, cwd=golden.REPOSITORY / "gateway", check=True, timeout=BUILD_TIMEOUT_S)
    return program


def ask(program: Path, requests: list[dict[str, Any]]) -> list[dict[str, Any]]:
    text = "".join(json.dumps(request) + "\n" for request in requests)
    result = subprocess.run(
        [program], input=text.encode(), check=True, capture_output=True, timeout=RUN_TIMEOUT_S
    )
    return [json.loads(line) for line in result.stdout.splitlines()]


def recorded() -> Iterator[tuple[str, str]]:
    """Name of the message and JSON text of everything recorded."""
    for file in sorted(golden.GOLDEN.glob("*.jsonl")):
        for line in golden.lines(file.stem):
            route = golden.find_route(line.method, line.path)
            if (
                route
                and line.status
                and line.status < 300
                and golden.is_json(bytes(line.response_body))
            ):
                yield route.response().DESCRIPTOR.name, bytes(line.response_body).decode()
            body = route.body_message() if route else None
            if body is not None and golden.is_json(bytes(line.request_body)):
                yield body.DESCRIPTOR.name, bytes(line.request_body).decode()
            if line.event == "recv":
                kind = json.loads(bytes(line.frame))["type"]
                special = {"event_batch": "EventBatch", "protocol_error": "ProtocolError"}
                yield special.get(kind, "EventDelivery"), bytes(line.frame).decode()


def damaged() -> Iterator[tuple[str, str]]:
    """JSON that is wrong, or only just right."""
    randomness = random.Random(SEED)
    for name, text in recorded():
        place = randomness.randrange(len(text))
        yield name, text[:place]
        yield name, text[:place] + randomness.choice('{}[],:"0a <\u2028\\') + text[place + 1 :]
        yield name, " " + text + randomness.choice((" ", "\n", "x", "{}"))
    for text in (
        '{"header":null,"data":[{"value":null}]}',
        '{"HEADER":{"Tag":"t"},"idempotencykey":"k","header":{"tag":"u"}}',
        '{"data":[{"value": [1 , 2.50 , "<&>"]}, {"id":1}]}',
        '{"data":[{"value":' + "[" * 200 + "]" * 200 + "}]}",
        '{"data":[{"value":1e999}]}',
        '{"data":[{"value":01}]}',
        '{"data":{}}',
        '{"data":[null]}',
        "null",
        "",
        "[]",
        '{"header":{"topics":["a",1]}}',
    ):
        yield "MessageInput", text
    for text in (
        '{"readAhead":1.0}',
        '{"readAhead":4294967296}',
        '{"readAhead":-1}',
        '{"readAhead":"1"}',
        '{"batch":"true"}',
        '{"b":1,"a":2,"b":3,"withData":null}',
        '{"Custom":"\u2028","firstEvent":"0"}',
    ):
        yield "SubscriptionOptions", text
    for text in (
        "1795246441",
        '"1795246441123"',
        '"2026-11-21T08:35:02.120+01:00"',
        '"yesterday"',
        "true",
        "null",
    ):
        yield "Datatype", f'{{"created":{text}}}'


def fill(message: Message, randomness: random.Random, depth: int = 0) -> None:
    """Sets random fields to random values, zero among them."""
    for field in message.DESCRIPTOR.fields:
        if randomness.random() < 0.3:
            continue
        options = field.GetOptions().Extensions[json_pb2.json]
        if field.is_repeated:
            target = getattr(message, field.name)
            for _ in range(randomness.randrange(3)):
                if field.message_type is not None:
                    fill(target.add(), randomness, depth + 1)
                else:
                    target.append(scalar(field, options, randomness))
        elif field.message_type is not None:
            inner = getattr(message, field.name)
            inner.SetInParent()
            if field.message_type.full_name == "google.protobuf.Timestamp":
                inner.seconds = randomness.choice((0, 1, 1_795_250_102, 253_402_300_799))
                inner.nanos = randomness.choice((0, 1, 120_000_000, 999_999_999))
            else:
                fill(inner, randomness, depth + 1)
        else:
            setattr(message, field.name, scalar(field, options, randomness))


def scalar(field: Any, options: json_pb2.JsonField, randomness: random.Random) -> Any:
    if options.raw:
        return randomness.choice(RAW_OBJECTS if options.inline else RAWS)
    match field.cpp_type:
        case FieldDescriptor.CPPTYPE_STRING:
            text = randomness.choice(STRINGS)
            return text if field.type == FieldDescriptor.TYPE_STRING else text.encode()
        case FieldDescriptor.CPPTYPE_BOOL:
            return randomness.random() < 0.5
        case FieldDescriptor.CPPTYPE_DOUBLE:
            return randomness.choice(DOUBLES)
        case FieldDescriptor.CPPTYPE_ENUM:
            return randomness.choice((0, 1, 99))
        case FieldDescriptor.CPPTYPE_INT32:
            low, high = -(2**31), 2**31 - 1
        case FieldDescriptor.CPPTYPE_UINT32:
            low, high = 0, 2**32 - 1
        case FieldDescriptor.CPPTYPE_INT64:
            low, high = -(2**63), 2**63 - 1
        case _:
            low, high = 0, 2**64 - 1
    return randomness.choice([number for number in NUMBERS if low <= number <= high])


def all_messages() -> list[Descriptor]:
    golden.services()
    found: dict[str, Descriptor] = {}
    for file in sorted(golden.API.glob("*.proto")):
        found |= golden.module(file.stem).DESCRIPTOR.message_types_by_name
    return [found[name] for name in sorted(found)]


def read(name: str, text: str) -> dict[str, Any]:
    """What the core's walker makes of a text, in the form of the other's answer."""
    message = golden.message_class(name)()
    try:
        decode(text, message)
    except Rejected as failure:
        return {"text": "", "proto": None, "code": failure.code}
    wire = base64.b64encode(message.SerializeToString(deterministic=True)).decode()
    return {"text": encode(message), "proto": wire, "code": ""}


@pytest.mark.parametrize("source", [recorded, damaged])
def test_walkers_read_alike(walk: Path, source: Any) -> None:
    cases = list(source())
    answers = ask(walk, [{"message": name, "text": text} for name, text in cases])
    assert len(answers) == len(cases) > 100
    for (name, text), answer in zip(cases, answers, strict=True):
        assert answer == read(name, text), (name, text)


def test_walkers_write_alike(walk: Path) -> None:
    randomness = random.Random(SEED)
    print(f"seed {SEED} (PHOTINUS_SEED)")
    cases = []
    for descriptor in all_messages():
        if not descriptor.fields:
            continue
        for _ in range(RANDOM_PER_MESSAGE):
            message = golden.message_class(descriptor.name)()
            fill(message, randomness)
            cases.append(message)
    requests = [
        {
            "message": message.DESCRIPTOR.name,
            "proto": base64.b64encode(message.SerializeToString()).decode(),
        }
        for message in cases
    ]
    for message, answer in zip(cases, ask(walk, requests), strict=True):
        assert answer["text"] == encode(message), message
