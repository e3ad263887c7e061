# ruff: noqa: ARG002 - the kit's interface: request and call, used or not
"""The blockchain contract: every transaction is a block, final at once, and every member sees the same ones."""

from __future__ import annotations

import json
import re
import time
import uuid
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Final

from photinus.connector.v1 import blockchain_pb2 as pb
from photinus.connector.v1 import common_pb2 as common
from photinus.connector.v1 import event_pb2 as events
from photinus_sdk import (
    Blockchain,
    CallContext,
    CheckpointLost,
    Events,
    NotFound,
    Passed,
    Rejected,
    StreamKey,
    Subscription,
)

from photinus_memory.contracts import Interfaces, Method, checked_event, signature_of
from photinus_memory.member import (
    VERIFIER_TYPE,
    Member,
    MemorySettings,
    canonical_key,
    canonical_location,
    location_of,
    mined,
)
from photinus_memory.world import Block, World

HASH: Final = re.compile(r"[0-9a-f]{64}")
NETWORK_VERSION: Final = 2
PIN_SIGNATURE: Final = "BatchPin(address,uint256,string,bytes32,bytes32,string,bytes32[])"
ACTION_PREFIX: Final = "firefly:"
INVOKE_PIN_ACTION: Final = "firefly:contract_invoke_pin"
PARAM_SCHEMA: Final = {
    "type": "object",
    "properties": {"type": {"type": "string"}, "details": {"type": "object"}},
}


