"""What all fake connectors share: presence, idempotency keys, epochs, and one stream per namespace."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Final

from photinus_core.host.failures import away
from photinus_core.model.errors import Deposed
from photinus_core.model.ids import Epoch, Namespace
from photinus_core.ports.connectors import (
    CallKey,
    ConnectorEvent,
    ConnectorFailure,
    Disposition,
    EventBatch,
    EventHandler,
    EventStream,
    Listener,
    Submission,
    WorkState,
    WorkUpdate,
)
from photinus_core.ports.tasks import Background, Wake

BATCH_EVENTS_MAX: Final = 50
RETRY_S: Final = 0.01
POLL_S: Final = 30.0
_TERMINAL: Final = frozenset({WorkState.SUCCEEDED, WorkState.FAILED, WorkState.CANCELLED})


@dataclass(frozen=True, slots=True)
class Found:
    """An event of a listener, with the checkpoint behind it; None for events kept until acked."""

    event: ConnectorEvent
    checkpoint: bytes | None = None


@dataclass(slots=True)
class _Work:
    method: str
    arguments: object
    submission: Submission


@dataclass(slots=True)
class _Scope:
    """What a connector remembers for one namespace."""

    epoch: Epoch = Epoch(0)
    work: dict[str, _Work] = field(default_factory=dict)
    updates: list[ConnectorEvent] = field(default_factory=list)
    stream: FakeStream | None = None


class FakeInstance:
    """Base of the fakes.

    Args:
        name: For errors.
        work: Runs the streams.
    """

    def __init__(self, name: str, work: Background) -> None:
        self._name = name
        self._tasks = work
        self._scopes: dict[Namespace, _Scope] = {}
        self._away = ""
        self._numbers = count(1)

    # What tests do with it.

    def go_away(self, reason: str = "it was told to") -> None:
        """From now on calls fail as they do when a connector is not there; streams stand still."""
        self._away = reason
        self.wake()

    def come_back(self) -> None:
        """Ends `go_away`; streams begin again behind their stored checkpoints."""
        self._away = ""
        self.wake()

    # What the fakes need.

    @property
    def is_away(self) -> bool:
        """Whether it is away now."""
        return bool(self._away)

    def check_present(self) -> None:
        """Raises Unavailable FF19200 while it is away."""
        if self._away:
            raise away(self._name, self._away)

    def wake(self) -> None:
        """Tells the streams that there may be something new."""
        for scope in self._scopes.values():
            if scope.stream is not None:
                scope.stream.changed.set()

    def scope(self, namespace: Namespace) -> _Scope:
        """What is remembered for a namespace."""
        return self._scopes.setdefault(namespace, _Scope())

    def begin(self, call: CallKey, method: str, arguments: object) -> Submission | None:
        """Takes a key; gives the answer to repeat when it is known.

        Raises:
            ConnectorFailure: KEY_REUSED, STALE_EPOCH.
            Unavailable: it is away.
        """
        self.check_present()
        if call.epoch:
            self._check_epoch(call.namespace, call.epoch)
        scope = self.scope(call.namespace)
        known = scope.work.get(call.key)
        if known is None:
            submission = Submission(replayed=False, state=WorkState.PENDING)
            scope.work[call.key] = _Work(method, arguments, submission)
            return None
        is_withdrawn = known.submission.state is WorkState.CANCELLED
        if (known.method, known.arguments) != (method, arguments) and not is_withdrawn:
            raise refusal("KEY_REUSED", f"The key {call.key} was used for another {known.method}")
        return replace(known.submission, replayed=True)

    def finish(self, call: CallKey, update: WorkUpdate) -> Submission:
        """Ends a piece of work; its stream hears of it until it is acked."""
        scope = self.scope(call.namespace)
        scope.work[call.key].submission = Submission(
            replayed=False,
            state=update.state,
            external_id=update.external_id,
            output=update.output,
        )
        event = ConnectorEvent(f"update/{next(self._numbers)}", "", removed=False, body=update)
        scope.updates.append(event)
        self.wake()
        return scope.work[call.key].submission

    def withdrawn(self, call: CallKey) -> WorkState:
        """Marks a key under which nothing was begun, so that nothing ever is; says how it stands."""
        self.check_present()
        self._check_epoch(call.namespace, call.epoch)
        work = self.scope(call.namespace).work
        cancelled = Submission(replayed=False, state=WorkState.CANCELLED)
        return work.setdefault(call.key, _Work("", None, cancelled)).submission.state

    def succeed(self, call: CallKey, external_id: str = "", output: str = "") -> Submission:
        """Ends a piece of work well."""
        return self.finish(call, worked(call.key, external_id=external_id, output=output))

    async def open_stream(
        self,
        namespace: Namespace,
        network_namespace: str,
        epoch: Epoch,
        listeners: Sequence[Listener],
        handler: EventHandler,
    ) -> EventStream:
        """Opens the namespace's event stream; a higher epoch ends the one that runs."""
        stream = FakeStream(self, namespace, network_namespace, epoch, listeners, handler)
        title = f"{type(self).__name__} {self._name} {namespace} {next(self._numbers)}"
        stream.task = self._tasks.start(title, stream.run())
        return stream

    def found(self, listener: Listener, network_namespace: str, behind: bytes) -> list[Found]:  # noqa: ARG002 - a component without events has none
        """Events of a listener behind a checkpoint; at most a batch of them."""
        return []

    def acked(self, event: ConnectorEvent, manifest: str) -> None:
        """An event was stored; `manifest` is what its sender may be told."""

    def _check_epoch(self, namespace: Namespace, epoch: Epoch) -> None:
        scope = self.scope(namespace)
        if epoch < scope.epoch:
            raise refusal("STALE_EPOCH", f"Epoch {epoch} is over: epoch {scope.epoch} leads")
        scope.epoch = epoch
        if scope.stream is not None and scope.stream.epoch < epoch:
            scope.stream.superseded_by = epoch
            scope.stream.changed.set()

    def take_stream(self, stream: FakeStream) -> None:
        """Makes a stream the one of its namespace. Raises ConnectorFailure STALE_EPOCH."""
        self._check_epoch(stream.namespace, stream.epoch)
        scope = self.scope(stream.namespace)
        if scope.stream is not None and scope.stream is not stream:
            scope.stream.superseded_by = stream.epoch
            scope.stream.changed.set()
        scope.stream = stream


