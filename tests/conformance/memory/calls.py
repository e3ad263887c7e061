"""From an RPC to the connector in memory: keys, epochs, deadlines, errors; one path for all mutating calls."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
from google.protobuf.message import Message
from google.protobuf.unknown_fields import UnknownFieldSet
from photinus.connector.v1 import common_pb2 as common

from tests.conformance.memory.refusals import Refused, invalid, precondition
from tests.conformance.memory.streams import Streams
from tests.conformance.memory.world import SUCCEEDED, Operation, Scope, Store, World, scope_of

KEY_BYTES_MAX = 256
SLOW_S = 0.5
FEW = 20
EXISTS = grpc.StatusCode.ALREADY_EXISTS
Effect = Callable[[str], Any]


class Calls:
    """What all services share.

    Attributes:
        world: The systems behind.
        streams: The running streams.
        instances: Names of configured instances.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self.streams = Streams(world)
        self.instances: dict[str, Any] = {}
        self.open_calls = 0

    def instance_of(self, context: Any) -> str:
        metadata = dict(context.invocation_metadata() or ())
        name = str(metadata.get("x-connector-instance", ""))
        if name not in self.instances:
            if self.world.has("default-instance") and self.instances:
                return next(iter(self.instances))
            raise precondition("NOT_CONFIGURED", f"the instance {name!r} is not configured")
        return name

    def store(self, context: Any) -> Store:
        return self.world.store_of(self.instance_of(context))

    async def answer(
        self, handler: Callable[..., Awaitable[Any]], request: Any, context: Any
    ) -> Any:
        """Runs a handler; what it raises goes on the wire."""
        try:
            if isinstance(request, Message) and len(UnknownFieldSet(request)):
                self._unknown()
            self.open_calls += 1
            if self.world.has("few-calls") and self.open_calls > FEW:
                raise Refused(grpc.StatusCode.RESOURCE_EXHAUSTED, "BUSY", "too many calls")
            await asyncio.sleep(0.05 if self.world.has("few-calls") else 0)
            if self.world.has("writes-hold-up-calls"):
                async with self.world.writing:
                    pass
            return await handler(request, context)
        except Refused as refused:
            code = refused.code
            if self.world.has("internal-for-input") and code is grpc.StatusCode.INVALID_ARGUMENT:
                code = grpc.StatusCode.INTERNAL
            status = refused.status(self.world.faults)
            details = (("grpc-status-details-bin", status.SerializeToString()),)
            await context.abort(code, status.message[:200], details)
        finally:
            self.open_calls -= 1
        return None

    def _unknown(self) -> None:
        if self.world.has("unknown-fields-refused"):
            raise invalid("UNKNOWN_FIELD", "a field nobody knows")

    def check(self, context: Any, mutation: common.MutationContext, method: str) -> Scope:
        """What every mutating call must bring."""
        has = self.world.has
        if context.time_remaining() is None and not has("deadline-optional"):
            raise invalid("DEADLINE_REQUIRED", "a mutating call needs a deadline")
        key = mutation.idempotency_key
        if not 0 < len(key.encode()) <= KEY_BYTES_MAX and not has("key-optional"):
            raise invalid("KEY_REQUIRED", f"no usable key: {key}")
        if not mutation.stream.cluster_id and not has("stream-optional"):
            raise invalid("INVALID_STREAM", "the key has no scope")
        scope = scope_of(mutation.stream)
        if has("keys-unscoped"):
            scope = ("", "", "")
        instance = self.instance_of(context)
        if mutation.owner_epoch and not has("stale-call-taken"):
            store = self.world.store_of(instance)
            self.streams.check_epoch(store, instance, scope, mutation.owner_epoch)
        leaders = method in ("SubmitBatchPin", "SubmitNetworkAction")
        if leaders and not mutation.owner_epoch and not has("epoch-optional"):
            raise invalid("EPOCH_REQUIRED", "the leader's epoch is missing")
        if instance in self.streams.draining:
            raise Refused(grpc.StatusCode.UNAVAILABLE, "DRAINING", "being drained")
        return scope

    def known(
        self, store: Store, scope: Scope, key: str, method: str, arguments: bytes
    ) -> Operation | None:
        """The operation of a used key, None for a new one."""
        found = store.operations.get((scope, key))
        if found is None or self.world.has("key-forgotten"):
            return None
        if found.state == common.OPERATION_STATE_CANCELLED:
            if self.world.has("tombstone-ignored"):
                return None
            raise precondition("CANCELLED", "the key was cancelled")
        if (found.method, found.arguments) != (method, arguments):
            if self.world.has("arguments-ignored"):
                return found
            raise Refused(EXISTS, "KEY_REUSED", f"the key {key} was used for something else")
        return found

    async def submit(
        self,
        context: Any,
        request: Any,
        method: str,
        effect: Callable[[Store, Scope, Operation], str],
        *,
        ends: bool = True,
    ) -> common.Submission:
        """Begins work under a key: `effect` carries it out and gives its external id."""
        has = self.world.has
        store = self.store(context)
        scope = self.check(context, request.context, method)
        key, arguments = request.context.idempotency_key, arguments_of(request)
        found = self.known(store, scope, key, method, arguments)
        if has("waits-for-block"):
            await asyncio.sleep(SLOW_S)
        if found is not None:
            return common.Submission(
                replayed=not has("no-replay"),
                state=found.state,
                external_id=found.external_id,
            )
        if has("race"):
            await asyncio.sleep(0.01)
        operation = Operation(key, method, arguments)
        if has("effect-before-key"):
            effect(store, scope, operation)
            await asyncio.sleep(0.05)
        operation.external_id = effect(store, scope, operation) or operation.external_id
        store.operations[scope, key] = operation
        if ends:
            from photinus.connector.v1 import event_pb2 as events

            update = events.OperationUpdate(
                idempotency_key=key, state=SUCCEEDED, external_id=operation.external_id
            )
            self.world.update(store, scope_of(request.context.stream), update)
        return common.Submission(
            state=common.OPERATION_STATE_PENDING, external_id=operation.external_id
        )

    def change(
        self, context: Any, request: Any, method: str, effect: Callable[[Store, Scope], Any]
    ) -> Any:
        """Changes something at once, under a key."""
        store = self.store(context)
        scope = self.check(context, request.context, method)
        key, arguments = request.context.idempotency_key, arguments_of(request)
        found = self.known(store, scope, key, method, arguments)
        if found is not None and found.answer:
            return found.answer
        answer = effect(store, scope)
        operation = Operation(key, method, arguments, answer.SerializeToString(), SUCCEEDED)
        store.operations[scope, key] = operation
        return answer


def arguments_of(request: Any) -> bytes:
    """The arguments of a call, without who asks."""
    copy = type(request)()
    copy.CopyFrom(request)
    copy.context.owner_epoch = 0
    return bytes(copy.SerializeToString(deterministic=True))
