"""Calls that only the leader of a namespace can answer in full, passed on to it by other replicas.

What agreement waits for and how batches get on is known where it happens. A replica that cannot
reach the leader answers with what the database says. A call is passed on once at most.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Any, Final, Protocol, TypeVar

import grpc
from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from photinus_core.model.errors import PhotinusError
from photinus_core.namespaces.runtime import NamespaceRuntime
from photinus_core.rpc.errors import DETAILS_KEY, Context

log: Final = logging.getLogger(__name__)

PASSED_ON_KEY: Final = "photinus-passed-on"
"""Metadata of a call that another replica has passed on."""
LEADER_WAIT_S: Final = 5.0
"""Longest wait for the leader's answer."""
_AWAY: Final = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED})


class LeaderCalls:
    """Connections to the replicas that lead."""

    def __init__(self) -> None:
        self._channels: dict[str, grpc.aio.Channel] = {}

    async def call(
        self, address: str, path: str, request: Message, answer: type[Message], wait_s: float
    ) -> Message:
        """Makes a unary call.

        Raises:
            grpc.aio.AioRpcError: it failed.
        """
        channel = self._channels.get(address)
        if channel is None:
            channel = self._channels[address] = grpc.aio.insecure_channel(address)
        method = channel.unary_unary(
            path,
            request_serializer=type(request).SerializeToString,
            response_deserializer=answer.FromString,
        )
        found: Message = await method(request, timeout=wait_s, metadata=((PASSED_ON_KEY, "1"),))
        return found

    async def aclose(self) -> None:
        """Closes all connections."""
        for channel in self._channels.values():
            await channel.close()
        self._channels.clear()


class Passing(Protocol):
    """A servicer that passes calls on."""

    leader_calls: LeaderCalls

    def namespace(self, request: Any) -> NamespaceRuntime:
        """Finds the namespace of a call."""
        ...


S = TypeVar("S", bound=Passing)
Method = Callable[[S, Any, Context], Awaitable[Any]]


def leader_knows(service: ServiceDescriptor) -> Callable[[Method[S]], Method[S]]:
    """Has the leader answer a method of a service, when that is another replica."""

    def passing(method: Method[S]) -> Method[S]:
        name = method.__name__
        path = f"/{service.full_name}/{name}"
        answer = GetMessageClass(service.methods_by_name[name].output_type)

        @wraps(method)
        async def call(servicer: S, request: Any, context: Context) -> Any:
            metadata = context.invocation_metadata() or ()
            namespace, address = servicer.namespace(request), ""
            if not any(key == PASSED_ON_KEY for key, _ in metadata):
                address = await _leader_elsewhere(namespace)
            if not address:
                return await method(servicer, request, context)
            wait_s = min(LEADER_WAIT_S, namespace.patience(context.time_remaining()))
            try:
                return await servicer.leader_calls.call(address, path, request, answer, wait_s)
            except grpc.aio.AioRpcError as failure:
                if failure.code() not in _AWAY:
                    await _relay(context, failure)
                log.info("%s: the leader at %s does not answer: %s", name, address, failure)
            return await method(servicer, request, context)

        return call

    return passing


async def _leader_elsewhere(namespace: NamespaceRuntime) -> str:
    try:
        return await namespace.leader_elsewhere()
    except PhotinusError as failure:
        log.info("the leader of %s cannot be found: %s", namespace.settings.name, failure)
        return ""


async def _relay(context: Context, failure: grpc.aio.AioRpcError) -> None:
    details = dict(failure.trailing_metadata() or ()).get(DETAILS_KEY, b"")
    await context.abort(failure.code(), failure.details() or "", ((DETAILS_KEY, details),))
