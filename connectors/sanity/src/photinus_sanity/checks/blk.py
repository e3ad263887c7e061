"""BLK: keys, pins, contracts and the form of a ledger's events."""

from __future__ import annotations

import json

from photinus.connector.v1 import blockchain_pb2 as blockchain
from photinus.connector.v1 import common_pb2 as common
from photinus.connector.v1 import connector_pb2 as connector
from photinus.connector.v1 import event_pb2 as events

from photinus_sanity import needs
from photinus_sanity.catalogue import Profile, must
from photinus_sanity.probe import (
    INVALID,
    NOT_FOUND,
    NOT_SENT,
    PRECONDITION,
    Probe,
    refused,
)
from photinus_sanity.sources import ChainSource
from photinus_sanity.violations import require

KIND = connector.CONTRACT_KIND_BLOCKCHAIN
CHAIN = needs.contract(KIND)
MULTIPARTY = (
    needs.capability(connector.CAPABILITY_MULTIPARTY),
    needs.fixture("blockchain.multiparty"),
    needs.fixture("blockchain.signingKey"),
)
CONTRACTS = (
    needs.capability(connector.CAPABILITY_CONTRACTS),
    needs.fixture("blockchain.contract"),
    needs.fixture("blockchain.signingKey"),
)
RULE = "blockchain.proto"
SUCCEEDED = common.OPERATION_STATE_SUCCEEDED


async def _source(probe: Probe) -> ChainSource:
    source = ChainSource(probe)
    await source.start()
    return source


async def _resolve(
    probe: Probe, key: str, intent: blockchain.KeyIntent.ValueType = blockchain.KEY_INTENT_SIGN
) -> blockchain.ResolveKeyResponse:
    answer: blockchain.ResolveKeyResponse = await probe.wire.call(
        "BlockchainService.ResolveKey", blockchain.ResolveKeyRequest(key=key, intent=intent)
    )
    return answer


@must(
    "BLK-001",
    rule=f"{RULE} ResolveKey",
    fix="Give every key one canonical form.",
    needs=(CHAIN, needs.fixture("blockchain.signingKey")),
)
async def canonical_key(probe: Probe) -> None:
    """ResolveKey gives a canonical form, the same for the form itself and for every intent, with its verifier type."""
    given = probe.get("blockchain.signingKey")
    first = await _resolve(probe, given)
    require(first.key, "the key is empty")
    require(first.verifier_type, "the verifier type is empty")
    require((await _resolve(probe, first.key)) == first, "the canonical form is not its own")
    for intent in (blockchain.KEY_INTENT_QUERY, blockchain.KEY_INTENT_LOOKUP):
        other = await _resolve(probe, given, intent)
        require(other == first, "another intent gives another form")


@must(
    "BLK-002",
    rule=f"{RULE} ResolveKey: NOT_FOUND / UNKNOWN_KEY, INVALID_ARGUMENT / INVALID_KEY",
    fix="Tell a key you do not hold from a text that is no key.",
    needs=(CHAIN, needs.fixture("blockchain.foreignKey")),
)
async def unknown_keys(probe: Probe) -> None:
    """A key that is not held cannot sign, but be looked up; a text that is no key is refused."""
    foreign = probe.get("blockchain.foreignKey")
    await refused(
        _resolve(probe, foreign), NOT_FOUND, "UNKNOWN_KEY", what="ResolveKey of a foreign key"
    )
    await _resolve(probe, foreign, blockchain.KEY_INTENT_LOOKUP)
    await refused(
        _resolve(probe, "no key at all"), INVALID, "INVALID_KEY", what="ResolveKey of no key"
    )


