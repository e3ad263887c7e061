"""Keeps one connector reached: carries out what `sequencing.connector_life` decides.

    launch or dial → Describe → Validate → Configure → NotifyRegistration → serve, ping, watch

One connection at a time; when it is over, everything about it is closed before the next attempt.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections import deque
from collections.abc import Iterable, Sequence
from contextlib import aclosing
from typing import Final

from photinus_core.host.connection import Connection
from photinus_core.host.failures import CONNECTOR_LOST, TIMEOUT, away
from photinus_core.host.instances import InstanceConfig, WhenAway
from photinus_core.host.link import Link
from photinus_core.host.process import ChildProcess
from photinus_core.host.registration import (
    CoreFacts,
    PutOffError,
    Registration,
    RestartNeededError,
)
from photinus_core.host.secrets import Redactor
from photinus_core.host.signs import ping, statuses
from photinus_core.host.standing import QUIET, capability_names, runtime_state, standing
from photinus_core.model.errors import PhotinusError, Rejected
from photinus_core.model.ids import Nanoseconds
from photinus_core.ports.connectors import ConnectorFailure, ConnectorInfo, StreamInfo
from photinus_core.ports.tasks import Background
from photinus_core.sequencing import connector_life
from photinus_core.sequencing.connector_life import (
    SECOND_NS,
    Close,
    CloseStreams,
    Configure,
    ConnectorLife,
    Dial,
    Drain,
    EndChild,
    Launch,
    LifeAction,
    LifeLimits,
    LifeState,
    OpenStreams,
    Ping,
    TellRefused,
)

log: Final = logging.getLogger(__name__)

BUG_PAUSE_S: Final = 30.0
WAIT_MAX_S: Final = 60.0


class Supervisor:
    """One configured connector. `run` is started by the host and ends after `stop`."""

    def __init__(self, config: InstanceConfig, core: CoreFacts) -> None:
        self.config = config
        self._core = core
        self._redactor = Redactor()
        self._registration = Registration(core, self._redactor)
        self._link = Link(self._redactor)
        self._life = self._new_life()
        self._stopping = asyncio.Event()
        self._todo: deque[LifeAction] = deque()
        self._wake = asyncio.Event()
        self._attempt = 0
        self._was_ready = False
        self._restarts = 0
        self._missing = "it was not discovered yet"
        self._since: Nanoseconds = core.clock.now()
        self._shown = ""
        self._told = ""
        self._serving = asyncio.Event()

    # What calls and streams need.

    @property
    def name(self) -> str:
        """The plugin's name."""
        return self.config.name

    @property
    def found(self) -> str:
        """Where it was discovered; empty when it was not."""
        return self._link.found

    @property
    def max_in_flight(self) -> int:
        """Changing calls the connector takes at once; 0 when it set no limit."""
        return self._registration.contract.limits.max_in_flight

    @property
    def queues(self) -> bool:
        """Whether submissions wait for it while it is away."""
        return self.config.when_away is WhenAway.QUEUE

    def connection(self) -> Connection:
        """The connection in use.

        Raises:
            Unavailable: FF19200, there is none.
        """
        if self._link.connection is None or not self._life.usable:
            raise away(self.name, self._life.last_error)
        return self._link.connection

    async def wait_connection(self, wait_s: float) -> Connection:
        """As `connection`, but waits so long for one."""
        try:
            async with asyncio.timeout(wait_s):
                await self._serving.wait()
        except TimeoutError:
            raise away(self.name, self._life.last_error) from None
        return self.connection()

    async def findings(self, config: InstanceConfig) -> list[tuple[str, str]]:
        """What it has against another configuration; empty while it is away."""
        connection = self._link.connection
        if connection is None or not self._life.usable:
            return []
        return await self._registration.findings(config, connection)

    async def tell_author(self, complaint: str) -> None:
        """Has the connector log what it does wrong, though it stays in use."""
        if self._link.connection is not None:
            await self._registration.notify(
                self.config, self._link.connection, accepted=True, reason=complaint
            )

    def info(self, streams: Sequence[StreamInfo]) -> ConnectorInfo:
        """What an operator sees."""
        known, contract = self._registration, self._registration.contract
        return ConnectorInfo(
            instance=self.name,
            kind=str(self.config.category),
            plugin_type=self.config.plugin_type or self._redactor.line(known.description.name),
            address=self._link.address(self.config),
            state=self._shown or self._standing(),
            since=self._since,
            version=known.version,
            capabilities=capability_names(contract.capabilities),
            limits={
                "maxMessageBytes": contract.limits.max_message_bytes,
                "maxInFlight": contract.limits.max_in_flight,
                "idempotencyRetentionS": contract.limits.idempotency_retention_s,
            },
            last_error=self._life.last_error,
            store_id=known.store_id,
            streams=tuple(streams),
            restarts=self._restarts,
        )

    # What the host and its operator ask for.

    def stop(self) -> None:
        """Begins the end: drain, close, end the child. `run` returns when it is done."""
        self._stopping.set()
        self._do(self._life.drain(self._now()))

    def change(self, config: InstanceConfig) -> None:
        """Takes another configuration; the connector is reached, told and used anew with it.

        A launched process stays when its command is the same, unless it says that it cannot take
        the change while it runs. Gives a failed connector a fresh start.
        """
        former, self.config = self.config, config
        anew = (former.launch, former.instance_name) != (config.launch, config.instance_name)
        self._begin_again(anew=anew)

    def restart(self) -> None:
        """Reaches the connector anew; one that was launched gets another process."""
        self._begin_again(anew=True)

    def appeared(self, address: str) -> None:
        """A socket for it is there, or another one than before."""
        if address != self._link.found:
            self._link.found = address
            self._do(self._life.start(self._now()))

    def vanished(self, reason: str) -> None:
        """There is no socket for it."""
        self._link.found, self._missing = "", reason
        self._do(self._life.vanished(reason, self._now()))

    def _begin_again(self, *, anew: bool) -> None:
        config = self.config
        self._do(
            self._life.changed(
                self._now(), launches=bool(config.launch), anew=anew, limits=_limits(config)
            )
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
                self._life = self._new_life()
                self._life.last_error = f"internal error: {failure}"
                self._todo.clear()
                self._do(())
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(BUG_PAUSE_S):
                        await self._stopping.wait()

    async def _run(self) -> None:
        try:
            async with Background(f"connector {self.name}") as work:
                if self.config.discover and not self._link.found:
                    self._do(self._life.vanished(self._missing, self._now()))
                else:
                    self._do(self._life.start(self._now()))
                while self._todo or not self._is_over():
                    if self._todo:
                        await self._carry_out(self._todo.popleft(), work)
                    else:
                        await self._wait()
        finally:
            # Also when this task is cancelled: nothing of a connector may stay behind.
            await self._link.hang_up("the core is being stopped")
            await self._link.end_child()

    def _is_over(self) -> bool:
        return self._stopping.is_set() and self._life.state is LifeState.GONE

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
        shown, error = self._standing(), self._life.last_error
        if shown == self._shown and (shown != LifeState.FAILED or error == self._told):
            return
        if shown != self._shown:
            self._shown, self._since = shown, self._core.clock.now()
        self._told = error
        level = logging.INFO if shown in QUIET else logging.WARNING
        log.log(level, "connector %s is %s%s", self.name, shown, f": {error}" if error else "")

    def _standing(self) -> str:
        return standing(self._life, was_ready=self._was_ready, stopping=self._stopping.is_set())

    async def _wait(self) -> None:
        """Waits for a report or for what is due by time."""
        due, now = self._life.next_due(), self._now()
        wait_s = WAIT_MAX_S if due is None else max(0.0, (due - now) / SECOND_NS)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                await self._wake.wait()
        self._wake.clear()
        now = self._now()
        if self._link.connection is not None:
            silent_s = asyncio.get_running_loop().time() - self._link.connection.heard_s
            self._life.heard(now - int(silent_s * SECOND_NS))
        self._take(self._life.tick(now))

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
                await self._link.hang_up(action.reason)
            case Ping():
                work.start(f"ping {action.number}", self._ping(action.number, self._attempt))
            case EndChild():
                self._attempt += 1
                outcome = await self._link.end_child(at_once=action.at_once)
                if self._life.is_ending:
                    self._do(self._life.child_exited(outcome, self._now()))
            case TellRefused():
                if self._link.connection is not None:
                    await self._registration.notify(
                        self.config, self._link.connection, accepted=False, reason=action.reason
                    )
            case Drain():
                await self._link.drain(self.name)
                self._do(self._life.drained(self._now()))
            case Close():
                self._attempt += 1
                await self._link.hang_up(self._life.last_error or "the core is being stopped")
                await self._link.end_child()

    # Ways up.

    async def _launch(self, attempt: int, work: Background) -> None:
        directory = self._core.data_dir / self.config.instance_name
        try:
            child = await self._link.launch(self.config, directory, work)
        except PhotinusError as failure:
            if attempt == self._attempt:
                self._do(self._life.child_exited(self._redactor.line(str(failure)), self._now()))
            return
        if attempt != self._attempt:
            await child.end()
            return
        self._link.child = child
        work.start(f"exit {child.pid}", self._watch_child(child))
        self._do(self._life.launched())

    async def _dial(self, attempt: int) -> None:
        """Connects and asks what it is."""
        config = self.config
        if config.launch and self._link.child is None:
            return  # It has just ended, as is being reported.
        try:
            connection = await self._link.dial(config, lambda reason: self._lost(attempt, reason))
            fingerprint = await self._registration.describe(config, connection)
        except Rejected as refused:
            self._refused(attempt, refused)
        except ConnectorFailure as failure:
            self._failed(attempt, failure)
        else:
            if attempt == self._attempt:
                self._do(self._life.described(fingerprint, self._now()))

    async def _make_ready(self, attempt: int) -> None:
        connection = self._link.connection
        if connection is None or attempt != self._attempt:
            return
        try:
            await self._registration.configure(self.config, connection)
        except Rejected as refused:
            self._refused(attempt, refused)
        except PutOffError as later:
            if attempt == self._attempt:
                self._do(self._life.put_off(str(later), self._now()))
        except RestartNeededError as needed:
            self._lost(attempt, str(needed))
        except ConnectorFailure as failure:
            self._failed(attempt, failure)
        except PhotinusError as failure:  # our database, with the ids of stores
            if attempt == self._attempt:
                self._do(self._life.put_off(str(failure), self._now()))
        else:
            await self._registration.notify(self.config, connection, accepted=True)
            if attempt == self._attempt:
                self._do(self._life.configured(self._now()))

    async def _serve(self, work: Background) -> None:
        connection = self._link.connection
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

    # Signs of life.

    async def _ping(self, number: int, attempt: int) -> None:
        connection = self._link.connection
        if connection is None or attempt != self._attempt:
            return
        if await ping(connection) and attempt == self._attempt:
            self._do(self._life.pong(number, self._now()))

    async def _watch_status(self, attempt: int, connection: Connection) -> None:
        async with aclosing(statuses(connection)) as found:
            async for status in found:
                if attempt != self._attempt:
                    return
                serving, reason = runtime_state(status)
                reason, now = self._redactor.line(reason), self._now()
                self._do(self._life.status(serving=serving, reason=reason, now=now))

    async def _watch_child(self, child: ChildProcess) -> None:
        await child.wait()
        if child is self._link.child:
            self._link.child = None
            self._do(self._life.child_exited(child.outcome(), self._now()))
            await child.end()

    # Ways down.

    def _refused(self, attempt: int, refused: Rejected) -> None:
        if attempt == self._attempt:
            self._do(self._life.refused(self._redactor.line(str(refused)), self._now()))

    def _failed(self, attempt: int, failure: ConnectorFailure) -> None:
        if failure.retry_after_s is not None and failure.reason != CONNECTOR_LOST:
            if attempt == self._attempt:
                self._do(self._life.put_off(str(failure), self._now()))
            return
        self._lost(attempt, str(failure), hangs=failure.reason == TIMEOUT)

    def _lost(self, attempt: int, reason: str, *, hangs: bool = False) -> None:
        """A connection is of no use any more."""
        if attempt != self._attempt:
            return
        # Every call in flight may report the same loss: the first is enough.
        self._attempt += 1
        reason = self._redactor.line(reason)
        self._do(self._life.unavailable(reason, self._now(), hangs=hangs))

    def _new_life(self) -> ConnectorLife:
        launches = bool(self.config.launch)
        return ConnectorLife(launches=launches, jitter=random.random, limits=_limits(self.config))

    def _now(self) -> int:
        return int(self._core.clock.monotonic_s() * SECOND_NS)


def _limits(config: InstanceConfig) -> LifeLimits:
    return config.limits or connector_life.LIMITS
