"""Goal: every call of BlockchainService does on a real chain what the protocol says.

Method: a connector over its socket, on anvil and on geth; the chain itself and web3 (another client) are asked
what happened.
"""

import asyncio
import json
from typing import Any

import grpc
import pytest
from eth_abi.abi import encode
from photinus.connector.v1 import blockchain_pb2 as blockchain
from photinus.connector.v1 import common_pb2 as common
from photinus.connector.v1 import event_pb2 as events
from web3 import AsyncHTTPProvider, AsyncWeb3

from tests.support.chains import DEV_ADDRESSES, Chain, anvil, artefact
from tests.support.ethereum_core import (
    STREAM,
    Core,
    code_of,
    location,
    multiparty,
    mutation,
    pin_hash,
    pin_request,
    settings,
)
from tests.support.wire import reason_of

PROBE = artefact("Probe")


@pytest.fixture
async def pins(core: Core, any_chain: Chain) -> str:
    """The multiparty contract; the connector is configured."""
    await core.wire.configure(settings(any_chain))
    return await any_chain.deploy("Firefly")


async def interface(core: Core) -> dict[str, dict[str, Any]]:
    """The probe's interface as the connector makes it, by kind and path."""
    request = blockchain.GenerateInterfaceRequest(input_json=json.dumps({"abi": PROBE["abi"]}))
    answer = await core.wire.call(core.wire.blockchain.GenerateInterface, request)
    found = json.loads(answer.interface_json)
    return {
        kind: {each["pathname"]: each for each in found[kind]}
        for kind in ("methods", "events", "errors")
    }


async def method(core: Core, name: str) -> blockchain.MethodRef:
    found = await interface(core)
    return blockchain.MethodRef(
        method_json=json.dumps(found["methods"][name]),
        errors_json=[json.dumps(error) for error in found["errors"].values()],
    )


async def deployed(core: Core, pins: str, key: str = "ns1:deploy") -> str:
    request = blockchain.DeployContractRequest(
        context=mutation(key),
        signing_key=DEV_ADDRESSES[0],
        definition_json=json.dumps(PROBE["abi"]),
        contract_json=json.dumps(PROBE["bytecode"]),
        input_json=json.dumps(["7", pins]),
    )
    await core.wire.call(core.wire.blockchain.DeployContract, request)
    update = await core.ended(key)
    assert update.state == common.OPERATION_STATE_SUCCEEDED
    found: str = json.loads(update.output_json)["contractLocation"]["address"]
    return found


async def invoked(core: Core, contract: str, name: str, given: Any, **fields: Any) -> str:
    key: str = fields.pop("key", f"ns1:{name}:{json.dumps(given)}")
    request = blockchain.InvokeContractRequest(
        context=mutation(key),
        signing_key=DEV_ADDRESSES[0],
        location_json=location(contract),
        method=await method(core, name),
        input_json=json.dumps(given),
        **fields,
    )
    await core.wire.call(core.wire.blockchain.InvokeContract, request)
    return key


async def asked(core: Core, contract: str, name: str, given: Any, **fields: Any) -> Any:
    request = blockchain.QueryContractRequest(
        location_json=location(contract),
        method=await method(core, name),
        input_json=json.dumps(given),
        **fields,
    )
    answer = await core.wire.call(core.wire.blockchain.QueryContract, request)
    return json.loads(answer.output_json)


async def test_a_pin_becomes_a_transaction_an_event_and_an_end(
    core: Core, any_chain: Chain, pins: str
) -> None:
    async with core.listening(multiparty(pins)):
        submission = await core.pin("ns1:1", pins)
        assert submission.state == common.OPERATION_STATE_PENDING
        update = await core.ended("ns1:1")
        await core.until(lambda: bool(core.pins()))
    assert update.state == common.OPERATION_STATE_SUCCEEDED
    assert update.external_id == submission.external_id
    (event,) = core.events
    pin = pin_request("ns1:1", pins).pin
    found = event.batch_pin
    assert (found.transaction_uuid, found.batch_id) == (pin.transaction_uuid, pin.batch_id)
    assert (found.batch_hash, list(found.contexts)) == (pin.batch_hash, list(pin.contexts))
    assert (found.payload_ref, found.chain.signer) == (pin.payload_ref, DEV_ADDRESSES[0])
    assert found.chain.transaction_id == submission.external_id
    output = json.loads(update.output_json)
    block, index, _ = found.chain.protocol_id.split("/")
    assert output == {
        "headers": {"requestId": "ns1:1", "type": "TransactionSuccess"},
        "protocolId": f"{block}/{index}",
        "transactionHash": submission.external_id,
    }
    # Another client sees the same.
    web3 = AsyncWeb3(AsyncHTTPProvider(any_chain.url))
    receipt = await web3.eth.get_transaction_receipt(submission.external_id)  # type: ignore[arg-type]  # web3's own type of text
    contract = web3.eth.contract(abi=artefact("Firefly")["abi"])
    (log,) = contract.events.BatchPin().process_receipt(receipt)
    assert log["args"]["batchHash"].hex() == pin.batch_hash
    assert log["args"]["author"].lower() == DEV_ADDRESSES[0]
    await web3.provider.disconnect()