@must(
    "BLK-003",
    rule=f"{RULE} SubmitBatchPin, event.proto BatchPinEvent",
    fix="Carry every field of the pin to the ledger and back.",
    needs=MULTIPARTY,
)
async def pin(probe: Probe) -> None:
    """A pin arrives as it was submitted: batch, hash, transaction, payload reference, contexts, signer."""
    source = await _source(probe)
    key = probe.key()
    request = source.pin(probe.context(key), probe.uuid(key), padding=64)
    async with source.open() as stream:
        answer = await probe.wire.call("BlockchainService.SubmitBatchPin", request)
        found = await stream.collect(
            lambda seen: any(e.batch_pin.batch_id == request.pin.batch_id for e in seen)
        )
    (event,) = [e for e in found if e.batch_pin.batch_id == request.pin.batch_id]
    told, sent = event.batch_pin, request.pin
    for name in ("transaction_uuid", "batch_id", "batch_hash", "payload_ref"):
        got, wanted = getattr(told, name), getattr(sent, name)
        require(got == wanted, f"{name} is {got!r}, submitted was {wanted!r}")
    require(list(told.contexts) == list(sent.contexts), "the contexts or their order changed")
    signer = (await _resolve(probe, request.signing_key)).key
    require(told.chain.signer == signer, f"the signer is {told.chain.signer!r}, not {signer!r}")
    known = answer.submission.external_id
    require(known in ("", told.chain.transaction_id), "the event names another transaction")
    require(not told.contract_invoke, "contract_invoke is set for a plain pin")


@must(
    "BLK-004",
    rule="protocol.md §3: long work ends with an OperationUpdate",
    fix="Publish the end once it is final.",
    needs=MULTIPARTY,
)
async def pin_ends(probe: Probe) -> None:
    """A pin ends with SUCCEEDED and the transaction that the submission named."""
    source = await _source(probe)
    key = probe.key()
    request = source.pin(probe.context(key), probe.uuid(key))
    answer = await probe.wire.call("BlockchainService.SubmitBatchPin", request)
    update = (await probe.ends(key))[key]
    require(update.state == SUCCEEDED, f"it ended as {update.state}: {update.error}")
    require(update.external_id, "the end names no transaction")
    known = answer.submission.external_id
    require(known in ("", update.external_id), "the end names another transaction")


@must(
    "BLK-005",
    rule=f"{RULE} SubmitBatchPin: submissions of one signer reach the ledger in the order of their calls",
    fix="Give out the signer's sequence (nonce) in the order of the calls.",
    profile=Profile.FULL,
    needs=MULTIPARTY,
)
async def signer_order(probe: Probe) -> None:
    """Pins of one signer stand on the ledger in the order of their calls; positions rise."""
    source = await _source(probe)
    async with source.open() as stream:
        markers = await source.emit(12)
        found = await stream.collect(lambda seen: len(source.mine(seen, markers)) == len(markers))
    ours = [event for event in found if source.marker(event) in markers]
    require(source.mine(ours, markers) == markers, "the pins stand in another order")
    places = [_place(event.batch_pin.chain) for event in ours]
    require(places == sorted(set(places)), f"the positions do not rise: {places}")
    ids = {event.batch_pin.chain.protocol_id for event in ours}
    require(len(ids) == len(ours), "a protocol_id is not unique")


def _place(chain: common.ChainEvent) -> tuple[int, int, int]:
    at = chain.position
    return at.block, at.transaction_index, at.log_index


@must(
    "BLK-006",
    rule=f"{RULE} SubmitNetworkAction, event.proto NetworkActionEvent",
    fix="Carry action and payload; leave the prefix away.",
    needs=MULTIPARTY,
)
async def network_action(probe: Probe) -> None:
    """A network action arrives with its name and payload."""
    source = await _source(probe)
    request = blockchain.SubmitNetworkActionRequest(
        context=probe.context(probe.key()),
        signing_key=probe.get("blockchain.signingKey"),
        action="terminate",
        payload=f"payload of {probe.name}",
        location_json=json.dumps(probe.get("blockchain.multiparty.location")),
    )
    async with source.open() as stream:
        await probe.wire.call("BlockchainService.SubmitNetworkAction", request)
        found = await stream.collect(
            lambda seen: any(e.network_action.payload == request.payload for e in seen)
        )
    (event,) = [e for e in found if e.network_action.payload == request.payload]
    action = event.network_action.action
    require(action == "terminate", f"the action is {action!r}")


