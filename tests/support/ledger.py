"""A connector for tests, made with the author kit: a ledger whose behaviour a test chooses.

In a test's own process the test reaches the object; as a child process (`python -m tests.support.ledger`)
its settings and the ids of batches say what it does.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Iterable
from typing import ClassVar

from photinus.connector.v1 import blockchain_pb2 as blockchain
from photinus.connector.v1 import common_pb2 as common
from photinus.connector.v1 import connector_pb2 as connector
from photinus.connector.v1 import event_pb2 as events
from photinus.connector.v1 import operation_pb2 as operations
from photinus_sdk import (
    Acked,
    Blockchain,
    CallContext,
    CheckpointLost,
    Events,
    Passed,
    Rejected,
    Reverted,
    Secret,
    Settings,
    StreamKey,
    Subscription,
    Unavailable,
    finding,
    serve,
)


class LedgerSettings(Settings):
    """`events`: how many events each listener finds. `version`: what GetNetworkVersion answers."""

    token: Secret | None = None
    events: int = 0
    version: int = 2
    log_token: bool = False


class Ledger(
    Blockchain[LedgerSettings],
    name="ledger",
    version="1.2.3",
    multi_instance=True,
    limits=connector.Limits(max_in_flight=8),
):
    """A ledger that finishes every submission at once, unless the batch's id says otherwise."""

    live: ClassVar[list["Ledger"]] = []

    async def start(self, settings: LedgerSettings) -> None:
        self.settings = settings
        self.calls: list[tuple[str, CallContext]] = []
        self.acks: list[Acked] = []
        self.feeds: dict[str, asyncio.Queue[Events | Passed | BaseException]] = {}
        self.listening: list[Subscription] = []
        self.release = asyncio.Event()
        if settings.log_token and settings.token is not None:
            self.instance.log.info("the token is %s", settings.token.reveal())
        Ledger.live.append(self)

    async def stop(self) -> None:
        if self in Ledger.live:
            Ledger.live.remove(self)

    async def reconfigure(self, settings: LedgerSettings) -> None:
        if settings.version != self.settings.version:
            await super().reconfigure(settings)
        self.settings = settings
        self.instance.log.info("reconfigured: %d events", settings.events)

    @classmethod
    async def validate(cls, settings: LedgerSettings) -> Iterable[common.Diagnostic]:
        if settings.events < 0:
            return [finding("events cannot be negative", "/events")]
        return []

    async def submit_batch_pin(
        self, request: blockchain.SubmitBatchPinRequest, call: CallContext
    ) -> common.Submission:
        self.calls.append((request.pin.batch_id, call))
        with (self.instance.data_dir / "calls.txt").open("a") as log:
            log.write(f"{call.idempotency_key} {call.retried}\n")
        match request.pin.batch_id:
            case "invalid":
                raise Rejected("no such thing")
            case "revert":
                raise Reverted("reverted", revert="0x1234")
            case "down":
                raise Unavailable("the node is away", retry_after_s=0.05)
            case "bug":
                raise ZeroDivisionError("a secret detail")
            case "held":
                await self.release.wait()
            case "slow":
                await asyncio.sleep(30)
            case "die" if not call.retried:
                os._exit(9)
            case "open":
                return common.Submission(external_id="0xopen")
            case _:
                pass
        return common.Submission(
            state=common.OPERATION_STATE_SUCCEEDED, external_id=f"0x{request.pin.batch_id}"
        )

    async def submit_network_action(
        self, request: blockchain.SubmitNetworkActionRequest, call: CallContext
    ) -> common.Submission:
        return common.Submission()

    async def get_network_version(
        self, request: blockchain.GetNetworkVersionRequest, call: CallContext
    ) -> blockchain.GetNetworkVersionResponse:
        if request.location_json == '"hang"':
            await asyncio.sleep(30)
        return blockchain.GetNetworkVersionResponse(version=self.settings.version)

    async def cancel(self, operation: operations.Operation, call: CallContext) -> bool:
        return operation.external_id == "0xopen"

    async def acked(self, acked: Acked) -> None:
        self.acks.append(acked)

    async def listen(self, subscription: Subscription) -> AsyncIterator[Events | Passed]:
        self.listening.append(subscription)
        name = subscription.listener.id
        if subscription.resume == b"gone":
            raise CheckpointLost("that block is no longer part of the chain")
        if subscription.listener.first_event == "never":
            raise Rejected("no such block")
        done = int(subscription.resume or b"0")
        for number in range(done + 1, self.settings.events + 1):
            yield Events([chain_event(name, number)], str(number).encode())
        feed = self.feeds.setdefault(name, asyncio.Queue())
        while True:
            item = await feed.get()
            if isinstance(item, BaseException):
                raise item
            yield item


def chain_event(listener_id: str, number: int, payload: str = "") -> events.Event:
    """Event `number` of a listener; `payload` makes it as large as wanted."""
    chain = common.ChainEvent(
        position=common.Position(block=number), protocol_id=f"{number:012d}/000000/000000"
    )
    return events.Event(
        id=f"{listener_id}/{number:012d}",
        network_action=events.NetworkActionEvent(chain=chain, action="terminate", payload=payload),
    )


CORE_STREAM = StreamKey("4c6e0c0e-5c0e-4a0e-8c0e-4c6e0c0e5c0e", "ns1", "core")


def pin_request(
    key: str, batch_id: str = "b1", *, epoch: int = 1, stream: StreamKey = CORE_STREAM
) -> blockchain.SubmitBatchPinRequest:
    """A submission whose batch id chooses the ledger's behaviour."""
    return blockchain.SubmitBatchPinRequest(
        context=common.MutationContext(
            idempotency_key=key, stream=stream.to_ref(), owner_epoch=epoch
        ),
        signing_key="0xabc",
        pin=blockchain.BatchPin(batch_id=batch_id),
    )


if __name__ == "__main__":
    serve(Ledger)
