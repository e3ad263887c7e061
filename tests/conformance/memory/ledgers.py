"""BlockchainService and TokensService of the connector in memory."""

import json
import re
import uuid
from typing import Any

from photinus.connector.v1 import blockchain_pb2 as blockchain
from photinus.connector.v1 import common_pb2 as common
from photinus.connector.v1 import event_pb2 as events
from photinus.connector.v1 import tokens_pb2 as tokens

from tests.conformance.memory.calls import Calls
from tests.conformance.memory.refusals import invalid, not_found, precondition
from tests.conformance.memory.world import KEY, Operation, Pool, Scope, Store

HASH = re.compile(r"[0-9a-f]{64}")
AMOUNT = re.compile(r"[0-9]{1,78}")
FORBIDDEN = 13


class Blockchain:
    """A ledger where every transaction is a block, final at once."""

    def __init__(self, calls: Calls) -> None:
        self.calls, self.world = calls, calls.world
        self.parsed: dict[str, str] = {}

    async def ResolveKey(self, request: Any, context: Any) -> blockchain.ResolveKeyResponse:
        key = request.key.lower()
        if not key.startswith("0x"):
            raise invalid("INVALID_KEY", "no key")
        signs = request.intent in (blockchain.KEY_INTENT_UNSPECIFIED, blockchain.KEY_INTENT_SIGN)
        if signs and key != KEY and not self.world.has("any-key-held"):
            raise not_found("UNKNOWN_KEY", "not held here")
        if self.world.has("key-not-canonical"):
            key = f"{request.key} "
        return blockchain.ResolveKeyResponse(key=key, verifier_type="memory_key")

    async def SubmitBatchPin(self, request: Any, context: Any) -> Any:
        if not self.world.has("bad-pin-taken"):
            check_pin(request.pin, request.location_json)

        def effect(store: Store, scope: Scope, operation: Operation) -> str:
            pin = request.pin
            contexts = list(pin.contexts)
            if self.world.has("contexts-sorted"):
                contexts.sort(reverse=True)
            event = events.Event(
                batch_pin=events.BatchPinEvent(
                    transaction_uuid=pin.transaction_uuid,
                    batch_id=pin.batch_id,
                    batch_hash=pin.batch_hash,
                    payload_ref=pin.payload_ref,
                    contexts=contexts,
                )
            )
            event.batch_pin.chain.name = "BatchPin"
            return self.world.mine(event, event.batch_pin.chain)

        done = await self.calls.submit(context, request, "SubmitBatchPin", effect)
        return blockchain.SubmitBatchPinResponse(submission=done)

    async def SubmitNetworkAction(self, request: Any, context: Any) -> Any:
        def effect(store: Store, scope: Scope, operation: Operation) -> str:
            prefix = "firefly:" if self.world.has("action-prefix") else ""
            action = events.NetworkActionEvent(
                action=prefix + request.action, payload=request.payload
            )
            event = events.Event(network_action=action)
            return self.world.mine(event, event.network_action.chain)

        done = await self.calls.submit(context, request, "SubmitNetworkAction", effect)
        return blockchain.SubmitNetworkActionResponse(submission=done)

    async def InvokeContract(self, request: Any, context: Any) -> Any:
        given = read_object(request.input_json or "{}")
        if given.get("value") == FORBIDDEN and not self.world.has("revert-sent"):
            raise precondition("TRANSACTION_REVERTED", "forbidden")

        def effect(store: Store, scope: Scope, operation: Operation) -> str:
            event = events.Event()
            event.contract_event.chain.name = "Changed"
            if self.world.has("event-misnamed"):
                event.contract_event.chain.name = ""
            return self.world.mine(event, event.contract_event.chain)

        done = await self.calls.submit(context, request, "InvokeContract", effect)
        return blockchain.InvokeContractResponse(submission=done)

    async def QueryContract(self, request: Any, context: Any) -> Any:
        self.calls.instance_of(context)
        method = request.method
        if method.parsed_id and method.parsed_id not in self.parsed:
            raise not_found("UNKNOWN_INTERFACE", "dropped")
        if read_object(request.input_json or "{}").get("value") == FORBIDDEN:
            raise precondition("TRANSACTION_REVERTED", "forbidden")
        return blockchain.QueryContractResponse(output_json='{"output":"1"}')

    async def ParseInterface(self, request: Any, context: Any) -> Any:
        parsed_id = str(uuid.uuid5(uuid.NAMESPACE_OID, request.method.method_json))
        if self.world.has("interface-id-random"):
            parsed_id = str(uuid.uuid4())
        self.parsed[parsed_id] = request.method.method_json
        return blockchain.ParseInterfaceResponse(parsed_id=parsed_id)

    async def DescribeEvent(self, request: Any, context: Any) -> Any:
        event = read_object(request.event_json)
        return blockchain.DescribeEventResponse(
            signature=f"{event['name']}()", overlaps=not self.world.has("never-overlaps")
        )

    async def NormalizeLocation(self, request: Any, context: Any) -> Any:
        found = read_object(request.location_json)
        if self.world.has("location-as-given"):
            return blockchain.NormalizeLocationResponse(location_json=request.location_json)
        text = json.dumps(found, sort_keys=True, separators=(",", ":"))
        return blockchain.NormalizeLocationResponse(location_json=text)

    async def GetNetworkVersion(self, request: Any, context: Any) -> Any:
        return blockchain.GetNetworkVersionResponse(version=1 + (not self.world.has("version-1")))

    async def GetTransactionStatus(self, request: Any, context: Any) -> Any:
        store = self.calls.store(context)
        stream = request.stream
        scope = (stream.cluster_id, stream.namespace, stream.consumer)
        known = (scope, request.idempotency_key) in store.operations
        if not known and not self.world.has("status-of-nothing"):
            raise not_found("UNKNOWN_KEY", "nothing is known of it")
        return blockchain.GetTransactionStatusResponse(status_json="{}")

    async def GetParamSchema(self, request: Any, context: Any) -> Any:
        text = "" if self.world.has("no-param-schema") else "{}"
        return blockchain.GetParamSchemaResponse(schema_json=text)