@must(
    "BLK-007",
    rule=f"{RULE}: INVALID_ARGUMENT / INVALID_INPUTS / NOT_SENT",
    fix="Check every field before the key is journaled; a refused call leaves the key free.",
    needs=MULTIPARTY,
)
async def invalid_pins(probe: Probe) -> None:
    """A pin with a malformed hash, context, id or location is refused, NOT_SENT, and its key stays free."""
    source = await _source(probe)
    key = probe.key()
    for field, value in (
        ("batch_hash", "xyz"),
        ("contexts", ["short"]),
        ("batch_id", "no uuid"),
        ("location_json", "{}"),
    ):
        request = source.pin(probe.context(key), probe.uuid(key))
        if field == "location_json":
            request.location_json = str(value)
        elif field == "contexts":
            request.pin.contexts[:] = value
        else:
            setattr(request.pin, field, value)
        refusal = await refused(
            probe.wire.call("BlockchainService.SubmitBatchPin", request),
            INVALID,
            what=f"a pin with the {field} {value!r}",
        )
        require(refusal.disposition == NOT_SENT, f"the disposition is not NOT_SENT: {refusal}")
    request = source.pin(probe.context(key), probe.uuid(key))
    answer = await probe.wire.call("BlockchainService.SubmitBatchPin", request)
    require(not answer.submission.replayed, "the key of a refused call is taken")


@must(
    "BLK-008",
    rule=f"{RULE} SubmitBatchPin: the epoch is required",
    fix="Refuse leader's calls with epoch 0.",
    needs=MULTIPARTY,
)
async def epoch_required(probe: Probe) -> None:
    """A pin without an epoch is refused."""
    source = await _source(probe)
    key = probe.key()
    request = source.pin(probe.context(key, epoch=0), probe.uuid(key))
    await refused(
        probe.wire.call("BlockchainService.SubmitBatchPin", request),
        INVALID,
        what="a pin without an epoch",
    )


@must(
    "BLK-009",
    rule=f"{RULE} NormalizeLocation: equal locations are equal byte for byte",
    fix="Parse the location, and write it in one fixed form.",
    needs=(CHAIN, needs.fixture("blockchain.multiparty.location")),
)
async def locations(probe: Probe) -> None:
    """NormalizeLocation gives one form for equal locations, is stable, and refuses what is none."""

    async def normal(text: str) -> str:
        request = blockchain.NormalizeLocationRequest(
            location_json=text, purpose=blockchain.LOCATION_PURPOSE_CALL
        )
        answer = await probe.wire.call("BlockchainService.NormalizeLocation", request)
        found: str = answer.location_json
        return found

    given = probe.get("blockchain.multiparty.location")
    first = await normal(json.dumps(given))
    require(await normal(json.dumps(given, indent=4)) == first, "white space changes the form")
    require(await normal(first) == first, "the canonical form is not its own")
    await refused(normal("[]"), INVALID, what="NormalizeLocation of []")


@must(
    "BLK-010",
    rule=f"{RULE} GetNetworkVersion",
    fix="Ask the contract; 1 and 2 are the versions there are.",
    needs=MULTIPARTY,
)
async def network_version(probe: Probe) -> None:
    """GetNetworkVersion answers the version of the multiparty contract."""
    request = blockchain.GetNetworkVersionRequest(
        location_json=json.dumps(probe.get("blockchain.multiparty.location"))
    )
    answer = await probe.wire.call("BlockchainService.GetNetworkVersion", request)
    wanted = probe.get("blockchain.multiparty.version", 2)
    require(answer.version == wanted, f"the version is {answer.version}, not {wanted}")


