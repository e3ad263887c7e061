# ruff: noqa: ARG002 - an RPC's method takes request and context, used or not
"""ConnectorService and OperationService: who the connector is, its instances, their operations."""

import asyncio
import hashlib
import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from photinus.connector.v1 import common_pb2 as common
from photinus.connector.v1 import connector_pb2 as connector
from photinus.connector.v1 import operation_pb2 as operations
from photinus_journal import TERMINAL

from photinus_sdk.calls import Context, mutation_context
from photinus_sdk.connector import Connector
from photinus_sdk.context import StreamKey
from photinus_sdk.errors import NotFound, Refused, Rejected
from photinus_sdk.instance import Instance
from photinus_sdk.settings import InvalidSettings, parse_settings

log = logging.getLogger("photinus.sdk")

INSTANCE_HEADER = "x-connector-instance"
INSTANCE_FORM = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
PAGE_SIZE_DEFAULT = 100
PAGE_SIZE_MAX = 1000
DRAIN_DEFAULT_S = 10.0


class ControlService:
    """The methods of the two services every connector has, and the configured instances they are for.

    Args:
        cls: The author's class.
        data_dir: Directory that holds one directory per instance.
        on_status: Called when the status of one changes, or there is one more.
    """

    def __init__(
        self, cls: type[Connector[Any]], data_dir: Path, on_status: Callable[[], None]
    ) -> None:
        self._cls, self._data_dir, self._on_status = cls, data_dir, on_status
        self._configuring = asyncio.Lock()
        self.instances: dict[str, Instance] = {}

    def of_call(self, context: Context) -> Instance:
        """The instance the call's metadata names."""
        metadata = context.invocation_metadata() or ()
        name = next((str(value) for key, value in metadata if key == INSTANCE_HEADER), "")
        if not name:
            raise Rejected(f"The metadata {INSTANCE_HEADER} is missing", reason="INSTANCE_REQUIRED")
        if name not in self.instances:
            raise Refused(f"{name} is not configured in this process", reason="NOT_CONFIGURED")
        return self.instances[name]

    async def describe(self, request: object, context: Context) -> connector.DescribeResponse:
        return self._cls.description

    async def validate(
        self, request: connector.ValidateRequest, context: Context
    ) -> connector.ValidateResponse:
        _, diagnostics = await self._checked(request.config_json)
        return connector.ValidateResponse(diagnostics=diagnostics)

    async def configure(
        self, request: connector.ConfigureRequest, context: Context
    ) -> connector.ConfigureResponse:
        """Creates or changes an instance; the same bytes change nothing."""
        about = {"instance": request.instance, "core_version": request.core_version}
        log.info("configure", extra=about)
        async with self._configuring:
            settings, diagnostics = await self._checked(request.config_json)
            if any(d.severity == common.SEVERITY_ERROR for d in diagnostics):
                raise Rejected(str(InvalidSettings(diagnostics)), reason="INVALID_CONFIG")
            instance = self.instances.get(request.instance)
            digest = hashlib.sha256(request.config_json.encode()).digest()
            if instance is None:
                instance = await self._created(request, settings)
            elif request.revision < instance.revision:
                newer = f"Revision {instance.revision}, a later one, is in force"
                raise Refused(newer, reason="STALE_REVISION")
            elif instance.config_digest != digest:
                await instance.author.reconfigure(settings)
            instance.revision, instance.config_digest = request.revision, digest
            instance.cluster_id = request.cluster_id
            instance.resume()
            answer = connector.ConfigureResponse(store_id=instance.journal.store_id)
            answer.contracts.extend(self._cls.description.contracts)
            answer.diagnostics.extend(diagnostics)
            return answer

    async def notify_registration(
        self, request: connector.NotifyRegistrationRequest, context: Context
    ) -> connector.NotifyRegistrationResponse:
        about = {"instance": request.instance}
        if request.accepted and not request.reason:
            log.info("the core uses this connector", extra=about)
        else:
            does = "complains" if request.accepted else "refused this connector"
            log.error("the core %s: %s", does, request.reason, extra=about)
        return connector.NotifyRegistrationResponse()

    async def watch_status(self, request: object, context: Context) -> None:
        async for status in self.of_call(context).watch_status():
            await context.write(status)

    async def drain(
        self, request: connector.DrainRequest, context: Context
    ) -> connector.DrainResponse:
        await self.of_call(context).drain(request.grace_s or DRAIN_DEFAULT_S)
        return connector.DrainResponse()

    async def get_operation(
        self, request: operations.GetOperationRequest, context: Context
    ) -> operations.GetOperationResponse:
        instance, stream = self.of_call(context), StreamKey.of(request.stream)
        key = request.idempotency_key
        operation = await instance.journal.get(stream, key)
        if operation is None and instance.busy_with(stream, key):
            # Being carried out at this moment: wait for its end rather than call it unknown.
            async with instance.turn(stream, key):
                operation = await instance.journal.get(stream, key)
        if operation is None:
            raise NotFound(f"Nothing is known of the key {key}", reason="UNKNOWN_KEY")
        return operations.GetOperationResponse(operation=operation)

    async def list_operations(
        self, request: operations.ListOperationsRequest, context: Context
    ) -> operations.ListOperationsResponse:
        instance, stream = self.of_call(context), StreamKey.of(request.stream)
        token = request.page_token or "0"
        if not token.isdecimal():
            raise Rejected("The page token is not one of this connector", reason="INVALID_TOKEN")
        size, journal = min(request.page_size or PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX), instance.journal
        page, after = await journal.list_operations(stream, request.state, size, int(token))
        token = str(after) if after else ""
        return operations.ListOperationsResponse(operations=page, next_page_token=token)

    async def cancel(
        self, request: operations.CancelRequest, context: Context
    ) -> operations.CancelResponse:
        instance = self.of_call(context)
        call = await mutation_context(instance, "Cancel", request.context, context)
        stream, key = call.scope, call.idempotency_key
        async with instance.turn(stream, key):
            operation = await instance.journal.get(stream, key, begun=True)
            state = common.OPERATION_STATE_PENDING
            # What is not known, or has ended, needs no word of the author.
            if (
                operation is None
                or operation.state in TERMINAL
                or await instance.author.cancel(operation, call)
            ):
                state = await instance.journal.tombstone(stream, key)
            return operations.CancelResponse(state=state)

    async def _checked(self, config_json: str) -> tuple[Any, list[common.Diagnostic]]:
        """The typed settings and what is to be said of them."""
        try:
            settings = parse_settings(self._cls.settings_type, config_json)
        except InvalidSettings as error:
            return None, list(error.diagnostics)
        return settings, list(await self._cls.validate(settings))

    async def _created(self, request: connector.ConfigureRequest, settings: object) -> Instance:
        name = request.instance
        if not INSTANCE_FORM.fullmatch(name):
            form = f"{name!r} is no instance name: 1 to 63 of a-z, 0-9 and dash"
            raise Rejected(form, reason="INVALID_INSTANCE")
        if self.instances and not self._cls.description.multi_instance:
            one = f"This process serves one instance, {next(iter(self.instances))}; start another"
            raise Refused(one, reason="SINGLE_INSTANCE")
        instance = Instance(self._cls, name, self._data_dir / name, self._on_status)
        instance.cluster_id = request.cluster_id
        instance.dependencies = {entry.name: entry for entry in request.dependencies}
        try:
            await instance.start(settings)
        except BaseException:
            await instance.aclose()
            raise
        self.instances[name] = instance
        self._on_status()
        return instance
