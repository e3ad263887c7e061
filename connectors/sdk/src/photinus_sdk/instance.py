"""One configured instance of a connector: its life, its status, and what its author may call."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

from photinus.connector.v1 import connector_pb2 as connector
from photinus.connector.v1 import event_pb2 as events
from photinus_journal import OperationJournal

from photinus_sdk.connector import Connector
from photinus_sdk.context import StreamKey
from photinus_sdk.errors import ConnectorError, Exhausted, Refused, Unavailable
from photinus_sdk.tasks import Background

if TYPE_CHECKING:
    from photinus_sdk.event_stream import StreamSession

ANNOUNCEMENTS_MAX = 10_000


class Instance:
    """What the kit gives an author as `self.instance`.

    Attributes:
        name: The instance's name.
        data_dir: Directory of its own, durable, mode 0700.
        journal: Its durable memory, as `open_journal` made it.
        log: Logger that carries the instance's name.
        cluster_id: UUID of the core cluster that configured it last.
        dependencies: Connectors the configuration names, by the name used there.
    """

    def __init__(
        self,
        cls: type[Connector[Any]],
        name: str,
        data_dir: Path,
        on_status: Callable[[], None] = lambda: None,
    ) -> None:
        data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.name, self.data_dir = name, data_dir
        logger = logging.getLogger(f"photinus.{cls.description.name}")
        self.log = logging.LoggerAdapter(logger, {"instance": name})
        self.cluster_id = ""
        self.dependencies: Mapping[str, connector.Dependency] = {}
        # The journal last: what is opened here is closed by `aclose` only if nothing fails behind it.
        self.author: Connector[Any] = cls()
        self.author.instance = self
        self.journal: OperationJournal = self.author.open_journal(data_dir)
        self.streams: dict[StreamKey, StreamSession] = {}
        self.announced: dict[str, events.Event] = {}
        self.status = connector.WatchStatusResponse()
        self.config_digest: bytes | None = None
        self.revision = 0
        self.draining = False
        self._status_changed = asyncio.Event()
        # A lock is there as long as somebody holds it or waits for it.
        self._keys: WeakValueDictionary[tuple[StreamKey, str], asyncio.Lock] = WeakValueDictionary()
        self._in_flight = 0
        self._one_ended = asyncio.Event()
        self._background = Background()
        self._started = False
        self._on_status = on_status
        self._set_status(connector.RUNTIME_STATE_STARTING)

    # What authors call.

    async def publish(self, stream: StreamKey, update: events.OperationUpdate) -> None:
        """Tells a stream how an operation stands, durably: it is sent until the core acks it.

        Returns after the commit. Idempotent in effect: nothing follows a terminal state.
        """
        await self.journal.update(stream, update)

    def announce(self, subject: str, event: events.Event) -> None:
        """Sends an event without listener (PeerChanged) to every stream, now and when one opens.

        Only the last event of a subject is kept, in memory. The event's id must change with it.
        """
        if subject not in self.announced and len(self.announced) >= ANNOUNCEMENTS_MAX:
            raise Exhausted(f"More than {ANNOUNCEMENTS_MAX} subjects announced")
        self.announced[subject] = event
        for stream in self.streams.values():
            stream.announce(event)

    def report(self, state: connector.RuntimeState.ValueType, reason: str = "") -> None:
        """Tells the core how the instance is: OK, DEGRADED (will recover), FAILED (will not)."""
        if not self.draining:
            self._set_status(state, reason)

    # What the kit calls.

    async def start(self, settings: object) -> None:
        await self.journal.open()
        try:
            await self.author.start(settings)
        except BaseException:
            await self._stop()
            raise
        if self.status.state == connector.RUNTIME_STATE_STARTING:
            self._set_status(connector.RUNTIME_STATE_OK)
        self._started = True
        self._background.start(self._run(), f"run of {self.name}")

    async def aclose(self) -> None:
        """Ends streams, background work and the journal, in this order. Idempotent."""
        await self._background.aclose()
        if self._started:
            self._started = False
            await self._stop()
        await self.journal.aclose()

    async def drain(self, grace_s: float) -> None:
        """Takes nothing new and ends streams once what they sent is acked, within `grace_s`."""
        self._set_status(connector.RUNTIME_STATE_STOPPING, "draining")
        self.draining = True
        streams = list(self.streams.values())
        for stream in streams:
            stream.drain()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace_s):
                for stream in streams:
                    await stream.closed.wait()
                while self._in_flight:
                    await self._one_ended.wait()

    def resume(self) -> None:
        """Serves again after a drain (a core attached anew)."""
        if self.draining:
            self.draining = False
            self._set_status(connector.RUNTIME_STATE_OK)

    async def check_epoch(self, stream: StreamKey, epoch: int) -> None:
        """EVT-006, for calls and streams alike: refuses an old epoch, lets a new one supersede."""
        highest = await self.journal.raise_epoch(stream, epoch)
        if epoch < highest:
            over = f"Epoch {epoch} is over: this stream belongs to epoch {highest}"
            raise Refused(over, reason="STALE_EPOCH", highest_epoch=str(highest))
        running = self.streams.get(stream)
        if running is not None and running.epoch < epoch:
            running.supersede(epoch)

    @contextlib.asynccontextmanager
    async def mutation(self, stream: StreamKey, key: str) -> AsyncIterator[None]:
        """Room for one mutating call; calls with one key run one after the other."""
        if self.draining:
            raise Unavailable("The connector is being stopped", reason="DRAINING")
        limit = self.author.limits.max_in_flight
        if limit and self._in_flight >= limit:
            full = f"{limit} mutating calls are open already"
            raise Exhausted(full, reason="TOO_MANY_IN_FLIGHT", retry_after_s=0.1)
        self._in_flight += 1
        try:
            async with self.turn(stream, key):
                yield
        finally:
            self._in_flight -= 1
            self._one_ended.set()
            self._one_ended.clear()

    def turn(self, stream: StreamKey, key: str) -> asyncio.Lock:
        """Holds a key: whoever else wants it waits."""
        return self._keys.setdefault((stream, key), asyncio.Lock())

    def busy_with(self, stream: StreamKey, key: str) -> bool:
        """Whether a call with this key is being carried out now."""
        return (stream, key) in self._keys

    async def watch_status(self) -> AsyncIterator[connector.WatchStatusResponse]:
        """The status now and at every change, until the instance stops."""
        while True:
            changed, status = self._status_changed, self.status
            yield status
            if status.state == connector.RUNTIME_STATE_STOPPING:
                return
            await changed.wait()

    async def _stop(self) -> None:
        try:
            await self.author.stop()
        except Exception:
            self.log.exception("stop failed")

    async def _run(self) -> None:
        try:
            await self.author.run()
        except Exception as error:
            self.log.exception("background work ended")
            reason = error.message if isinstance(error, ConnectorError) else "see the log"
            self._set_status(connector.RUNTIME_STATE_FAILED, f"background work ended: {reason}")

    def _set_status(self, state: connector.RuntimeState.ValueType, reason: str = "") -> None:
        if (self.status.state, self.status.reason) == (state, reason):
            return
        self.status = connector.WatchStatusResponse(state=state, reason=reason)
        self.status.since.GetCurrentTime()
        self._status_changed.set()
        self._status_changed = asyncio.Event()
        self._on_status()
