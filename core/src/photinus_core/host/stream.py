"""The client of one event stream: opens it, keeps it open, and acks what its handler has stored.

Three tasks per session: one reads and never waits for the handler, one hands batches over, one
writes. Batches that collected while the handler was busy are handed over together. A session ends
when the connector is lost, breaks a rule, or falls silent; the next one resumes behind the stored
checkpoints. A higher epoch ends the stream for good.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Sequence
from typing import Final, Protocol

from google.rpc import code_pb2, status_pb2
from photinus.connector.v1 import event_pb2 as events
from photinus.connector.v1 import event_pb2_grpc

from photinus_core.host import convert
from photinus_core.host.connection import Connection
from photinus_core.host.failures import CONNECTOR_LOST
from photinus_core.host.stream_rules import BrokenRuleError, StreamRules
from photinus_core.host.stream_session import Session, StreamRequest
from photinus_core.model.errors import Deposed, Unavailable
from photinus_core.model.ids import Namespace
from photinus_core.ports.connectors import (
    ChainEvent,
    ConnectorEvent,
    ConnectorFailure,
    EventBatch,
    EventHandler,
    Listener,
    StreamInfo,
    StreamProgress,
)
from photinus_core.ports.tasks import Backoff

log: Final = logging.getLogger(__name__)

OPEN_WAIT_S: Final = 15.0
SILENCE_MAX_S: Final = 25.0
"""EVT-008 asks for a frame every 10 s."""
CONNECTION_WAIT_S: Final = 60.0
REOPEN_FIRST_S: Final = 0.1
REOPEN_LAST_S: Final = 5.0
BROKEN_REOPEN_FIRST_S: Final = 1.0
BROKEN_REOPEN_LAST_S: Final = 60.0
NACK_FIRST_S: Final = 0.1
NACK_LAST_S: Final = 10.0
RESEND_MAX_S: Final = 30.0
STABLE_S: Final = 60.0
"""A session that held this long makes the next trouble a new one."""
FRAMES_WAITING_MAX: Final = 1024
STALE_EPOCH: Final = "STALE_EPOCH"


class Reach(Protocol):
    """What a stream needs of a supervisor."""

    @property
    def name(self) -> str:
        """The instance's name, for logs."""
        ...

    async def wait_connection(self, wait_s: float) -> Connection:
        """A connection in use, waiting so long for one. Raises Unavailable."""
        ...

    async def tell_author(self, complaint: str) -> None:
        """Has the connector log what it does wrong, though it stays in use."""
        ...


class _EndedError(Exception):
    """The stream is over for good."""


class _SessionOverError(Exception):
    """This session is over; the next one follows."""


