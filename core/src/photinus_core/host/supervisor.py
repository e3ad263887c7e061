"""Keeps one connector reached: carries out what `sequencing.connector_life` decides.

    launch or dial → Describe → Validate → Configure → NotifyRegistration → serve, ping, watch

One connection at a time; when it is over, everything about it is closed before the next attempt.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import random
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from photinus.connector.v1 import common_pb2 as wire
from photinus.connector.v1 import connector_pb2 as connector
from photinus.connector.v1 import connector_pb2_grpc

from photinus_core.host.connection import Connection
from photinus_core.host.failures import CONNECTOR_LOST, TIMEOUT, away
from photinus_core.host.instances import InstanceConfig, checked_address
from photinus_core.host.process import PROTOCOL, ChildProcess
from photinus_core.host.schema_typing import typed_config
from photinus_core.model.errors import PhotinusError, Rejected
from photinus_core.model.ids import Nanoseconds
from photinus_core.ports.clock import Clock
from photinus_core.ports.connectors import ConnectorFailure, ConnectorInfo
from photinus_core.ports.tasks import Background
from photinus_core.sequencing.connector_life import (
    PING_DEADLINE_NS,
    SECOND_NS,
    Close,
    CloseStreams,
    Configure,
    ConnectorLife,
    Dial,
    Drain,
    Launch,
    LifeAction,
    LifeState,
    OpenStreams,
    Ping,
    TellRefused,
)

log: Final = logging.getLogger(__name__)

DESCRIBE_S: Final = 5.0
CONFIGURE_S: Final = 30.0
NOTIFY_S: Final = 2.0
WATCH_AGAIN_S: Final = 1.0
RESTART_REQUIRED: Final = "RESTART_REQUIRED"
DRAIN_S: Final = 5.0
"""For calls in flight, and again for the connector's own drain."""
LOOK_AGAIN_S: Final = 30.0
"""An attached connector that was refused may be replaced by its operator."""
WAIT_MAX_S: Final = 60.0
SERVING: Final = frozenset({connector.RUNTIME_STATE_OK, connector.RUNTIME_STATE_UNSPECIFIED})


class StoreIds(Protocol):
    """Remembers, as long as the core's database lives, which store each connector has."""

    async def known_store(self, name: str) -> str:
        """The store's id as it was last seen; empty when it never was."""
        ...

    async def remember_store(self, name: str, store_id: str) -> None:
        """Keeps the id."""
        ...


@dataclass(frozen=True, slots=True)
class CoreFacts:
    """What every connector is told of the core.

    Attributes:
        cluster_id: UUID of the core cluster.
        version: Version of the core.
        data_dir: Where launched connectors may keep what is theirs.
        store_ids: Which store each connector had.
        clock: For times that people read.
    """

    cluster_id: str
    version: str
    data_dir: Path
    store_ids: StoreIds
    clock: Clock


