"""From an RPC to an author's method and back: one path for all methods of all contracts.

What kind of call a method is shows in its messages: an answer with a `submission` begins work; a
request with a `context` changes something at once; streams carry bytes. So there is no code per
method.
"""

import asyncio
import hashlib
import logging
import sys
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any, TypeAlias, cast

import grpc
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message_factory import GetMessageClass
from photinus.connector.v1 import common_pb2 as common
from photinus_journal import Begun, JournalError

from photinus_sdk import errors
from photinus_sdk.connector import Connector, overrides, snake_case
from photinus_sdk.context import KEY_BYTES_MAX, CallContext, StreamKey
from photinus_sdk.errors import ConnectorError, Rejected
from photinus_sdk.instance import Instance

log = logging.getLogger("photinus.sdk.calls")

CHUNK_BYTES_MAX = 1 << 20
EPOCH_REQUIRED = frozenset({"SubmitBatchPin", "SubmitNetworkAction"})

# Generic in the type stubs only.
Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
Find = Callable[[Context], Instance]
Act = Callable[[Any, Context], Awaitable[Any]]


def handlers_of(
    service: ServiceDescriptor, act_of: Callable[[MethodDescriptor], Act]
) -> dict[str, Handler]:
    """Handlers for a service's methods, each with what carries it out."""
    handlers = {}
    for method in service.methods:
        asked = "stream" if method.client_streaming else "unary"
        answered = "stream" if method.server_streaming else "unary"
        decode = GetMessageClass(method.input_type).FromString
        encode = GetMessageClass(method.output_type).SerializeToString
        make = getattr(grpc, f"{asked}_{answered}_rpc_method_handler")
        handlers[method.name] = make(guarded(act_of(method)), decode, encode)
    return handlers


@dataclass(frozen=True)
class ContractCall:
    """Carries out one method of a contract by the author's class."""

    base: type[Connector[Any]]
    find: Find
    method: MethodDescriptor

    async def __call__(self, request: Any, context: Context) -> Any:
        instance, method = self.find(context), self.method
        if not overrides(type(instance.author), self.base, snake_case(method.name)):
            raise errors.NotOffered(f"This connector does not offer {method.name}")
        author = getattr(instance.author, snake_case(method.name))
        if method.client_streaming:
            return await self._upload(instance, author, request, context)
        if "context" in method.input_type.fields_by_name:
            return await self._mutate(instance, author, request, context)
        call = CallContext(instance.name, method.name, deadline=deadline_of(context))
        if not method.server_streaming:
            return await author(request, call)
        async for item in author(request, call):
            for answer in self._chunked(item):
                await context.write(answer)
        return None

    async def _mutate(
        self, instance: Instance, author: Callable[..., Any], request: Any, context: Context
    ) -> Any:
        """Carries a call out under its key, once; a known key repeats its answer.

        A call that certainly had no effect leaves its key free for the next attempt.
        """
        call = await mutation_context(instance, self.method.name, request.context, context)
        call = replace(call, fingerprint=_fingerprint(request))
        journal, scope, key = instance.journal, call.scope, call.idempotency_key
        async with instance.mutation(scope, key):
            begun = await journal.begin(scope, key, self.method.name, call.fingerprint)
            if begun.answer is not None:
                return self._replay(begun)
            try:
                result = await author(request, replace(call, retried=begun.retried))
            except ConnectorError as error:
                if error.disposition == errors.NOT_SENT:
                    await journal.release(scope, key)
                raise
            if not isinstance(result, common.Submission):
                await journal.settle(scope, key, result.SerializeToString())
                return result
            result.state = result.state or common.OPERATION_STATE_PENDING
            answer: Any = self._answer(submission=result)
            await journal.accept(scope, key, answer.SerializeToString(), result)
            return answer

    async def _upload(
        self, instance: Instance, author: Callable[..., Any], frames: Any, context: Context
    ) -> Any:
        """Takes a header and chunks. A known key reads them only to see that they are the same."""
        first = await anext(aiter(frames), None)
        if first is None or not first.HasField("header"):
            raise Rejected("The first frame must be the header", reason="HEADER_MISSING")
        call = await mutation_context(instance, self.method.name, first.header.context, context)
        digest = hashlib.sha256(_fingerprint(first.header))
        chunks = _chunks(frames, digest)
        journal, scope, key = instance.journal, call.scope, call.idempotency_key
        async with instance.mutation(scope, key):
            known = await journal.get(scope, key)
            answer: Any = await author(first.header, chunks, call) if known is None else None
            async for _ in chunks:
                pass
            # Only now, because the bytes are part of what the key stands for.
            begun = await journal.begin(scope, key, self.method.name, digest.digest())
            if known is not None:
                return self._replay(begun)
            await journal.settle(scope, key, answer.SerializeToString())
            return answer

    def _chunked(self, item: Any) -> list[Any]:
        """What an author's download gave as answers that are not too large; the first has the rest."""
        first = self._answer(chunk=item) if isinstance(item, bytes) else item
        chunk = first.chunk
        starts = range(CHUNK_BYTES_MAX, len(chunk), CHUNK_BYTES_MAX)
        first.chunk = chunk[:CHUNK_BYTES_MAX]
        return [first, *(self._answer(chunk=chunk[at : at + CHUNK_BYTES_MAX]) for at in starts)]

    def _replay(self, begun: Begun) -> Any:
        """The answer of a known key, with the operation as it is now."""
        # An answer without fields is stored as no bytes at all.
        answer, operation = self._answer(), begun.operation
        answer.MergeFromString(begun.answer or b"")
        fields = answer.DESCRIPTOR.fields_by_name
        if "submission" in fields:
            assert operation is not None
            answer.submission.replayed = True
            answer.submission.state = operation.state
            answer.submission.external_id = operation.external_id
        elif operation is not None and operation.state == common.OPERATION_STATE_CANCELLED:
            raise errors.Refused("This key was cancelled", reason="CANCELLED")
        elif "replayed" in fields:
            answer.replayed = True
        return answer

    def _answer(self, **fields: Any) -> Any:
        return GetMessageClass(self.method.output_type)(**fields)


