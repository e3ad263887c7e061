"""From an RPC to an author's method and back: one path for all methods of all contracts.

What kind of call a method is shows in its messages: an answer with a `submission` begins work; a
request with a `context` changes something at once; streams carry bytes. So there is no code per
method.
"""

import asyncio
import hashlib
import logging
import re
import sys
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import grpc
from google.protobuf import message_factory
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import Message
from photinus.connector.v1 import common_pb2 as common
from photinus_journal import Begun, JournalError

from photinus_sdk.connector import Connector
from photinus_sdk.context import KEY_BYTES_MAX, CallContext, StreamKey
from photinus_sdk.errors import NOT_SENT, ConnectorError, NotOffered, Refused, Rejected, of_journal
from photinus_sdk.instance import Instance

log = logging.getLogger("photinus.sdk.calls")

CHUNK_BYTES_MAX = 1 << 20
INSTANCE_HEADER = "x-connector-instance"
EPOCH_REQUIRED = frozenset({"SubmitBatchPin", "SubmitNetworkAction"})

if TYPE_CHECKING:
    Context = grpc.aio.ServicerContext[Any, Any]
    Handler = grpc.RpcMethodHandler[Any, Any]
else:  # generic in the type stubs only
    Context, Handler = grpc.aio.ServicerContext, grpc.RpcMethodHandler
Find = Callable[[Context], Instance]
Act = Callable[[Any, Context], Awaitable[Any]]


def handlers_of(service: ServiceDescriptor, target: object) -> dict[str, Handler]:
    """Handlers for a service's methods: those of an object with the same names, in snake case."""
    return {
        method.name: _handler(method, getattr(target, snake_case(method.name)))
        for method in service.methods
    }


def contract_handlers(
    service: ServiceDescriptor, base: type[Connector[Any]], find: Find
) -> dict[str, Handler]:
    """Handlers for the methods of a contract, carried out by the author's class."""
    return {
        method.name: _handler(method, _act(method, _Call(method, base, find)))
        for method in service.methods
    }


def _handler(method: MethodDescriptor, act: Act) -> Handler:
    decode = message_class(method.input_type).FromString
    encode = message_class(method.output_type).SerializeToString
    make = {
        (False, False): grpc.unary_unary_rpc_method_handler,
        (False, True): grpc.unary_stream_rpc_method_handler,
        (True, False): grpc.stream_unary_rpc_method_handler,
        (True, True): grpc.stream_stream_rpc_method_handler,
    }[method.client_streaming, method.server_streaming]
    return make(guarded(act), decode, encode)


def _act(method: MethodDescriptor, call: "_Call") -> Act:
    if method.client_streaming:
        return call.upload
    if method.server_streaming:
        return call.download
    return call.mutate if "context" in method.input_type.fields_by_name else call.ask


class _Call:
    """One method of a contract, with a function per kind of call."""

    def __init__(self, method: MethodDescriptor, base: type[Connector[Any]], find: Find) -> None:
        self._method, self._name = method.name, snake_case(method.name)
        self._base, self._find = base, find
        self._response_type = message_class(method.output_type)

    async def ask(self, request: Any, context: Context) -> Message:
        instance, author = self._found(context)
        call = CallContext(instance.name, self._method, deadline=_deadline(context))
        answer: Message = await author(request, call)
        return answer

    async def mutate(self, request: Any, context: Context) -> Any:
        """Carries a call out under its key, once; a known key repeats its answer.

        A call that certainly had no effect leaves its key free for the next attempt.
        """
        instance, author = self._found(context)
        call = await mutation_context(instance, self._method, request.context, context)
        call = replace(call, fingerprint=_fingerprint(request))
        journal, scope, key = instance.journal, call.scope, call.idempotency_key
        async with instance.mutation(scope, key):
            begun = await journal.begin(scope, key, self._method, call.fingerprint)
            if begun.answer is not None:
                return self._replay(begun)
            try:
                result = await author(request, replace(call, retried=begun.retried))
            except ConnectorError as error:
                if error.disposition == NOT_SENT:
                    await journal.release(scope, key)
                raise
            if not isinstance(result, common.Submission):
                await journal.settle(scope, key, result.SerializeToString())
                return result
            result.state = result.state or common.OPERATION_STATE_PENDING
            answer = self._response_type(submission=result)
            await journal.accept(scope, key, answer.SerializeToString(), result)
            return answer

    async def upload(self, frames: AsyncIterator[Any], context: Context) -> Any:
        """Takes a header and chunks. A known key reads them only to see that they are the same."""
        instance, author = self._found(context)
        first = await anext(aiter(frames), None)
        if first is None or first.WhichOneof("frame") != "header":
            raise Rejected("The first frame must be the header", reason="HEADER_MISSING")
        call = await mutation_context(instance, self._method, first.header.context, context)
        digest = hashlib.sha256(_fingerprint(first.header))
        chunks = _chunks(frames, digest)
        journal, scope, key = instance.journal, call.scope, call.idempotency_key
        async with instance.mutation(scope, key):
            known = await journal.get(scope, key)
            answer: Message | None = None
            if known is None:
                answer = await author(first.header, chunks, call)
            async for _ in chunks:
                pass
            # Only now, because the bytes are part of what the key stands for.
            begun = await journal.begin(scope, key, self._method, digest.digest())
            if answer is None:
                return self._replay(begun)
            await journal.settle(scope, key, answer.SerializeToString())
            return answer

    async def download(self, request: Any, context: Context) -> None:
        instance, author = self._found(context)
        call = CallContext(instance.name, self._method, deadline=_deadline(context))
        async for item in author(request, call):
            answer: Any = self._response_type(chunk=item) if isinstance(item, bytes) else item
            chunk = answer.chunk
            if len(chunk) <= CHUNK_BYTES_MAX:
                await context.write(answer)
                continue
            for start in range(0, len(chunk), CHUNK_BYTES_MAX):
                answer.chunk = chunk[start : start + CHUNK_BYTES_MAX]
                await context.write(answer)
                answer = self._response_type()

    def _replay(self, begun: Begun) -> Any:
        """The answer of a known key, with the operation as it is now."""
        # An answer without fields is stored as no bytes at all.
        answer: Any = self._response_type.FromString(begun.answer or b"")
        fields, operation = answer.DESCRIPTOR.fields_by_name, begun.operation
        if "submission" in fields:
            assert operation is not None
            answer.submission.replayed = True
            answer.submission.state = operation.state
            answer.submission.external_id = operation.external_id
        elif operation is not None and operation.state == common.OPERATION_STATE_CANCELLED:
            raise Refused("This key was cancelled", reason="CANCELLED")
        elif "replayed" in fields:
            answer.replayed = True
        return answer

    def _found(self, context: Context) -> tuple[Instance, Callable[..., Any]]:
        """The instance the call is for, and its author's method."""
        instance = self._find(context)
        if getattr(type(instance.author), self._name) is getattr(self._base, self._name):
            raise NotOffered(f"This connector does not offer {self._method}")
        return instance, getattr(instance.author, self._name)


