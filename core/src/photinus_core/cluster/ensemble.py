"""One session with a ZooKeeper ensemble: kazoo's threads on one side, the event loop on the other.

The only module that knows kazoo. Every call is a future of the loop; nothing here blocks it. Calls made while the
connection is away fail at once rather than wait in kazoo's queue, where they would still be carried out after their
caller had given up. A session that ended is not renewed: whoever needs another opens one.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NewType, Self

from kazoo.client import KazooClient
from kazoo.exceptions import (
    AuthFailedError,
    BadVersionError,
    ConnectionClosedError,
    ConnectionLoss,
    KazooException,
    NoAuthError,
    NodeExistsError,
    NoNodeError,
    NotEmptyError,
    OperationTimeoutError,
    SessionExpiredError,
)
from kazoo.handlers.threading import KazooTimeoutError, SequentialThreadingHandler
from kazoo.protocol.connection import ConnectionHandler
from kazoo.protocol.serialization import Connect
from kazoo.protocol.states import KazooState
from kazoo.security import make_digest_acl

from photinus_core.model.errors import Forbidden, Unavailable

log: Final = logging.getLogger(__name__)
_kazoo_log: Final = logging.getLogger(f"{__name__}.kazoo")
_kazoo_log.setLevel(logging.ERROR)  # it warns at every attempt to connect; we say it once

RECONNECT_FIRST_S: Final = 0.05
RECONNECT_CAP_S: Final = 0.5
CONNECT_PART: Final = 0.5
"""Part of the session timeout one server gets to take a connection, so that another can still save the session."""
ANSWER_PART: Final = 1 / 3
ANSWER_MIN_S: Final = 1.0
ANSWER_MAX_S: Final = 3.0
"""How long one server may take to confirm a session: a part of the session timeout, within these limits."""
CLOSE_WAIT_S: Final = 0.3
"""How long the end of a session is waited for; the server ends it by itself later."""

Czxid = NewType("Czxid", int)
"""The ensemble's number of the change that made a node; grows with every change."""

_ABOUT_NODES: Final = (NoNodeError, NodeExistsError, NotEmptyError, BadVersionError)
_AWAY: Final = (
    ConnectionLoss,
    ConnectionClosedError,
    OperationTimeoutError,
    SessionExpiredError,
    KazooTimeoutError,
    OSError,
)


@dataclass(frozen=True, slots=True)
class TlsSettings:
    """TLS towards the ensemble.

    Attributes:
        ca: Certificates to trust; the machine's when empty.
        cert: Own certificate, for servers that ask for one.
        key: Key of the own certificate.
        verify_host: Whether the certificate must name the host.
    """

    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None
    verify_host: bool = True


@dataclass(frozen=True, slots=True)
class EnsembleSettings:
    """How the ensemble is reached.

    Attributes:
        hosts: `host:port`, comma between several.
        chroot: Where everything of this core lives, `/photinus/member1`; made when missing.
        session_timeout_s: After this long without a sign of life others may lead.
        auth: `user:password` of a digest; what is made is then for this user alone.
    """

    hosts: str
    chroot: str = "/photinus"
    session_timeout_s: float = 4.0
    auth: str = field(default="", repr=False)
    tls: TlsSettings | None = None


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """A node of the ensemble."""

    data: bytes
    czxid: Czxid
    version: int


class EnsembleAway(Unavailable):
    """FF19150: the ensemble cannot be reached now."""


