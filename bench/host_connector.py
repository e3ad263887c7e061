# ruff: noqa: ARG002 - an author's method takes the call, used or not
"""The connector that `bench.host` measures with: made with the author kit, as an author would make it.

It finds contract events of a ledger that never ends, as fast as they are taken, and answers calls at
once. Events were made beforehand, so that kit, wire and host are measured and not the making of
messages; with `--fresh` each is made when it is found, as a ledger's connector does.

Run as `python -m bench.host_connector --batch 200 --cpu 0 …`; other arguments are the kit's.
"""

from __future__ import annotations

import argparse
import asyncio
import os
from collections.abc import AsyncIterator
from typing import ClassVar

from photinus.connector.v1 import blockchain_pb2 as chain
from photinus.connector.v1 import common_pb2 as common
from photinus.connector.v1 import event_pb2 as events
from photinus_sdk import (
    Blockchain,
    CallContext,
    Events,
    Settings,
    Subscription,
    event_stream,
    serve,
)

EVENTS_PER_BLOCK = 100
"""What `listen` yields at once; batches are cut from it, whatever their size."""
BLOCKS_MADE = 50

_LOCATION = '{"address":"0x5fbdb2315678afecb367f032d93f642f64180aa3"}'
_SIGNATURE = "Changed(address,uint256)"
_OUTPUT = '{"to":"0xf39fd6e51aad88f6f4ce6ab882727","value":"1"}'


class Endless(Blockchain[Settings], name="bench.endless", version="1.0.0"):
    """A ledger with as many events as anybody wants."""

    fresh: ClassVar[bool] = False

    async def normalize_location(
        self, request: chain.NormalizeLocationRequest, call: CallContext
    ) -> chain.NormalizeLocationResponse:
        return chain.NormalizeLocationResponse(location_json=request.location_json)

    async def submit_batch_pin(
        self, request: chain.SubmitBatchPinRequest, call: CallContext
    ) -> common.Submission:
        return common.Submission(external_id=f"0x{request.pin.batch_id}")

    async def listen(self, subscription: Subscription) -> AsyncIterator[Events]:
        block = int(subscription.resume or b"0")
        made = [] if self.fresh else [block_events(number) for number in range(BLOCKS_MADE)]
        while True:
            block += 1
            found = block_events(block) if self.fresh else made[block % BLOCKS_MADE]
            yield Events(found, str(block).encode())
            # Lets acks and calls in between two blocks, as a source that waits for a node does.
            await asyncio.sleep(0)


def block_events(block: int) -> list[events.Event]:
    """All events of a block."""
    return [contract_event(block, index) for index in range(EVENTS_PER_BLOCK)]


def contract_event(block: int, index: int) -> events.Event:
    """An event of 300 bytes."""
    place = f"{block:012d}/000000/{index:06d}"
    return events.Event(
        id=place,
        contract_event=events.ContractEvent(
            chain=common.ChainEvent(
                position=common.Position(block=block, log_index=index),
                protocol_id=place,
                transaction_id=f"0x{block:064x}",
                name="Changed",
                location_json=_LOCATION,
                signature=_SIGNATURE,
                output_json=_OUTPUT,
                source="bench",
            )
        ),
    )


def main() -> None:
    """Serves, bound to a processor and with the batch size that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, default=event_stream.BATCH_SIZE_MAX)
    parser.add_argument("--cpu", type=int, default=None)
    parser.add_argument("--fresh", action="store_true")
    options, rest = parser.parse_known_args()
    if options.cpu is not None:
        os.sched_setaffinity(0, {options.cpu})
    event_stream.BATCH_SIZE_MAX = options.batch
    Endless.fresh = options.fresh
    serve(Endless, rest)


if __name__ == "__main__":
    main()
