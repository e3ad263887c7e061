"""JSON-RPC over HTTP, made for many small calls.

Calls made in one turn of the event loop, and those that arrive while all connections are busy, travel together
in one batch; there is no timer. A node that refuses batches is spoken to in single calls. Nothing here knows
what a call means or tries it again: callers decide by the error.
"""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, Self
from urllib.parse import urlsplit, urlunsplit

import aiohttp
import orjson
from photinus_sdk.tasks import Background

logger = logging.getLogger(__name__)

Json = Any
"""A value of a parsed answer, before its reader has checked it."""

MESSAGE_CHARS_MAX = 500


class RpcError(Exception):
    """The node answered with an error object."""

    def __init__(self, code: int, message: str, data: Json = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.data = data


class NodeUnavailableError(Exception):
    """No answer. `sent` tells whether the node may have seen the call."""

    def __init__(self, message: str, *, sent: bool) -> None:
        super().__init__(message)
        self.sent = sent


Call = tuple[str, Sequence[Json]]
Outcome = Json | RpcError | NodeUnavailableError


class Rpc(Protocol):
    """What the engine needs of a node."""

    async def call(self, method: str, *params: Json) -> Json:
        """The result, or RpcError, or NodeUnavailableError."""

    async def call_many(self, calls: Sequence[Call]) -> list[Outcome]:
        """Results or errors in the order of the calls; raises nothing of its own.

        The node begins them in this order where it can; calls of other callers may be between them.
        """


@dataclass(frozen=True, slots=True)
class RpcLimits:
    """Bounds of one HTTP client."""

    batch_items_max: int = 100
    batch_bytes_max: int = 512 * 1024
    connections_max: int = 4
    pending_max: int = 20_000
    timeout_s: float = 30.0
    response_bytes_max: int = 64 * 1024 * 1024


@dataclass(slots=True)
class _Pending:
    id: int
    body: bytes
    future: asyncio.Future[Json]


def redact_url(url: str) -> str:
    """The URL without what may be a secret in it: user info, path and query."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], "", "", ""))


@dataclass(slots=True)
class HttpRpc:
    """A `Rpc` over HTTP. Use as an async context manager."""

    url: str
    limits: RpcLimits = field(default_factory=RpcLimits)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    _session: aiohttp.ClientSession | None = None
    _tasks: Background = field(default_factory=Background)
    _pending: list[_Pending] = field(default_factory=list)
    _busy: int = 0
    _flush_due: bool = False
    _next_id: int = 0
    _items_max: int = 0

    async def __aenter__(self) -> Self:
        self._items_max = self.limits.batch_items_max
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=self.limits.connections_max),
            timeout=aiohttp.ClientTimeout(total=self.limits.timeout_s),
            headers={"content-type": "application/json", **self.headers},
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._tasks.aclose()
        error = NodeUnavailableError("the connector is closing", sent=False)
        for item in self._pending:
            if not item.future.done():
                item.future.set_exception(error)
        self._pending.clear()
        if self._session is not None:
            await self._session.close()

    async def call(self, method: str, *params: Json) -> Json:
        return await self._enqueue(method, params)

    async def call_many(self, calls: Sequence[Call]) -> list[Outcome]:
        futures = [self._enqueue(method, params) for method, params in calls]
        try:
            if futures:
                await asyncio.wait(futures)
        except asyncio.CancelledError:
            for future in futures:
                future.cancel()
            raise
        return [_outcome(future) for future in futures]

    def _enqueue(self, method: str, params: Sequence[Json]) -> asyncio.Future[Json]:
        future: asyncio.Future[Json] = asyncio.get_running_loop().create_future()
        if self._session is None:
            future.set_exception(NodeUnavailableError("the client is not open", sent=False))
            return future
        if len(self._pending) >= self.limits.pending_max:
            future.set_exception(NodeUnavailableError("too many calls are waiting", sent=False))
            return future
        self._next_id += 1
        request = {"jsonrpc": "2.0", "id": self._next_id, "method": method, "params": params}
        self._pending.append(_Pending(self._next_id, orjson.dumps(request), future))
        self._schedule()
        return future

    def _schedule(self) -> None:
        if self._pending and not self._flush_due and self._busy < self.limits.connections_max:
            self._flush_due = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_due = False
        while self._pending and self._busy < self.limits.connections_max:
            self._busy += 1
            self._tasks.start(self._post(self._take()), "rpc-post")

    def _take(self) -> list[_Pending]:
        count, size = 0, 0
        for item in self._pending[: self._items_max]:
            size += len(item.body)
            if count and size > self.limits.batch_bytes_max:
                break
            count += 1
        batch, self._pending = self._pending[:count], self._pending[count:]
        return batch

    async def _post(self, batch: list[_Pending]) -> None:
        live = [item for item in batch if not item.future.done()]
        try:
            if live:
                await self._exchange(live)
        except NodeUnavailableError as error:
            for item in live:
                if not item.future.done():
                    item.future.set_exception(error)
        finally:
            self._busy -= 1
            for item in live:
                if not item.future.done():
                    item.future.set_exception(NodeUnavailableError("call abandoned", sent=True))
            self._schedule()

    async def _exchange(self, batch: list[_Pending]) -> None:
        single = len(batch) == 1
        bodies = [item.body for item in batch]
        answer = await self._http(bodies[0] if single else b"[" + b",".join(bodies) + b"]")
        if single:
            _resolve(batch[0].future, answer)
        elif isinstance(answer, list):
            # A node may answer a batch in any order.
            answers = {item.get("id"): item for item in answer if isinstance(item, dict)}
            for item in batch:
                _resolve(item.future, answers.get(item.id))
        else:
            await self._without_batch(batch, answer)

    async def _without_batch(self, batch: list[_Pending], answer: Json) -> None:
        """One object for a batch: the node refuses its size, or batches altogether."""
        size = self._items_max = max(1, len(batch) // 2)
        logger.warning(
            "node refuses a batch of %d calls (%s); going on with at most %d",
            len(batch),
            _text(answer),
            size,
        )
        for start in range(0, len(batch), size):
            await self._exchange(batch[start : start + size])

    async def _http(self, body: bytes) -> Json:
        assert self._session is not None
        try:
            async with self._session.post(self.url, data=body) as response:
                if response.status in {401, 403, 404, 407, 429} or response.status >= 500:
                    raise NodeUnavailableError(
                        f"{redact_url(self.url)} answers HTTP {response.status}", sent=True
                    )
                content = await _bounded(response, self.limits.response_bytes_max)
        except (aiohttp.ClientConnectorError, aiohttp.InvalidURL) as error:
            text = f"cannot reach {redact_url(self.url)}: {error.__class__.__name__}"
            raise NodeUnavailableError(text, sent=False) from error
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            text = f"no answer from {redact_url(self.url)}: {error.__class__.__name__}"
            raise NodeUnavailableError(text, sent=True) from error
        try:
            return orjson.loads(content)
        except orjson.JSONDecodeError as error:
            text = f"{redact_url(self.url)} answers something that is not JSON"
            raise NodeUnavailableError(text, sent=True) from error


async def _bounded(response: aiohttp.ClientResponse, limit: int) -> bytes:
    try:
        await response.content.readexactly(limit + 1)
    except asyncio.IncompleteReadError as whole:
        return whole.partial
    raise NodeUnavailableError(
        f"{redact_url(str(response.url))} answers more than {limit} bytes", sent=True
    )


def _text(answer: Json) -> str:
    if isinstance(answer, dict) and isinstance(answer.get("error"), dict):
        return str(answer["error"].get("message"))[:MESSAGE_CHARS_MAX]
    return type(answer).__name__


def _resolve(future: asyncio.Future[Json], answer: Json) -> None:
    if future.done():
        return
    if not isinstance(answer, dict):
        future.set_exception(NodeUnavailableError("the node left a call unanswered", sent=True))
    elif (error := answer.get("error")) is not None:
        if isinstance(error, dict):
            code = error.get("code")
            message = str(error.get("message"))[:MESSAGE_CHARS_MAX]
            known = RpcError(code if isinstance(code, int) else 0, message, error.get("data"))
        else:
            known = RpcError(0, str(error)[:MESSAGE_CHARS_MAX])
        future.set_exception(known)
    else:
        future.set_result(answer.get("result"))


def _outcome(future: asyncio.Future[Json]) -> Outcome:
    error = future.exception()
    if error is None:
        return future.result()
    if isinstance(error, RpcError | NodeUnavailableError):
        return error
    raise error