def guarded(act: Act) -> Act:
    """Turns what `act` raises into a status the core can act on."""

    async def handle(request: Any, context: Context) -> Any:
        try:
            return await act(request, context)
        except grpc.aio.AbortError:
            raise
        except ConnectorError as error:
            told = error
        except JournalError as error:
            told = errors.of_journal(error)
        except Exception:  # noqa: BLE001 - logged with its trace by unexpected()
            told = unexpected(log)
        details = (("grpc-status-details-bin", told.to_status().SerializeToString()),)
        return await context.abort(told.code, told.headline, details)

    return handle


def unexpected(logger: logging.Logger | logging.LoggerAdapter[logging.Logger]) -> ConnectorError:
    """Logs the exception being handled and gives what the core may know of it: where to look."""
    where = uuid.uuid4().hex[:12]
    logger.error("unexpected error", exc_info=sys.exc_info(), extra={"error_id": where})
    return ConnectorError(f"Unexpected error; see the connector's log for error_id {where}")


async def mutation_context(
    instance: Instance, method: str, mutation: common.MutationContext, context: Context
) -> CallContext:
    """Checks what every mutating call must bring: a deadline, a key, a stream, a current epoch."""
    deadline, key = deadline_of(context), mutation.idempotency_key
    if deadline is None:
        raise Rejected(f"{method} needs a deadline", reason="DEADLINE_REQUIRED")
    if not key or len(key.encode()) > KEY_BYTES_MAX:
        wanted = f"{method} needs an idempotency key of at most {KEY_BYTES_MAX} bytes"
        raise Rejected(wanted, reason="KEY_REQUIRED")
    stream = StreamKey.of(mutation.stream)
    if mutation.owner_epoch:
        await instance.check_epoch(stream, mutation.owner_epoch)
    elif method in EPOCH_REQUIRED:
        raise Rejected(f"{method} needs the leader's epoch", reason="EPOCH_REQUIRED")
    return CallContext(instance.name, method, stream, key, mutation.owner_epoch, deadline)


def deadline_of(context: Context) -> float | None:
    """Loop time at which the caller stops waiting."""
    # The stubs deny it, but a call without a deadline has None here.
    remaining = cast("float | None", context.time_remaining())
    return None if remaining is None else asyncio.get_running_loop().time() + remaining


def _fingerprint(request: Any) -> bytes:
    """Digest of the arguments; who asks (the epoch) is no argument."""
    arguments = type(request)()
    arguments.CopyFrom(request)
    arguments.context.owner_epoch = 0
    return hashlib.sha256(arguments.SerializeToString(deterministic=True)).digest()


async def _chunks(frames: AsyncIterator[Any], digest: Any) -> AsyncIterator[bytes]:
    """The chunks up to the end frame; without one the upload broke off and nothing may be kept."""
    size = 0
    async for frame in frames:
        kind = frame.WhichOneof("frame")
        if kind == "end" and frame.end.size == size:
            return
        if kind == "end":
            break
        if kind != "chunk":
            raise Rejected("Only the first frame may be a header", reason="UNEXPECTED_HEADER")
        if len(frame.chunk) > CHUNK_BYTES_MAX:
            raise Rejected(f"A chunk is larger than {CHUNK_BYTES_MAX} bytes", reason="CHUNK_SIZE")
        size += len(frame.chunk)
        digest.update(frame.chunk)
        yield frame.chunk
    raise Rejected(f"The upload broke off after {size} bytes", reason="UPLOAD_INCOMPLETE")
