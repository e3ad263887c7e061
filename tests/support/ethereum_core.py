"""Plays the core towards an ethereum connector: submissions, and a stream that is read and acked."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
from photinus.connector.v1 import blockchain_pb2 as blockchain
from photinus.connector.v1 import common_pb2 as common
from photinus.connector.v1 import event_pb2 as events
from photinus_sdk import StreamKey

from tests.support.chains import DEV_ADDRESSES, DEV_KEYS, Chain
from tests.support.wire import Wire

STREAM = StreamKey("cluster-1", "ns1", "core")
WAIT_S = 30.0


def settings(chain: Chain, **changes: Any) -> dict[str, Any]:
    """A configuration for a development chain, with two keys."""
    return {
        "rpc": {"url": chain.url, "wsUrl": chain.ws_url},
        "confirmations": 0,
        "keys": [{"privateKey": key} for key in DEV_KEYS[:2]],
        **changes,
    }


def location(address: str) -> str:
    return json.dumps({"address": address})


def mutation(key: str, epoch: int = 0) -> common.MutationContext:
    return common.MutationContext(idempotency_key=key, stream=STREAM.to_ref(), owner_epoch=epoch)


def pin_request(key: str, contract: str, **changes: Any) -> blockchain.SubmitBatchPinRequest:
    """A pin with random content, always the same for a key."""
    seed = uuid.uuid5(uuid.NAMESPACE_OID, key)
    pin = blockchain.BatchPin(
        transaction_uuid=str(seed),
        batch_id=str(uuid.uuid5(seed, "batch")),
        batch_hash=(seed.bytes * 2).hex(),
        payload_ref="Qm" + "x" * 44,
        contexts=[(seed.bytes[::-1] * 2).hex()],
    )
    fields: dict[str, Any] = {
        "context": mutation(key, 1),
        "network_namespace": "net1",
        "signing_key": DEV_ADDRESSES[0],
        "pin": pin,
        "location_json": location(contract),
    }
    return blockchain.SubmitBatchPinRequest(**(fields | changes))


class Core:
    """What arrived on a stream, acked as it arrives."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.events: list[events.Event] = []
        self.updates: dict[str, events.OperationUpdate] = {}
        self.checkpoints: dict[str, bytes] = {}
        self.final_blocks: dict[str, int] = {}
        self.errors: list[events.StreamResponse] = []
        self.told = asyncio.Event()

    @asynccontextmanager
    async def listening(self, *listeners: events.Listener, epoch: int = 1) -> AsyncIterator[Core]:
        """Opens the stream with these listeners, from the checkpoints of last time."""
        stream = self.wire.stream()
        for listener in listeners:
            listener.resume = self.checkpoints.get(listener.id, b"")
        await stream.open(
            STREAM, *listeners, epoch=epoch, window_batches=64, window_bytes=8 << 20, batch_size=100
        )
        reading = asyncio.create_task(self._read(stream))
        try:
            yield self
        finally:
            reading.cancel()
            await asyncio.wait([reading])
            stream.call.cancel()

    async def _read(self, stream: Any) -> None:
        while (frame := await stream.read()) is not None:
            match frame.WhichOneof("frame"):
                case "batch":
                    self._take(frame.batch)
                    await stream.ack(frame.batch.seq)
                case "progress":
                    self.checkpoints.update(frame.progress.checkpoints)
                    self.final_blocks.update(frame.progress.final_blocks)
                case _:
                    self.errors.append(frame)
            self.told.set()

    def _take(self, batch: events.Batch) -> None:
        self.checkpoints.update(batch.checkpoints)
        for event in batch.events:
            if event.WhichOneof("body") == "operation_update":
                update = event.operation_update
                known = self.updates.setdefault(update.idempotency_key, update)
                assert known == update, "two ends of one key"
            else:
                self.events.append(event)

    async def until(self, done: Callable[[], bool], what: str = "the expected event") -> None:
        """Waits for what a frame brings."""
        try:
            async with asyncio.timeout(WAIT_S):
                while not done():
                    self.told.clear()
                    await self.told.wait()
        except TimeoutError:
            raise AssertionError(f"{what} did not come") from None

    async def ended(self, key: str) -> events.OperationUpdate:
        await self.until(lambda: key in self.updates, f"the end of {key}")
        return self.updates[key]

    def pins(self) -> list[str]:
        """Batch hashes of pins, in order, without those taken back."""
        found: dict[str, str] = {}
        for event in self.events:
            if event.WhichOneof("body") == "batch_pin":
                if event.removed:
                    del found[event.id]
                else:
                    found[event.id] = event.batch_pin.batch_hash
        return list(found.values())

    async def pin(self, key: str, contract: str, **changes: Any) -> common.Submission:
        request = pin_request(key, contract, **changes)
        answer = await self.wire.call(self.wire.blockchain.SubmitBatchPin, request)
        submission: common.Submission = answer.submission
        return submission


def multiparty(contract: str, listener_id: str = "pins", **fields: Any) -> events.Listener:
    return events.Listener(
        id=listener_id,
        multiparty=events.MultipartyFilter(
            location_json=location(contract), version=fields.pop("version", 2)
        ),
        **fields,
    )


def pin_hash(key: str, contract: str) -> str:
    return pin_request(key, contract).pin.batch_hash


def code_of(error: grpc.aio.AioRpcError) -> grpc.StatusCode:
    code: grpc.StatusCode = error.code()
    return code
