"""Delivers events to applications: one task per started subscription and connection.

Decisions (window, batches, acks in any order, offset) are `sequencing.delivery`'s; here events are
read, filtered, enriched and handed to the transport. A slow transport holds up its own task and
nobody else's. Of several connections that started one durable subscription one is served, whatever
replica it is on; the others stand by (`turns`).

What is kept for a connection is the plain events of its window; the objects they refer to are read
again for those that are sent.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any, Final, TypeVar

from photinus_core.events.enrichment import EnrichedEvent, enrich
from photinus_core.events.filters import EventFilter, compile_filter
from photinus_core.events.offsets import OffsetWriter
from photinus_core.events.subscriptions import (
    SUBSCRIPTION_DEFAULTS,
    WEBSOCKETS,
    SubscriptionSettings,
    ephemeral,
    resolve_first_event,
)
from photinus_core.events.turns import SubscriptionTurns
from photinus_core.model.errors import Deposed, Rejected, Unavailable
from photinus_core.model.events import Event, Subscription
from photinus_core.model.ids import Namespace, Nanoseconds, Uuid, new_uuid
from photinus_core.ports.clock import Clock
from photinus_core.ports.elector import Lease
from photinus_core.ports.leases import certain, fence_of, under
from photinus_core.ports.store import Fence, Notification, Store
from photinus_core.ports.tasks import Background, Wake
from photinus_core.sequencing.delivery import Delivery, Send

log: Final = logging.getLogger(__name__)

T = TypeVar("T")

PAGE: Final = 200
"""Most events read at once."""
KNOWN_MAX: Final = 2 * PAGE
"""Enriched events kept from reading to sending, until a client rests for `POLL_S`."""
MANY: Final = 20
"""A page of so many events is enriched whole when it is read; sending looks up what it sends, which may be one."""
POLL_S: Final = 5.0
"""How often the log is looked at without a notification."""
RETRY_S: Final = 0.5
ELSEWHERE_S: Final = 1.0
"""After this time without winning its turn a connection counts as one that stands by."""
BATCH_BYTES_MAX: Final = 4 << 20
"""A batch ends before the event that makes it larger: a peer decides how large its events are."""
_turns: Final = count()
STALE_IDS_MAX: Final = 1_000
"""Ids of taken-back sends whose late acks are ignored."""


@dataclass(frozen=True, slots=True)
class Delivered:
    """What goes to a client at once.

    Attributes:
        subscription: For which subscription.
        batch: Id of the batch, to be acked; None when it is a single event, acked by its own id.
        events: The events, in order.
    """

    subscription: Subscription
    batch: Uuid | None
    events: tuple[EnrichedEvent, ...]


Deliver = Callable[[Delivered], Awaitable[None]]
"""Hands something to the client; returns when the transport can take more."""


class DeliveryService:
    """Delivery of one namespace's events on this replica."""

    def __init__(
        self,
        store: Store,
        namespace: Namespace,
        clock: Clock,
        turns: SubscriptionTurns,
        settings: SubscriptionSettings = SUBSCRIPTION_DEFAULTS,
    ) -> None:
        self._store = store
        self._namespace = namespace
        self._clock = clock
        self._settings = settings
        self._offsets = OffsetWriter(store, namespace)
        self._connections: set[Connection] = set()
        self.turns: Final = turns

    async def run(self) -> None:
        """Wakes connections and stores offsets, until cancelled."""
        unsubscribe = self._store.subscribe(self._on_commit)
        try:
            async with Background(f"{self._namespace}/delivery") as work:
                work.start("offsets", self._offsets.run())
                await asyncio.Event().wait()
        finally:
            unsubscribe()

    def start_durable(
        self, name: str, deliver: Deliver, *, autoack: bool = False, transport: str = WEBSOCKETS
    ) -> Connection:
        """Starts a durable subscription by name.

        It need not exist yet: delivery begins when it is made. One of another transport counts as
        none. Call `run` on what is returned.
        """
        return Connection(self, deliver, autoack=autoack, name=name, transport=transport)

    def start_ephemeral(
        self, filter_json: str, options_json: str, deliver: Deliver, *, autoack: bool = False
    ) -> Connection:
        """Starts a subscription that lives as long as the connection.

        Raises:
            Rejected: the filter or an option is wrong (see `SubscriptionService.create`).
        """
        subscription = ephemeral(
            self._namespace, filter_json, options_json, self._clock.now(), self._settings
        )
        return Connection(self, deliver, autoack=autoack, own=subscription)

    def start_again(self, ended: Connection) -> Connection:
        """Starts what a connection of the namespace's former run had started, from where that ended.

        Call `run` on what is returned, when the other's has ended.
        """
        return ended.again(self)

    def connections(self) -> list[Connection]:
        """What is started now, oldest first; for status."""
        return sorted(self._connections, key=lambda connection: connection.started)

    @property
    def store(self) -> Store:
        """The database."""
        return self._store

    @property
    def namespace(self) -> Namespace:
        """The namespace."""
        return self._namespace

    @property
    def clock(self) -> Clock:
        """The clock."""
        return self._clock

    @property
    def offsets(self) -> OffsetWriter:
        """Where offsets are stored."""
        return self._offsets

    def enter(self, connection: Connection) -> None:
        """A connection begins to run."""
        self._connections.add(connection)

    def leave(self, connection: Connection) -> None:
        """A connection has ended."""
        self._connections.discard(connection)

    def _on_commit(self, notification: Notification) -> None:
        namespace, topic, _ = notification
        if namespace != self._namespace:
            return
        if topic == "events":
            for connection in self._connections:
                connection.events_arrived()
        elif topic == "subscriptions":
            for connection in self._connections:
                connection.subscriptions_changed()