class MemoryLedger(Member, Blockchain[MemorySettings]):
    """Keys, pins, and contracts that do what their interface says (`contracts`)."""

    async def start(self, settings: MemorySettings) -> None:
        await super().start(settings)
        self._interfaces = Interfaces()

    async def resolve_key(
        self, request: pb.ResolveKeyRequest, call: CallContext
    ) -> pb.ResolveKeyResponse:
        key = canonical_key(request.key or self.keys[0])
        if request.intent in (pb.KEY_INTENT_UNSPECIFIED, pb.KEY_INTENT_SIGN):
            self.signer(key)
        return pb.ResolveKeyResponse(key=key, verifier_type=VERIFIER_TYPE)

    # Multiparty

    async def submit_batch_pin(
        self, request: pb.SubmitBatchPinRequest, call: CallContext
    ) -> common.Submission:
        location = canonical_location(request.location_json)
        return self._mine_pin(call, request.signing_key, location, _pin(request.pin))

    async def submit_network_action(
        self, request: pb.SubmitNetworkActionRequest, call: CallContext
    ) -> common.Submission:
        location = canonical_location(request.location_json)
        if not request.action:
            raise Rejected("The action has no name", reason="INVALID_INPUTS")
        action = events.NetworkActionEvent(action=request.action, payload=request.payload)
        return self._mine_pin(
            call, request.signing_key, location, events.Event(network_action=action)
        )

    async def get_network_version(
        self, request: pb.GetNetworkVersionRequest, call: CallContext
    ) -> pb.GetNetworkVersionResponse:
        canonical_location(request.location_json)
        return pb.GetNetworkVersionResponse(version=NETWORK_VERSION)

    # Contracts

    async def invoke_contract(
        self, request: pb.InvokeContractRequest, call: CallContext
    ) -> common.Submission:
        location = canonical_location(request.location_json)
        method = self._interfaces.find(request.method)
        output = json.dumps(method.inputs(request.input_json), separators=(",", ":"))
        if request.HasField("pin"):
            event = _pin(request.pin)
            event.batch_pin.contract_invoke = True
            location = location_of(self.settings.contract.lower())
            return self._mine_pin(call, request.signing_key, location, event)
        event = events.Event(
            contract_event=events.ContractEvent(chain=common.ChainEvent(output_json=output))
        )
        return self._mine(
            call, request.signing_key, location, event, method.emits, method.signature
        )

    async def deploy_contract(
        self, request: pb.DeployContractRequest, call: CallContext
    ) -> common.Submission:
        self.signer(request.signing_key)
        transaction = self.transaction(call)
        place = {"contractLocation": {"address": "0x" + transaction[-40:]}}
        return common.Submission(
            state=common.OPERATION_STATE_SUCCEEDED,
            external_id=transaction,
            output_json=json.dumps(place),
        )

    async def query_contract(
        self, request: pb.QueryContractRequest, call: CallContext
    ) -> pb.QueryContractResponse:
        location = canonical_location(request.location_json)
        method = self._interfaces.find(request.method)
        method.inputs(request.input_json)
        result = method.result(self.world.contracts.get(location, {}))
        return pb.QueryContractResponse(output_json=json.dumps(result, separators=(",", ":")))

    async def parse_interface(
        self, request: pb.ParseInterfaceRequest, call: CallContext
    ) -> pb.ParseInterfaceResponse:
        parsed_id = self._interfaces.keep(Method.parse(request.method.method_json))
        return pb.ParseInterfaceResponse(parsed_id=parsed_id, accepts_pin=True)

    async def describe_event(
        self, request: pb.DescribeEventRequest, call: CallContext
    ) -> pb.DescribeEventResponse:
        signature = signature_of(checked_event(request.event_json))
        location, other = (
            canonical_location(text) if text else ""
            for text in (request.location_json, request.other_location_json)
        )
        return pb.DescribeEventResponse(
            signature=signature,
            signature_with_location=f"{location or '*'}:{signature}",
            overlaps=not location or not other or location == other,
        )

    async def normalize_location(
        self, request: pb.NormalizeLocationRequest, call: CallContext
    ) -> pb.NormalizeLocationResponse:
        return pb.NormalizeLocationResponse(location_json=canonical_location(request.location_json))

    async def get_param_schema(
        self, request: pb.GetParamSchemaRequest, call: CallContext
    ) -> pb.GetParamSchemaResponse:
        return pb.GetParamSchemaResponse(schema_json=json.dumps(PARAM_SCHEMA))

    async def get_transaction_status(
        self, request: pb.GetTransactionStatusRequest, call: CallContext
    ) -> pb.GetTransactionStatusResponse:
        transaction = request.transaction_id
        if request.idempotency_key:
            stream = StreamKey.of(request.stream)
            transaction = self.transaction(
                replace(call, stream=stream, idempotency_key=request.idempotency_key)
            )
        block = self.world.block_of(transaction)
        if block is None:
            raise NotFound("The ledger knows no such transaction", reason="UNKNOWN_KEY")
        status = {"status": "Succeeded", "transactionHash": transaction, "block": block.number}
        return pb.GetTransactionStatusResponse(status_json=json.dumps(status))

    # Events

    async def follow(self, subscription: Subscription) -> AsyncIterator[Events | Passed]:
        """The blocks behind a listener's checkpoint that fit its filter, for ever."""
        matches = self._filter(subscription.listener)
        done = first_block(self.world, subscription)
        while True:
            changed, head = self.world.changed, self.world.head
            while done < head:
                upto = min(head, done + subscription.batch_size)
                found = [b.event() for b in self.world.ledger[done:upto] if matches(b)]
                done = upto
                if found:
                    yield Events(found, checkpoint_at(self.world, done))
            yield Passed(checkpoint_at(self.world, done), final_block=done)
            await changed.wait()

    def _filter(self, listener: events.Listener) -> Callable[[Block], bool]:
        match listener.WhichOneof("filter"):
            case "multiparty":
                location = canonical_location(listener.multiparty.location_json)
                kinds = ("batch_pin", "network_action")
                return lambda b: b.kind in kinds and b.chain.location_json == location
            case "contract_events":
                wanted = {
                    (
                        str(checked_event(each.event_json)["name"]),
                        canonical_location(each.location_json) if each.location_json else "",
                    )
                    for each in listener.contract_events.filters
                }
                return lambda b: (
                    b.kind == "contract_event"
                    and not wanted.isdisjoint(
                        ((b.chain.name, ""), (b.chain.name, b.chain.location_json))
                    )
                )
            case "token_pool":
                pool = listener.token_pool.pool_locator
                if pool not in self.world.pools:
                    raise Rejected(f"There is no pool {pool[:200]!r}", reason="UNKNOWN_POOL")
                return lambda b: b.kind in ("token_transfer", "token_approval") and b.pool == pool
            case _:
                raise Rejected("A ledger has no such events", reason="INVALID_FILTER")

    def _mine_pin(
        self, call: CallContext, signing_key: str, location: str, event: events.Event
    ) -> common.Submission:
        output = json.dumps(_decoded(signing_key.lower(), event), sort_keys=True)
        if event.WhichOneof("body") == "batch_pin":
            event.batch_pin.chain.output_json = output
        else:
            event.network_action.chain.output_json = output
        return self._mine(call, signing_key, location, event, "BatchPin", PIN_SIGNATURE)

    def _mine(
        self,
        call: CallContext,
        signing_key: str,
        location: str,
        event: events.Event,
        name: str,
        signature: str,
    ) -> common.Submission:
        kind = event.WhichOneof("body")
        assert kind is not None
        signer = self.signer(signing_key)

        def find(made: events.Event) -> common.ChainEvent:
            chain: common.ChainEvent = getattr(made, kind).chain
            chain.name, chain.signature = name, signature
            return chain

        return mined(self.world.mine(self.transaction(call), signer, location, event, find))


