"""Goal: who follows change events hears of what any replica commits, as asked, and can slow nobody down.

Method: cores on each database with the real gateway in front, and two replicas on one PostgreSQL; sockets of the
SPI, and the typed call.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import msgspec
import pytest
from photinus.api.v1 import change_pb2
from photinus.api.v1 import spi_service_pb2 as pb
from photinus_core.events.changes import ChangeLimits
from photinus_core.model.ids import Namespace, new_uuid
from photinus_core.ports.store import Store
from photinus_core.store import PostgresSettings, PostgresStore, SqliteStore

from tests.support.spi import NAMES, WAIT_S, Core, Gateway, core_up, gateway_up
from tests.support.store_records import make_data, make_event, make_subscription, write
from tests.support.waiting import until

ALPHA, BETA = NAMES

on_sqlite = pytest.mark.parametrize("open_store", ["sqlite"], indirect=True)
"""For what does not depend on the database."""
POLICY_VIOLATION = 1008
TRY_AGAIN = 1013


class Socket:
    """One socket of the SPI."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.raw = socket

    async def start(self, *collections: str, **wanted: list[str]) -> None:
        await self.raw.send_json({"type": "start", "collections": collections, "filter": wanted})

    async def hear(self) -> dict[str, Any]:
        message = await self.raw.receive(WAIT_S)
        assert message.type is aiohttp.WSMsgType.TEXT, message
        frame: dict[str, Any] = json.loads(message.data)
        return frame

    async def until(self, found: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Skips frames until one is as wanted."""
        while not found(frame := await self.hear()):
            pass
        return frame

    async def closed(self) -> int | None:
        message = await self.raw.receive(WAIT_S)
        assert message.type is aiohttp.WSMsgType.CLOSE, message
        return self.raw.close_code


@asynccontextmanager
async def socket_of(gateway: Gateway) -> AsyncIterator[Socket]:
    async with gateway.session.ws_connect(gateway.spi.replace("http", "ws", 1) + "/spi/ws") as raw:
        yield Socket(raw)


async def listening(core: Core, number: int = 1) -> None:
    """Waits until as many clients have begun to listen to a core."""
    await until(lambda: sum(q._filter is not None for q in core.node.changes._queues) >= number)


async def append(store: Store, namespace: Namespace = ALPHA) -> str:
    event = msgspec.structs.replace(make_event(), namespace=namespace)
    async with store.write(namespace) as tx:
        tx.append_events([event])
    return str(event.id)


async def test_changes_are_told_as_fireflys_frames(core: Core, gateway: Gateway) -> None:
    async with socket_of(gateway) as socket:
        await socket.start("messages", "data", "events", "subscriptions", "tokenpools")
        await listening(core)
        data = make_data()
        sent = write(data)
        event = make_event()
        async with core.store.write(ALPHA) as tx:
            await tx.insert_messages([sent])
            tx.append_events([event])
        frames = [await socket.hear() for _ in range(3)]
        message = sent.message.header.id
        assert {f["collection"]: list(f.items()) for f in frames} == {
            "data": [
                *(("collection", "data"), ("type", "created"), ("namespace", "alpha")),
                ("id", data.id),
            ],
            "messages": [
                *(("collection", "messages"), ("type", "created"), ("namespace", "alpha")),
                *(("id", message), ("sequence", 1)),
            ],
            "events": [
                *(("collection", "events"), ("type", "created"), ("namespace", "alpha")),
                *(("id", event.id), ("sequence", 1)),
            ],
        }
        # What a client does over the API of the same gateway.
        made = {"name": "sub", "transport": "websockets"}
        _, subscription = await gateway.ask(
            "POST", "/api/v1/namespaces/alpha/subscriptions", made, base=gateway.api
        )
        heard = await socket.until(lambda f: f["collection"] == "subscriptions")
        assert (heard["type"], heard["id"]) == ("created", subscription["id"])
        path = f"/api/v1/namespaces/alpha/subscriptions/{subscription['id']}"
        assert (await gateway.ask("DELETE", path, base=gateway.api))[0] == 204
        heard = await socket.until(lambda f: f["collection"] == "subscriptions")
        assert (heard["type"], heard["id"]) == ("deleted", subscription["id"])


@on_sqlite
async def test_filters_and_a_start_that_replaces_another(core: Core, gateway: Gateway) -> None:
    async with socket_of(gateway) as socket:
        await socket.start("subscriptions", types=["updated"], namespaces=["beta"])
        await listening(core)
        made = {
            namespace: msgspec.structs.replace(make_subscription("s"), namespace=namespace)
            for namespace in (ALPHA, BETA)
        }
        for namespace, subscription in made.items():
            for _ in range(2):
                async with core.store.write(namespace) as tx:
                    await tx.save_subscription(subscription, None)
            await append(core.store, namespace)
        heard = await socket.hear()
        assert (heard["namespace"], heard["type"], heard["id"]) == (
            "beta",
            "updated",
            made[BETA].id,
        )
        await socket.start("events", types=["created"])
        (queue,) = core.node.changes._queues
        await until(lambda: queue._filter is not None and len(queue._filter.namespaces) == 0)
        await append(core.store)
        assert (await socket.hear())["collection"] == "events"


@on_sqlite
async def test_bad_frames_end_the_socket(gateway: Gateway) -> None:
    for frame, code in {
        "junk": "FF10176: Invalid data: ",
        '{"type":"ack"}': "FF10176: Invalid data: FF10177",
        '{"type":"start","collections":["messages","nonsense"]}': "FF10176: Invalid data: FF19002",
        '{"type":"start","collections":["messages"],"filter":{"types":["made"]}}': (
            "FF10176: Invalid data: FF19002"
        ),
        '{"type":"start","collections":7}': "FF10176: Invalid data: FF19002",
    }.items():
        async with socket_of(gateway) as socket:
            await socket.raw.send_str(frame)
            refused = await socket.hear()
            assert refused["type"] == "protocol_error"
            assert refused["error"].startswith(code), refused
            assert await socket.closed() == POLICY_VIOLATION


@on_sqlite
async def test_a_client_that_leaves_is_forgotten(core: Core, gateway: Gateway) -> None:
    async with socket_of(gateway) as socket:
        await socket.start("events")
        await listening(core)
    await until(lambda: not core.node.changes._queues)
    async with core.store.write(ALPHA) as tx:
        assert tx.noted is None  # type: ignore[attr-defined]  # the adapter's own


@on_sqlite
async def test_a_replica_that_is_drained_sends_its_clients_elsewhere(
    core: Core, gateway: Gateway
) -> None:
    async with socket_of(gateway) as socket:
        await socket.start("events")
        await listening(core)
        await core.server.drain()
        assert await socket.closed() == TRY_AGAIN


async def test_a_slow_reader_is_told_what_it_lost(tmp_path: Path) -> None:
    """More is written than any buffer between core and client holds, while the client reads nothing."""
    store = await SqliteStore.open(tmp_path / "core.db")
    try:
        async with core_up(store, limits=ChangeLimits(100)) as core, core.calls() as calls:
            stream = calls.WatchChanges()
            start = change_pb2.ChangeStart(collections=["events"])
            await stream.write(pb.WatchChangesRequest(start=start))
            assert (await stream.read()).WhichOneof("frame") == "started"
            (queue,) = core.node.changes._queues
            written = 0
            while queue._dropped is None:
                async with store.write(ALPHA) as tx:
                    tx.append_events([make_event() for _ in range(1000)])
                written += 1000
                assert written < 1_000_000, "the client's queue is not bounded"
                await asyncio.sleep(0)
            assert len(queue._waiting) <= 100
            told = lost = 0
            while told + lost < written:
                change = (await stream.read()).change
                if change.type == "dropped":
                    lost += change.dropped_count
                    assert change.dropped_since.seconds > 0
                else:
                    told += 1
            assert lost > 0
            # It goes on from here.
            after = await append(store)
            assert (await stream.read()).change.id == after
            stream.cancel()
    finally:
        await store.aclose()


async def test_a_client_of_one_replica_hears_what_another_one_commits(
    postgres_url: str, program: Path
) -> None:
    """The gateway knows one replica only; the other one writes."""
    async with AsyncExitStack() as stack:
        cores = []
        for _ in range(2):
            store = await PostgresStore.open(PostgresSettings(postgres_url))
            stack.push_async_callback(store.aclose)
            await store.wait_listening()
            cores.append((store, await stack.enter_async_context(core_up(store))))
        (_, here), (there, _) = cores
        gateway = await stack.enter_async_context(gateway_up(program, here.address))
        socket = await stack.enter_async_context(socket_of(gateway))
        await socket.start("events", "subscriptions", namespaces=["beta"])
        await listening(here)
        await until(lambda: there.noted() is not None)
        await append(there, ALPHA)
        event = await append(there, BETA)
        assert await socket.hear() == {
            "collection": "events",
            "type": "created",
            "namespace": "beta",
            "id": event,
            "sequence": 1,
        }
        await socket.raw.close()
        await until(lambda: not here.node.changes._queues)


@on_sqlite
async def test_wrong_requests_of_typed_clients(core: Core) -> None:
    async with core.calls() as calls:
        stream = calls.WatchChanges()
        await stream.write(pb.WatchChangesRequest())
        assert (await stream.read()).protocol_error.error.startswith("FF10176")
        assert await stream.read() is grpc.aio.EOF
        request = pb.UpdateNodeOperationRequest(id=str(new_uuid()))
        with pytest.raises(grpc.aio.AioRpcError, match="FF10411"):
            await calls.UpdateNodeOperation(request, timeout=WAIT_S)