class Connection:
    """One started subscription on one connection of a client.

    `run` delivers until cancelled; `ack` and `nack` are called as the client's frames arrive.
    """

    def __init__(
        self,
        service: DeliveryService,
        deliver: Deliver,
        *,
        autoack: bool,
        name: str = "",
        own: Subscription | None = None,
        transport: str = WEBSOCKETS,
    ) -> None:
        self._service = service
        self._deliver = deliver
        self._autoack = autoack
        self._name = name
        self._own = own
        self._transport = transport
        self.started: Final = service.clock.now()
        self._subscription: Subscription | None = own
        self._machine: Delivery[Event] | None = None
        self._lease: Lease | None = None
        self._sent: dict[Uuid, tuple[int, int]] = {}
        """Sends that wait for an ack, oldest first: what the client calls them, number and turn."""
        self._stale: deque[Uuid] = deque(maxlen=STALE_IDS_MAX)
        self._wake = Wake()
        self._more = True
        self._changed = False
        self._ready = asyncio.Event()
        self._ephemeral_offset: int | None = None
        self._nacks = 0

    @property
    def subscription(self) -> Subscription | None:
        """The subscription; None while a durable one of that name does not exist."""
        return self._subscription

    @property
    def name(self) -> str:
        """Name of the durable subscription; id of an ephemeral one."""
        return self._name if self._own is None else self._own.name

    @property
    def is_ephemeral(self) -> bool:
        """Whether it ends with the connection."""
        return self._own is not None

    @property
    def oldest_out(self) -> int | None:
        """When the oldest send that waits for an ack went out, counted over all connections."""
        return next((turn for _, turn in self._sent.values()), None)

    def again(self, service: DeliveryService) -> Connection:
        """The same connection over another service; late acks for this one mean nothing there."""
        self._ready.set()  # whoever waits for its start waits no longer
        made = Connection(
            service,
            self._deliver,
            autoack=self._autoack,
            name=self._name,
            own=self._own,
            transport=self._transport,
        )
        made._ephemeral_offset = self._ephemeral_offset
        made._stale.extend(self._stale)
        return made

    @property
    def is_served(self) -> bool:
        """Whether it is this connection's turn."""
        return self._machine is not None

    @property
    def fence(self) -> Fence | None:
        """What keeps a transport's transactions from counting when its turn is over."""
        return None if self._lease is None else fence_of(self._lease)

    async def in_turn(self, work: Coroutine[Any, Any, T]) -> T:
        """Does a transport's work for what it was given, and ends it when its turn is over.

        Raises:
            Deposed: the turn is over.
        """
        return await work if self._lease is None else await under(self._lease, work)

    async def run(self) -> None:
        """Delivers until cancelled. What is out and not acked then is delivered again later."""
        self._service.enter(self)
        try:
            while True:
                try:
                    if self._own is not None:
                        await self._serve(self._own)
                    else:
                        await self._serve_durable()
                except Unavailable as failure:
                    log.warning("delivery to %s pauses: %s", self.name, failure)
                    await asyncio.sleep(RETRY_S)
        finally:
            self._service.leave(self)

    async def wait_started(self) -> None:
        """Waits until the position is fixed.

        Or until a durable subscription was found not to exist, or to be served elsewhere.
        """
        await self._ready.wait()

    def ack(self, item: Uuid | None = None) -> None:
        """The client is done with an event or batch; the oldest one out when no id is given.

        Raises:
            Rejected: FF10175 nothing of that kind is out, FF10180 the connection acks by itself.
        """
        number = self._settle(item)
        if number is not None:
            self._acked(number)

    def nack(self, item: Uuid | None = None) -> None:
        """The client wants an event or batch again, with all that came after it.

        Raises as `ack`.
        """
        number = self._settle(item)
        if number is None or self._machine is None:
            return
        self._nacks += 1
        self._machine.nack(number, self._now())
        for known, (other, _) in list(self._sent.items()):
            if other > number:
                self._stale.append(known)
                del self._sent[known]
        self._wake.set()

    def events_arrived(self) -> None:
        """The log has grown."""
        self._more = True
        self._wake.set()

    def subscriptions_changed(self) -> None:
        """A subscription was made, changed or deleted; perhaps this one."""
        if self._own is None:
            self._changed = True
            self._wake.set()

    # The way of a durable subscription

    async def _serve_durable(self) -> None:
        self._changed = False
        self._subscription = await self._find()
        if self._subscription is None:
            self._ready.set()
            while not self._changed and await self._wake.wait(POLL_S):
                pass
            return
        turns = self._service.turns
        if turns.is_taken(self._subscription.id):
            # It stands by, and its client's other frames must not wait for that to end.
            self._ready.set()
        elif turns.may_be_elsewhere:
            asyncio.get_running_loop().call_later(ELSEWHERE_S, self._ready.set)
        async with turns.turn(self._subscription.id) as lease:
            # Another connection may have been served meanwhile, and the subscription changed.
            await self._service.offsets.flush()
            found = await self._find()
            if found is None or found.id != self._subscription.id:
                return
            if lease is None:
                await self._serve(found)
            else:
                await self._serve_under(lease, found)

    async def _serve_under(self, lease: Lease, subscription: Subscription) -> None:
        """Serves until the lease is lost; what was acked is stored before it is given back."""
        self._lease = lease
        away: Unavailable | None = None
        try:
            async with Background(f"turn of {self.name}") as work:
                work.start("lease", self._watch(lease))
                try:
                    await self._serve(subscription)
                except Deposed as end:
                    log.info("%s is served by another replica: %s", self.name, end)
                except Unavailable as failure:
                    away = failure
        finally:
            self._lease = None
            await self._service.offsets.flush()
        if away is not None:
            raise away

    async def _watch(self, lease: Lease) -> None:
        await lease.lost.wait()
        self._wake.set()

    async def _find(self) -> Subscription | None:
        async with self._service.store.read(self._service.namespace) as reader:
            found = await reader.subscription_by_name(self._name)
        return found if found is not None and found.transport == self._transport else None

    async def _has_changed(self, subscription: Subscription) -> bool:
        if not self._changed:
            return False
        self._changed = False
        found = await self._find()
        if found is None:
            self._service.offsets.forget(subscription.id)
        return found != subscription

    # Delivery

    async def _serve(self, subscription: Subscription) -> None:
        """Delivers; returns when a durable subscription was changed or deleted."""
        filters = compile_filter(subscription.filter)
        self._subscription = subscription
        machine = self._machine = Delivery(
            await self._first_offset(subscription),
            read_ahead=subscription.read_ahead,
            batch=subscription.batch,
            batch_timeout_ns=subscription.batch_timeout_ms * 1_000_000,
        )
        self._more = True
        self._ready.set()
        known: dict[int, EnrichedEvent] = {}
        try:
            while not await self._has_changed(subscription):
                if self._lease is not None:
                    await certain(self._lease)
                if self._more and machine.wants_more():
                    await self._read(machine, filters, known)
                sends = machine.next(self._now())
                if sends:
                    await self._send(sends, known)
                    continue
                if not (self._more and machine.wants_more()):
                    await self._wait(machine, known)
        finally:
            self._machine = None
            self._ephemeral_offset = machine.offset
            self._stale.extend(self._sent)
            self._sent.clear()

    async def _first_offset(self, subscription: Subscription) -> int:
        if self._own is not None and self._ephemeral_offset is not None:
            return self._ephemeral_offset
        async with self._service.store.read(self._service.namespace) as reader:
            stored = None if self._own else await reader.offset(subscription.id)
            if stored is not None:
                return stored
            return await resolve_first_event(reader, subscription.first_event)

    async def _read(
        self, machine: Delivery[Event], filters: EventFilter, known: dict[int, EnrichedEvent]
    ) -> None:
        limit = min(PAGE, machine.room())
        after = machine.read_position
        # Taken back before the read, so that a commit during it is not missed.
        self._more = False
        async with self._service.store.read(self._service.namespace) as reader:
            head = await reader.last_event_sequence()
            if filters.types is not None and not filters.types:
                page: list[Event] = []
            else:
                page = await reader.events_after(after, limit, filters.types)
            wanted = [event for event in page if filters.wants_event(event)]
            if wanted and (filters.looks_at_references or len(wanted) >= MANY):
                enriched = await enrich(reader, wanted)
                if filters.looks_at_references:
                    enriched = [e for e in enriched if filters.wants_subject(e.subject)]
                if len(known) < KNOWN_MAX:
                    known.update({e.event.sequence: e for e in enriched})
                wanted = [e.event for e in enriched]
        full = len(page) >= limit
        through = (
            page[-1].sequence if full else max([head, after, *(e.sequence for e in page[-1:])])
        )
        before = machine.offset
        machine.read([(event.sequence, event) for event in wanted], through, self._now())
        self._more = self._more or full
        if machine.offset > before:
            self._store_offset(machine)

    async def _send(self, sends: Sequence[Send[Event]], known: dict[int, EnrichedEvent]) -> None:
        nacks = self._nacks
        for page in _pages(sends):
            found = await self._enriched(page, known)
            for send, events in zip(page, found, strict=True):
                if self._nacks != nacks:
                    return  # The machine has taken back this one and all that follow.
                await self._send_one(send, events)

    async def _send_one(self, send: Send[Event], events: tuple[EnrichedEvent, ...]) -> None:
        subscription = self._subscription
        assert subscription is not None
        batch = None
        if subscription.batch:
            batch, fitting = new_uuid(), _fitting(events)
            if fitting < len(events) and self._machine is not None:
                events = events[:fitting]
                self._machine.shorten(send, fitting)
        item = batch or events[0].event.id
        self._sent[item] = send.number, next(_turns)
        await self._deliver(Delivered(subscription, batch, events))
        if self._autoack and self._sent.pop(item, None) is not None:
            self._acked(send.number)

    async def _enriched(
        self, sends: Sequence[Send[Event]], known: dict[int, EnrichedEvent]
    ) -> list[tuple[EnrichedEvent, ...]]:
        missing = [e for send in sends for _, e in send.events if e.sequence not in known]
        found: dict[int, EnrichedEvent] = {}
        if missing:
            async with self._service.store.read(self._service.namespace) as reader:
                found = {e.event.sequence: e for e in await enrich(reader, missing)}
        return [
            tuple(found.get(sequence) or known.pop(sequence) for sequence, _ in send.events)
            for send in sends
        ]

    async def _wait(self, machine: Delivery[Event], known: dict[int, EnrichedEvent]) -> None:
        due = machine.next_due()
        wait_s = POLL_S if due is None else min(POLL_S, max(0.0, (due - self._now()) / 1e9))
        if not await self._wake.wait(wait_s):
            self._more = True
            if due is None:
                known.clear()

    def _settle(self, item: Uuid | None) -> int | None:
        """Takes one send off the list; None when it was taken back before."""
        if self._autoack:
            raise Rejected("FF10180")
        if item is None:
            item = next(iter(self._sent), None)
        if item is not None and item in self._sent:
            return self._sent.pop(item)[0]
        if item is not None and item in self._stale:
            return None
        raise Rejected("FF10175")

    def _acked(self, number: int) -> None:
        machine = self._machine
        if machine is not None and machine.ack(number):
            self._store_offset(machine)
        self._wake.set()

    def _store_offset(self, machine: Delivery[Event]) -> None:
        if self._own is None and self._subscription is not None:
            fence = None if self._lease is None else fence_of(self._lease)
            self._service.offsets.move(self._subscription.id, machine.offset, fence)

    def _now(self) -> Nanoseconds:
        return Nanoseconds(int(self._service.clock.monotonic_s() * 1_000_000_000))


def _fitting(events: Sequence[EnrichedEvent]) -> int:
    """How many events from the front make a batch that can be sent; at least one."""
    size = 0
    for number, event in enumerate(events):
        size += event.estimated_bytes
        if size > BATCH_BYTES_MAX and number:
            return number
    return len(events)


def _pages(sends: Sequence[Send[Event]]) -> Iterator[list[Send[Event]]]:
    """Cuts a long row of sends, so that never more than a page or a batch is enriched at once."""
    page: list[Send[Event]] = []
    size = 0
    for send in sends:
        if page and size + len(send.events) > PAGE:
            yield page
            page, size = [], 0
        page.append(send)
        size += len(send.events)
    if page:
        yield page
