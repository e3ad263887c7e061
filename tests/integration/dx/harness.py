"""Members for the data exchange's tests: an exchange in this process, and what a core does with it."""

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
from photinus.connector.v1 import common_pb2 as common
from photinus.connector.v1 import event_pb2 as events
from photinus_dx.exchange import Exchange
from photinus_dx.model import Dispatch, Peer, Received
from photinus_dx.schema import SCHEMA
from photinus_dx.settings import Settings
from photinus_sdk import SqliteJournal, StreamKey

WAIT_S = 20.0
NETWORK = "net1"
QUICK: dict[str, object] = {
    "backoffInitialS": 0.02,
    "backoffMaxS": 0.2,
    "connectTimeoutS": 2.0,
    "requestTimeoutS": 5.0,
}


def settings(
    delivery: dict[str, Any] | None = None, limits: dict[str, Any] | None = None, **rest: Any
) -> Settings:
    """Settings with short pauses, as the core would give them."""
    document = {"delivery": QUICK | (delivery or {}), "limits": limits or {}} | rest
    return msgspec.convert(document, Settings)


def wrapper(text: str, network: str = NETWORK, padding: int = 0) -> str:
    """A message in FireFly's transport wrapper."""
    batch = {"id": str(uuid.uuid4()), "namespace": network, "payload": {"text": text}}
    return json.dumps({"batch": batch | ({"padding": "x" * padding} if padding else {})})


def text_of(message: str) -> str:
    """What `wrapper` was given."""
    return str(json.loads(message)["batch"]["payload"]["text"])


def moved(document: str, port: int) -> str:
    fields = msgspec.json.decode(document)
    return msgspec.json.encode(fields | {"endpoint": f"https://127.0.0.1:{port}"}).decode()


async def until(condition: Callable[[], bool | Awaitable[bool]], limit_s: float = WAIT_S) -> None:
    """Wait for a condition, looking often."""
    async with asyncio.timeout(limit_s):
        while True:
            found = condition()
            if found if isinstance(found, bool) else await found:
                return
            await asyncio.sleep(0.01)


class Side:
    """A member: its exchange, and a small core that takes what arrives for one node.

    Attributes:
        received: what arrived, in order.
        taking: while clear, the core does not store what arrives.
    """

    def __init__(self, name: str, node: str, exchange: Exchange, journal: SqliteJournal) -> None:
        self.name, self.node = name, node
        self.exchange, self.journal = exchange, journal
        self.stream = StreamKey(f"cluster-{name}", "default", "core")
        self.received: list[Received] = []
        self.taking = asyncio.Event()
        self.taking.set()
        self.reachable: list[tuple[str, bool]] = []

    @property
    def id(self) -> str:
        return self.exchange.endpoint(self.node).peer_id

    @property
    def document(self) -> str:
        return self.exchange.endpoint(self.node).peer_json

    async def know(self, other: "Side | str", network: str = NETWORK) -> None:
        document = other if isinstance(other, str) else other.document
        await self.exchange.add_peer(self.stream, network, document)

    async def send(self, recipient: "Side | str", message: str, key: str = "") -> str:
        to, by = self._ends(recipient)
        return await self.exchange.send(
            self.stream, key or self.next_key(), Dispatch(to, by, message=message)
        )

    async def send_blob(
        self, recipient: "Side | str", payload_ref: str, data_id: str, key: str = ""
    ) -> str:
        to, by = self._ends(recipient)
        dispatch = Dispatch(to, by, network=NETWORK, data_id=data_id, payload_ref=payload_ref)
        return await self.exchange.send(self.stream, key or self.next_key(), dispatch)

    async def upload(self, content: bytes, data_id: str = "") -> tuple[str, str]:
        """Store a blob; its reference and data id."""
        data_id = data_id or str(uuid.uuid4())

        async def chunks() -> AsyncIterator[bytes]:
            for start in range(0, len(content), 1 << 20):
                yield content[start : start + (1 << 20)]

        blob = await self.exchange.upload_blob(self.stream, data_id, chunks())
        return blob.payload_ref, data_id

    async def blob(self, payload_ref: str) -> bytes:
        found = await self.exchange.find_blob(payload_ref)
        return b"".join([chunk async for chunk in self.exchange.read_blob(found, 0)])

    async def take(self, network: str = NETWORK) -> None:
        """Be the core: store what arrives, and say so with a manifest."""
        async for rows in self.exchange.receive(network, self.node, 100, 1 << 20):
            await self.taking.wait()
            self.received += rows
            await self.exchange.stored_by_core(
                {self.exchange.event_id(row): f"manifest of {row.seq}" for row in rows}
            )

    def texts(self) -> list[str]:
        return [text_of(row.message) for row in self.received if row.message]

    async def updates(self) -> list[events.OperationUpdate]:
        """Updates the core has not acked; it never does here."""
        return [stored.update for stored in await self.journal.updates(self.stream, 0, 10_000)]

    async def outcome(self, count: int) -> list[events.OperationUpdate]:
        """Wait for so many operations to end."""

        async def enough() -> bool:
            return len(await self.updates()) >= count

        await until(enough)
        return await self.updates()

    async def succeeded(self, count: int) -> list[events.OperationUpdate]:
        found = await self.outcome(count)
        assert {update.state for update in found} == {common.OPERATION_STATE_SUCCEEDED}, found
        return found

    def next_key(self) -> str:
        return f"default:{uuid.uuid4()}"

    def _ends(self, recipient: "Side | str") -> Any:
        to = recipient if isinstance(recipient, str) else recipient.id
        return self.exchange.check_ends(self.stream, to, self.id)


@asynccontextmanager
async def side(
    folder: Path, name: str, given: Settings | None = None, *, node: str = "", takes: bool = True
) -> AsyncIterator[Side]:
    """A running member; the same folder again is the same member after a restart."""
    folder.mkdir(parents=True, exist_ok=True)
    journal = SqliteJournal(folder / "journal.sqlite", schema=SCHEMA)
    await journal.open()
    made: list[Side] = []

    def reachable(peer: Peer, answers: bool, _why: str) -> None:
        made[0].reachable.append((peer.id.text, answers))

    given = msgspec.structs.replace(given or settings(), organization=name)
    exchange = Exchange(given, folder, journal, reachable)
    try:
        await exchange.start()
        made.append(Side(name, node or f"node-{name}", exchange, journal))
        async with asyncio.TaskGroup() as tasks:
            working = [tasks.create_task(exchange.run())]
            if takes:
                working.append(tasks.create_task(made[0].take()))
            try:
                yield made[0]
            finally:
                for task in working:
                    task.cancel()
    finally:
        await exchange.aclose()
        await journal.aclose()


@asynccontextmanager
async def pair(
    folder: Path, one: Settings | None = None, two: Settings | None = None
) -> AsyncIterator[tuple[Side, Side]]:
    """Two members that know each other."""
    async with side(folder / "a", "alice", one) as alice, side(folder / "b", "bob", two) as bob:
        await alice.know(bob)
        await bob.know(alice)
        yield alice, bob
