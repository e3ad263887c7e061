"""Who calls, and whether they may: one interceptor for all calls of a gRPC server.

It proves callers by the `authorization` of their metadata (the gateway passes on what HTTP clients
send), decides by the namespace a request names, and fills in the author of those who send as one
identity. What is decided later than at a call's begin (the namespaces of an event stream, the
entries of a list) asks `current()`:

    current().check(Need(Scope.NAMESPACE, Role.READER, name))

A server that adds services of `photinus.api.v1` needs nothing but this interceptor; `needs` says
what each call needs.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Final

import grpc
from grpc.aio import ServerInterceptor

from photinus_core.access.gate import Gate
from photinus_core.access.refusals import unauthorized
from photinus_core.access.roles import NOBODY, UNLIMITED, Binding, Caller, Need, Rights, Role, Scope
from photinus_core.model.errors import Forbidden, Unauthenticated
from photinus_core.rpc.errors import CARDINALITY, Context, Continuation, Handler, Method
from photinus_core.rpc.needs import CallNeed, bind, namespace_of, need_of

AUTHORIZATION: Final = "authorization"
"""Key of the metadata."""


@dataclass(frozen=True, slots=True)
class Calling:
    """The caller of the call under way. Without a gate everybody may do everything.

    Attributes:
        rights: What it may do where the call is about; decided when the call began.
    """

    gate: Gate | None = None
    caller: Caller = NOBODY
    rights: Rights = UNLIMITED
    authorization: str = ""

    @property
    def binding(self) -> Binding | None:
        """The identity it sends as."""
        return self.rights.binding

    def check(self, need: Need) -> Rights:
        """Asks for something else than the call began with; errors as `Gate.check`."""
        return UNLIMITED if self.gate is None else self.gate.check(self.caller, need)

    def sees(self, namespace: str) -> bool:
        """Whether it may read a namespace."""
        try:
            self.check(Need(Scope.NAMESPACE, Role.READER, namespace))
        except (Unauthenticated, Forbidden):
            return False
        return True

    async def renewed(self) -> Calling:
        """Proves it once more, for calls that go on for long; errors as `Gate.authenticate`."""
        if self.gate is None:
            return self
        caller = await self.gate.authenticate(self.authorization)
        return Calling(self.gate, caller, self.rights, self.authorization)

    def expires_in_s(self) -> float | None:
        """For how long it is proven; None for as long as it likes."""
        ends = self.caller.expires_s()
        return None if self.gate is None or ends is None else ends - self.gate.now_s()


EVERYBODY: Final = Calling()
_CURRENT: Final = ContextVar("calling", default=EVERYBODY)


def current() -> Calling:
    """Who makes the call under way."""
    return _CURRENT.get()


class AccessInterceptor(ServerInterceptor):
    """Lets pass who may. Stands behind the ErrorInterceptor, which tells the others why not."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self._wrapped: dict[str, tuple[Handler, Handler]] = {}

    async def intercept_service(
        self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> Handler | None:
        """Wraps the handler of a call that needs something."""
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        path = handler_call_details.method
        known = self._wrapped.get(path)
        if known is not None and known[0] is handler:
            return known[1]
        need = need_of(path)
        if need is None:
            return handler
        kind = f"{CARDINALITY[handler.request_streaming]}_{CARDINALITY[handler.response_streaming]}"
        method: Method = getattr(handler, kind)
        wrap = self._stream if handler.response_streaming else self._unary
        make = getattr(grpc, f"{kind}_rpc_method_handler")
        made: Handler = make(
            wrap(method, need, given=not handler.request_streaming),
            handler.request_deserializer,
            handler.response_serializer,
        )
        self._wrapped[path] = (handler, made)
        return made

    def _unary(self, method: Method, need: CallNeed, *, given: bool) -> Method:
        async def call(request: Any, context: Context) -> Any:
            return await method(await self._admit(request, context, need, given=given), context)

        return call

    def _stream(self, method: Method, need: CallNeed, *, given: bool) -> Method:
        async def call(request: Any, context: Context) -> AsyncIterator[Any]:
            admitted = await self._admit(request, context, need, given=given)
            async for response in method(admitted, context):
                yield response

        return call

    async def _admit(self, request: Any, context: Context, need: CallNeed, *, given: bool) -> Any:
        """Gives the request of a caller who may make it; without `given` a stream of requests."""
        authorization = _authorization(context)
        if self._gate.is_open:
            _CURRENT.set(Calling(self._gate, NOBODY, UNLIMITED, authorization))
            return request
        caller = await self._gate.authenticate(authorization)
        first = request
        if not given and need.scope is Scope.NAMESPACE:
            # Refused before the first frame is waited for, when nothing in it could help.
            self._gate.check(caller, Need(Scope.ANY, need.role))
            first = await anext(aiter(request), None)
        named = need.scope is Scope.NAMESPACE and first is not None
        rights = self._gate.check(caller, need.of(namespace_of(first) if named else ""))
        if rights.binding is not None and need.role is not Role.READER:
            bind(need, rights.binding, first)
        _CURRENT.set(Calling(self._gate, caller, rights, authorization))
        return request if first is request else _again(first, request)


def _authorization(context: Context) -> str:
    """What the metadata says; with several values none can be believed."""
    found = {value for key, value in context.invocation_metadata() or () if key == AUTHORIZATION}
    if len(found) > 1:
        raise unauthorized("there are several credentials")
    value = next(iter(found), "")
    return value if isinstance(value, str) else value.decode(errors="replace")


async def _again(first: Any, rest: Any) -> AsyncIterator[Any]:
    """A stream whose first frame was looked at."""
    if first is not None:
        yield first
        async for frame in rest:
            yield frame