async def test_a_key_has_one_effect(core: Core, any_chain: Chain, pins: str) -> None:
    async with core.listening():
        first = await core.pin("ns1:1", pins)
        await core.ended("ns1:1")
        again = await core.pin("ns1:1", pins)
        assert again.replayed
        assert again.external_id == first.external_id
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await core.pin("ns1:1", pins, network_namespace="other")
        assert code_of(caught.value) is grpc.StatusCode.ALREADY_EXISTS
        assert reason_of(caught.value) == ("KEY_REUSED", common.DISPOSITION_NOT_SENT)
    assert await any_chain.nonce(DEV_ADDRESSES[0]) == 1


async def test_network_action(core: Core, pins: str) -> None:
    async with core.listening(multiparty(pins)):
        request = blockchain.SubmitNetworkActionRequest(
            context=mutation("ns1:a", 1),
            signing_key=DEV_ADDRESSES[1],
            action="terminate",
            payload="why",
            location_json=location(pins),
        )
        await core.wire.call(core.wire.blockchain.SubmitNetworkAction, request)
        await core.until(lambda: bool(core.events))
    (event,) = core.events
    action = event.network_action
    assert (action.action, action.payload) == ("terminate", "why")
    assert action.chain.signer == DEV_ADDRESSES[1]


async def test_version_1_contract(core: Core, any_chain: Chain, pins: str) -> None:
    old = await any_chain.deploy("FireflyV1")
    for contract, version in ((old, 1), (pins, 2)):
        answer = await core.wire.call(
            core.wire.blockchain.GetNetworkVersion,
            blockchain.GetNetworkVersionRequest(location_json=location(contract)),
        )
        assert answer.version == version
    async with core.listening(multiparty(old, version=1)):
        await core.pin("ns1:1", old)
        request = blockchain.SubmitNetworkActionRequest(
            context=mutation("ns1:a", 1),
            signing_key=DEV_ADDRESSES[0],
            action="terminate",
            location_json=location(old),
        )
        await core.wire.call(core.wire.blockchain.SubmitNetworkAction, request)
        await core.until(lambda: len(core.events) == 2)
    pin, action = core.events
    assert pin.batch_pin.network_namespace == "net1"
    assert pin.batch_pin.batch_hash == pin_hash("ns1:1", old)
    assert action.network_action.action == "terminate"


async def test_deploy_invoke_query_and_listen(core: Core, pins: str) -> None:
    async with core.listening():
        probe = await deployed(core, pins)
        assert await asked(core, probe, "get", {}) == {"output": "7"}
        found = await interface(core)
        listener = events.Listener(
            id="changes",
            contract_events=events.ContractEventsFilter(
                filters=[
                    events.ContractEventFilter(
                        event_json=json.dumps(found["events"][name]), location_json=location(probe)
                    )
                    for name in ("Changed", "Stored")
                ]
            ),
        )
    async with core.listening(listener, epoch=2):
        await core.ended(await invoked(core, probe, "set", {"newValue": "77"}))
        item = {"id": 1, "label": "one", "data": "0xfeed"}
        given = {"item": item, "watchers": [DEV_ADDRESSES[1]]}
        await core.ended(await invoked(core, probe, "put", given))
        paid = await invoked(
            core, probe, "setPaid", {"newValue": 1}, options_json='{"value":"5","gas":200000}'
        )
        await core.ended(paid)
        await core.until(lambda: len(core.events) == 3)
    assert await asked(core, probe, "get", {}) == {"output": "6"}
    assert await asked(core, probe, "find", {"id": 1}) == {
        "age": "-1",
        "found": True,
        "item": {"data": "0xfeed", "id": "1", "label": "one"},
    }
    changed, stored, last = [event.contract_event.chain for event in core.events]
    assert changed.name == "Changed"
    assert changed.signature == "Changed(address,uint256)"
    assert json.loads(changed.output_json) == {"from": DEV_ADDRESSES[0], "value": "77"}
    assert json.loads(stored.output_json)["watchers"] == [DEV_ADDRESSES[1]]
    assert json.loads(last.output_json)["value"] == "6"
    assert changed.signer == DEV_ADDRESSES[0]
    assert changed.timestamp.seconds > 1_600_000_000


