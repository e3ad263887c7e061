"""The connector's engine over the in-memory node, driven step by step: no sockets, no waiting for real time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from photinus.connector.v1 import event_pb2 as events
from photinus_ethereum.engine import Engine, Identity
from photinus_ethereum.journal import Journal
from photinus_ethereum.keys import KeyRing, from_hex, ring
from photinus_ethereum.rpc import Rpc
from photinus_ethereum.sender import Request
from photinus_ethereum.settings import EthereumSettings, FeesSettings, RpcSettings
from photinus_ethereum.transactions import Payload
from photinus_sdk import StreamKey

from tests.support.evm_node import CHAIN_ID

STREAM = StreamKey("c1", "ns1", "core")
KEY = "ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80"
WAIT_S = 10.0


def key_ring() -> KeyRing:
    return ring([from_hex(KEY)])


SIGNER = from_hex(KEY).address


@dataclass
class Rig:
    """An engine that runs, with its journal."""

    engine: Engine
    journal: Journal

    async def submit(self, key: str, data: bytes = b"\x01") -> str:
        """As the kit does it: the key first, then the author's method."""
        begun = await self.journal.begin(STREAM, key, "InvokeContract", data)
        if begun.operation is not None:
            return begun.operation.external_id
        return await self.engine.submit(request(key, data))

    async def updates(self) -> dict[str, events.OperationUpdate]:
        found = await self.journal.updates(STREAM, 0, 10_000)
        return {each.update.idempotency_key: each.update for each in found}


def request(key: str, data: bytes = b"\x01") -> Request:
    payload = Payload(bytes(20), 0, data, 0)
    return Request(STREAM.text, key, "InvokeContract", data, SIGNER, payload, shape=("test",))


@asynccontextmanager
async def rig(
    node: Rpc, path: Path, *, confirmations: int = 0, replace_after_s: float = 60.0
) -> AsyncIterator[Rig]:
    """Starts an engine on a journal file, as after a start of the process."""
    journal = Journal(path, retention_s=3600)
    await journal.open()
    settings = EthereumSettings(
        rpc=RpcSettings(url="http://unused", poll_s=0.01),
        confirmations=confirmations,
        fees=FeesSettings(replace_after_s=replace_after_s),
    )
    engine = Engine(node, Identity(CHAIN_ID, "0x0"), settings, journal, key_ring())
    running = asyncio.create_task(engine.run())
    try:
        yield Rig(engine, journal)
    finally:
        running.cancel()
        await asyncio.wait([running])
        await journal.aclose()


async def until(done: Callable[[], bool], what: str = "the condition") -> None:
    """Waits for a condition, stepping often."""
    try:
        async with asyncio.timeout(WAIT_S):
            while not done():
                await asyncio.sleep(0.005)
    except TimeoutError:
        raise AssertionError(f"{what} did not come true") from None
