"""The demonstration from beginning to end: the network, the story, and how both are told."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final

import aiohttp
from photinus_client import Client, PhotinusError

from photinus_core.app.demo.files import CATALOGUE, CONTRACT, DemoFile
from photinus_core.app.demo.grpc_side import GrpcSide
from photinus_core.app.demo.rest_side import RestSide
from photinus_core.app.demo.side import DemoError, Entry
from photinus_core.app.devnet.network import Network

MEMBERS: Final = 2
STORY_S: Final = 240.0
ANSWER_S: Final = 60.0

Tell = Callable[[str], None]
"""Prints one line."""
Sending = Coroutine[Any, Any, str]
"""Sends a message and gives its id."""

WHAT_NEXT: Final = """\
What next

  make up         starts such a network and leaves it running; then, in another terminal:

  curl -s http://127.0.0.1:5000/api/v1/status
  curl -s 'http://127.0.0.1:5000/api/v1/messages/broadcast?confirm=true' \\
       -H 'Content-Type: application/json' -d '{"data": [{"value": "hello"}]}'
  curl -s 'http://127.0.0.1:5100/api/v1/messages?limit=1&fetchdata=true'

  http://127.0.0.1:5000/api explores the API in a browser; README.md goes on from here."""


async def run_demo(directory: Path | None, tell: Tell) -> int:
    """Runs the demonstration on a network of its own, and ends that.

    Args:
        directory: Where the network is kept; None keeps nothing.
        tell: Prints one line.

    Returns:
        0.

    Raises:
        DemoError: something of the story went wrong.
        StartError: the network did not start.
    """
    began = time.monotonic()
    tell("Two organisations agree on a document, on a network that is made for it now.")
    tell("")
    async with AsyncExitStack() as stack:
        if directory is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="photinus-demo-")))
        else:
            folder = directory
        say = _progress(tell)
        network = await stack.enter_async_context(Network(folder, MEMBERS, fresh=False, say=say))
        tell(f"  the network is up after {time.monotonic() - began:.1f} s")
        tell("")
        await _play(network, tell)
    tell(f"Done in {time.monotonic() - began:.1f} s; nothing is left running.")
    if directory is not None:
        tell(f"`photinus up --dir {directory}` goes on with this network.")
    tell("")
    tell(WHAT_NEXT)
    return 0


def _progress(tell: Tell) -> Callable[[str], None]:
    """Tells how the network starts and ends; its registrations in one line."""
    told: set[str] = set()

    def say(text: str) -> None:
        line = "registering organisations and nodes" if text.startswith("registering") else text
        if line not in told:
            told.add(line)
            tell(f"  · {line}")

    return say


async def _play(network: Network, tell: Tell) -> None:
    first, second = network.members
    try:
        async with (
            asyncio.timeout(STORY_S),
            Client(first.grpc_address) as client,
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(sock_read=ANSWER_S)) as http,
            asyncio.TaskGroup() as group,
        ):
            tell(f"  {first.org} sells; it speaks gRPC                    {first.grpc_address}")
            tell(f"  {second.org} buys; it speaks REST and WebSocket       {second.url}/api/v1")
            tell("")
            seller = GrpcSide(first.org, client)
            buyer = RestSide(second.org, second.url, http)
            watching = [group.create_task(_end_with(network))]
            for side in (seller, buyer):
                listening = asyncio.Event()
                watching.append(group.create_task(side.listen(listening)))
                await listening.wait()
            await Story(seller, buyer, tell).tell_all()
            for task in watching:
                task.cancel()
    except TimeoutError:
        raise DemoError(f"it did not end within {STORY_S:.0f} s") from None
    except ExceptionGroup as failures:
        raise _understood(failures) from failures


async def _end_with(network: Network) -> None:
    """Fails when a process of the network ends before the story does."""
    ended = await network.first_to_end()
    raise DemoError(f"{ended.name} has ended")


def _understood(failures: ExceptionGroup[Exception]) -> Exception:
    """What to tell of several failures: the first one that is expected to happen to somebody."""
    expected, others = failures.split((DemoError, PhotinusError, aiohttp.ClientError))
    if expected is None or others is not None:
        return failures
    first: BaseException = expected
    while isinstance(first, BaseExceptionGroup):
        first = first.exceptions[0]
    return DemoError(str(first) or type(first).__name__)