@must(
    "BLK-011",
    rule="common.proto ChainEvent",
    fix="Fill position, ids, signer, location and time of every event of a ledger.",
    needs=MULTIPARTY,
)
async def chain_event(probe: Probe) -> None:
    """An event of the ledger says where it stands, when, by whom and from which contract, in JSON where JSON is due."""
    source = await _source(probe)
    async with source.open() as stream:
        markers = await source.emit()
        found = await stream.collect(lambda seen: source.mine(seen, markers) == markers)
    chain = next(e.batch_pin.chain for e in found if source.marker(e) in markers)
    for name in ("protocol_id", "transaction_id", "name", "signer", "source"):
        require(getattr(chain, name), f"{name} is empty")
    require(chain.HasField("position"), "position is missing")
    require(chain.HasField("timestamp"), "timestamp is missing")
    for name in ("location_json", "output_json", "info_json"):
        text = getattr(chain, name)
        require(not text or isinstance(json.loads(text), dict), f"{name} is no JSON object")


@must(
    "BLK-012",
    rule=f"{RULE} GetTransactionStatus",
    fix="Find the transaction by the key's scope; NOT_FOUND for an unknown one.",
    needs=MULTIPARTY,
)
async def transaction_status(probe: Probe) -> None:
    """GetTransactionStatus tells of a known key in JSON, and NOT_FOUND of an unknown one."""
    source = await _source(probe)
    key = probe.key()
    pin_request = source.pin(probe.context(key), probe.uuid(key))
    await probe.wire.call("BlockchainService.SubmitBatchPin", pin_request)
    method = "BlockchainService.GetTransactionStatus"
    known = blockchain.GetTransactionStatusRequest(stream=probe.submit_ref, idempotency_key=key)
    answer = await probe.wire.call(method, known)
    require(isinstance(json.loads(answer.status_json), dict), "status_json is no JSON object")
    unknown = blockchain.GetTransactionStatusRequest(
        stream=probe.submit_ref, idempotency_key=probe.key()
    )
    await refused(probe.wire.call(method, unknown), NOT_FOUND, what="the status of an unknown key")


@must(
    "BLK-013",
    rule=f"{RULE} GetParamSchema",
    fix="Answer the JSON Schema of parameters.",
    needs=(CHAIN,),
)
async def param_schema(probe: Probe) -> None:
    """GetParamSchema answers a JSON Schema."""
    answer = await probe.wire.call(
        "BlockchainService.GetParamSchema", blockchain.GetParamSchemaRequest()
    )
    require(isinstance(json.loads(answer.schema_json), dict | bool), "it is no JSON Schema")


@must(
    "BLK-014",
    rule=f"{RULE} InvokeContract, QueryContract, event.proto ContractEvent",
    fix="Encode inputs and decode results and events by the interface that is given.",
    needs=CONTRACTS,
)
async def contract(probe: Probe) -> None:
    """A method of a contract is called, its event arrives, and a query gives a JSON value."""
    source = await _source(probe)
    given = probe.get("blockchain.contract")
    key = probe.key()
    listener = events.Listener(
        id="a",
        contract_events=events.ContractEventsFilter(
            filters=[
                events.ContractEventFilter(
                    event_json=json.dumps(given["event"]),
                    location_json=json.dumps(given["location"]),
                )
            ]
        ),
        first_event="oldest",
    )
    async with probe.stream() as stream:
        await stream.open(probe.submit_ref, listener)
        answer = await probe.wire.call(
            "BlockchainService.InvokeContract", source.invoke(probe.context(key), 0)
        )
        wanted = answer.submission.external_id
        found = await stream.collect(
            lambda seen: any(e.contract_event.chain.transaction_id == wanted for e in seen),
            what="the event of the invocation",
        )
    event = next(e for e in found if e.contract_event.chain.transaction_id == wanted)
    chain = event.contract_event.chain
    require(chain.name == given["event"]["name"], f"the event's name is {chain.name!r}")
    require(isinstance(json.loads(chain.output_json), dict), "output_json is no JSON object")
    query = blockchain.QueryContractRequest(
        location_json=json.dumps(given["location"]),
        method=blockchain.MethodRef(method_json=json.dumps(given["query"]["method"])),
        input_json=json.dumps(given["query"]["input"]),
    )
    told = await probe.wire.call("BlockchainService.QueryContract", query)
    require(_is_json(told.output_json), f"the result is no JSON: {told.output_json!r}")


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