class EnsembleSession:
    """A session, from connecting until it ends.

    Attributes:
        id: The session's number in hexadecimal, unique in the ensemble.
        timeout_s: What the server agreed to.
        connected: Set while connected.
        over: Set once, when the session has ended or was refused.
    """

    def __init__(self, settings: EnsembleSettings) -> None:
        self.settings = settings
        self.id = ""
        self.timeout_s = settings.session_timeout_s
        self.connected = asyncio.Event()
        self.over = asyncio.Event()
        self.is_connected = False
        """The same as `connected`, but changed by kazoo's thread at once."""
        self.state_changed: Callable[[], None] = lambda: None
        """Called in the loop when `connected` or `over` changed."""
        self._answered = asyncio.Event()
        self._watchers: dict[Callable[[], None], Callable[[object], None]] = {}
        self._ended = False
        self._loop = asyncio.get_running_loop()
        self._acl: list[Any] | None = None
        auth_data: list[tuple[str, str]] = []
        if settings.auth:
            user, _, password = settings.auth.partition(":")
            self._acl = [make_digest_acl(user, password, all=True)]
            auth_data = [("digest", settings.auth)]
        handler = self._handler = _Handler(settings.tls)
        self._client: Any = KazooClient(
            hosts=settings.hosts,
            timeout=settings.session_timeout_s,
            handler=handler,
            auth_data=auth_data,
            use_ssl=settings.tls is not None,
            connection_retry={
                "max_tries": -1,
                "delay": RECONNECT_FIRST_S,
                "max_delay": RECONNECT_CAP_S,
                "sleep_func": handler.sleep_func,
            },
            logger=_kazoo_log,
        )
        self._wire = _Connection(
            self._client,
            self._client._conn_retry.copy(),  # noqa: SLF001 - kazoo tells the agreed timeout nowhere else
            logger=_kazoo_log,
        )
        self._client._connection = self._wire  # noqa: SLF001 - as above
        self._client.add_listener(self._told)

    def start(self) -> None:
        """Begins to connect; goes on by itself until `aclose`."""
        self._client.start_async()

    async def answered(self) -> None:
        """Waits until a server has answered.

        Raises:
            Forbidden: FF19153, it refused the session.
        """
        await self._answered.wait()
        if self.over.is_set():
            raise Forbidden("FF19153", self.settings.hosts, "it ended the session at once")

    @property
    def failure(self) -> str:
        """Why the last attempt to connect failed; empty when it did not."""
        return self._handler.failure

    async def aclose(self) -> None:
        """Ends the session; its ephemeral nodes go. Idempotent."""
        self._client.remove_listener(self._told)
        self.is_connected = False
        stopped = asyncio.Event()

        def stop() -> None:
            try:
                self._client.stop()
                self._client.close()
            except Exception:
                log.exception("a session with ZooKeeper did not end well")
            self._tell(stopped.set)

        # kazoo's stop waits for its threads; a thread of its own never holds up the loop's end.
        threading.Thread(target=stop, name="zookeeper-stop", daemon=True).start()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_WAIT_S):
                await stopped.wait()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    # Nodes. Paths are below the chroot; "" is the chroot itself.

    async def confirm(self) -> None:
        """Returns once the ensemble's leader has confirmed that the session lives."""
        await self._call(self._client.sync_async, self._path(""))

    async def make_path(self, path: str) -> None:
        """Makes a persistent node and those above it. Idempotent."""
        await self._call(self._client.ensure_path_async, self._path(path), self._acl)

    async def create(
        self, path: str, data: bytes, *, ephemeral: bool = False, sequence: bool = False
    ) -> str | None:
        """Makes a node; gives its name without the folder.

        None when it exists already, or its folder does not.
        """
        try:
            made: str = await self._call(
                lambda: self._client.create_async(
                    self._path(path), data, acl=self._acl, ephemeral=ephemeral, sequence=sequence
                )
            )
        except (NodeExistsError, NoNodeError):
            return None
        return made.rpartition("/")[2]

    async def read(self, path: str, watch: Callable[[], None] | None = None) -> NodeFacts | None:
        """Reads a node; None when there is none. `watch` is called once, in the loop, on a change."""
        try:
            data, stat = await self._call(
                self._client.get_async, self._path(path), self._watcher(watch)
            )
        except NoNodeError:
            return None
        return NodeFacts(data or b"", Czxid(stat.czxid), stat.version)

    async def write(self, path: str, data: bytes, version: int = -1) -> bool:
        """Replaces a node's data; False when it has another version by now, or is gone."""
        try:
            await self._call(self._client.set_async, self._path(path), data, version)
        except (BadVersionError, NoNodeError):
            return False
        return True

    async def children(self, path: str, watch: Callable[[], None] | None = None) -> list[str]:
        """Names of the nodes in a folder; none where there is no folder."""
        try:
            found: list[str] = await self._call(
                self._client.get_children_async, self._path(path), self._watcher(watch)
            )
        except NoNodeError:
            return []
        return found

    async def delete(self, path: str) -> None:
        """Removes a node; leaves one that has children. Idempotent."""
        with contextlib.suppress(NoNodeError, NotEmptyError):
            await self._call(self._client.delete_async, self._path(path))

    # Between the threads

    async def _call(self, begin: Callable[..., Any], *args: object) -> Any:
        if not self.is_connected:
            raise EnsembleAway("FF19150", self.settings.hosts, "the connection is lost")
        future: asyncio.Future[Any] = self._loop.create_future()

        def settle(result: Any) -> None:
            if future.done():
                return
            if result.exception is not None:
                future.set_exception(result.exception)
            else:
                future.set_result(result.value)

        begin(*args).rawlink(lambda result: self._tell(lambda: settle(result)))
        try:
            return await future
        except _ABOUT_NODES:
            raise
        except (NoAuthError, AuthFailedError) as failure:
            raise Forbidden(
                "FF19153", self.settings.hosts, f"no access to {self.settings.chroot}"
            ) from failure
        except _AWAY as failure:
            raise EnsembleAway(
                "FF19150", self.settings.hosts, "the connection was lost"
            ) from failure
        except KazooException as failure:
            raise Unavailable("FF19154", type(failure).__name__) from failure

    def _watcher(self, watch: Callable[[], None] | None) -> Callable[[object], None] | None:
        """One and the same for each callback until it is called: kazoo's set would grow with every look."""
        if watch is None:
            return None

        def changed() -> None:
            self._watchers.pop(watch, None)
            watch()

        return self._watchers.setdefault(watch, lambda _event: self._tell(changed))

    def _told(self, state: str) -> None:
        """Called by kazoo's thread."""
        if self._ended:  # kazoo would go on with a new session; this object is one
            return
        self._ended = state == KazooState.LOST
        self.is_connected = state == KazooState.CONNECTED
        self._tell(lambda: self._changed(state))

    def _tell(self, callback: Callable[[], None]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended; nobody listens
            self._loop.call_soon_threadsafe(callback)

    def _changed(self, state: str) -> None:
        if state == KazooState.CONNECTED:
            self.id = self.id or f"{self._wire.session_id & 0xFFFFFFFFFFFFFFFF:016x}"
            self.timeout_s = self._wire.timeout_s
            self.connected.set()
        else:
            self.connected.clear()
            if state == KazooState.LOST:
                self.over.set()
        self._answered.set()
        self.state_changed()

    def _path(self, path: str) -> str:
        return self.settings.chroot + path or "/"


class _Connection(ConnectionHandler):  # type: ignore[misc]  # kazoo has no types
    """kazoo's connection, which also remembers what was agreed with the server.

    kazoo waits for the answer to its first request as long as the session lasts; a server that is just starting may
    take a connection and never answer it, and the session would end with the wait.
    """

    session_id = 0
    timeout_s = 0.0

    def _invoke(self, timeout: float, request: object, xid: int | None = None) -> Any:
        if not isinstance(request, Connect):
            return super()._invoke(timeout, request, xid)
        part_s = self.client._session_timeout / 1000 * ANSWER_PART  # noqa: SLF001 - as above
        answer_s = min(max(part_s, ANSWER_MIN_S), ANSWER_MAX_S)
        agreed, zxid = super()._invoke(answer_s, request, xid)
        self.timeout_s = agreed.time_out / 1000
        self.session_id = agreed.session_id
        return agreed, zxid


class _Handler(SequentialThreadingHandler):  # type: ignore[misc]  # kazoo has no types
    """kazoo's threads, with a TLS context of our own: kazoo's allows what is long deprecated."""

    def __init__(self, tls: TlsSettings | None) -> None:
        super().__init__()
        self._tls = tls
        self.failure = ""

    def create_connection(self, *, address: tuple[str, int], timeout: float, **how: Any) -> Any:
        """Connects to one server."""
        host = how["hostname"]
        connection = None
        try:
            connection = socket.create_connection(address, timeout * CONNECT_PART)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._tls is not None:
                connection = _context(self._tls).wrap_socket(connection, server_hostname=host)
        except OSError as failure:
            if connection is not None:
                connection.close()
            self.failure = f"{host}:{address[1]}: {failure.strerror or failure}"
            raise
        self.failure = ""
        return connection

    def select(self, reading: Any, writing: Any, failing: Any, timeout: float | None = None) -> Any:
        """Waits for sockets; what TLS has decrypted already is there, though its socket is quiet."""
        buffered = [s for s in reading if isinstance(s, ssl.SSLSocket) and s.pending()]
        if not buffered:
            return super().select(reading, writing, failing, timeout)
        ready, *others = super().select(reading, writing, failing, 0)
        return (list({*ready, *buffered}), *others)


def _context(tls: TlsSettings) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=tls.ca)
    context.check_hostname = tls.verify_host
    if tls.cert is not None:
        context.load_cert_chain(tls.cert, tls.key)
    return context
