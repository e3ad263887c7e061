"""Serves the durable subscriptions whose events go to webhooks.

Each has a server of its own on every replica; of a subscription's servers in the cluster one has its
turn (`turns`), calls, and stores the position under the fence of its lease. A target that does not
answer holds up its own subscription and no other. A subscription that is changed or deleted ends the
server it has, whatever that is doing: what was not acked is delivered again, with the new options.

As FireFly does, an event is done with whatever the target answered, unless the subscription asks for
dead letters.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from photinus_core.events.dead_letters import DeadLetterService
from photinus_core.events.delivery import Connection, Delivered, DeliveryService
from photinus_core.events.enrichment import EnrichedEvent, enrich
from photinus_core.events.subscriptions import WEBHOOKS, parse_options
from photinus_core.events.webhook_options import (
    WebhookOptions,
    WebhookSettings,
    read_webhook_options,
)
from photinus_core.events.webhook_requests import (
    Answer,
    CallFailedError,
    CannotCallError,
    Payload,
    Reply,
    WebhookRequest,
    build_request,
    failed_result,
    is_failure,
    is_reply,
    make_reply,
    result_of,
    values_of,
)
from photinus_core.model.errors import Deposed, PhotinusError, Unavailable
from photinus_core.model.events import DeadLetter, Subscription
from photinus_core.model.ids import Uuid
from photinus_core.ports.store import Notification
from photinus_core.ports.tasks import Background, Backoff, Wake

if TYPE_CHECKING:
    from photinus_core.events.webhook_client import WebhookClient

log: Final = logging.getLogger(__name__)

POLL_S: Final = 5.0
"""How often subscriptions and dead letters are looked at without a notification."""
RETRY_S: Final = 0.5
AGAIN_FIRST_S: Final = 1.0
AGAIN_CAP_S: Final = 60.0
"""Pauses before a server that failed is started again."""
LETTERS_AT_ONCE: Final = 20
PARALLEL_MAX: Final = 10
"""Most calls under way at once for one subscription."""

Show = Callable[[Subscription, EnrichedEvent], str]
"""Writes an event with what it refers to, as FireFly's JSON."""
SendReply = Callable[[Reply], Awaitable[None]]
"""Sends a reply as a message.

Raises:
    PhotinusError: it cannot be sent.
"""