@must(
    "BLK-015",
    rule=f"{RULE}: FAILED_PRECONDITION / TRANSACTION_REVERTED / NOT_SENT",
    fix="Estimate before you send; a revert fails the call and leaves the key free.",
    needs=(*CONTRACTS, needs.fixture("blockchain.contract.reverts")),
)
async def reverts(probe: Probe) -> None:
    """A call that would revert is refused with TRANSACTION_REVERTED, NOT_SENT, as invocation and as query."""
    given = probe.get("blockchain.contract")
    method = blockchain.MethodRef(method_json=json.dumps(given["reverts"]["method"]))
    location, text = json.dumps(given["location"]), json.dumps(given["reverts"]["input"])
    invoke = blockchain.InvokeContractRequest(
        context=probe.context(probe.key()),
        signing_key=probe.get("blockchain.signingKey"),
        location_json=location,
        method=method,
        input_json=text,
    )
    query = blockchain.QueryContractRequest(location_json=location, method=method, input_json=text)
    for name, request in (("InvokeContract", invoke), ("QueryContract", query)):
        refusal = await refused(
            probe.wire.call(f"BlockchainService.{name}", request),
            PRECONDITION,
            "TRANSACTION_REVERTED",
            what=f"{name} of a method that reverts",
        )
        if name == "InvokeContract":
            require(refusal.disposition == NOT_SENT, f"not NOT_SENT: {refusal}")


@must(
    "BLK-016",
    rule=f"{RULE} ParseInterface: NOT_FOUND / UNKNOWN_INTERFACE",
    fix="Derive the id from the method, and say when you have dropped it.",
    needs=CONTRACTS,
)
async def parsed(probe: Probe) -> None:
    """ParseInterface gives an id that stands for the method, the same each time; an unknown id is told."""
    given = probe.get("blockchain.contract")
    method = blockchain.MethodRef(method_json=json.dumps(given["query"]["method"]))
    request = blockchain.ParseInterfaceRequest(method=method)
    ids = [
        (await probe.wire.call("BlockchainService.ParseInterface", request)).parsed_id
        for _ in range(2)
    ]
    require(ids[0], "the id is empty")
    require(ids[0] == ids[1], "two calls give two ids for one method")

    def query(parsed_id: str) -> blockchain.QueryContractRequest:
        return blockchain.QueryContractRequest(
            location_json=json.dumps(given["location"]),
            method=blockchain.MethodRef(parsed_id=parsed_id),
            input_json=json.dumps(given["query"]["input"]),
        )

    await probe.wire.call("BlockchainService.QueryContract", query(ids[0]))
    await refused(
        probe.wire.call("BlockchainService.QueryContract", query("nobody knows this")),
        NOT_FOUND,
        "UNKNOWN_INTERFACE",
        what="a query with an unknown interface id",
    )


@must(
    "BLK-017",
    rule=f"{RULE} DescribeEvent",
    fix="Compare locations only when both are given.",
    needs=CONTRACTS,
)
async def signatures(probe: Probe) -> None:
    """DescribeEvent gives the signature, and says that any contract overlaps with one."""
    given = probe.get("blockchain.contract")
    request = blockchain.DescribeEventRequest(
        event_json=json.dumps(given["event"]),
        location_json=json.dumps(given["location"]),
        compare=True,
    )
    answer = await probe.wire.call("BlockchainService.DescribeEvent", request)
    require(answer.signature.startswith(given["event"]["name"]), f"it is {answer.signature!r}")
    require(answer.overlaps, "a contract and any contract do not overlap")
    broken = blockchain.DescribeEventRequest(event_json="[]")
    await refused(
        probe.wire.call("BlockchainService.DescribeEvent", broken),
        INVALID,
        what="DescribeEvent of no event",
    )
