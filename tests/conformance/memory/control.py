"""ConnectorService and OperationService of the connector in memory."""

import asyncio
import json
import re
import uuid
from collections.abc import AsyncIterator
from typing import Any

import grpc
from photinus.connector.v1 import common_pb2 as common
from photinus.connector.v1 import connector_pb2 as connector
from photinus.connector.v1 import event_pb2 as events
from photinus.connector.v1 import operation_pb2 as operations

from tests.conformance.memory.calls import Calls
from tests.conformance.memory.refusals import Refused, invalid, not_found, precondition
from tests.conformance.memory.world import Operation, scope_of

INSTANCE = re.compile(r"[a-z0-9-]{1,63}")
KINDS = {
    "blockchain": connector.CONTRACT_KIND_BLOCKCHAIN,
    "tokens": connector.CONTRACT_KIND_TOKENS,
    "dx": connector.CONTRACT_KIND_DATA_EXCHANGE,
    "storage": connector.CONTRACT_KIND_SHARED_STORAGE,
}
BOTH = (connector.CAPABILITY_OPERATIONS, connector.CAPABILITY_EVENTS)
CAPABILITIES = {
    "blockchain": (*BOTH, connector.CAPABILITY_MULTIPARTY, connector.CAPABILITY_CONTRACTS),
    "tokens": BOTH,
    "dx": (*BOTH, connector.CAPABILITY_RECEIPTS, connector.CAPABILITY_RESUME),
    "storage": (
        connector.CAPABILITY_OPERATIONS,
        connector.CAPABILITY_PINNING,
        connector.CAPABILITY_RESUME,
    ),
}
CANCELLED = common.OPERATION_STATE_CANCELLED


class Control:
    """Describe, Validate, Configure and what follows."""

    def __init__(self, calls: Calls) -> None:
        self.calls, self.world = calls, calls.world

    async def Describe(self, request: Any, context: Any) -> connector.DescribeResponse:
        has = self.world.has
        if has("describe-slow"):
            await asyncio.sleep(0.3)
        if has("leaves-locks"):
            await asyncio.sleep(0.2 * self.world.streams_opened)
        secret = {"type": "string", "writeOnly": not has("secret-unmarked")}
        schema = {
            "type": "object" if not has("schema-broken") else "nonsense",
            "properties": {"name": {"type": "string"}, "token": secret},
            "additionalProperties": False,
        }
        names = [*self.world.contracts, *self.world.contracts[: has("contract-twice")]]
        return connector.DescribeResponse(
            name="memory" if not has("name-upper") else "Memory!",
            version="1.0.0" if not has("version-loose") else "v1",
            vendor="" if has("no-vendor") else f"us{'?' * self._changing()}",
            stability=connector.STABILITY_STABLE,
            protocols=["v1"] if not has("other-protocol") else ["v2"],
            contracts=[self._contract(name) for name in names],
            config_schema_json=json.dumps(schema),
            multi_instance=not has("second-taken"),
            build=connector.BuildInfo(language="Python"),
        )

    def _changing(self) -> int:
        return next(self.world.numbers) if self.world.has("describe-changes") else 0

    def _contract(self, name: str) -> connector.Contract:
        capabilities = list(CAPABILITIES[name])
        if self.world.has("claims-unserved"):
            capabilities.append(connector.CAPABILITY_DEPLOY)
        if self.world.has("serves-unclaimed"):
            capabilities.remove(connector.CAPABILITY_PINNING)
        limits = connector.Limits(max_message_bytes=1 << 20)
        return connector.Contract(kind=KINDS[name], capabilities=capabilities, limits=limits)

    async def Validate(self, request: Any, context: Any) -> connector.ValidateResponse:
        return connector.ValidateResponse(diagnostics=self._findings(request.config_json))

    def _findings(self, text: str) -> list[common.Diagnostic]:
        has = self.world.has
        if has("secret-logged"):
            self.world.said.append(f"settings: {text}")
        if has("validate-blind"):
            return []

        def finding(summary: str, pointer: str = "") -> common.Diagnostic:
            pointer = "" if has("no-pointer") else pointer
            if has("secret-told"):
                summary += f" in {text}"
            return common.Diagnostic(
                severity=common.SEVERITY_ERROR, summary=summary, pointer=pointer
            )

        if has("always-wrong"):
            return [finding("it is wrong")]
        try:
            settings = json.loads(text)
        except ValueError:
            return [finding("no JSON")]
        if not isinstance(settings, dict):
            return [finding("no object")]
        return [
            finding(f"{name} must be text"[:80], f"/{name}")
            for name, value in settings.items()
            if not isinstance(value, str) or name not in ("name", "token")
        ]

    async def Configure(self, request: Any, context: Any) -> connector.ConfigureResponse:
        has = self.world.has
        instance = request.instance
        if not INSTANCE.fullmatch(instance) and not has("any-instance-name"):
            raise invalid("INVALID_INSTANCE", "no instance name")
        if (
            self._findings(request.config_json)
            and not has("bad-config-taken")
            and not has("always-wrong")
        ):
            raise invalid("INVALID_CONFIG", "the settings cannot be used")
        before = self.calls.instances.get(instance, 0)
        if request.revision < before and not has("revision-ignored"):
            raise precondition("STALE_REVISION", "a newer revision is in force")
        self.calls.instances[instance] = request.revision
        if has("configure-restarts"):
            self.calls.streams.end_all()
        store = self.world.store_of(instance)
        contracts = [self._contract(name) for name in self.world.contracts]
        if has("offers-more"):
            contracts[0].capabilities.append(connector.CAPABILITY_GENERATE_INTERFACE)
        store_id = store.store_id
        if has("store-id-each-time"):
            store_id = str(uuid.uuid4())
        if has("store-id-no-uuid"):
            store_id = "store 1"
        return connector.ConfigureResponse(contracts=contracts, store_id=store_id)

    async def NotifyRegistration(self, request: Any, context: Any) -> Any:
        if self.world.has("notify-refused"):
            raise not_found("UNKNOWN_INSTANCE", "nobody knows it")
        return connector.NotifyRegistrationResponse()

    async def WatchStatus(self, request: Any, context: Any) -> AsyncIterator[Any]:
        name = self.calls.instance_of(context)
        draining = name in self.calls.streams.draining
        state = connector.RUNTIME_STATE_STOPPING if draining else connector.RUNTIME_STATE_OK
        status = connector.WatchStatusResponse(state=state)
        if not self.world.has("status-without-since"):
            status.since.GetCurrentTime()
        yield status
        await asyncio.Event().wait()

    async def Drain(self, request: Any, context: Any) -> connector.DrainResponse:
        await self.calls.streams.drain(self.calls.instance_of(context))
        return connector.DrainResponse()