@dataclass(frozen=True, slots=True)
class WebhookParts:
    """What all servers of a namespace work with."""

    delivery: DeliveryService
    dead_letters: DeadLetterService
    settings: WebhookSettings
    show: Show
    send_reply: SendReply


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a call ended, its repetitions included.

    Attributes:
        answer: None when there was none.
        attempts: How often the target was called.
        error: Why it counts as failed; empty for an answer of 2xx.
    """

    answer: Answer | None
    attempts: int
    error: str = ""

    @property
    def failure(self) -> tuple[int, int, str]:
        """What a dead letter tells."""
        return self.attempts, 0 if self.answer is None else self.answer.status, self.error


class Webhooks:
    """The webhooks of one namespace on this replica."""

    def __init__(self, parts: WebhookParts) -> None:
        self._parts = parts
        self._slots = asyncio.Semaphore(parts.settings.calls_max)
        self._servers: dict[Uuid, tuple[Subscription, WebhookServer, asyncio.Task[None]]] = {}
        self._wake = Wake()
        self._starts = 0

    async def run(self) -> None:
        """Has a server for each webhook subscription there is, until cancelled."""
        delivery = self._parts.delivery
        unsubscribe = delivery.store.subscribe(self._on_commit)
        try:
            async with Background(f"{delivery.namespace}/webhooks") as work:
                while True:
                    try:
                        await self._align(work)
                    except PhotinusError as failure:
                        log.warning("%s: webhooks not looked at: %s", delivery.namespace, failure)
                    await self._wake.wait(POLL_S)
        finally:
            self._servers.clear()
            unsubscribe()

    async def _align(self, work: Background) -> None:
        delivery = self._parts.delivery
        async with delivery.store.read(delivery.namespace) as reader:
            found = {s.id: s for s in await reader.subscriptions() if s.transport == WEBHOOKS}
        for key, (known, _, task) in list(self._servers.items()):
            if found.get(key) != known:
                del self._servers[key]
                await _ended(task)
            if key not in found:
                delivery.offsets.forget(key)
        for key, subscription in found.items():
            if key not in self._servers:
                self._starts += 1
                server = WebhookServer(self._parts, subscription, self._slots)
                task = work.start(f"{subscription.name} {self._starts}", server.run())
                self._servers[key] = subscription, server, task

    def _on_commit(self, notification: Notification) -> None:
        namespace, topic, _ = notification
        if namespace == self._parts.delivery.namespace and topic == "subscriptions":
            self._wake.set()
            for _, server, _ in self._servers.values():
                server.look_again()


async def _ended(task: asyncio.Task[None]) -> None:
    while not task.done():
        # A TaskGroup before Python 3.13 drops a cancellation that comes while it ends.
        task.cancel()
        await asyncio.wait([task], timeout=POLL_S)


class WebhookServer:
    """Serves one webhook subscription, as it was when this was made."""

    def __init__(
        self, parts: WebhookParts, subscription: Subscription, slots: asyncio.Semaphore
    ) -> None:
        self._parts = parts
        self._subscription = subscription
        self._slots = slots
        self._own_slots = asyncio.Semaphore(PARALLEL_MAX)
        self._again = Wake()
        self._calls = 0
        self._options: WebhookOptions
        self._client: WebhookClient
        self._connection: Connection
        self._work: Background

    def look_again(self) -> None:
        """There may be dead letters to be tried again."""
        self._again.set()

    async def run(self) -> None:
        """Serves until cancelled; a failure of its own ends no other."""
        clock, pauses = self._parts.delivery.clock, Backoff(AGAIN_FIRST_S, AGAIN_CAP_S)
        while True:
            began = clock.monotonic_s()
            try:
                await self._serve()
            except* PhotinusError as failures:
                # The configuration can have changed since the subscription was made.
                why = failures.exceptions[0]
                log.warning("webhook %s cannot be served: %s", self._subscription.name, why)
            except* Exception:
                log.exception("webhook %s cannot be served", self._subscription.name)
            if clock.monotonic_s() - began > AGAIN_CAP_S:
                pauses.reset()
            await asyncio.sleep(pauses.next_s())

    async def _serve(self) -> None:
        from photinus_core.events.webhook_client import (  # noqa: PLC0415 - for who has webhooks
            WebhookClient,
        )

        subscription = self._subscription
        members = dict(parse_options(subscription.options_json).other)
        self._options = read_webhook_options(members, self._parts.settings)
        self._client = WebhookClient(self._options, self._parts.settings, PARALLEL_MAX)
        self._connection = self._parts.delivery.start_durable(
            subscription.name, self._deliver, transport=WEBHOOKS
        )
        try:
            async with Background(f"webhook {subscription.name}") as work:
                self._work = work
                work.start("dead letters", self._try_again())
                await self._connection.run()
        finally:
            await self._client.aclose()

    # Events

    async def _deliver(self, delivered: Delivered) -> None:
        connection = self._connection
        item = delivered.batch or delivered.events[0].event.id
        if delivered.subscription != self._subscription:
            connection.nack(item)  # Another server, with the new options, is about to take over.
            return
        events = [e for e in delivered.events if not (self._options.reply and is_reply(e.message))]
        if not events:
            connection.ack(item)
        elif self._options.fast_ack:
            payloads = await self._payloads(events)
            connection.ack(item)
            await self._call_aside(payloads)
        elif await connection.in_turn(self._attend(events)):
            connection.ack(item)
        else:
            connection.nack(item)

    async def _attend(self, events: Sequence[EnrichedEvent]) -> bool:
        """Calls, replies, parks; False when the events must come again."""
        request, outcome = await self._call(await self._payloads(events))
        if outcome.error and self._options.dead_letter:
            log.info("webhook %s: parked: %s", self._subscription.name, outcome.error)
            parked = await self._parts.dead_letters.park(
                self._subscription.id,
                [e.event for e in events],
                outcome.failure,
                self._connection.fence,
            )
            if not parked:
                log.warning(
                    "webhook %s waits: it has as many dead letters as it may have",
                    self._subscription.name,
                )
            return parked
        if outcome.error:
            log.warning("webhook %s failed: %s", self._subscription.name, outcome.error)
        await self._reply(events, request, outcome)
        return True

    async def _call_aside(self, payloads: Sequence[Payload]) -> None:
        """Calls while others go on; when too many do, now, so that no target stops another's."""
        await self._own_slots.acquire()
        if self._slots.locked():
            self._own_slots.release()
            await self._call_and_tell(payloads)
            return
        await self._slots.acquire()
        self._calls += 1
        task = self._work.start(f"call {self._calls}", self._call_and_tell(payloads))
        # Also when it was cancelled before it could begin: the slots are everybody's.
        task.add_done_callback(self._give_back)

    def _give_back(self, _: asyncio.Task[None]) -> None:
        self._slots.release()
        self._own_slots.release()

    async def _call_and_tell(self, payloads: Sequence[Payload]) -> None:
        _, outcome = await self._call(payloads)
        if outcome.error:
            log.warning("webhook %s failed: %s", self._subscription.name, outcome.error)

    async def _payloads(self, events: Sequence[EnrichedEvent]) -> list[Payload]:
        delivery = self._parts.delivery
        wanted = [
            ref.id
            for event in events
            if self._subscription.with_data and event.message is not None
            for ref in event.message.data
        ]
        values = {}
        if wanted:
            async with delivery.store.read(delivery.namespace) as reader:
                values = {k: d.value for k, d in (await reader.data(wanted)).items()}
        return [
            Payload(
                self._parts.show(self._subscription, event),
                values_of(values.get(ref.id) for ref in event.message.data)
                if event.message is not None
                else (),
            )
            for event in events
        ]

    # Calls

    async def _call(self, payloads: Sequence[Payload]) -> tuple[WebhookRequest | None, Outcome]:
        options = self._options
        try:
            request = build_request(options, payloads, batch=self._subscription.batch)
        except CannotCallError as failure:
            return None, Outcome(None, 0, str(failure))
        pauses = Backoff(options.retrying.first_s, options.retrying.cap_s)
        attempt = 0
        while True:
            attempt += 1
            outcome = await self._call_once(request, attempt)
            given_up = attempt > options.retrying.count
            answer = outcome.answer
            if given_up or (answer is not None and not is_failure(answer, options.retrying.errors)):
                return request, outcome
            await asyncio.sleep(pauses.next_s())

    async def _call_once(self, request: WebhookRequest, attempt: int) -> Outcome:
        try:
            answer = await self._client.call(request, keep_body=self._options.reply)
        except CallFailedError as failure:
            return Outcome(None, attempt, str(failure))
        return Outcome(answer, attempt, "" if answer.is_success else f"answered {answer.status}")

    async def _reply(
        self, events: Sequence[EnrichedEvent], request: WebhookRequest | None, outcome: Outcome
    ) -> None:
        if not self._options.reply:
            return
        if outcome.answer is None:
            result = failed_result(outcome.error)
        else:
            try:
                result = result_of(outcome.answer, force_json=self._options.force_json)
            except CannotCallError as failure:
                result = failed_result(str(failure))
        tx = "" if request is None else request.reply_tx
        for event in events:
            if event.message is None:
                continue
            reply = make_reply(
                self._options,
                self._subscription.id,
                event.event.id,
                event.message,
                result,
                tx,
            )
            try:
                await self._parts.send_reply(reply)
            except Unavailable:
                raise
            except PhotinusError as failure:
                # As in FireFly: what cannot be replied is told to the operator, not tried again.
                log.warning("webhook %s: no reply: %s", self._subscription.name, failure)

    # Dead letters

    async def _try_again(self) -> None:
        letters = self._parts.dead_letters
        while True:
            found: list[DeadLetter] = []
            try:
                if self._connection.is_served:
                    found = await letters.queued(self._subscription.id, LETTERS_AT_ONCE)
                for letter in found:
                    await self._connection.in_turn(self._try_one(letter))
            except (Deposed, Unavailable) as failure:
                log.info("webhook %s: not tried again: %s", self._subscription.name, failure)
                await asyncio.sleep(RETRY_S)
            if len(found) < LETTERS_AT_ONCE:
                await self._again.wait(POLL_S)

    async def _try_one(self, letter: DeadLetter) -> None:
        delivery, letters = self._parts.delivery, self._parts.dead_letters
        async with delivery.store.read(delivery.namespace) as reader:
            events = list((await reader.events([letter.event])).values())
            enriched = await enrich(reader, events)
        if not enriched:
            gone = letters.failed_again(letter, (0, 0, "the event is gone"))
            await letters.settle(letter, gone, self._connection.fence)
            return
        request, outcome = await self._call(await self._payloads(enriched))
        if not outcome.error:
            await self._reply(enriched, request, outcome)
        again = letters.failed_again(letter, outcome.failure) if outcome.error else None
        await letters.settle(letter, again, self._connection.fence)
