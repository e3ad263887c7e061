"""Replicas on one database hear of each other's commits: LISTEN and NOTIFY, and a slow poll.

What changes often (`FREQUENT`) is told after the commit by one task, which sends everything that
came together meanwhile: a NOTIFY inside a transaction would have all commits of the database wait for
each other. What changes rarely is told by its own transaction, so that it cannot be lost. A
notification that a dying replica did not send is made up for by the poll; after the connection was
away everything counts as changed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final

from photinus_core.model.errors import PhotinusError, Unavailable
from photinus_core.model.ids import Namespace
from photinus_core.ports.store import Notification
from photinus_core.ports.tasks import Backoff, Wake
from photinus_core.store.notifier import Notifier
from photinus_core.store.postgres_changes import ChangeExchange
from photinus_core.store.postgres_connections import CLOSE_TIMEOUT_S, Connection, Opener
from photinus_core.store.postgres_errors import LIBRARY_ERRORS, translate_error
from photinus_core.store.postgres_settings import PostgresSettings

CHANNEL: Final = "photinus"
FREQUENT: Final = frozenset({"events", "messages", "wakeups", "operations"})
"""Topics that are told after the commit, coalesced."""
TOPICS: Final = (*sorted(FREQUENT), "definitions", "submissions", "subscriptions")
SEQUENCED: Final = frozenset({"events", "messages", "wakeups"})
"""Topics whose numbers are sequences: a lower one than the last is old news."""
SEND_PAUSE_S: Final = 0.005
"""Least time between two sendings: bounds what notifications cost under load."""
PAYLOAD_CHARS_MAX: Final = 4000
"""PostgreSQL takes 8000 bytes; names are ASCII."""
STATEMENT_TIMEOUT_S: Final = 10.0
RETRY_FIRST_S: Final = 0.1
RETRY_CAP_S: Final = 2.0

_POLL: Final = (
    "SELECT n.name, (SELECT h.sequence FROM event_heads h WHERE h.namespace = n.name), "
    "(SELECT max(m.sequence) FROM messages m WHERE m.namespace = n.name), "
    "(SELECT max(w.sequence) FROM wakeups w WHERE w.namespace = n.name) "
    "FROM (SELECT name FROM namespaces UNION SELECT namespace FROM event_heads) AS n (name)"
)

_log = logging.getLogger(__name__)


class Listener:
    """Tells the notifier of this process what other replicas committed, and them what we did."""

    def __init__(
        self,
        opener: Opener,
        settings: PostgresSettings,
        notifier: Notifier,
        every_poll: Callable[[], Awaitable[None]],
    ) -> None:
        self._opener = opener
        self._settings = settings
        self._notifier = notifier
        self._every_poll = every_poll
        self._newest: dict[tuple[str, str], int] = {}
        self._outgoing: dict[tuple[str, str], int] = {}
        self._wake = Wake()
        self._heard: list[Notification] = []
        self._renewed = False
        self.changes = ChangeExchange(self._wake.set)
        """Changes of rows, which share the connection."""
        self.is_listening = asyncio.Event()

    def committed(self, notifications: Iterable[Notification]) -> None:
        """A transaction of this process committed."""
        told = list(notifications)
        self._publish(told)
        for namespace, topic, number in told:
            if topic in FREQUENT:
                self._outgoing[namespace, topic] = number
        if self._outgoing:
            self._wake.set()

    def renew(self) -> None:
        """Has the connection be replaced: its server is not the one to listen to any more."""
        self._renewed = True
        self._wake.set()

    async def run(self) -> None:
        """Listens until cancelled; connects again whenever the connection is lost."""
        backoff = Backoff(RETRY_FIRST_S, RETRY_CAP_S)
        while True:
            try:
                await self._listen(backoff)
            except PhotinusError as failure:
                _log.warning("no notifications from other replicas for now: %s", failure)
            self.is_listening.clear()
            await asyncio.sleep(backoff.next_s())

    async def _listen(self, backoff: Backoff) -> None:
        self._renewed = False
        connection = await self._opener.open("listener", STATEMENT_TIMEOUT_S, {})
        lost = connection.add_termination_listener
        lost(lambda _: self._wake.set())
        try:
            await connection.add_listener(CHANNEL, self._arrived)
            await self.changes.begin(connection)
            self.is_listening.set()
            await self._poll(connection, everything=True)
            backoff.reset()
            await self._serve(connection)
        except LIBRARY_ERRORS as failure:
            raise translate_error(failure, self._settings.place) from failure
        finally:
            await _close(connection)

    async def _serve(self, connection: Connection) -> None:
        loop = asyncio.get_running_loop()
        next_poll_s = loop.time() + self._settings.poll_s
        while True:
            await self._wake.wait(max(0.0, min(next_poll_s, self.changes.due_s) - loop.time()))
            if connection.is_closed() or self._renewed:
                raise Unavailable("FF19135", self._settings.place, "the listening connection ended")
            await self.changes.serve(connection)
            if self._outgoing:
                await self._send(connection)
            await asyncio.sleep(SEND_PAUSE_S)
            if loop.time() >= next_poll_s:
                await self._poll(connection, everything=False)
                await self._every_poll()
                next_poll_s = loop.time() + self._settings.poll_s

    async def _send(self, connection: Connection) -> None:
        outgoing, self._outgoing = self._outgoing, {}
        for payload in pack((ns, topic, number) for (ns, topic), number in outgoing.items()):
            await connection.execute("SELECT pg_notify($1, $2)", CHANNEL, payload)

    async def _poll(self, connection: Connection, *, everything: bool) -> None:
        """Looks what is newest; publishes what is newer than what was heard of."""
        found: list[tuple[str, str, int]] = []
        for name, *numbers in await connection.fetch(_POLL):
            current = {
                topic: number or 0
                for topic, number in zip(("events", "messages", "wakeups"), numbers, strict=True)
            }
            changed = any(
                number > self._newest.get((name, topic), 0) for topic, number in current.items()
            )
            if everything:
                found += [(name, topic, current.get(topic, 0)) for topic in TOPICS]
            elif changed:
                found += [(name, topic, current.get(topic, 0)) for topic in sorted(FREQUENT)]
        for name, topic, number in found:
            if topic in SEQUENCED:
                self._newest[name, topic] = max(number, self._newest.get((name, topic), 0))
        self._notifier.publish((Namespace(name), topic, number) for name, topic, number in found)

    def _arrived(self, connection: Any, sender: int, _channel: str, payload: object) -> None:
        if sender != connection.get_server_pid():
            self._publish(unpack(str(payload)))

    def _publish(self, notifications: Iterable[Notification]) -> None:
        fresh: list[Notification] = []
        for namespace, topic, number in notifications:
            if topic in SEQUENCED:
                if number <= self._newest.get((namespace, topic), 0):
                    continue
                self._newest[namespace, topic] = number
            fresh.append((namespace, topic, number))
        self._notifier.publish(fresh)


def pack(notifications: Iterable[Notification]) -> list[str]:
    """Writes notifications as payloads; nothing but namespace, topic and number."""
    payloads: list[str] = []
    for namespace, topic, number in notifications:
        line = f"{namespace} {topic} {number}"
        if payloads and len(payloads[-1]) + len(line) < PAYLOAD_CHARS_MAX:
            payloads[-1] += f"\n{line}"
        else:
            payloads.append(line)
    return payloads


def unpack(payload: str) -> list[Notification]:
    """Reads a payload; lines that are not ours are skipped, for anyone may send on a channel."""
    found: list[Notification] = []
    for line in payload.splitlines():
        parts = line.split(" ")
        if len(parts) == 3 and parts[2].isascii() and parts[2].isdigit():
            found.append((Namespace(parts[0]), parts[1], int(parts[2])))
    return found


async def _close(connection: Connection) -> None:
    try:
        await connection.close(timeout=CLOSE_TIMEOUT_S)
    except LIBRARY_ERRORS:
        connection.terminate()