def guarded(act: Act) -> Act:
    """Turns what `act` raises into a status the core can act on."""

    async def handle(request: Any, context: Context) -> Any:
        try:
            return await act(request, context)
        except ConnectorError as error:
            await abort(context, error)
        except JournalError as error:
            await abort(context, of_journal(error))
        except grpc.aio.AbortError:
            raise
        except Exception:  # noqa: BLE001 - logged with its trace by unexpected()
            await abort(context, unexpected(log))
        return None

    return handle


def unexpected(logger: logging.Logger | logging.LoggerAdapter[logging.Logger]) -> ConnectorError:
    """Logs the exception being handled and gives what the core may know of it: where to look."""
    where = uuid.uuid4().hex[:12]
    logger.error("unexpected error", exc_info=sys.exc_info(), extra={"error_id": where})
    return ConnectorError(f"Unexpected error; see the connector's log for error_id {where}")


async def abort(context: Context, error: ConnectorError) -> None:
    """Ends the call with the error's status and details."""
    status = error.to_status()
    details = (("grpc-status-details-bin", status.SerializeToString()),)
    await context.abort(error.code, error.headline, details)


async def mutation_context(
    instance: Instance, method: str, mutation: common.MutationContext, context: Context
) -> CallContext:
    """Checks what every mutating call must bring: a deadline, a key, a stream, a current epoch."""
    deadline = _deadline(context)
    if deadline is None:
        raise Rejected(f"{method} needs a deadline", reason="DEADLINE_REQUIRED")
    key = mutation.idempotency_key
    if not key or len(key.encode()) > KEY_BYTES_MAX:
        raise Rejected(
            f"{method} needs an idempotency key of at most {KEY_BYTES_MAX} bytes",
            reason="KEY_REQUIRED",
        )
    stream = StreamKey.of(mutation.stream)
    if mutation.owner_epoch:
        await instance.check_epoch(stream, mutation.owner_epoch)
    elif method in EPOCH_REQUIRED:
        raise Rejected(f"{method} needs the leader's epoch", reason="EPOCH_REQUIRED")
    return CallContext(instance.name, method, stream, key, mutation.owner_epoch, deadline)


def snake_case(name: str) -> str:
    """`SubmitBatchPin` → `submit_batch_pin`."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


def message_class(descriptor: Any) -> Any:
    """The generated class of a message descriptor."""
    return message_factory.GetMessageClass(descriptor)


def _deadline(context: Context) -> float | None:
    # The stubs deny it, but a call without a deadline has None here.
    remaining = cast("float | None", context.time_remaining())
    return None if remaining is None else asyncio.get_running_loop().time() + remaining


def _fingerprint(request: Any) -> bytes:
    """Digest of the arguments; who asks (the epoch) is no argument."""
    epoch, request.context.owner_epoch = request.context.owner_epoch, 0
    digest = hashlib.sha256(request.SerializeToString(deterministic=True)).digest()
    request.context.owner_epoch = epoch
    return digest


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