def checkpoint_at(world: World, block: int) -> bytes:
    """The checkpoint behind a block; it names the world, so that none of another one is taken for it."""
    return f"{world.id}/{block}".encode()


def first_block(world: World, subscription: Subscription) -> int:
    """The block behind which a listener goes on. Raises CheckpointLost and Rejected."""
    if subscription.resume:
        name, _, number = subscription.resume.decode(errors="replace").partition("/")
        if name != world.id or not number.isdecimal() or int(number) > world.head:
            reason = (
                "the checkpoint is none of this world: a ledger in memory ends with its process"
            )
            raise CheckpointLost(reason, common.Position(block=1))
        return int(number)
    match subscription.listener.first_event:
        case "" | "oldest":
            return 0
        case "newest":
            return world.head
        case number if number.isdecimal():
            return max(0, int(number) - 1)
        case other:
            raise Rejected(f"{other[:100]!r} is no first event", reason="INVALID_FIRST_EVENT")


def _pin(pin: pb.BatchPin) -> events.Event:
    if not all(HASH.fullmatch(each) for each in (pin.batch_hash, *pin.contexts)):
        raise Rejected("A hash or context has not 64 hex digits", reason="INVALID_INPUTS")
    for each in (pin.batch_id, pin.transaction_uuid):
        try:
            uuid.UUID(each)
        except ValueError:
            raise Rejected(f"{each[:100]!r} is no UUID", reason="INVALID_INPUTS") from None
    return events.Event(
        batch_pin=events.BatchPinEvent(
            transaction_uuid=pin.transaction_uuid,
            batch_id=pin.batch_id,
            batch_hash=pin.batch_hash,
            payload_ref=pin.payload_ref,
            contexts=pin.contexts,
        )
    )


def _decoded(author: str, event: events.Event) -> dict[str, object]:
    """The arguments of FireFly's one event for pins and actions, as a ledger would show them."""
    pin, action = event.batch_pin, event.network_action
    uuids = [uuid.UUID(each).hex for each in (pin.transaction_uuid, pin.batch_id) if each]
    return {
        "author": author,
        "batchHash": "0x" + (pin.batch_hash or "0" * 64),
        "contexts": [f"0x{context}" for context in pin.contexts],
        "namespace": ACTION_PREFIX + action.action
        if action.action
        else INVOKE_PIN_ACTION * pin.contract_invoke,
        "payloadRef": pin.payload_ref or action.payload,
        "timestamp": str(int(time.time())),
        "uuids": "0x" + ("".join(uuids) or "0" * 64),
    }
