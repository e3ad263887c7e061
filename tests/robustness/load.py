"""Open-loop load: messages begin when they are due, whatever becomes of the earlier ones.

A client whose answer is unclear tries again with the same idempotency key, as any client may; it goes on
until it is told yes or no. Every attempt becomes a record.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import random
import re
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import aiohttp
import grpc
from photinus.api.v1 import data_pb2, message_pb2, message_service_pb2
from photinus_client import Client, PhotinusError

from tests.robustness.records import Call, History, Kind, Outcome, Trouble

TAG_PREFIX: Final = "load-"
TOPICS: Final = ("north", "south", "east")
GROUPS: Final = ("", "second")
"""Names of the private groups; both have all members."""
ANSWER_S: Final = 10.0
RETRY_FIRST_S: Final = 0.2
RETRY_MAX_S: Final = 3.0
SHARE_PRIVATE: Final = 0.5
SHARE_BLOB: Final = 0.2
SHARE_TWO_TOPICS: Final = 0.2
BLOB_BYTES_MAX: Final = 40_000
_JSON: Final = {"Content-Type": "application/json"}
_TAKEN: Final = re.compile(r"FF10430: .* already used for message '([0-9a-f-]{36})'")
_NOT_STARTED: Final = "FF10441"
"""The namespace is starting: nothing was done, and later it will be."""
_RETRY_STATUS: Final = frozenset({408, 429, 500, 502, 503, 504})
_RETRY_CODES: Final = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.ABORTED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNKNOWN,
    }
)


@dataclass(frozen=True, slots=True)
class Order:
    """What a client wants to send.

    Attributes:
        topics: One or two.
        group: Name of the private group; empty for the one without a name, and for broadcasts.
    """

    op: str
    kind: Kind
    topics: tuple[str, ...]
    group: str
    value: Any
    blob: bytes

    @property
    def value_digest(self) -> str:
        """The hash of the value, which deliveries carry."""
        return hashlib.sha256(compact(self.value).encode()).hexdigest()

    @property
    def blob_digest(self) -> str:
        """SHA-256 of the blob; empty for none."""
        return hashlib.sha256(self.blob).hexdigest() if self.blob else ""


class AnswerError(Exception):
    """No success: `unclear` or `refused`."""

    def __init__(self, outcome: Outcome, text: str) -> None:
        super().__init__(text)
        self.outcome = outcome


class Sender(Protocol):
    """One way to reach a member."""

    name: str
    member: int

    async def upload(self, content: bytes) -> str:
        """Stores a blob; gives the id of its data. Raises AnswerError."""

    async def send(self, order: Order, data: Sequence[str]) -> str:
        """Sends a message with data uploaded before; gives its id. Raises AnswerError."""

    async def aclose(self) -> None:
        """Closes the connections."""


def compact(value: Any) -> str:
    """JSON as it is hashed."""
    return json.dumps(value, separators=(",", ":"))


class GrpcSender:
    """Sends by gRPC.

    Args:
        name: Name of the client.
        member: Where it sends.
        addresses: The member's cores; after a failure the next one is asked.
        orgs: Names of all members of the private groups.
    """

    def __init__(
        self, name: str, member: int, addresses: Sequence[str], orgs: Sequence[str]
    ) -> None:
        self.name = name
        self.member = member
        self._orgs = orgs
        self._clients = [Client(address) for address in addresses]
        self._failures = 0

    @property
    def _client(self) -> Client:
        return self._clients[self._failures % len(self._clients)]

    async def upload(self, content: bytes) -> str:
        async def pieces() -> AsyncIterator[bytes]:
            yield content

        with self._translated():
            async with asyncio.timeout(ANSWER_S):
                return (await self._client.upload(pieces())).id

    async def send(self, order: Order, data: Sequence[str]) -> str:
        message = message_pb2.MessageInput(
            header=message_pb2.MessageHeaderInput(topics=order.topics, tag=order.op),
            data=[data_pb2.DataRefOrValue(value=compact(order.value))],
            idempotency_key=order.op,
        )
        message.data.extend(data_pb2.DataRefOrValue(id=each) for each in data)
        try:
            with self._translated():
                if order.kind == "broadcast":
                    sent = await self._client.messages.BroadcastMessage(
                        message_service_pb2.BroadcastMessageRequest(message=message),
                        timeout=ANSWER_S,
                    )
                    return sent.message.header.id
                message.group.name = order.group
                message.group.members.extend(
                    message_pb2.MemberInput(identity=org) for org in self._orgs
                )
                answer = await self._client.messages.SendPrivateMessage(
                    message_service_pb2.SendPrivateMessageRequest(message=message),
                    timeout=ANSWER_S,
                )
                return answer.message.header.id
        except AnswerError as failure:
            return _taken(failure)

    async def aclose(self) -> None:
        for client in self._clients:
            await client.aclose()

    @contextlib.contextmanager
    def _translated(self) -> Any:
        try:
            yield
        except TimeoutError:
            self._failures += 1
            raise AnswerError("unclear", "no answer in time") from None
        except PhotinusError as failure:
            self._failures += 1
            again = failure.grpc_status in _RETRY_CODES or failure.code == _NOT_STARTED
            outcome: Outcome = "unclear" if again else "refused"
            text = f"{failure.grpc_status.name} {failure}"
            raise AnswerError(outcome, text) from failure


class RestSender:
    """Sends by REST.

    Args:
        name: Name of the client.
        member: Where it sends.
        urls: Its gateways; after a failure the next one is asked.
        orgs: Names of all members of the private groups.
    """

    def __init__(self, name: str, member: int, urls: Sequence[str], orgs: Sequence[str]) -> None:
        self.name = name
        self.member = member
        self._urls = urls
        self._failures = 0
        self._orgs = orgs
        self._http = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=ANSWER_S))

    async def upload(self, content: bytes) -> str:
        form = aiohttp.FormData()
        form.add_field("file", content, filename="load.bin")
        answer = await self._post("/data", data=form)
        return str(answer["id"])

    async def send(self, order: Order, data: Sequence[str]) -> str:
        body: dict[str, Any] = {
            "header": {"topics": list(order.topics), "tag": order.op},
            "data": [{"value": order.value}, *({"id": each} for each in data)],
            "idempotencyKey": order.op,
        }
        if order.kind == "private":
            body["group"] = {"members": [{"identity": org} for org in self._orgs]}
            if order.group:
                body["group"]["name"] = order.group
        try:
            answer = await self._post(f"/messages/{order.kind}", data=compact(body), headers=_JSON)
        except AnswerError as failure:
            return _taken(failure)
        return str(answer["header"]["id"])

    async def aclose(self) -> None:
        await self._http.close()

    async def _post(self, path: str, **content: Any) -> Any:
        url = self._urls[self._failures % len(self._urls)]
        try:
            async with self._http.post(f"{url}/api/v1{path}", **content) as answer:
                text = await answer.text()
                if answer.status < 300:
                    return json.loads(text)
                self._failures += 1
                again = answer.status in _RETRY_STATUS or _NOT_STARTED in text
                outcome: Outcome = "unclear" if again else "refused"
                raise AnswerError(outcome, f"{answer.status} {text.strip()}")
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as failure:
            self._failures += 1
            raise AnswerError("unclear", f"{type(failure).__name__} {failure}") from failure


def _taken(failure: AnswerError) -> str:
    """The message that has the key already: an earlier attempt was heard. Raises the failure otherwise."""
    found = _TAKEN.search(str(failure))
    if found is None:
        raise failure
    return found[1]


class Load:
    """Sends messages at a rate until it is told to stop.

    Args:
        senders: All clients.
        history: Where attempts are recorded.
        rate: Messages begun in a second, by all clients together.
        chance: Decides what is sent, and by whom.
    """

    def __init__(
        self, senders: Sequence[Sender], history: History, rate: float, chance: random.Random
    ) -> None:
        self._senders = senders
        self._history = history
        self._rate = rate
        self._chance = chance
        self._begun = 0
        self._wanted = asyncio.Event()
        self.open: dict[str, float] = {}
        """Operations without a final answer, with the time of their first call."""

    def stop(self) -> None:
        """Begins nothing new; what was begun goes on."""
        self._wanted.set()

    async def run(self) -> None:
        """Returns when it was stopped and every operation has its answer."""
        began = time.monotonic()
        async with asyncio.TaskGroup() as group:
            while not self._wanted.is_set():
                self._begun += 1
                group.create_task(self._one(*self._next()))
                due = began + self._begun / self._rate
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(max(0.0, due - time.monotonic())):
                        await self._wanted.wait()

    def _next(self) -> tuple[Sender, Order]:
        chance = self._chance
        sender = chance.choice(self._senders)
        private = chance.random() < SHARE_PRIVATE
        number = 2 if chance.random() < SHARE_TWO_TOPICS else 1
        size = chance.randrange(1, BLOB_BYTES_MAX) if chance.random() < SHARE_BLOB else 0
        op = f"{TAG_PREFIX}{sender.name}-{self._begun}"
        return sender, Order(
            op=op,
            kind="private" if private else "broadcast",
            topics=tuple(chance.sample(TOPICS, number)),
            group=chance.choice(GROUPS) if private else "",
            value={"op": op, "padding": "x" * chance.randrange(500)},
            blob=chance.randbytes(size),
        )

    async def _one(self, sender: Sender, order: Order) -> None:
        self.open[order.op] = time.monotonic()
        data: list[str] = []
        pause_s = RETRY_FIRST_S
        attempt = 0
        while True:
            try:
                if order.blob and not data:
                    data = [await sender.upload(order.blob)]
            except AnswerError as failure:
                if failure.outcome == "refused":
                    self._record(sender, order, attempt + 1, time.monotonic(), failure)
                    break
                text = f"upload of {order.op}: {failure}"
                self._history.add(Trouble(time.monotonic(), sender.name, text))
            else:
                attempt += 1
                if await self._attempt(sender, order, data, attempt):
                    break
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, RETRY_MAX_S)
        del self.open[order.op]

    async def _attempt(
        self, sender: Sender, order: Order, data: Sequence[str], attempt: int
    ) -> bool:
        """One try; True when its answer is final."""
        called = time.monotonic()
        try:
            message = await sender.send(order, data)
        except AnswerError as failure:
            self._record(sender, order, attempt, called, failure)
            return failure.outcome == "refused"
        self._record(sender, order, attempt, called, message)
        return True

    def _record(
        self, sender: Sender, order: Order, attempt: int, called: float, result: str | AnswerError
    ) -> None:
        failed = isinstance(result, AnswerError)
        self._history.add(
            Call(
                op=order.op,
                client=sender.name,
                member=sender.member,
                kind=order.kind,
                topics=order.topics,
                group=order.group,
                value=order.value_digest,
                blob=order.blob_digest,
                attempt=attempt,
                called=called,
                returned=time.monotonic(),
                outcome=result.outcome if isinstance(result, AnswerError) else "acked",
                message="" if failed else str(result),
                error=str(result) if failed else "",
            )
        )
