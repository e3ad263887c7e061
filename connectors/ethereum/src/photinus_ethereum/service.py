"""The connector as the core sees it: each call of the protocol, translated and handed to the engine."""

# ruff: noqa: ARG002 - the kit gives every method its call, needed or not
import asyncio
import base64
import logging
from collections.abc import AsyncIterator, Iterable
from dataclasses import replace
from pathlib import Path

import orjson
from photinus.connector.v1 import blockchain_pb2 as blockchain
from photinus.connector.v1 import common_pb2 as common
from photinus.connector.v1 import connector_pb2 as connector
from photinus.connector.v1 import operation_pb2 as operations
from photinus_sdk import (
    Blockchain,
    CallContext,
    Events,
    NotFound,
    Passed,
    Refused,
    Rejected,
    StreamKey,
    Subscription,
    Unavailable,
)

from photinus_ethereum import abi_types, contracts, interfaces, keys, pins
from photinus_ethereum.abi_values import decode_values
from photinus_ethereum.blocks import ChainUnreadableError
from photinus_ethereum.engine import Engine, check_chain, identify
from photinus_ethereum.gas import Shape, refused
from photinus_ethereum.hexes import WORD_BYTES, Address, address_bytes, data
from photinus_ethereum.journal import PENDING, Journal
from photinus_ethereum.keys import KeyRing
from photinus_ethereum.log_events import ContractLogs, Filter, MultipartyLogs
from photinus_ethereum.node_errors import Refusal, classify
from photinus_ethereum.rpc import HttpRpc, Json, NodeUnavailableError, RpcError, RpcLimits
from photinus_ethereum.sender import Request
from photinus_ethereum.settings import EthereumSettings, KeySettings, check
from photinus_ethereum.transactions import Payload

logger = logging.getLogger(__name__)

VERIFIER_TYPE = "ethereum_address"
RETENTION_S = 7 * 24 * 3600
IN_FLIGHT_MAX = 2_000
MESSAGE_BYTES_MAX = 1024 * 1024
START_TIMEOUT_S = 5.0
RETRY_S = 1.0
NOT_NOW = (NodeUnavailableError, RpcError, ChainUnreadableError)
"""What may pass when a node is reached for the first time."""