class Supervisor:
    """One configured connector. `run` is started by the host and ends after `stop`."""

    def __init__(self, config: InstanceConfig, core: CoreFacts) -> None:
        self.config = config
        self._core = core
        self._life = _new_life(config)
        self._stopping = asyncio.Event()
        self._todo: deque[LifeAction] = deque()
        self._wake = asyncio.Event()
        self._attempt = 0
        self._look_again_s: float | None = None
        self._was_ready = False
        self._restarts = 0
        self._connection: Connection | None = None
        self._child: ChildProcess | None = None
        self._description = connector.DescribeResponse()
        self._contract = connector.Contract()
        self._store_id = ""
        self._since: Nanoseconds = core.clock.now()
        self._shown = ""
        self._serving = asyncio.Event()

    # What calls and streams need.

    @property
    def name(self) -> str:
        """The plugin's name."""
        return self.config.name

    @property
    def max_in_flight(self) -> int:
        """Changing calls the connector takes at once; 0 when it set no limit."""
        return self._contract.limits.max_in_flight

    def connection(self) -> Connection:
        """The connection in use.

        Raises:
            Unavailable: FF19200, there is none.
        """
        if self._connection is None or not self._life.usable:
            raise away(self.name, self._life.last_error)
        return self._connection

    async def wait_connection(self, wait_s: float) -> Connection:
        """As `connection`, but waits so long for one."""
        try:
            async with asyncio.timeout(wait_s):
                await self._serving.wait()
        except TimeoutError:
            raise away(self.name, self._life.last_error) from None
        return self.connection()

    def info(self, streams: Mapping[str, str]) -> ConnectorInfo:
        """What an operator sees."""
        limits = self._contract.limits
        return ConnectorInfo(
            instance=self.name,
            kind=str(self.config.category),
            plugin_type=self.config.plugin_type or self._description.name,
            address=self._address(),
            state=self._shown or _shown(self._life, was_ready=False),
            since=self._since,
            version=self._description.version,
            capabilities=tuple(sorted(_names(self._contract.capabilities))),
            limits={
                "maxMessageBytes": limits.max_message_bytes,
                "maxInFlight": limits.max_in_flight,
                "idempotencyRetentionS": limits.idempotency_retention_s,
            },
            last_error=self._life.last_error,
            store_id=self._store_id,
            streams=streams,
            restarts=self._restarts,
        )

    # Its life.

    async def run(self) -> None:
        """Reaches the connector and keeps it reached until `stop`.

        A bug of ours costs this connector a pause, the others nothing.
        """
        while not self._stopping.is_set():
            try:
                await self._run()
            except Exception as failure:
                log.exception("connector %s: its supervision failed", self.name)
                self._life = _new_life(self.config)
                self._life.last_error = f"internal error: {failure}"
                self._todo.clear()
                self._do(())
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_AGAIN_S):
                        await self._stopping.wait()

    async def _run(self) -> None:
        try:
            async with Background(f"connector {self.name}") as work:
                self._do(self._life.start(self._now()))
                while self._todo or self._life.state is not LifeState.GONE:
                    if self._todo:
                        await self._carry_out(self._todo.popleft(), work)
                    else:
                        await self._wait()
        finally:
            # Also when this task is cancelled: nothing of a connector may stay behind.
            await self._hang_up("the core is being stopped")
            await self._end_child()

    def stop(self) -> None:
        """Begins the end: drain, close, end the child. `run` returns when it is done."""
        self._stopping.set()
        self._do(self._life.drain(self._now()))

    def _do(self, actions: Iterable[LifeAction]) -> None:
        """Takes what the machine decided, and wakes the loop to carry it out."""
        self._take(actions)
        self._wake.set()

    def _take(self, actions: Iterable[LifeAction]) -> None:
        """Queues actions; no call starts on a connection the machine gave up."""
        if not self._life.usable:
            self._serving.clear()
        self._show()
        self._todo.extend(actions)

    def _show(self) -> None:
        shown = _shown(self._life, was_ready=self._was_ready)
        if shown == self._shown:
            return
        self._shown, self._since = shown, self._core.clock.now()
        level = logging.INFO if shown in {"ready", "starting", "stopping"} else logging.WARNING
        error = f": {self._life.last_error}" if self._life.last_error else ""
        log.log(level, "connector %s is %s%s", self.name, shown, error)

    async def _wait(self) -> None:
        """Waits for a report or for what is due by time."""
        due, now = self._life.next_due(), self._now()
        wait_s = WAIT_MAX_S if due is None else max(0.0, (due - now) / SECOND_NS)
        if self._look_again_s is not None:
            wait_s = min(wait_s, max(0.0, self._look_again_s - now / SECOND_NS))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                await self._wake.wait()
        self._wake.clear()
        now = self._now()
        self._take(self._life.tick(now))
        if self._look_again_s is not None and now / SECOND_NS >= self._look_again_s:
            self._look_again_s = None
            self._take(self._life.start(now))

    async def _carry_out(self, action: LifeAction, work: Background) -> None:
        match action:
            case Launch():
                self._attempt += 1
                work.start(f"launch {self._attempt}", self._launch(self._attempt, work))
            case Dial():
                self._attempt += 1
                work.start(f"dial {self._attempt}", self._dial(self._attempt))
            case Configure():
                work.start(f"configure {self._attempt}", self._make_ready(self._attempt))
            case OpenStreams():
                await self._serve(work)
            case CloseStreams():
                self._attempt += 1
                await self._hang_up(action.reason)
                await self._start_over(action.reason)
            case Ping():
                work.start(f"ping {action.number}", self._ping(action.number, self._attempt))
            case TellRefused():
                await self._notify(accepted=False, reason=action.reason)
                if not self.config.launch:
                    self._look_again_s = self._now() / SECOND_NS + LOOK_AGAIN_S
            case Drain():
                await self._drain()
                self._do(self._life.drained(self._now()))
            case Close():
                self._attempt += 1
                await self._hang_up(self._life.last_error or "the core is being stopped")
                await self._end_child()

    async def _launch(self, attempt: int, work: Background) -> None:
        directory = self._core.data_dir / self.config.instance_name
        try:
            child = await ChildProcess.launch(self.name, self.config.launch, directory, work)
        except Rejected as refused:
            self._refused(attempt, refused)
        except PhotinusError as failure:
            if attempt == self._attempt:
                self._do(self._life.child_exited(str(failure), self._now()))
        else:
            if attempt != self._attempt:
                await child.end()
                return
            self._child = child
            work.start(f"exit {child.pid}", self._watch_child(child))
            self._do(self._life.launched())

    async def _dial(self, attempt: int) -> None:
        """Connects and asks what it is."""
        config = self.config

        def on_trouble(reason: str) -> None:
            self._lost(attempt, reason)

        try:
            if self._child is not None:
                address = checked_address(self._child.address, insecure=True)
            elif config.launch:
                self._do(self._life.child_exited("the process is gone", self._now()))
                return
            else:
                address = checked_address(config.address, insecure=config.insecure)
            await self._hang_up("dialled anew")
            connection = Connection(self.name, address, config.instance_name, on_trouble)
            self._connection = connection
            await self._describe(connection)
        except Rejected as refused:
            self._refused(attempt, refused)
        except ConnectorFailure as failure:
            self._lost(attempt, str(failure))
        else:
            if attempt == self._attempt:
                about = self._description
                fingerprint = f"{about.version} {about.config_schema_json}"
                digest = hashlib.sha256(fingerprint.encode()).hexdigest()
                self._do(self._life.described(digest, self._now()))

    async def _make_ready(self, attempt: int) -> None:
        connection = self._connection
        if connection is None:
            return
        try:
            await self._configure(connection)
        except Rejected as refused:
            self._refused(attempt, refused)
        except (ConnectorFailure, PhotinusError) as failure:
            self._lost(attempt, str(failure))
        else:
            await self._notify(accepted=True)
            if attempt == self._attempt:
                self._do(self._life.configured(self._now()))

    async def _serve(self, work: Background) -> None:
        connection = self._connection
        if connection is None:
            return
        actions = self._life.streams_open(self._now())
        if not self._life.usable:
            return
        self._restarts += self._was_ready
        self._was_ready = True
        self._do(actions)
        self._serving.set()
        status = self._watch_status(self._attempt, connection)
        work.start(f"status {self._attempt}", status)

    def _refused(self, attempt: int, refused: Rejected) -> None:
        if attempt == self._attempt:
            self._do(self._life.refused(str(refused), self._now()))

    def _lost(self, attempt: int, reason: str) -> None:
        """A connection is of no use any more. A process of our own is started anew with it."""
        if attempt != self._attempt:
            return
        # Every call in flight may report the same loss: the first is enough.
        self._attempt += 1
        usable = self._life.usable
        self._do(self._life.unavailable(reason, self._now()))
        if not usable and self._child is not None:
            self._todo.append(CloseStreams(reason))

    async def _start_over(self, reason: str) -> None:
        """A launched process whose connection is lost may hang: only a new one is sure to work."""
        if self._child is not None:
            await self._end_child()
            self._do(self._life.child_exited(reason, self._now()))

    async def _describe(self, connection: Connection) -> None:
        stub = connection.stub(connector_pb2_grpc.ConnectorServiceStub)
        description: connector.DescribeResponse = await connection.unary(
            stub.Describe, connector.DescribeRequest(), DESCRIBE_S
        )
        if PROTOCOL not in description.protocols:
            raise Rejected("FF19211", self.name, PROTOCOL)
        if self._contract_in(description.contracts) is None:
            kinds = ", ".join(connector.ContractKind.Name(c.kind) for c in description.contracts)
            raise Rejected("FF19208", self.name, kinds or "nothing", self.config.category)
        self._description = description

    async def _configure(self, connection: Connection) -> None:
        """Validates and configures; what stands against it is told with its place."""
        try:
            config_json = typed_config(self.config.config, self._description.config_schema_json)
        except ValueError as error:
            raise Rejected("FF19202", self.name, f"its configuration schema: {error}") from error
        stub = connection.stub(connector_pb2_grpc.ConnectorServiceStub)
        request = connector.ConfigureRequest(
            instance=self.config.instance_name,
            config_json=config_json,
            revision=self.config.revision,
            core_version=self._core.version,
            cluster_id=self._core.cluster_id,
        )
        try:
            findings = await connection.unary(
                stub.Validate, connector.ValidateRequest(config_json=config_json), DESCRIBE_S
            )
            self._check(findings.diagnostics)
            answer: connector.ConfigureResponse = await connection.unary(
                stub.Configure, request, CONFIGURE_S
            )
        except ConnectorFailure as failure:
            if self._may_pass(failure):
                raise
            raise Rejected("FF19205", self.name, failure) from failure
        self._check(answer.diagnostics)
        contract = self._contract_in(answer.contracts)
        described = self._contract_in(self._description.contracts)
        if contract is None or described is None:
            raise Rejected("FF19208", self.name, "nothing of the kind", self.config.category)
        if not set(contract.capabilities) <= set(described.capabilities):
            raise Rejected("FF19202", self.name, "Configure offers more than Describe")
        await self._check_store(answer.store_id)
        self._contract = contract

    def _check(self, findings: Iterable[wire.Diagnostic]) -> None:
        wrong = []
        for found in findings:
            text = f"{found.pointer}: {found.summary}" if found.pointer else found.summary
            if found.severity == wire.SEVERITY_ERROR:
                wrong.append(text)
            else:
                log.warning("connector %s: configuration: %s", self.name, text)
        if wrong:
            raise Rejected("FF19205", self.name, "; ".join(wrong))

    def _may_pass(self, failure: ConnectorFailure) -> bool:
        """Whether another attempt can help: the connector or its system was away, or restarts."""
        if failure.reason == RESTART_REQUIRED:
            return bool(self.config.launch)
        return failure.reason in {CONNECTOR_LOST, TIMEOUT} or failure.retry_after_s is not None

    async def _check_store(self, store_id: str) -> None:
        known = await self._core.store_ids.known_store(self.name)
        if known and store_id and known != store_id:
            raise Rejected("FF19207", self.name, store_id, known)
        if store_id and not known:
            await self._core.store_ids.remember_store(self.name, store_id)
        self._store_id = store_id

    def _contract_in(self, contracts: Iterable[connector.Contract]) -> connector.Contract | None:
        kind = self.config.category.contract
        return next((contract for contract in contracts if contract.kind == kind), None)

    async def _notify(self, *, accepted: bool, reason: str = "") -> None:
        """Tells the connector, so that its author reads it in the connector's own log."""
        if self._connection is None:
            return
        stub = self._connection.stub(connector_pb2_grpc.ConnectorServiceStub)
        request = connector.NotifyRegistrationRequest(
            instance=self.config.instance_name, accepted=accepted, reason=reason
        )
        try:
            await self._connection.unary(stub.NotifyRegistration, request, NOTIFY_S)
        except ConnectorFailure as failure:
            log.info("connector %s: NotifyRegistration: %s", self.name, failure)

    async def _ping(self, number: int, attempt: int) -> None:
        """Asks the connector's own loop: HTTP/2 keepalive is answered by a thread that never hangs."""
        connection = self._connection
        if connection is None or attempt != self._attempt:
            return
        stub: Any = connection.stub(health_pb2_grpc.HealthStub)
        try:
            wait_s = PING_DEADLINE_NS / SECOND_NS
            await connection.unary(stub.Check, health_pb2.HealthCheckRequest(), wait_s)
        except ConnectorFailure as failure:
            if failure.reason in {TIMEOUT, CONNECTOR_LOST}:
                return
        # Any answer is a sign of life, also that it has no health service.
        if attempt == self._attempt:
            self._do(self._life.pong(number))

    async def _watch_status(self, attempt: int, connection: Connection) -> None:
        stub = connection.stub(connector_pb2_grpc.ConnectorServiceStub)
        while not connection.closed.is_set() and attempt == self._attempt:
            call = connection.stream(stub.WatchStatus, connector.WatchStatusRequest())
            try:
                while (status := await connection.read(call)) is not None:
                    self._reported(attempt, status)
            except ConnectorFailure as failure:
                if failure.details.get("code") == grpc.StatusCode.UNIMPLEMENTED.name:
                    return
            await asyncio.sleep(WATCH_AGAIN_S)

    def _reported(self, attempt: int, status: connector.WatchStatusResponse) -> None:
        if attempt != self._attempt:
            return
        name = connector.RuntimeState.Name(status.state).removeprefix("RUNTIME_STATE_").lower()
        self._do(
            self._life.status(
                serving=status.state in SERVING,
                reason=status.reason or f"it reports {name}",
                now=self._now(),
            )
        )

    async def _watch_child(self, child: ChildProcess) -> None:
        await child.wait()
        if child is self._child:
            self._child = None
            self._do(self._life.child_exited(child.outcome(), self._now()))
            await child.end()

    async def _hang_up(self, reason: str) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.aclose(reason)

    async def _end_child(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            await child.end()

    async def _drain(self) -> None:
        """Lets calls in flight finish; a process of our own is told to finish, too."""
        connection = self._connection
        if connection is None:
            return
        await connection.finish(DRAIN_S)
        if self._child is not None:
            stub = connection.stub(connector_pb2_grpc.ConnectorServiceStub)
            try:
                request = connector.DrainRequest(grace_s=int(DRAIN_S))
                await connection.unary(stub.Drain, request, DRAIN_S + 1)
            except ConnectorFailure as failure:
                log.info("connector %s: Drain: %s", self.name, failure)
        await self._hang_up("the core is being stopped")

    def _address(self) -> str:
        if self._child is not None:
            return self._child.address
        return self.config.address or " ".join(self.config.launch)

    def _now(self) -> int:
        return int(self._core.clock.monotonic_s() * SECOND_NS)


def _new_life(config: InstanceConfig) -> ConnectorLife:
    return ConnectorLife(launches=bool(config.launch), jitter=random.random)


def _shown(life: ConnectorLife, *, was_ready: bool) -> str:
    """The state in the words of the API: what an operator is to make of it."""
    match life.state:
        case LifeState.CONNECTING if was_ready or life.last_error:
            return "unreachable"
        case LifeState.DRAINING | LifeState.GONE:
            return "stopping"
        case LifeState.READY | LifeState.DEGRADED | LifeState.FAILED:
            return life.state.value
        case _:
            return "unreachable" if was_ready else "starting"


def _names(capabilities: Iterable[connector.Capability.ValueType]) -> list[str]:
    known = connector.Capability.values()
    return [
        connector.Capability.Name(value).removeprefix("CAPABILITY_").lower()
        for value in capabilities
        if value in known
    ]
