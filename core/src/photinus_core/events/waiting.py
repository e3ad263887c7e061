"""Lets a request wait for its outcome (`confirm=true`), or for its reply, by watching the event log.

The log is in the database, so it does not matter which replica decides. One task per namespace
reads new events, once for all waiters; a waiter looks at the present state after it has registered,
so that an outcome just before is not missed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection
from typing import Final, Self

from photinus_core.model.errors import NotFound, Rejected, TimedOut, Unavailable
from photinus_core.model.events import Event, EventType
from photinus_core.model.ids import Namespace, Uuid
from photinus_core.model.messages import Message, MessageState, SystemTag
from photinus_core.model.network import Datatype, Identity
from photinus_core.model.query import AllOf, Condition, Operator, Query, SortKey
from photinus_core.ports.clock import Clock
from photinus_core.ports.store import Notification, Reader, Store, Table
from photinus_core.ports.tasks import Wake

log: Final = logging.getLogger(__name__)

EVENTS_PAGE: Final = 500
POLL_S: Final = 2.0
"""How often the log is looked at without a notification, while somebody waits."""
RETRY_S: Final = 0.5

_TYPES: Final = frozenset(
    {
        EventType.MESSAGE_CONFIRMED,
        EventType.MESSAGE_REJECTED,
        EventType.IDENTITY_CONFIRMED,
        EventType.IDENTITY_UPDATED,
        EventType.DATATYPE_CONFIRMED,
        EventType.BLOCKCHAIN_INVOKE_OP_SUCCEEDED,
        EventType.BLOCKCHAIN_INVOKE_OP_FAILED,
        EventType.BLOCKCHAIN_CONTRACT_DEPLOY_OP_SUCCEEDED,
        EventType.BLOCKCHAIN_CONTRACT_DEPLOY_OP_FAILED,
    }
)

_Waiters = dict[str, set[asyncio.Future[Event]]]
"""Who waits for events about an object, by its id, or for a reply to it (`_reply_to`)."""


class OutcomeWaiter:
    """Waits for outcomes in one namespace, on any replica."""

    def __init__(self, store: Store, namespace: Namespace, clock: Clock) -> None:
        self._store = store
        self._namespace = namespace
        self._clock = clock
        self._waiters: _Waiters = {}
        self._wake = Wake()

    async def run(self) -> None:
        """Reads the log for those who wait, until cancelled."""
        unsubscribe = self._store.subscribe(self._on_commit)
        try:
            after = await self._head()
            while True:
                await self._wake.wait(POLL_S)
                try:
                    after = await self._read(after)
                except Unavailable as failure:
                    log.warning("%s: cannot read events: %s", self._namespace, failure)
                    await asyncio.sleep(RETRY_S)
        finally:
            unsubscribe()

    async def wait_message(self, message: Uuid, timeout_s: float) -> Message:
        """Waits until a message is confirmed.

        Raises:
            Rejected: FF10269, it was rejected, with the reason; FF19405, it was cancelled.
            TimedOut: FF10260.
            NotFound: FF10143, there is no such message.
        """
        started = self._clock.monotonic_s()
        with _Registration(self._waiters, [message]) as arrived:
            while True:
                found = await self._message(message)
                if found is None:
                    raise NotFound("FF10143")
                if found.state is MessageState.CONFIRMED:
                    return found
                _raise_if_refused(found)
                await self._next(arrived, message, started, timeout_s)

    async def wait_messages(self, messages: Collection[Uuid], timeout_s: float) -> None:
        """Waits until all of some messages are confirmed. Raises as `wait_message`."""
        started = self._clock.monotonic_s()
        for message in messages:
            spent = self._clock.monotonic_s() - started
            await self.wait_message(message, max(0.0, timeout_s - spent))

    async def wait_reply(self, request: Uuid, timeout_s: float) -> Message:
        """Waits for the first confirmed message that names a message of ours as its `cid`.

        One that came before the call counts.

        Raises:
            Rejected: FF10269, our message was rejected; FF19405, it was cancelled.
            TimedOut: FF10260.
            NotFound: FF10143, there is no such message.
        """
        started = self._clock.monotonic_s()
        with _Registration(self._waiters, [request, _reply_to(request)]) as arrived:
            while True:
                async with self._store.read(self._namespace) as reader:
                    reply = await _first_reply(reader, request)
                    asked = (await reader.messages([request])).get(request)
                if reply is not None:
                    return reply
                if asked is None:
                    raise NotFound("FF10143")
                _raise_if_refused(asked)
                await self._next(arrived, request, started, timeout_s)

    async def wait_identity(
        self, did: str, messages: Collection[Uuid], timeout_s: float
    ) -> Identity:
        """Waits until an identity has taken effect, or been updated, through some messages.

        Raises:
            Rejected: FF10269, one of the messages was rejected.
            TimedOut: FF10260.
        """
        await self.wait_messages(messages, timeout_s)
        async with self._store.read(self._namespace) as reader:
            identity = await reader.identity_by_did(did)
        # Messages and identity are committed together: what is not here now took no effect.
        if identity is None:
            raise NotFound("FF10143")
        told = {identity.claim, identity.verification, identity.update}
        if messages and not told.intersection(messages):
            raise Rejected("FF10407", "identity claim", did, identity.base.id)
        return identity

    async def wait_datatype(
        self, name: str, version: str, message: Uuid, timeout_s: float
    ) -> Datatype:
        """Waits until a datatype is confirmed. Raises as `wait_message`."""
        await self.wait_message(message, timeout_s)
        async with self._store.read(self._namespace) as reader:
            datatype = await reader.datatype(name, version)
        if datatype is None:
            raise NotFound("FF10143")
        return datatype

    async def wait_event(
        self, reference: Uuid, kinds: Collection[EventType], timeout_s: float
    ) -> Event:
        """Waits for the next event of some types about an object.

        Only events after the call count: for outcomes that leave no state to look at.

        Raises:
            TimedOut: FF10260.
        """
        started = self._clock.monotonic_s()
        with _Registration(self._waiters, [reference]) as arrived:
            while True:
                event = await self._next(arrived, reference, started, timeout_s)
                if event is not None and event.type in kinds:
                    return event

    async def _next(
        self, arrived: _Registration, about: Uuid, started: float, timeout_s: float
    ) -> Event | None:
        """Waits for the next event; every `POLL_S` without one, so that the state is looked at."""
        spent = self._clock.monotonic_s() - started
        left = timeout_s - spent
        if left <= 0:
            raise TimedOut("FF10260", about, spent * 1000)
        return await arrived.next(min(left, POLL_S))

    async def _message(self, message: Uuid) -> Message | None:
        async with self._store.read(self._namespace) as reader:
            return (await reader.messages([message])).get(message)

    async def _head(self) -> int:
        async with self._store.read(self._namespace) as reader:
            return await reader.last_event_sequence()

    async def _read(self, after: int) -> int:
        while True:
            async with self._store.read(self._namespace) as reader:
                if not self._waiters:
                    return await reader.last_event_sequence()
                page = await reader.events_after(after, EVENTS_PAGE)
            for event in page:
                if event.type not in _TYPES:
                    continue
                self._tell(event.reference, event)
                if event.correlator is not None:
                    self._tell(_reply_to(event.correlator), event)
            if page:
                after = page[-1].sequence
            if len(page) < EVENTS_PAGE:
                return after

    def _tell(self, key: str, event: Event) -> None:
        for future in self._waiters.get(key, ()):
            if not future.done():
                future.set_result(event)

    def _on_commit(self, notification: Notification) -> None:
        namespace, topic, _ = notification
        if namespace == self._namespace and topic == "events" and self._waiters:
            self._wake.set()


class _Registration:
    """One waiter's place in the table."""

    def __init__(self, waiters: _Waiters, references: Collection[str]) -> None:
        self._waiters = waiters
        self._references = tuple(references)
        self._future: asyncio.Future[Event] = asyncio.get_running_loop().create_future()

    def __enter__(self) -> Self:
        self._enter()
        return self

    def __exit__(self, *_: object) -> None:
        self._leave()

    async def next(self, timeout_s: float) -> Event | None:
        """Waits for an event; None when the time was up."""
        try:
            async with asyncio.timeout(timeout_s):
                event = await asyncio.shield(self._future)
        except TimeoutError:
            return None
        self._leave()
        self._future = asyncio.get_running_loop().create_future()
        self._enter()
        return event

    def _enter(self) -> None:
        for reference in self._references:
            self._waiters.setdefault(reference, set()).add(self._future)

    def _leave(self) -> None:
        for reference in self._references:
            waiting = self._waiters.get(reference)
            if waiting is not None:
                waiting.discard(self._future)
                if not waiting:
                    del self._waiters[reference]


def _reply_to(request: Uuid) -> str:
    return f"reply to {request}"


async def _first_reply(reader: Reader, request: Uuid) -> Message | None:
    replies = Query(
        Table.MESSAGES,
        AllOf(
            (
                Condition("cid", Operator.EQUAL, request),
                Condition("state", Operator.EQUAL, MessageState.CONFIRMED.value),
                # It stands for the message that it names, and answers nothing.
                Condition("tag", Operator.EQUAL, SystemTag.GAP_FILL.value, negated=True),
            )
        ),
        sort=(SortKey("confirmed"),),
        limit=1,
    )
    page = await reader.query(Table.MESSAGES, replies)
    return page.items[0] if page.items else None


def _raise_if_refused(message: Message) -> None:
    if message.state is MessageState.REJECTED:
        raise Rejected("FF10269", message.header.id, message.reject_reason)
    if message.state is MessageState.CANCELLED:
        raise Rejected("FF19405", message.header.id)