class EthereumConnector(
    Blockchain[EthereumSettings],
    name="ethereum",
    version="0.1.0",
    vendor="Photinus",
    docs_url="https://github.com/photinus-project/photinus",
    multi_instance=True,
    limits=connector.Limits(
        max_message_bytes=MESSAGE_BYTES_MAX,
        max_in_flight=IN_FLIGHT_MAX,
        idempotency_retention_s=RETENTION_S,
    ),
):
    """Any EVM chain that speaks JSON-RPC."""

    _settings: EthereumSettings
    _rpc: HttpRpc
    _keys: KeyRing
    _journal: Journal

    def __init__(self) -> None:
        self._engine: Engine | None = None
        self._engine_ready = asyncio.Event()
        self._methods = contracts.MethodCache()
        self._versions: dict[Address, int] = {}

    # Life.

    def open_journal(self, data_dir: Path) -> Journal:
        self._journal = Journal(data_dir / "journal.sqlite", retention_s=RETENTION_S)
        return self._journal

    @classmethod
    async def validate(cls, settings: EthereumSettings) -> Iterable[common.Diagnostic]:
        return list(check(settings))

    async def start(self, settings: EthereumSettings) -> None:
        self._settings = settings
        self._rpc = _client(settings)
        self._keys = await _load_keys(settings)
        await self._rpc.__aenter__()
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                await self._connect()
        except (*NOT_NOW, TimeoutError) as error:
            self._report(available=False, reason=str(error) or "no answer")

    async def _connect(self) -> None:
        identity = await identify(self._rpc)
        await check_chain(self._journal, identity, self._settings.chain_id)
        engine = Engine(self._rpc, identity, self._settings, self._journal, self._keys)
        engine.on_availability = lambda available, reason: self._report(
            available=available, reason=reason
        )
        await engine.chain.look()
        engine.chain.available = True
        self._engine = engine
        self._engine_ready.set()

    async def run(self) -> None:
        while self._engine is None:
            try:
                await self._connect()
            except NOT_NOW as error:
                self._report(available=False, reason=str(error))
                await asyncio.sleep(RETRY_S)
        self._report(available=True, reason="")
        await self._engine.run()

    async def stop(self) -> None:
        await self._rpc.__aexit__()

    def _report(self, *, available: bool, reason: str) -> None:
        if available:
            self.instance.report(connector.RUNTIME_STATE_OK)
        else:
            self.instance.report(connector.RUNTIME_STATE_DEGRADED, f"the node is away: {reason}")

    @property
    def engine(self) -> Engine:
        """The engine; Unavailable until the node was reached once."""
        if self._engine is None:
            raise Unavailable(f"the node is away: {self.instance.status.reason}")
        return self._engine

    # Keys and locations.

    async def resolve_key(
        self, request: blockchain.ResolveKeyRequest, call: CallContext
    ) -> blockchain.ResolveKeyResponse:
        address = self._keys.resolve(request.key)
        if request.intent in {
            blockchain.KEY_INTENT_SIGN,
            blockchain.KEY_INTENT_UNSPECIFIED,
        }:
            self._keys.signer(address)
        return blockchain.ResolveKeyResponse(key=address, verifier_type=VERIFIER_TYPE)

    async def normalize_location(
        self, request: blockchain.NormalizeLocationRequest, call: CallContext
    ) -> blockchain.NormalizeLocationResponse:
        address = interfaces.parse_location(request.location_json)
        return blockchain.NormalizeLocationResponse(location_json=interfaces.location_json(address))

    # Submissions.

    async def submit_batch_pin(
        self, request: blockchain.SubmitBatchPinRequest, call: CallContext
    ) -> common.Submission:
        pin = _pin(request.pin)
        contract = interfaces.parse_location(request.location_json)
        version = await self._version(contract)
        is_first = version == 1
        encoded = (
            pins.encode_pin_v1(request.network_namespace, pin) if is_first else pins.encode_pin(pin)
        )
        shape = (contract, version, len(encoded), request.network_namespace)
        payload = Payload(address_bytes(contract), 0, encoded, 0)
        return await self._begin(call, request.signing_key, payload, shape=shape)

    async def submit_network_action(
        self, request: blockchain.SubmitNetworkActionRequest, call: CallContext
    ) -> common.Submission:
        contract = interfaces.parse_location(request.location_json)
        if not request.action:
            raise Rejected("a network action needs a name")
        if await self._version(contract) == 1:
            encoded = pins.encode_network_action_v1(request.action, request.payload)
        else:
            encoded = pins.encode_network_action(request.action, request.payload)
        payload = Payload(address_bytes(contract), 0, encoded, 0)
        return await self._begin(call, request.signing_key, payload)

    async def invoke_contract(
        self, request: blockchain.InvokeContractRequest, call: CallContext
    ) -> common.Submission:
        contract = interfaces.parse_location(request.location_json)
        _, method = self._methods.parse(request.method)
        pin = _pin(request.pin) if request.HasField("pin") else None
        encoded = contracts.call_data(method.abi, request.input_json, pin)
        options = contracts.call_options(request.options_json)
        payload = Payload(address_bytes(contract), options.value, encoded, options.gas)
        return await self._begin(call, request.signing_key, payload, method)

    async def deploy_contract(
        self, request: blockchain.DeployContractRequest, call: CallContext
    ) -> common.Submission:
        encoded = contracts.deploy_data(
            request.definition_json, request.contract_json, request.input_json
        )
        options = contracts.call_options(request.options_json)
        payload = Payload(b"", options.value, encoded, options.gas)
        return await self._begin(call, request.signing_key, payload)

    async def _begin(
        self,
        call: CallContext,
        signing_key: str,
        payload: Payload,
        method: contracts.ParsedMethod | None = None,
        *,
        shape: Shape | None = None,
    ) -> common.Submission:
        request = Request(
            call.scope.text,
            call.idempotency_key,
            call.method,
            call.fingerprint,
            self._keys.resolve(signing_key),
            payload,
            shape=shape,
        )
        if method is not None:
            request = replace(request, errors=method.errors, errors_json=method.errors_json)
        tx_hash = await self.engine.submit(request)
        return common.Submission(state=PENDING, external_id=tx_hash)

    async def cancel(self, operation: operations.Operation, call: CallContext) -> bool:
        return await self.engine.sender.cancel(call.scope.text, operation.idempotency_key)

    # Queries.

    async def query_contract(
        self, request: blockchain.QueryContractRequest, call: CallContext
    ) -> blockchain.QueryContractResponse:
        contract = interfaces.parse_location(request.location_json)
        _, method = self._methods.parse(request.method)
        encoded = contracts.call_data(method.abi, request.input_json, None)
        transaction: dict[str, Json] = {"to": contract, "data": "0x" + encoded.hex()}
        if request.signing_key:
            transaction["from"] = self._keys.resolve(request.signing_key)
        block = contracts.query_block(request.options_json)
        try:
            answer = await self._ask("eth_call", transaction, block)
        except RpcError as error:
            raise refused(error, method.errors) from error
        raw = data(answer)
        if not raw and method.abi.outputs:
            raise NotFound("FF00164: No result found", reason="NO_RESULT")
        try:
            output = decode_values(method.abi.outputs, raw)
        except ValueError as error:
            raise Rejected(f"the answer does not fit {method.abi.signature}: {error}") from error
        text = orjson.dumps(output, option=orjson.OPT_SORT_KEYS).decode()
        return blockchain.QueryContractResponse(output_json=text)

    async def parse_interface(
        self, request: blockchain.ParseInterfaceRequest, call: CallContext
    ) -> blockchain.ParseInterfaceResponse:
        parsed_id, method = self._methods.parse(request.method)
        return blockchain.ParseInterfaceResponse(
            parsed_id=parsed_id, accepts_pin=method.abi.accepts_pin
        )

    async def generate_interface(
        self, request: blockchain.GenerateInterfaceRequest, call: CallContext
    ) -> blockchain.GenerateInterfaceResponse:
        given = contracts.read_object(request.input_json, "input")
        document = interfaces.generate(
            abi_types.items(given.get("abi"), "abi"),
            namespace=request.namespace,
            name=request.name,
            version=request.version,
            description=request.description,
        )
        return blockchain.GenerateInterfaceResponse(interface_json=orjson.dumps(document).decode())

    async def describe_event(
        self, request: blockchain.DescribeEventRequest, call: CallContext
    ) -> blockchain.DescribeEventResponse:
        event = abi_types.event_from_ffi(contracts.read_json(request.event_json, "event"))
        location = _location(request.location_json)
        other = _location(request.other_location_json)
        return blockchain.DescribeEventResponse(
            signature=event.signature,
            signature_with_location=interfaces.signature_with_location(event, location),
            overlaps=request.compare and (location is None or other is None or location == other),
        )

    async def get_param_schema(
        self, request: blockchain.GetParamSchemaRequest, call: CallContext
    ) -> blockchain.GetParamSchemaResponse:
        return blockchain.GetParamSchemaResponse(
            schema_json=orjson.dumps(interfaces.PARAM_SCHEMA).decode()
        )

    async def get_network_version(
        self, request: blockchain.GetNetworkVersionRequest, call: CallContext
    ) -> blockchain.GetNetworkVersionResponse:
        contract = interfaces.parse_location(request.location_json)
        return blockchain.GetNetworkVersionResponse(version=await self._version(contract))

    async def _version(self, contract: Address) -> int:
        """The multiparty contract's version; 1 when it has code but no such method. Kept: code does not change."""
        known = self._versions.get(contract)
        if known is not None:
            return known
        transaction = {"to": contract, "data": "0x" + pins.NETWORK_VERSION_CALL.hex()}
        code = await self._ask("eth_getCode", contract, "latest")
        if code in {"0x", None}:
            raise Refused(f"there is no contract at {contract}", reason="NO_CONTRACT")
        try:
            answer = data(await self._ask("eth_call", transaction, "latest"))
        except RpcError as error:
            if classify(error) is not Refusal.REVERTED:
                raise refused(error, ()) from error
            answer = b""
        version = int.from_bytes(answer) if len(answer) == WORD_BYTES else 1
        if version not in {1, 2}:
            raise Refused(
                f"the contract at {contract} has version {version}; 1 and 2 are known",
                reason="UNKNOWN_VERSION",
            )
        self._versions[contract] = version
        return version

    async def get_transaction_status(
        self, request: blockchain.GetTransactionStatusRequest, call: CallContext
    ) -> blockchain.GetTransactionStatusResponse:
        status: dict[str, Json] = {}
        tx_hash = request.transaction_id
        if request.idempotency_key:
            scope = StreamKey.of(request.stream)
            found = self._journal.status(scope.text, request.idempotency_key)
            if found is None:
                raise NotFound(
                    f"Nothing is known of the key {request.idempotency_key}", reason="UNKNOWN_KEY"
                )
            status.update(found)
            tx_hash = str(found["transactionHash"])
        if tx_hash:
            status["transactionHash"] = tx_hash
            status["transaction"] = await self._ask("eth_getTransactionByHash", tx_hash)
            status["receipt"] = await self._ask("eth_getTransactionReceipt", tx_hash)
        if not request.idempotency_key and status.get("transaction") is None:
            raise NotFound("the chain does not know this transaction", reason="UNKNOWN_TRANSACTION")
        return blockchain.GetTransactionStatusResponse(status_json=orjson.dumps(status).decode())

    async def _ask(self, method: str, *params: Json) -> Json:
        try:
            return await self.engine.rpc.call(method, *params)
        except NodeUnavailableError as error:
            raise Unavailable(f"the node is away: {error}") from error

    # Events.

    async def listen(self, subscription: Subscription) -> AsyncIterator[Events | Passed]:
        listener = subscription.listener
        chain_filter = _filter(subscription)
        await self._engine_ready.wait()
        reader = self.engine.reader(chain_filter, listener.id)
        async for item in reader.read(
            listener.first_event, subscription.resume, subscription.batch_size
        ):
            yield item