class StreamClient:
    """`ports.connectors.EventStream` over gRPC. `run` is started by the host."""

    def __init__(
        self,
        reach: Reach,
        request: StreamRequest,
        listeners: Sequence[Listener],
        handler: EventHandler,
    ) -> None:
        self._reach, self._request, self._handler = reach, request, handler
        self._listeners = {listener.id: listener for listener in listeners}
        self._session: Session | None = None
        self._backoff = Backoff(REOPEN_FIRST_S, REOPEN_LAST_S)
        self._broken_backoff = Backoff(BROKEN_REOPEN_FIRST_S, BROKEN_REOPEN_LAST_S)
        self._nack_backoff = Backoff(NACK_FIRST_S, NACK_LAST_S)
        self._told = ""
        self._trouble = ""
        self._closing = False
        self._state = "waiting for the connector"
        self._batches = self._events = 0
        self._skipped = 0
        self._position = ""
        self._catching_up = False
        self._final_blocks: dict[str, int] = {}
        self.task: asyncio.Task[None] | None = None

    @property
    def namespace(self) -> Namespace:
        """The namespace the stream is for."""
        return self._request.namespace

    @property
    def info(self) -> StreamInfo:
        """Where the stream stands, for an operator."""
        waiting = {} if self._session is None else self._session.waiting
        oldest = next(iter(waiting.values()), None)
        lag_s = 0.0 if oldest is None else asyncio.get_running_loop().time() - oldest
        return StreamInfo(
            namespace=self.namespace,
            state=self._state,
            position=self._position,
            final_blocks=dict(self._final_blocks),
            batches=self._batches,
            events=self._events,
            waiting=len(waiting),
            lag_s=lag_s,
            catching_up=self._catching_up,
            trouble=self._trouble,
        )

    async def add_listener(self, listener: Listener) -> None:
        """Adds a listener; it stays across reconnects."""
        self._listeners[listener.id] = listener
        session = self._session
        if session is None:
            return  # The next Open names it.
        resume = (await self._handler.resume()).get(listener.id, b"")
        # While that was asked, a new session may have begun, or the listener may be gone again.
        if session is self._session and self._listeners.get(listener.id) is listener:
            session.rules.listeners.add(listener.id)
            added = events.AddListener(listener=convert.listener(listener, resume))
            session.send(add_listener=added)

    async def remove_listener(self, listener: str) -> None:
        """Removes a listener."""
        self._listeners.pop(listener, None)
        self._final_blocks.pop(listener, None)
        if self._session is not None:
            self._session.send(remove_listener=events.RemoveListener(listener_id=listener))

    async def aclose(self) -> None:
        """Ends the stream: no handler runs after it returns."""
        self._closing = True
        if self.task is not None:
            self.task.cancel()
            await asyncio.wait([self.task])

    async def run(self) -> None:
        """Keeps the stream open until cancelled, or until another leader has it."""
        loop = asyncio.get_running_loop()
        while True:
            since = loop.time()
            try:
                connection = await self._reach.wait_connection(CONNECTION_WAIT_S)
                since = loop.time()
                await self._serve(connection)
                wait_s = self._backoff.next_s()
            except Unavailable:
                self._state = "waiting for the connector"
                wait_s = REOPEN_FIRST_S
            except (_EndedError, Deposed) as end:
                self._state = f"ended: {end}"
                log.info("%s: %s", self._where, self._state)
                return
            except BrokenRuleError as broken:
                self._tell(f"the connector breaks the protocol: {broken}", logging.ERROR)
                complaint = f"the event stream of {self.namespace} was closed: {broken}"
                await self._reach.tell_author(complaint)
                wait_s = self._broken_backoff.next_s()
            except _SessionOverError as over:
                self._tell(str(over), logging.WARNING)
                wait_s = self._backoff.next_s()
            except ConnectorFailure as failure:
                if failure.reason == STALE_EPOCH:
                    await self._another_leads(str(failure))
                    return
                level = logging.INFO if failure.reason == CONNECTOR_LOST else logging.WARNING
                self._tell(f"{failure.reason}: {failure}", level)
                wait_s = self._backoff.next_s()
            except Exception as failure:  # noqa: BLE001 - the handler's; the stream goes on
                self._tell(f"cannot be opened: {failure}", logging.WARNING, failure)
                wait_s = self._backoff.next_s()
            # A TaskGroup before Python 3.13 drops a cancellation that comes while it ends.
            if self._closing:
                return
            self._state = "waiting to open again"
            if loop.time() - since > STABLE_S:
                self._told = ""
                self._broken_backoff.reset()
            await asyncio.sleep(wait_s)

    async def _serve(self, connection: Connection) -> None:
        """One session."""
        request = self._request
        checkpoints = await self._handler.resume()
        rules = StreamRules(
            request.window_batches,
            request.window_bytes,
            request.batch_size,
            set(self._listeners),
        )
        stub = connection.stub(event_pb2_grpc.EventServiceStub)
        session = Session(connection, connection.stream(stub.Stream), rules)
        session.heard = asyncio.get_running_loop().time()
        session.send(open=request.open_frame(self._listeners.values(), checkpoints))
        self._session, self._state = session, "opening"
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._read(session), name="stream reader")
                group.create_task(session.write(), name="stream writer")
                group.create_task(self._hand_over(session), name="stream handler")
                group.create_task(self._watch(session), name="stream watch")
        except BaseExceptionGroup as failures:
            raise _weightiest(failures) from None
        finally:
            self._session = None
            session.call.cancel()

    async def _read(self, session: Session) -> None:
        """Takes frames off the wire and checks them; never waits for the handler to store them."""
        loop = asyncio.get_running_loop()
        while True:
            frame = await session.connection.read(session.call)
            if frame is None:
                raise _SessionOverError("the connector ended the stream")
            session.heard = loop.time()
            self._check(session, frame)
            # Frames beside batches are few; a connector that floods us with them waits here.
            while len(session.incoming) >= FRAMES_WAITING_MAX:
                session.room.clear()
                await session.room.wait()
                session.heard = loop.time()

    def _check(self, session: Session, frame: events.StreamResponse) -> None:
        rules, kind = session.rules, frame.WhichOneof("frame")
        match kind:
            case "opened":
                opened = frame.opened
                rules.opened(opened.window_batches, opened.window_bytes, opened.batch_size)
                self._state = "open"
                session.to_send.set()
                return
            case "batch":
                batch = frame.batch
                for name in {event.listener_id for event in batch.events} | set(batch.checkpoints):
                    rules.named(name)
                if not rules.batch(batch.seq, batch.ByteSize(), len(batch.events)):
                    return
                session.resend_by = None
                session.waiting.setdefault(batch.seq, session.heard)
            case "progress":
                rules.other(kind)
                for name in frame.progress.checkpoints:
                    rules.named(name)
            case None if frame.ByteSize():
                # Of a later minor version, which says nothing there that must not be missed.
                rules.other("a frame of a kind that is not known")
                return
            case _:
                rules.other(kind)
        session.incoming.append(frame)
        session.arrived.set()

    async def _watch(self, session: Session) -> None:
        """A live process may have a loop that stands still: nothing but silence shows it."""
        loop = asyncio.get_running_loop()
        begun = loop.time()
        while True:
            await asyncio.sleep(1.0)
            now = loop.time()
            if not session.rules.is_open and now - begun > OPEN_WAIT_S:
                raise _SessionOverError(f"no Opened within {OPEN_WAIT_S:.0f} s")
            if now - session.heard > SILENCE_MAX_S:
                raise _SessionOverError(f"nothing was heard for {SILENCE_MAX_S:.0f} s (EVT-008)")
            if session.resend_by is not None and now > session.resend_by:
                raise BrokenRuleError("a batch that was nacked did not come again")

    async def _hand_over(self, session: Session) -> None:
        while True:
            if not session.incoming:
                session.arrived.clear()
                await session.arrived.wait()
                continue
            frame = session.incoming.popleft()
            session.room.set()
            match frame.WhichOneof("frame"):
                case "batch":
                    await self._store(session, session.merged(frame.batch))
                case "progress":
                    await self._progress(frame.progress)
                case "checkpoint_invalid":
                    lost = frame.checkpoint_invalid
                    reason = f"cannot resume: {lost.reason[:500] or 'the checkpoint is unknown'}"
                    await self._handler.trouble(lost.listener_id, reason, fatal=True)
                case "listener_error":
                    error = frame.listener_error
                    await self._handler.trouble(
                        error.listener_id,
                        error.status.message[:500] or "it does not work",
                        fatal=False,
                    )
                case "drained":
                    raise _SessionOverError("the connector is being stopped")
                case "superseded":
                    epoch = frame.superseded.owner_epoch
                    await self._another_leads(f"epoch {epoch} opened the stream")
                    raise _EndedError(f"epoch {epoch} has the stream")
                case _:
                    raise AssertionError("checked when it arrived")

    async def _store(self, session: Session, batches: list[events.Batch]) -> None:
        """Hands batches to the handler; acks them after its commit, or asks for them again."""
        try:
            known, unknown = convert.connector_events(e for batch in batches for e in batch.events)
        except ValueError as odd:
            raise BrokenRuleError(f"an event that nobody can read: {odd}") from odd
        if unknown and not self._skipped:
            shown = [event[:100] for event in unknown[:5]]
            log.warning("%s: skips events of kinds it does not know: %s", self._where, shown)
        self._skipped += len(unknown)
        checkpoints = {
            name: value for batch in batches for name, value in batch.checkpoints.items()
        }
        try:
            receipts = await self._handler.handle(EventBatch(tuple(known), checkpoints))
        except Deposed:
            raise
        except Exception as failure:  # noqa: BLE001 - whatever it is, the batch comes again
            self._ask_again(session, batches[0].seq, failure)
            return
        through = batches[-1].seq
        session.rules.acked(through)
        kept = [
            events.EventReceipt(event_id=event_id, manifest=manifest)
            for event_id, manifest in receipts.items()
        ]
        session.send(ack=events.Ack(through_seq=through, receipts=kept))
        session.one_by_one = False
        for seq in range(batches[0].seq, through + 1):
            session.waiting.pop(seq, None)
        self._batches += len(batches)
        self._events += len(known)
        if known:
            self._position = _position(known[-1])
        self._state, self._trouble = "open", ""
        self._backoff.reset()
        self._nack_backoff.reset()

    def _ask_again(self, session: Session, seq: int, failure: Exception) -> None:
        wait_s = self._nack_backoff.next_s()
        self._tell(f"batch {seq} cannot be stored now: {failure}", logging.WARNING, failure)
        # Those behind it come again, too. Alone, so that one that fails holds up no other.
        kept = [frame for frame in session.incoming if frame.WhichOneof("frame") != "batch"]
        session.incoming = deque(kept)
        session.one_by_one = True
        session.rules.nacked(seq)
        session.resend_by = asyncio.get_running_loop().time() + wait_s + RESEND_MAX_S
        status = status_pb2.Status(code=code_pb2.UNAVAILABLE, message=str(failure)[:500])
        session.send(
            nack=events.Nack(seq=seq, status=status, retry_after_ms=max(1, int(wait_s * 1000)))
        )

    async def _progress(self, progress: events.Progress) -> None:
        self._catching_up = progress.catching_up
        self._final_blocks |= {
            name: block for name, block in progress.final_blocks.items() if name in self._listeners
        }
        found = StreamProgress(
            checkpoints=dict(progress.checkpoints),
            final_blocks=dict(progress.final_blocks),
            catching_up=progress.catching_up,
            gap_possible=progress.gap_possible,
        )
        try:
            await self._handler.progress(found)
        except Deposed:
            raise
        except Exception as failure:  # noqa: BLE001 - nothing is lost: it is said again, or read again
            self._tell(f"progress cannot be stored now: {failure}", logging.WARNING, failure)

    async def _another_leads(self, reason: str) -> None:
        self._state = f"ended: {reason}"
        log.warning("%s: %s", self._where, reason)
        with contextlib.suppress(Deposed):
            await self._handler.trouble("", f"another leader has the stream: {reason}", fatal=False)

    @property
    def _where(self) -> str:
        return f"stream of {self._request.namespace} at {self._reach.name}"

    def _tell(self, reason: str, level: int, failure: Exception | None = None) -> None:
        """Logs a state once, not at every attempt."""
        self._trouble = reason
        if reason != self._told:
            self._told = reason
            expected = failure is None or hasattr(failure, "code")
            log.log(level, "%s: %s", self._where, reason, exc_info=None if expected else failure)


def _position(event: ConnectorEvent) -> str:
    """Where an event stands: on its ledger, or by its id."""
    chain: ChainEvent | None = getattr(event.body, "chain", None)
    return (chain.protocol_id if chain is not None else "") or event.id


def _weightiest(failures: BaseExceptionGroup[BaseException]) -> BaseException:
    """Of several reasons why a session ended, the one that says most."""
    found: list[BaseException] = []
    pending: list[BaseException] = [failures]
    while pending:
        failure = pending.pop()
        if isinstance(failure, BaseExceptionGroup):
            pending.extend(failure.exceptions)
        else:
            found.append(failure)
    order = (_EndedError, Deposed, BrokenRuleError, ConnectorFailure, _SessionOverError)
    for kind in order:
        for failure in found:
            if isinstance(failure, kind):
                return failure
    return found[0]
