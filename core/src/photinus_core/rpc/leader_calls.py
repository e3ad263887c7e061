"""Calls that only the leader of a namespace can answer in full, passed on to it by other replicas.

What agreement waits for and how batches get on is known where it happens. A replica that cannot
reach the leader answers with what the database says. A call is passed on once at most.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Any, Final, NoReturn, Protocol, TypeVar

import grpc
from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from photinus_core.model.errors import PhotinusError
from photinus_core.namespaces.runtime import NamespaceRuntime
from photinus_core.rpc.access import AUTHORIZATION, current
from photinus_core.rpc.errors import DETAILS_KEY, Context, set_http_status
from photinus_core.rpc.tls import ServerTls

log: Final = logging.getLogger(__name__)

PASSED_ON_KEY: Final = "photinus-passed-on"
"""Metadata of a call that another replica has passed on."""
LEADER_WAIT_S: Final = 5.0
"""Longest wait for the leader's answer."""
AWAY: Final = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED})


class LeaderCalls:
    """Connections to the replicas that lead.

    Args:
        tls: Certificates of this replica, when they speak TLS.
    """

    def __init__(self, tls: ServerTls | None = None) -> None:
        self._tls = tls
        self._channels: dict[str, grpc.aio.Channel] = {}

    async def call(
        self, address: str, path: str, request: Message, answer: type[Message], wait_s: float
    ) -> Message:
        """Makes a unary call, for the client of the call under way: the leader asks who it is, too.

        Raises:
            grpc.aio.AioRpcError: it failed.
        """
        channel = self._channels.get(address)
        if channel is None:
            channel = self._channels[address] = self._dial(address)
        method = channel.unary_unary(
            path,
            request_serializer=type(request).SerializeToString,
            response_deserializer=answer.FromString,
        )
        metadata = [(PASSED_ON_KEY, "1")]
        if authorization := current().authorization:
            metadata.append((AUTHORIZATION, authorization))
        found: Message = await method(request, timeout=wait_s, metadata=metadata)
        return found

    def _dial(self, address: str) -> grpc.aio.Channel:
        if self._tls is None:
            return grpc.aio.insecure_channel(address)
        return grpc.aio.secure_channel(address, self._tls.channel_credentials())

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


def leader_knows(
    service: ServiceDescriptor, status: int | None = None
) -> Callable[[Method[S]], Method[S]]:
    """Has the leader answer a method of a service, when that is another replica.

    Args:
        service: The service.
        status: Success status over REST, where it is not 200.
    """

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
                done = await servicer.leader_calls.call(address, path, request, answer, wait_s)
                if status is not None:
                    set_http_status(context, status)
                return done
            except grpc.aio.AioRpcError as failure:
                if failure.code() not in AWAY:
                    await relay(context, failure)
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


async def relay(context: Context, failure: grpc.aio.AioRpcError) -> NoReturn:
    """Ends a call with another replica's error."""
    details = dict(failure.trailing_metadata() or ()).get(DETAILS_KEY, b"")
    await context.abort(failure.code(), failure.details() or "", ((DETAILS_KEY, details),))