async def test_a_pinned_invoke(core: Core, pins: str) -> None:
    async with core.listening(multiparty(pins)):
        probe = await deployed(core, pins)
        pin = pin_request("ns1:p", pins).pin
        key = await invoked(core, probe, "setWithPin", {"newValue": 5}, pin=pin)
        assert (await core.ended(key)).state == common.OPERATION_STATE_SUCCEEDED
        await core.until(lambda: bool(core.pins()))
    (event,) = core.events
    assert event.batch_pin.contract_invoke
    assert event.batch_pin.batch_hash == pin.batch_hash
    # The author is who signed, not the contract that called.
    assert event.batch_pin.chain.signer == DEV_ADDRESSES[0]


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (13, "unlucky value"),
        (1_000_001, 'TooLarge({"given":"1000001","max":"1000000"})'),
        (15, "panic 0x01: assertion failed"),
        (14, "execution reverted"),
    ],
)
async def test_reverts_are_told_before_anything_is_sent(
    core: Core, anvil_chain: Chain, value: int, reason: str
) -> None:
    await core.wire.configure(settings(anvil_chain))
    async with core.listening():
        probe = await deployed(core, await anvil_chain.deploy("Firefly"))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await invoked(core, probe, "set", {"newValue": value})
    assert code_of(caught.value) is grpc.StatusCode.FAILED_PRECONDITION
    assert reason_of(caught.value) == ("TRANSACTION_REVERTED", common.DISPOSITION_NOT_SENT)
    assert caught.value.details() == f"FF23021: EVM reverted: {reason}"
    assert await anvil_chain.nonce(DEV_ADDRESSES[0]) == 1


async def test_a_revert_on_the_chain_fails_the_operation_with_its_reason(core: Core) -> None:
    async with anvil("--no-mining") as chain:
        await chain.call("evm_setAutomine", True)
        pins_contract = await chain.deploy("Firefly")
        probe = await chain.deploy("Probe", encode(["uint256", "address"], [1, pins_contract]))
        await chain.call("evm_setAutomine", False)
        await core.wire.configure(settings(chain, gas={"estimateOn": "latest"}))
        async with core.listening():
            # Both are right when they are estimated; only one can be right on the chain.
            first = await invoked(core, probe, "setAfter", {"expected": 1, "newValue": 2})
            second = await invoked(core, probe, "setAfter", {"expected": 1, "newValue": 3})
            await until_pool(chain, 2)
            await chain.mine()
            assert (await core.ended(first)).state == common.OPERATION_STATE_SUCCEEDED
            failed = await core.ended(second)
        assert failed.state == common.OPERATION_STATE_FAILED
        assert failed.error == "FF23021: EVM reverted: value has moved"
        assert json.loads(failed.output_json)["headers"]["type"] == "TransactionFailed"


async def until_pool(chain: Chain, count: int) -> None:
    async with asyncio.timeout(10):
        while int((await chain.call("txpool_status"))["pending"], 16) < count:
            await asyncio.sleep(0.02)


async def test_questions(core: Core, pins: str) -> None:
    service = core.wire.blockchain
    ref = await method(core, "setWithPin")
    parsed = await core.wire.call(
        service.ParseInterface, blockchain.ParseInterfaceRequest(method=ref)
    )
    assert parsed.accepts_pin
    by_id = blockchain.MethodRef(parsed_id=parsed.parsed_id)
    again = await core.wire.call(
        service.ParseInterface, blockchain.ParseInterfaceRequest(method=by_id)
    )
    assert again == parsed
    described = await core.wire.call(
        service.DescribeEvent,
        blockchain.DescribeEventRequest(
            event_json=json.dumps((await interface(core))["events"]["Changed"]),
            location_json=location(pins),
            other_location_json="",
            compare=True,
        ),
    )
    assert described.signature == "Changed(address,uint256)"
    assert described.signature_with_location == f"{pins}:Changed(address,uint256) [i=0]"
    assert described.overlaps
    normal = await core.wire.call(
        service.NormalizeLocation,
        blockchain.NormalizeLocationRequest(location_json=f'{{ "address": "{pins.upper()[2:]}" }}'),
    )
    assert normal.location_json == f'{{"address":"{pins}"}}'
    schema = await core.wire.call(service.GetParamSchema, blockchain.GetParamSchemaRequest())
    assert json.loads(schema.schema_json)["$defs"]["details"]["required"] == ["type"]
    key = await core.wire.call(service.ResolveKey, blockchain.ResolveKeyRequest(key=""))
    assert (key.key, key.verifier_type) == (DEV_ADDRESSES[0], "ethereum_address")


