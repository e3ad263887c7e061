"""Goal: an operator's tools find namespaces and operations over the SPI, and what they say of an operation counts.

Method: a core on each database with the real gateway in front; operations are stored as connectors' work would be.
"""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import msgspec
import pytest
from photinus.api.v1 import spi_service_pb2 as pb
from photinus_core.model.events import EventType
from photinus_core.model.ids import Namespace, new_uuid
from photinus_core.model.ledger import Operation, OperationStatus, OperationType

from tests.support.spi import NAMES, WAIT_S, Core, Gateway
from tests.support.store_records import make_operation, make_transaction

ALPHA, BETA = NAMES

on_sqlite = pytest.mark.parametrize("open_store", ["sqlite"], indirect=True)
"""For what does not depend on the database."""


async def stored(
    core: Core,
    namespace: Namespace = ALPHA,
    kind: OperationType = OperationType.BLOCKCHAIN_INVOKE,
    status: OperationStatus = OperationStatus.PENDING,
) -> Operation:
    """An operation in the database."""
    transaction = msgspec.structs.replace(make_transaction(), namespace=namespace)
    operation = msgspec.structs.replace(
        make_operation(transaction.id, status), namespace=namespace, type=kind
    )
    async with core.store.write(namespace) as tx:
        await tx.insert_transactions([transaction])
        await tx.insert_operations([operation])
    return operation


@on_sqlite
async def test_namespaces(core: Core, gateway: Gateway) -> None:
    status, listed = await gateway.ask("GET", "/spi/v1/namespaces")
    assert (status, [n["name"] for n in listed]) == (200, ["alpha", "beta"])
    assert await gateway.ask("GET", "/spi/v1/namespaces/beta") == (200, listed[1])
    assert "initializing" not in listed[0]
    assert await gateway.ask("GET", "/spi/v1/namespaces/gamma") == (
        404,
        {"error": "FF10436: Unknown namespace 'gamma'"},
    )
    await core.node.stop(BETA)
    assert [n["name"] for n in (await gateway.ask("GET", "/spi/v1/namespaces"))[1]] == ["alpha"]
    _, all_of_them = await gateway.ask("GET", "/spi/v1/namespaces?includeinitializing=true")
    assert [(n["name"], n.get("initializing")) for n in all_of_them] == [
        ("alpha", None),
        ("beta", True),
    ]
    status, refused = await gateway.ask("GET", "/spi/v1/namespaces/beta")
    assert (status, refused["error"][:7]) == (412, "FF10441")


async def test_operations_are_those_of_the_namespace_named(core: Core, gateway: Gateway) -> None:
    mine, theirs = await stored(core), await stored(core, BETA)
    for namespace, operation in ((ALPHA, mine), (BETA, theirs)):
        path = f"/spi/v1/namespaces/{namespace}/operations"
        status, listed = await gateway.ask("GET", path)
        assert (status, [o["id"] for o in listed]) == (200, [operation.id])
        assert listed[0]["namespace"] == namespace
        status, counted = await gateway.ask("GET", f"{path}?status=Failed&count")
        assert (status, counted) == (200, {"count": 0, "total": 0, "items": []})
        one = await gateway.ask("GET", f"/spi/v1/operations/{namespace}:{operation.id}")
        assert one == (200, listed[0])
    for path, code in {
        "/spi/v1/namespaces/gamma/operations": (404, "FF10436"),
        "/spi/v1/namespaces/alpha/operations?sequence=x&limit=abc": (400, "FF00143"),
        f"/spi/v1/operations/{mine.id}": (400, "FF10411"),
        f"/spi/v1/operations/:{mine.id}": (400, "FF10411"),
        f"/spi/v1/operations/alpha:{mine.id}:x": (400, "FF10411"),
        "/spi/v1/operations/alpha:": (400, "FF00138"),
        "/spi/v1/operations/alpha:one": (400, "FF00138"),
        f"/spi/v1/operations/gamma:{mine.id}": (404, "FF10436"),
        f"/spi/v1/operations/beta:{mine.id}": (404, "FF00164"),
        f"/spi/v1/operations/alpha:{new_uuid()}": (404, "FF00164"),
    }.items():
        status, refused = await gateway.ask("GET", path)
        assert (status, refused["error"][:7]) == code, path


async def events_of(core: Core) -> list[tuple[str, str]]:
    async with core.store.read(ALPHA) as reader:
        return [(str(e.type), str(e.reference)) for e in await reader.events_after(0, 100)]