class Operations:
    """GetOperation, ListOperations, Cancel."""

    def __init__(self, calls: Calls) -> None:
        self.calls, self.world = calls, calls.world

    async def GetOperation(self, request: Any, context: Any) -> operations.GetOperationResponse:
        store = self.calls.store(context)
        scope = scope_of(request.stream)
        if self.world.has("keys-unscoped"):
            scope = ("", "", "")
        found = store.operations.get((scope, request.idempotency_key))
        if found is None:
            if self.world.has("unknown-key-pending"):
                return operations.GetOperationResponse()
            raise not_found("UNKNOWN_KEY", f"nothing is known of {request.idempotency_key}")
        return operations.GetOperationResponse(operation=self._operation(found))

    def _operation(self, found: Any) -> operations.Operation:
        return operations.Operation(
            idempotency_key=found.key,
            method="" if self.world.has("method-forgotten") else found.method,
            state=found.state,
            external_id=found.external_id,
        )

    async def ListOperations(self, request: Any, context: Any) -> Any:
        if self.world.has("enum-ends-process") and request.state > common.OPERATION_STATE_CANCELLED:
            raise Refused(grpc.StatusCode.UNAVAILABLE, "GONE", "the process ended")
        store, scope = self.calls.store(context), scope_of(request.stream)
        rows = [op for (where, _), op in store.operations.items() if where == scope]
        if self.world.has("list-newest-first"):
            rows.reverse()
        begin = int(request.page_token or 0)
        size = request.page_size or 100
        more = str(begin + size) if begin + size < len(rows) else ""
        return operations.ListOperationsResponse(
            operations=map(self._operation, rows[begin : begin + size]), next_page_token=more
        )

    async def Cancel(self, request: Any, context: Any) -> operations.CancelResponse:
        store = self.calls.store(context)
        scope = self.calls.check(context, request.context, "Cancel")
        key = request.context.idempotency_key
        found = store.operations.get((scope, key))
        if found is not None and not self.world.has("cancel-always"):
            return operations.CancelResponse(state=found.state)

        store.operations[scope, key] = Operation(key, "", b"", state=CANCELLED)
        return operations.CancelResponse(state=CANCELLED)


class Events:
    """EventService."""

    def __init__(self, calls: Calls) -> None:
        self.calls = calls

    async def Stream(self, frames: AsyncIterator[events.StreamRequest], context: Any) -> None:
        await self.calls.streams.serve(self.calls.instance_of(context), frames, context)