def _filter(subscription: Subscription) -> Filter:
    listener = subscription.listener
    match listener.WhichOneof("filter"):
        case "multiparty":
            wanted = listener.multiparty
            if wanted.version not in {1, 2}:
                raise Rejected(f"version {wanted.version} of the multiparty contract is not known")
            return MultipartyLogs(interfaces.parse_location(wanted.location_json), wanted.version)
        case "contract_events":
            alternatives = tuple(
                (
                    _location(each.location_json),
                    abi_types.event_from_ffi(contracts.read_json(each.event_json, "event")),
                )
                for each in listener.contract_events.filters
            )
            if not alternatives:
                raise Rejected("a listener for contract events needs at least one filter")
            return ContractLogs(alternatives)
        case _:
            raise Rejected("this connector has no such events")


def _location(text: str) -> Address | None:
    return interfaces.parse_location(text) if text else None


def _pin(pin: blockchain.BatchPin) -> pins.Pin:
    return pins.parse_pin(
        pin.transaction_uuid, pin.batch_id, pin.batch_hash, pin.payload_ref, pin.contexts
    )


def _client(settings: EthereumSettings) -> HttpRpc:
    rpc = settings.rpc
    headers = {}
    if rpc.username or rpc.password is not None:
        secret = rpc.password.reveal() if rpc.password is not None else ""
        token = base64.b64encode(f"{rpc.username}:{secret}".encode()).decode()
        headers["authorization"] = f"Basic {token}"
    limits = RpcLimits(
        batch_items_max=rpc.batch_items_max,
        connections_max=rpc.connections_max,
        timeout_s=rpc.timeout_s,
    )
    return HttpRpc(rpc.url, limits, headers)


async def _load_keys(settings: EthereumSettings) -> KeyRing:
    try:
        signers = [await _load_key(key) for key in settings.keys]
        return keys.ring(signers, settings.default_key)
    except ValueError as error:
        raise Rejected(f"keys: {error}", reason="INVALID_CONFIG") from None


async def _load_key(key: KeySettings) -> keys.LocalSigner:
    if key.private_key is not None:
        return keys.from_hex(key.private_key.reveal())
    if key.private_key_file is not None:
        return keys.from_hex(_read_secret(key.private_key_file))
    assert key.keystore is not None
    if key.password is not None:
        password = key.password.reveal()
    else:
        assert key.password_file is not None
        password = _read_secret(key.password_file).rstrip("\r\n")
    return await keys.load_keystore(key.keystore, password)


def _read_secret(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError):
        raise ValueError(f"{path} cannot be read") from None