class Story:
    """What the two organisations do, one step after the other."""

    def __init__(self, seller: GrpcSide, buyer: RestSide, tell: Tell) -> None:
        self._seller = seller
        self._buyer = buyer
        self._tell = tell
        self._steps = 0

    async def tell_all(self) -> None:
        """Plays the story. DemoError when its two sides do not see the same."""
        seller, buyer = self._seller, self._buyer
        await self._publish()
        contract, group = await self._offer()
        self._step(f"{buyer.org} answers the contract", "private")
        value = {"accepted": True, "place": "Rotterdam"}
        await self._sent(buyer.answer("answer", contract, group, value))
        self._step("both sign in the same moment", "private")
        async with asyncio.TaskGroup() as tasks:
            for side in (seller, buyer):
                signature = side.answer("signature", contract, group, {"signed": side.org})
                tasks.create_task(self._sent(signature, side.org))
        self._tell("")
        await self._compare()

    async def _publish(self) -> None:
        self._step(f"{self._seller.org} publishes its catalogue", "broadcast")
        data_id, digest = await self._upload(CATALOGUE, "Catalogue of this year")
        message_id = await self._sent(self._seller.broadcast("catalogue", data_id))
        await self._read(CATALOGUE, message_id, digest)

    async def _offer(self) -> tuple[str, str]:
        self._step(f"{self._seller.org} sends {self._buyer.org} a contract", "private")
        data_id, digest = await self._upload(CONTRACT, "Contract 4711")
        began = time.monotonic()
        message_id, group = await self._seller.send_file("contract", data_id, self._buyer.org)
        await self._heard(message_id, began, "message")
        await self._read(CONTRACT, message_id, digest)
        return message_id, group

    async def _upload(self, file: DemoFile, title: str) -> tuple[str, str]:
        began = time.monotonic()
        data_id, digest = await self._seller.upload(file, title)
        self._line("file", f"{_megabytes(file.size)}, sha256 {_short(digest)}", "uploaded", began)
        return data_id, digest

    async def _sent(self, sending: Sending, label: str = "message") -> str:
        began = time.monotonic()
        message_id = await sending
        await self._heard(message_id, began, label)
        return message_id

    async def _heard(self, message_id: str, began: float, label: str) -> None:
        for side in (self._seller, self._buyer):
            await side.inbox.wait(message_id)
        self._line(label, message_id, "confirmed by both", began)

    async def _read(self, file: DemoFile, message_id: str, digest: str) -> None:
        began = time.monotonic()
        received = await self._buyer.receive(message_id)
        if received.sha256 != digest or received.size != file.size:
            raise DemoError(f"{self._buyer.org} read another {file.name} than was sent")
        text = f"{_megabytes(received.size)}, sha256 {_short(received.sha256)}"
        self._line(self._buyer.org, text, "read and verified", began)

    async def _compare(self) -> None:
        seen = []
        for side, way in ((self._seller, "gRPC"), (self._buyer, "WebSocket")):
            entries = [await side.entry(message_id) for message_id in side.inbox.ids]
            self._tell(f"What {side.org} was told by {way}, in order")
            self._table(entries)
            self._tell("")
            seen.append(entries)
        if seen[0] != seen[1]:
            raise DemoError("the two members do not see the same")
        self._tell("Both see the same messages, hashes, pins and transactions in the same order.")

    def _step(self, what: str, kind: str) -> None:
        self._steps += 1
        self._tell(f"{self._steps}  {what:<60} {kind:>26}")

    def _line(self, label: str, what: str, done: str, began: float) -> None:
        self._tell(f"   {label:<9} {what:<48} {done:>18} {time.monotonic() - began:6.2f} s")

    def _table(self, entries: Sequence[Entry]) -> None:
        self._tell(
            "   message    by     id             hash           pin            block  transaction"
        )
        for entry in entries:
            self._tell(
                f"   {entry.tag:<10} {entry.author:<6} {_short(entry.id)}  {_short(entry.hash)}  "
                f"{_short(entry.pin)}  {entry.block:>5}  {_short(entry.transaction)}"
            )


def _short(text: str) -> str:
    """Enough of an id or a hash to tell it from others."""
    return f"{text[:8]}…{text[-4:]}"


def _megabytes(size: int) -> str:
    return f"{size / 1_000_000:.0f} MB"