async def test_status_of_a_transaction(core: Core, pins: str) -> None:
    async with core.listening():
        submission = await core.pin("ns1:1", pins)
        await core.ended("ns1:1")
    service = core.wire.blockchain
    for request in (
        blockchain.GetTransactionStatusRequest(stream=STREAM.to_ref(), idempotency_key="ns1:1"),
        blockchain.GetTransactionStatusRequest(transaction_id=submission.external_id),
    ):
        answer = await core.wire.call(service.GetTransactionStatus, request)
        status = json.loads(answer.status_json)
        assert status["receipt"]["status"] == "0x1"
        assert status["transactionHash"] == submission.external_id


@pytest.fixture
async def ready(core: Core, anvil_chain: Chain) -> tuple[Core, str]:
    await core.wire.configure(settings(anvil_chain))
    return core, await anvil_chain.deploy("Firefly")


@pytest.mark.parametrize(
    ("changes", "code", "reason"),
    [
        ({"signing_key": "junk"}, grpc.StatusCode.INVALID_ARGUMENT, "INVALID_KEY"),
        ({"signing_key": "0x" + "99" * 20}, grpc.StatusCode.NOT_FOUND, "UNKNOWN_KEY"),
        ({"location_json": "{}"}, grpc.StatusCode.INVALID_ARGUMENT, "INVALID_LOCATION"),
        (
            {"location_json": location("0x" + "99" * 20)},
            grpc.StatusCode.FAILED_PRECONDITION,
            "NO_CONTRACT",
        ),
        (
            {"pin": blockchain.BatchPin(transaction_uuid="x")},
            grpc.StatusCode.INVALID_ARGUMENT,
            "INVALID_INPUTS",
        ),
    ],
)
async def test_bad_pins_are_refused_and_leave_the_key_free(
    ready: tuple[Core, str], changes: dict[str, Any], code: grpc.StatusCode, reason: str
) -> None:
    core, contract = ready
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await core.pin("ns1:1", contract, **changes)
    assert code_of(caught.value) is code
    assert reason_of(caught.value) == (reason, common.DISPOSITION_NOT_SENT)
    assert not (await core.pin("ns1:1", contract)).replayed


async def test_a_signer_without_funds_is_told_so(core: Core, anvil_chain: Chain) -> None:
    poor = "11" * 32
    await core.wire.configure(settings(anvil_chain, keys=[{"privateKey": poor}]))
    contract = await anvil_chain.deploy("Firefly")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await core.pin("ns1:1", contract, signing_key="")
    assert code_of(caught.value) is grpc.StatusCode.FAILED_PRECONDITION
    assert reason_of(caught.value) == ("INSUFFICIENT_FUNDS", common.DISPOSITION_NOT_SENT)


async def test_bad_calls_of_contracts(ready: tuple[Core, str]) -> None:
    core, contract = ready
    nowhere = "0x" + "99" * 20
    with pytest.raises(grpc.aio.AioRpcError, match="FF00164: No result found"):
        await asked(core, nowhere, "get", {})
    with pytest.raises(grpc.aio.AioRpcError, match="FF10304: Missing required input argument"):
        await asked(core, contract, "find", {})
    with pytest.raises(grpc.aio.AioRpcError, match="FF22088: Invalid integer string 'x'"):
        await asked(core, contract, "find", {"id": "x"})
    with pytest.raises(grpc.aio.AioRpcError, match="FF23021: EVM reverted: execution reverted"):
        await asked(core, contract, "get", {})
    with pytest.raises(grpc.aio.AioRpcError, match="unknown option"):
        await invoked(core, contract, "set", {"newValue": 1}, options_json='{"gass":1}')
    request = blockchain.QueryContractRequest(
        location_json=location(contract), method=blockchain.MethodRef(parsed_id="x")
    )
    with pytest.raises(grpc.aio.AioRpcError, match="not known any more") as caught:
        await core.wire.call(core.wire.blockchain.QueryContract, request)
    assert reason_of(caught.value)[0] == "UNKNOWN_INTERFACE"
    deploy = blockchain.DeployContractRequest(
        context=mutation("ns1:d"), signing_key=DEV_ADDRESSES[0], contract_json='"zz"'
    )
    with pytest.raises(grpc.aio.AioRpcError, match="FF23047"):
        await core.wire.call(core.wire.blockchain.DeployContract, deploy)
