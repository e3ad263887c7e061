"""A ledger's connector from the released protocol alone: neither the kit nor our generated code.

Run as `python -m tests.support.frozen_connector VERSION SOCKET`. It finishes every submission at
once, finds ten events for each listener, and sends them from behind the checkpoint it is given. That
of the next version says in every message what nobody can know, offers capabilities and contracts
that do not exist yet, and sends frames and events of kinds to come.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from typing import Any, Final

import grpc

from tests.support.frozen_protos import LATER_CASE, LATER_TEXT, LATER_VALUE, Protocol

EVENTS: Final = 10
INSTANCE_HEADER: Final = "x-connector-instance"
STORE_ID: Final = "0f0e0d0c-0b0a-4908-8706-050403020100"


class FrozenConnector:
    """One instance of a ledger."""

    def __init__(self, protocol: Protocol) -> None:
        self._protocol = protocol
        self._make = protocol.message
        self._done: dict[str, str] = {}
        self._stopping = asyncio.Event()

    def services(self) -> list[grpc.GenericRpcHandler]:
        """What is served."""
        handlers = self._protocol.handlers
        return [
            handlers(
                "ConnectorService",
                {
                    "Describe": self.describe,
                    "Validate": self.validate,
                    "Configure": self.configure,
                    "NotifyRegistration": self.notify,
                    "WatchStatus": self.watch,
                    "Drain": self.drain,
                },
            ),
            handlers("OperationService", {"GetOperation": self.get_operation}),
            handlers("EventService", {"Stream": self.stream}),
            handlers(
                "BlockchainService",
                {
                    "ResolveKey": self.resolve_key,
                    "NormalizeLocation": self.normalize_location,
                    "SubmitBatchPin": self.submit_batch_pin,
                },
            ),
        ]

    async def describe(self, _request: Any, _context: Any) -> Any:
        return self._make(
            "DescribeResponse",
            name="frozen",
            version="1.0.0",
            protocols=["v1", "v2"] if self._protocol.is_next else ["v1"],
            stability=LATER_VALUE if self._protocol.is_next else 0,
            contracts=self._contracts(),
            config_schema_json='{"type":"object"}',
        )

    async def validate(self, _request: Any, _context: Any) -> Any:
        # Of a severity that is not known the core cannot say that it is an error.
        finding = self._make("Diagnostic", severity=LATER_VALUE, summary="just so")
        return self._make(
            "ValidateResponse", diagnostics=[finding] if self._protocol.is_next else []
        )

    async def configure(self, _request: Any, _context: Any) -> Any:
        return self._make("ConfigureResponse", contracts=self._contracts(), store_id=STORE_ID)

    async def notify(self, request: Any, _context: Any) -> Any:
        print(f"accepted {request.accepted} {request.reason}", flush=True)
        return self._make("NotifyRegistrationResponse")

    async def watch(self, _request: Any, _context: Any) -> AsyncIterator[Any]:
        # A state that is not known is no reason to give a connector up.
        value = self._protocol.value("RuntimeState", "RUNTIME_STATE_OK")
        yield self._make("WatchStatusResponse", state=value)
        if self._protocol.is_next:
            yield self._make("WatchStatusResponse", state=LATER_VALUE, reason="in a new way")
            yield self._make("WatchStatusResponse", state=value)
        await self._stopping.wait()

    async def drain(self, _request: Any, _context: Any) -> Any:
        return self._make("DrainResponse")

    async def get_operation(self, request: Any, context: Any) -> Any:
        known = self._done.get(request.idempotency_key)
        if known is None:
            await context.abort(grpc.StatusCode.NOT_FOUND, "unknown")
        operation = self._make(
            "Operation", idempotency_key=request.idempotency_key, external_id=known
        )
        return self._make("GetOperationResponse", operation=operation)

    async def resolve_key(self, request: Any, _context: Any) -> Any:
        return self._make("ResolveKeyResponse", key=request.key, verifier_type="ethereum_address")

    async def normalize_location(self, request: Any, _context: Any) -> Any:
        return self._make("NormalizeLocationResponse", location_json=request.location_json)

    async def submit_batch_pin(self, request: Any, _context: Any) -> Any:
        key = request.context.idempotency_key
        replayed = key in self._done
        self._done[key] = f"0x{request.pin.batch_id}"
        state = self._protocol.value("OperationState", "OPERATION_STATE_SUCCEEDED")
        submission = self._make(
            "Submission",
            replayed=replayed,
            # Work in a state that is not known has not ended, as far as anybody knows.
            state=LATER_VALUE if self._protocol.is_next else state,
            external_id=self._done[key],
        )
        return self._make("SubmitBatchPinResponse", submission=submission)

    async def stream(self, frames: AsyncIterator[Any], _context: Any) -> AsyncIterator[Any]:
        opening = (await anext(aiter(frames))).open
        yield self._make(
            "StreamResponse",
            opened=self._make(
                "Opened",
                window_batches=opening.window_batches,
                window_bytes=opening.window_bytes,
                batch_size=opening.batch_size,
            ),
        )
        if self._protocol.is_next:
            yield self._make("StreamResponse", **{LATER_CASE: LATER_TEXT})
        seq = 0
        for listener in opening.listeners:
            for number in range(int(listener.resume or b"0") + 1, EVENTS + 1):
                seq += 1
                batch = self._batch(seq, listener.id, number)
                yield self._make("StreamResponse", batch=batch)
        async for frame in frames:
            kind = frame.WhichOneof("frame")
            if kind == "ack":
                print(f"acked {frame.ack.through_seq}", flush=True)
            elif kind == "drain":
                drained = self._make("Drained", last_seq=seq)
                yield self._make("StreamResponse", drained=drained)
                return

    def _batch(self, seq: int, listener: str, number: int) -> Any:
        place = self._make("Position", block=number)
        chain = self._make("ChainEvent", position=place, protocol_id=f"{number:012d}")
        action = self._make("NetworkActionEvent", chain=chain, action="terminate")
        event = self._make(
            "Event", id=f"{listener}/{number}", listener_id=listener, network_action=action
        )
        events = [event]
        if self._protocol.is_next:
            later = {LATER_CASE: LATER_TEXT}
            events.append(
                self._make("Event", id=f"{listener}/{number}/later", listener_id=listener, **later)
            )
        return self._make(
            "Batch", seq=seq, events=events, checkpoints={listener: str(number).encode()}
        )

    def _contracts(self) -> list[Any]:
        kind = self._protocol.value("ContractKind", "CONTRACT_KIND_BLOCKCHAIN")
        names = ("CAPABILITY_OPERATIONS", "CAPABILITY_EVENTS", "CAPABILITY_MULTIPARTY")
        known = [self._protocol.value("Capability", name) for name in names]
        made = [self._make("Contract", kind=kind, capabilities=known)]
        if self._protocol.is_next:
            made[0].capabilities.append(LATER_VALUE)
            made.append(self._make("Contract", kind=LATER_VALUE, capabilities=[LATER_VALUE]))
        return made


async def main(version: str, socket: str) -> None:
    """Serves until it is told to stop."""
    server = grpc.aio.server()
    connector = FrozenConnector(Protocol(version))
    server.add_generic_rpc_handlers(tuple(connector.services()))
    server.add_insecure_port(f"unix:{socket}")
    await server.start()
    print("serving", flush=True)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await stop.wait()
    await server.stop(None)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:3]))
