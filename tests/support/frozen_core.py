"""A core from the released protocol alone: neither the host nor our generated code.

Run as `python -m tests.support.frozen_core VERSION ADDRESS INSTANCE`. It does to a connector what a
core does, from Describe to the end of an event stream, and prints one JSON object with all that it
was answered. That of the next version says in every message what nobody can know, and asks for what
does not exist yet.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any, Final

import grpc

from tests.support.frozen_protos import LATER_CASE, LATER_TEXT, LATER_VALUE, Protocol

CALL_S: Final = 60.0
CLUSTER_ID: Final = "4c6e0c0e-5c0e-4a0e-8c0e-4c6e0c0e5c0e"
EVENTS: Final = 5
CONFIG: Final = json.dumps({"events": EVENTS})


class FrozenCore:
    """One core at one connector."""

    def __init__(self, protocol: Protocol, channel: grpc.aio.Channel, instance: str) -> None:
        self._protocol = protocol
        self._make = protocol.message
        self._instance = instance
        self._metadata = (("x-connector-instance", instance),)
        self._stubs = {
            name: protocol.stub(channel, name)
            for name in (
                "ConnectorService",
                "OperationService",
                "EventService",
                "BlockchainService",
            )
        }

    async def run(self) -> dict[str, Any]:
        """All of it, in a core's order."""
        return {
            "control": await self.introduce(),
            "calls": await self.use(),
            "stream": await self.listen(),
        }

    async def introduce(self) -> dict[str, Any]:
        """Describe, Validate, Configure, NotifyRegistration, WatchStatus."""
        described = await self._ask("ConnectorService", "Describe", "DescribeRequest")
        wrong = await self._ask(
            "ConnectorService", "Validate", "ValidateRequest", config_json='{"events":-1}'
        )
        configured = await self._ask(
            "ConnectorService",
            "Configure",
            "ConfigureRequest",
            instance=self._instance,
            config_json=CONFIG,
            revision=1,
            core_version="0.1.0",
            cluster_id=CLUSTER_ID,
        )
        await self._ask(
            "ConnectorService",
            "NotifyRegistration",
            "NotifyRegistrationRequest",
            instance=self._instance,
            accepted=True,
        )
        watch = self._stubs["ConnectorService"]("WatchStatus")
        call = watch(self._make("WatchStatusRequest"), metadata=self._metadata, timeout=CALL_S)
        status = await call.read()
        call.cancel()
        return {
            "name": described.name,
            "protocols": list(described.protocols),
            "kinds": [contract.kind for contract in described.contracts],
            "findings": [finding.pointer for finding in wrong.diagnostics],
            "store": configured.store_id,
            "ok": status.state == self._protocol.value("RuntimeState", "RUNTIME_STATE_OK"),
        }

    async def use(self) -> dict[str, Any]:
        """Submissions, their repetition, what is known of them, and refusals."""
        first = await self._pin("ns:1", "b1")
        again = await self._pin("ns:1", "b1")
        known = await self._ask(
            "OperationService",
            "GetOperation",
            "GetOperationRequest",
            stream=self._stream_ref(),
            idempotency_key="ns:1",
        )
        later = {"state": LATER_VALUE} if self._protocol.is_next else {}
        listed = await self._ask(
            "OperationService",
            "ListOperations",
            "ListOperationsRequest",
            stream=self._stream_ref(),
            **later,
        )
        return {
            "first": [first.replayed, first.external_id],
            "again": [again.replayed, again.external_id],
            "known": known.operation.external_id,
            "listed": [operation.idempotency_key for operation in listed.operations],
            "other arguments": await self._refused("ns:1", "b2"),
            "invalid": await self._refused("ns:2", "invalid"),
            "reverted": await self._refused("ns:3", "revert"),
        }

    async def listen(self) -> dict[str, Any]:
        """An event stream: opened, acked, with a listener more, drained."""
        call = self._stubs["EventService"]("Stream")(metadata=self._metadata, timeout=CALL_S)
        multiparty = self._make("MultipartyFilter", location_json='{"address":"0x1"}', version=2)
        listener = self._make("Listener", id="a", multiparty=multiparty, first_event="oldest")
        opening = self._make(
            "Open",
            stream=self._stream_ref(),
            owner_epoch=1,
            network_namespace="net",
            listeners=[listener],
            window_batches=4,
            window_bytes=1 << 20,
            batch_size=2,
        )
        await call.write(self._make("StreamRequest", open=opening))
        kinds: list[str | None] = []
        seen: list[str] = []
        checkpoint, updates = b"", 0
        while len(seen) < EVENTS or not updates:
            frame = await call.read()
            kind = frame.WhichOneof("frame")
            if kind != "progress" and (not kinds or kinds[-1] != kind):
                kinds.append(kind)
            if kind != "batch":
                continue
            seen += [event.id for event in frame.batch.events if event.listener_id == "a"]
            updates += sum(not event.listener_id for event in frame.batch.events)
            checkpoint = frame.batch.checkpoints.get("a", checkpoint)
            ack = self._make("Ack", through_seq=frame.batch.seq)
            await call.write(self._make("StreamRequest", ack=ack))
            if self._protocol.is_next and len(seen) == EVENTS:
                await call.write(self._make("StreamRequest", **{LATER_CASE: LATER_TEXT}))
        refused = await self._listener_of_a_later_kind(call) if self._protocol.is_next else ""
        await call.write(self._make("StreamRequest", drain=self._make("DrainStream")))
        while (frame := await call.read()).WhichOneof("frame") != "drained":
            pass
        call.cancel()
        return {
            "kinds": kinds,
            "seen": seen,
            "checkpoint": checkpoint.decode(),
            "drained": frame.drained.last_seq > 0,
            "refused": refused,
        }

    async def _listener_of_a_later_kind(self, call: Any) -> str:
        """A listener that nobody can serve is refused alone."""
        listener = self._make("Listener", id="later", **{LATER_CASE: LATER_TEXT})
        added = self._make("AddListener", listener=listener)
        await call.write(self._make("StreamRequest", add_listener=added))
        while (frame := await call.read()).WhichOneof("frame") != "listener_error":
            pass
        return str(frame.listener_error.listener_id)

    async def _pin(self, key: str, batch: str) -> Any:
        answer = await self._ask(
            "BlockchainService",
            "SubmitBatchPin",
            "SubmitBatchPinRequest",
            context=self._make(
                "MutationContext", idempotency_key=key, stream=self._stream_ref(), owner_epoch=1
            ),
            signing_key="0xabc",
            pin=self._make("BatchPin", batch_id=batch),
        )
        return answer.submission

    async def _refused(self, key: str, batch: str) -> list[str]:
        """Code and reason of a refusal."""
        try:
            await self._pin(key, batch)
        except grpc.aio.AioRpcError as failure:
            details = dict(failure.trailing_metadata() or ()).get("grpc-status-details-bin", b"")
            return [failure.code().name, _reason(self._protocol, details)]
        return []

    async def _ask(self, service: str, method: str, request: str, **fields: Any) -> Any:
        call = self._stubs[service](method)
        made = self._make(request, **fields)
        return await call(made, metadata=self._metadata, timeout=CALL_S)

    def _stream_ref(self) -> Any:
        return self._make("StreamRef", cluster_id=CLUSTER_ID, namespace="ns", consumer="core")


def _reason(protocol: Protocol, details: Any) -> str:
    """The reason in the details of an error."""
    from google.rpc import error_details_pb2

    status = protocol.message("google.rpc.Status")
    status.ParseFromString(details)
    for each in status.details:
        if each.type_url.endswith("/google.rpc.ErrorInfo"):
            return error_details_pb2.ErrorInfo.FromString(each.value).reason
    return ""


async def main(version: str, address: str, instance: str) -> None:
    """Does it and prints what came of it."""
    options = [("grpc.default_authority", "localhost")]
    async with grpc.aio.insecure_channel(address, options=options) as channel:
        core = FrozenCore(Protocol(version), channel, instance)
        print(json.dumps(await core.run()))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:4]))