async def test_what_is_said_of_an_operation_counts(core: Core, gateway: Gateway) -> None:
    operation = await stored(core)
    path = f"/spi/v1/operations/{ALPHA}:{operation.id}"
    changes = core.store.notifications(ALPHA, ["operations"])
    waiting = asyncio.ensure_future(anext(changes))
    said = {"status": "succeeded", "output": {"b": 1, "a": 2.50}}
    assert await gateway.ask("PATCH", path, said) == (200, {})
    async with asyncio.timeout(WAIT_S):
        await waiting
    _, now = await gateway.ask("GET", path)
    assert (now["status"], now["output"]) == ("Succeeded", {"b": 1, "a": 2.5})
    assert "error" not in now
    assert now["updated"] > now["created"]
    told = [(EventType.BLOCKCHAIN_INVOKE_OP_SUCCEEDED, operation.id)]
    assert await events_of(core) == told
    # Said again, nothing changes: no second event, no later time.
    assert await gateway.ask("PATCH", path, said) == (200, {})
    assert (await gateway.ask("GET", path))[1] == now
    assert await events_of(core) == told
    # What is final stays so …
    for status in ("Pending", "Initialized"):
        assert await gateway.ask("PATCH", path, {"status": status}) == (200, {})
        assert (await gateway.ask("GET", path))[1] == now
    # … unless it was wrong.
    assert await gateway.ask("PATCH", path, {"status": "Failed", "error": "no"}) == (200, {})
    _, corrected = await gateway.ask("GET", path)
    assert (corrected["status"], corrected["error"]) == ("Failed", "no")
    assert corrected["output"] == {"b": 1, "a": 2.5}, "what is not said is kept"
    told += [(EventType.BLOCKCHAIN_INVOKE_OP_FAILED, operation.id)]
    assert await events_of(core) == told
    # More about the same end is no other end.
    body = {"status": "Failed", "error": "", "output": None}
    assert await gateway.ask("PATCH", path, body) == (200, {})
    assert "error" not in (await gateway.ask("GET", path))[1]
    assert await events_of(core) == told


async def test_a_typed_client_is_given_the_operation(core: Core) -> None:
    operation = await stored(core, kind=OperationType.BLOCKCHAIN_PIN_BATCH)
    request = pb.UpdateNodeOperationRequest(id=f"{ALPHA}:{operation.id}")
    request.update.status = "Failed"
    async with core.calls() as calls:
        done = await calls.UpdateNodeOperation(request, timeout=WAIT_S)
        assert (done.operation.id, done.operation.status) == (operation.id, "Failed")
        assert await events_of(core) == [], "its batch goes on being tried"
        request.update.output = "{"
        with pytest.raises(grpc.aio.AioRpcError, match="FF19001"):
            await calls.UpdateNodeOperation(request, timeout=WAIT_S)


WRONG: list[tuple[Any, str]] = [
    ({}, "FF19002"),
    ({"status": ""}, "FF19002"),
    ({"status": "Retried"}, "FF19002"),
    ({"status": "Succeeded "}, "FF19002"),
    ({"status": 1}, "FF19002"),
    ({"status": None}, "FF19002"),
    ({"status": ["Failed"]}, "FF19002"),
    ({"status": "Failed", "output": 5}, "FF19002"),
    ({"status": "Failed", "output": "text"}, "FF19002"),
    ({"status": "Failed", "output": []}, "FF19002"),
    ({"status": "Failed", "error": {}}, "FF19002"),
    ({"status": "Failed", "error": "a\x00b"}, "FF19008"),
    ([], "FF19002"),
    ("null", "FF19002"),
    ("{", "FF19001"),
    ('{"status":"Failed"} x', "FF19001"),
    ('{"status":"Failed","output":' + "[" * 20_000 + "]" * 20_000 + "}", "FF19001"),
]


@on_sqlite
async def test_wrong_updates_change_nothing(core: Core, gateway: Gateway) -> None:
    operation = await stored(core)
    path = f"/spi/v1/operations/{ALPHA}:{operation.id}"
    before = await gateway.ask("GET", path)
    for body, code in WRONG:
        status, refused = await gateway.ask("PATCH", path, body)
        assert (status, refused["error"][: len(code)]) == (400, code), body
    assert await gateway.ask("GET", path) == before
    assert await events_of(core) == []


@on_sqlite
async def test_updates_of_what_is_not_there(core: Core, gateway: Gateway) -> None:
    said = {"status": "Succeeded"}
    for key, code in {
        str(new_uuid()): (400, "FF10411"),
        "alpha:x": (400, "FF00138"),
        f"alpha:{new_uuid()}": (404, "FF00164"),
        f"gamma:{new_uuid()}": (404, "FF10436"),
    }.items():
        status, refused = await gateway.ask("PATCH", f"/spi/v1/operations/{key}", said)
        assert (status, refused["error"][:7]) == code, key
    operation = await stored(core, BETA)
    await core.node.stop(BETA)
    status, refused = await gateway.ask("PATCH", f"/spi/v1/operations/beta:{operation.id}", said)
    assert (status, refused["error"][:7]) == (412, "FF10441"), "it is tried again later"


@on_sqlite
async def test_a_node_without_a_file_cannot_be_reset(core: Core, gateway: Gateway) -> None:
    status, refused = await gateway.ask("POST", "/spi/v1/reset")
    assert (status, refused["error"][:7]) == (400, "FF19052")


@on_sqlite
async def test_the_two_listeners_are_apart(gateway: Gateway) -> None:
    assert (await gateway.ask("GET", "/spi/v1/namespaces", base=gateway.api))[0] == 404
    assert (await gateway.ask("GET", "/api/v1/namespaces"))[0] == 404
    assert (await gateway.ask("GET", "/api/v1/namespaces", base=gateway.api))[0] == 200
    status, document = await gateway.ask("GET", "/spi/swagger.json")
    assert (status, len(document["paths"])) == (200, 5)