class FakeStream:
    """An open stream of a fake: batch by batch to the handler, again until it has stored it."""

    def __init__(
        self,
        instance: FakeInstance,
        namespace: Namespace,
        network_namespace: str,
        epoch: Epoch,
        listeners: Sequence[Listener],
        handler: EventHandler,
    ) -> None:
        self.namespace, self.epoch = namespace, epoch
        self.changed = Wake()
        self.superseded_by: Epoch | None = None
        self.task: asyncio.Task[None] | None = None
        self._instance, self._network_namespace = instance, network_namespace
        self._listeners = {listener.id: listener for listener in listeners}
        self._handler = handler

    async def add_listener(self, listener: Listener) -> None:
        """Adds a listener."""
        self._listeners[listener.id] = listener
        self.changed.set()

    async def remove_listener(self, listener: str) -> None:
        """Removes a listener."""
        self._listeners.pop(listener, None)

    async def aclose(self) -> None:
        """Ends the stream: no handler runs after it returns."""
        scope = self._instance.scope(self.namespace)
        if scope.stream is self:
            scope.stream = None
        if self.task is not None:
            self.task.cancel()
            await asyncio.wait([self.task])

    async def run(self) -> None:
        """Serves the stream until it is closed or another leader has it."""
        try:
            self._instance.take_stream(self)
        except ConnectorFailure as failure:
            await self._handler.trouble("", str(failure), fatal=False)
            return
        while self.superseded_by is None:
            if self._instance.is_away:
                await self.changed.wait(POLL_S)
                continue
            try:
                await self._session()
            except Deposed:
                return
            except Exception:  # noqa: BLE001 - as the real client: whatever it is, again
                await asyncio.sleep(RETRY_S)
        reason = f"epoch {self.superseded_by} opened the stream"
        await self._handler.trouble("", f"another leader has the stream: {reason}", fatal=False)

    async def _session(self) -> None:
        checkpoints = dict(await self._handler.resume())
        while self.superseded_by is None and not self._instance.is_away:
            found = self._next(checkpoints)
            if not found:
                await self.changed.wait(POLL_S)
                continue
            moved = {f.event.listener: f.checkpoint for f in found if f.checkpoint is not None}
            batch = EventBatch(tuple(f.event for f in found), moved)
            receipts = await self._handler.handle(batch)
            self._acked(found, receipts)
            checkpoints |= moved

    def _next(self, checkpoints: Mapping[str, bytes]) -> list[Found]:
        found = [Found(event) for event in self._instance.scope(self.namespace).updates]
        for listener in self._listeners.values():
            behind = checkpoints.get(listener.id, b"")
            found += self._instance.found(listener, self._network_namespace, behind)
        return found[:BATCH_EVENTS_MAX]

    def _acked(self, found: list[Found], receipts: Mapping[str, str]) -> None:
        stored = {f.event.id for f in found}
        scope = self._instance.scope(self.namespace)
        scope.updates = [event for event in scope.updates if event.id not in stored]
        for entry in found:
            if entry.event.listener:
                self._instance.acked(entry.event, receipts.get(entry.event.id, ""))


def worked(
    key: str,
    *,
    external_id: str = "",
    output: str = "",
    manifest: str = "",
    content_hash: str = "",
) -> WorkUpdate:
    """The good end of a piece of work."""
    return WorkUpdate(key, WorkState.SUCCEEDED, external_id, output, "", manifest, content_hash)


def refusal(
    reason: str, message: str, disposition: Disposition = Disposition.NOT_SENT
) -> ConnectorFailure:
    """A connector's no."""
    return ConnectorFailure(reason, message, disposition)
