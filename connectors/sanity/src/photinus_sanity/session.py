"""One run against one connector: dialled, described, configured, and configured again after each restart."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Self

import grpc
from photinus.connector.v1 import connector_pb2 as connector

from photinus_sanity.schemas import secrets_in
from photinus_sanity.setup import Setup
from photinus_sanity.targets import Target, UnreachableError
from photinus_sanity.violations import Violation
from photinus_sanity.wire import CHANNEL_OPTIONS, Ear, Refusal, Wire

MAIN = "sanity"
SECOND = "sanity-second"
CORE_VERSION = "0.0.0-sanity"
DIAL_S = 10.0
NO_BUFFERING = (("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 1024))
QUIET_S = 0.5


class Session:
    """What all checks of a run share.

    Args:
        target: The connector.
        setup: Settings and fixture.
        quiet_s: How long a check waits to see that something does not happen.

    Attributes:
        described: The answer of Describe, before any Configure.
        describe_s: How long it took.
        configured: The answer of Configure.
        wire: The main instance.
        second: Another member: a second instance or process; None when there is no way.
        cluster_id: Of the core that the suite plays.
        kept: What a contract's source wants to find again in the next check.
        exit_status: How the connector ended on the last SIGTERM.
        socket_left: Whether its socket was there after that.
    """

    def __init__(self, target: Target, setup: Setup, quiet_s: float = QUIET_S) -> None:
        self.target, self.setup, self.quiet_s = target, setup, quiet_s
        self.ear = Ear()
        self.described = connector.DescribeResponse()
        self.describe_s = 0.0
        self.configured = connector.ConfigureResponse()
        self.wire: Wire
        self.second: Wire | None = None
        self.cluster_id = str(uuid.uuid4())
        self.revision = 1
        self.kept: dict[str, Any] = {}
        self.numbers = iter(range(1, 1 << 30))
        self.exit_status = 0
        self.socket_left = False
        self._twin: Target | None = None
        self._stack = AsyncExitStack()

    @property
    def schema(self) -> Mapping[str, Any]:
        """The settings' schema; empty when it is none."""
        with contextlib.suppress(ValueError):
            found = json.loads(self.described.config_schema_json)
            if isinstance(found, dict):
                return found
        return {}

    @property
    def settings_json(self) -> str:
        return json.dumps(self.setup.settings)

    def claimed(self, kind: connector.ContractKind.ValueType) -> connector.Contract | None:
        """What the instance offers of a contract, with this configuration."""
        contracts = self.configured.contracts or self.described.contracts
        return next((entry for entry in contracts if entry.kind == kind), None)

    def claims(self, capability: connector.Capability.ValueType) -> bool:
        """Whether any contract claims it."""
        contracts = self.configured.contracts or self.described.contracts
        return any(capability in entry.capabilities for entry in contracts)

    async def __aenter__(self) -> Self:
        try:
            await self.target.start()
            await self._stack.__aenter__()
            await self._dial()
            await self._describe()
            secrets = [
                *secrets_in(self.schema, self.setup.settings),
                *secrets_in(self.schema, self.setup.second_settings),
            ]
            self.ear.secrets = tuple({text for _, text in secrets})
            await self._configure()
            await self._find_second()
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()
        if self._twin is not None:
            await self._twin.aclose()
        await self.target.aclose()

    async def restart(self, *, gently: bool = False) -> None:
        """Ends the connector (kill -9, or SIGTERM when `gently`), starts and configures it again."""
        await self._stack.aclose()
        if gently:
            self.exit_status = await self.target.terminate()
            self.socket_left = _is_there(self.target.address)
        else:
            await self.target.kill()
        await self.start_again()

    async def start_again(self) -> None:
        """After the connector has ended by itself."""
        await self._stack.aclose()
        await self.target.start()
        self._stack = AsyncExitStack()
        await self._dial()
        await self._configure()
        await self._dial_second()

    async def configure(
        self,
        wire: Wire,
        settings: Mapping[str, Any] | str,
        revision: int | None = None,
    ) -> connector.ConfigureResponse:
        """One Configure, as the core makes it."""
        text = settings if isinstance(settings, str) else json.dumps(settings)
        request = connector.ConfigureRequest(
            instance=wire.instance,
            config_json=text,
            revision=self.revision if revision is None else revision,
            core_version=CORE_VERSION,
            cluster_id=self.cluster_id,
        )
        answer: connector.ConfigureResponse = await wire.call(
            "ConnectorService.Configure", request, metadata=()
        )
        return answer

    @asynccontextmanager
    async def dialled(
        self, address: str | None = None, *, buffering: bool = True
    ) -> AsyncIterator[Wire]:
        """A connection of its own to the main instance; without `buffering` it takes what is read."""
        options = CHANNEL_OPTIONS if buffering else (*CHANNEL_OPTIONS, *NO_BUFFERING)
        async with grpc.aio.insecure_channel(
            address or self.target.address, options=options
        ) as channel:
            yield Wire(channel, MAIN, self.ear)

    def address_of(self, wire: Wire) -> str:
        """Address of the process that serves an instance."""
        twin = self._twin is not None and wire is self.second
        return self._twin.address if twin and self._twin else self.target.address

    async def _dial(self) -> None:
        self.wire = await self._stack.enter_async_context(self.dialled())
        try:
            async with asyncio.timeout(DIAL_S):
                await self.wire.channel.channel_ready()
        except TimeoutError:
            raise UnreachableError(
                f"Nothing answers at {self.target.address} within {DIAL_S:.0f} s"
            ) from None

    async def _describe(self) -> None:
        begun = time.monotonic()
        try:
            self.described = await self.wire.call(
                "ConnectorService.Describe", connector.DescribeRequest(), metadata=()
            )
        except Refusal as refusal:
            raise UnreachableError(
                f"Describe must answer before Configure, but: {refusal}"
            ) from None
        self.describe_s = time.monotonic() - begun

    async def _configure(self) -> None:
        try:
            self.configured = await self.configure(self.wire, self.setup.settings)
        except Refusal as refusal:
            raise UnreachableError(f"The settings were refused: {refusal}") from None

    async def _find_second(self) -> None:
        """Another member, where there is a way to have one."""
        if not self.described.multi_instance:
            self._twin = self.target.twin()
            if self._twin is None:
                return
            await self._twin.start()
        await self._dial_second()

    async def _dial_second(self) -> None:
        if self._twin is not None:
            wire = await self._stack.enter_async_context(self.dialled(self._twin.address))
            self.second = wire.of(SECOND)
        elif self.described.multi_instance:
            self.second = self.wire.of(SECOND)
        else:
            return
        try:
            await self.configure(self.second, self.setup.second_settings)
        except (Refusal, Violation) as refusal:
            raise UnreachableError(f"The second instance was refused: {refusal}") from None


def _is_there(address: str) -> bool:
    """Whether the socket of an address exists."""
    return address.startswith("unix:") and Path(address.removeprefix("unix:")).exists()