class Tokens:
    """Pools on the same ledger."""

    def __init__(self, calls: Calls) -> None:
        self.calls, self.world = calls, calls.world

    async def CreatePool(self, request: Any, context: Any) -> Any:
        def effect(store: Store, scope: Scope, operation: Operation) -> str:
            locator = f"pool-{next(self.world.numbers)}"
            self.world.pools[locator] = Pool(locator, request.symbol, request.type)
            self._tell(store, scope, locator, operation.key)
            return locator

        done = await self.calls.submit(context, request, "CreatePool", effect)
        return tokens.CreatePoolResponse(submission=done)

    def _tell(self, store: Store, scope: Scope, locator: str, key: str, pool_id: str = "") -> None:
        pool = self.world.pools.get(locator, Pool(locator, "", ""))
        told = events.TokenPoolEvent(
            pool_locator=locator,
            type=pool.kind,
            standard="memory",
            symbol="" if self.world.has("no-symbol") else pool.symbol,
            pool_id="" if self.world.has("pool-id-lost") else pool_id,
            idempotency_key=key,
        )
        self.world.tell(store, scope, events.Event(token_pool=told))

    async def ActivatePool(self, request: Any, context: Any) -> Any:
        if request.pool_locator not in self.world.pools and not self.world.has("any-pool"):
            raise not_found("UNKNOWN_POOL", "no such pool")

        def effect(store: Store, scope: Scope, operation: Operation) -> str:
            self._tell(store, scope, request.pool_locator, operation.key, request.pool_id)
            return str(request.pool_locator)

        done = await self.calls.submit(context, request, "ActivatePool", effect)
        return tokens.ActivatePoolResponse(submission=done)

    async def _move(self, request: Any, context: Any, method: str, kind: int) -> common.Submission:
        action = request.action
        if not AMOUNT.fullmatch(action.amount) and not self.world.has("any-amount"):
            raise invalid("INVALID_INPUTS", "no amount")

        def effect(store: Store, scope: Scope, operation: Operation) -> str:
            amount = action.amount
            if self.world.has("amount-rounded"):
                amount = str(int(float(amount)))
            ends: dict[str, Any] = {name: getattr(request, name, "") for name in ("from", "to")}
            moved = events.TokenTransferEvent(
                kind=kind,  # type: ignore[arg-type] # an enum is an int here
                pool_locator=action.pool_locator,
                amount=amount,
                protocol_id=f"{len(self.world.ledger):012d}",
                **ends,
            )
            event = events.Event(token_transfer=moved)
            return self.world.mine(event, event.token_transfer.chain)

        return await self.calls.submit(context, request, method, effect)

    async def Mint(self, request: Any, context: Any) -> Any:
        kind = events.TOKEN_TRANSFER_KIND_MINT
        return tokens.MintResponse(submission=await self._move(request, context, "Mint", kind))

    async def Transfer(self, request: Any, context: Any) -> Any:
        kind = events.TOKEN_TRANSFER_KIND_TRANSFER
        done = await self._move(request, context, "Transfer", kind)
        return tokens.TransferResponse(submission=done)

    async def Burn(self, request: Any, context: Any) -> Any:
        kind = events.TOKEN_TRANSFER_KIND_BURN
        return tokens.BurnResponse(submission=await self._move(request, context, "Burn", kind))

    async def Approve(self, request: Any, context: Any) -> Any:
        def effect(store: Store, scope: Scope, operation: Operation) -> str:
            subject = f"{request.signing_key}/{request.operator}"
            if self.world.has("subject-random"):
                subject += f"/{next(self.world.numbers)}"
            told = events.TokenApprovalEvent(
                pool_locator=request.pool_locator,
                operator=request.operator,
                approved=request.approved,
                subject=subject,
            )
            event = events.Event(token_approval=told)
            return self.world.mine(event, event.token_approval.chain)

        done = await self.calls.submit(context, request, "Approve", effect)
        return tokens.ApproveResponse(submission=done)


def read_object(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise invalid("INVALID_INPUTS", "no JSON object")
    return found


def check_pin(pin: blockchain.BatchPin, location: str) -> None:
    """Refuses a pin that is none."""
    if "address" not in read_object(location):
        raise invalid("INVALID_INPUTS", "the location has no address")
    if not all(HASH.fullmatch(each) for each in (pin.batch_hash, *pin.contexts)):
        raise invalid("INVALID_INPUTS", "a hash that is none")
    try:
        uuid.UUID(pin.batch_id)
    except ValueError:
        raise invalid("INVALID_INPUTS", "a batch id that is none") from None
