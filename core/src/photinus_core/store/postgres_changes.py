"""Changes of rows travel between replicas on one database: over NOTIFY, while somebody listens.

A replica with watchers says so when the first one comes and every few seconds from then on; those
that hear it collect what their transactions change and send it after the commit, many changes at
once. When they have heard nothing of it for a while they stop. So nothing is collected, looked up or
sent while nobody watches, and nothing has to be cleaned up after a replica that died. What is sent
may be lost with its sender or with a connection: watchers are told of what is known to be lost.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from photinus_core.model.changes import Change, ChangeCollection, ChangeKind
from photinus_core.model.ids import Namespace
from photinus_core.store.changes import ChangeHub, Noted
from photinus_core.store.postgres_connections import Connection

CHANGES: Final = "photinus_changes"
"""Channel of changes; only replicas with watchers listen to it."""
INTEREST: Final = "photinus_interest"
"""Channel on which these say so; all listen to it."""
RENEW_S: Final = 5.0
"""How often a replica with watchers says so."""
KEPT_S: Final = 20.0
"""For how long others believe it."""
OUTGOING_MAX: Final = 20_000
"""Changes that may wait to be sent; those beyond are counted as lost."""
AT_ONCE_MAX: Final = 2_000
"""Changes sent in one statement."""
PAYLOAD_CHARS_MAX: Final = 7_000
"""PostgreSQL takes 8000 bytes; all that is written here is ASCII."""
_LOST: Final = "lost"
_NONE: Final = "-"


class ChangeExchange:
    """What the listening connection sends and hears of changes.

    Args:
        wake: Has `serve` be called soon.
    """

    def __init__(self, wake: Callable[[], None]) -> None:
        self.hub = ChangeHub(self._turned)
        self._wake = wake
        self._outgoing: deque[Change] = deque()
        self._lost = 0
        self._wanted_until_s = 0.0
        self._next_renewal_s = 0.0
        self._listening = False
        self._was_cut = False

    def noted(self) -> Noted | None:
        """For a transaction that begins: where to note its changes, if anybody wants them."""
        return Noted() if self.hub.has_watchers or self._is_wanted() else None

    def committed(self, changes: Sequence[Change]) -> None:
        """A transaction of this process committed."""
        self.hub.publish(changes)
        if not changes or not self._is_wanted():
            return
        room = OUTGOING_MAX - len(self._outgoing)
        self._outgoing.extend(changes[:room])
        self._lost += max(0, len(changes) - room)
        self._wake()

    @property
    def due_s(self) -> float:
        """When `serve` must be called at the latest, in the loop's time."""
        return self._next_renewal_s if self.hub.has_watchers else float("inf")

    async def begin(self, connection: Connection) -> None:
        """A new listening connection is there."""
        self._listening = False
        await connection.add_listener(INTEREST, self._heard_interest)
        if self._was_cut and self.hub.has_watchers:
            self.hub.lost(0)
        self._was_cut = True
        self._next_renewal_s = 0.0
        await self.serve(connection)

    async def serve(self, connection: Connection) -> None:
        """Does what is due: begins or ends to listen, renews the interest, sends changes."""
        if self.hub.has_watchers != self._listening:
            self._listening = not self._listening
            if self._listening:
                await connection.add_listener(CHANGES, self._heard_changes)
            else:
                await connection.remove_listener(CHANGES, self._heard_changes)
        now = asyncio.get_running_loop().time()
        if self._listening and now >= self._next_renewal_s:
            await connection.execute("SELECT pg_notify($1, '')", INTEREST)
            self._next_renewal_s = now + RENEW_S
        if self._outgoing or self._lost:
            await self._send(connection)

    async def _send(self, connection: Connection) -> None:
        taken = [self._outgoing.popleft() for _ in range(min(len(self._outgoing), AT_ONCE_MAX))]
        lost, self._lost = self._lost, 0
        if not self._is_wanted():
            self._outgoing.clear()
            return
        try:
            await connection.execute(
                "SELECT pg_notify($1, p.payload) FROM unnest($2::text[]) AS p (payload)",
                CHANGES,
                pack_changes(taken, lost),
            )
        except BaseException:
            # They may have been heard: better told as lost than missed.
            self._lost += len(taken) + lost
            raise
        if self._outgoing:
            self._wake()

    def _turned(self) -> None:
        self._next_renewal_s = 0.0
        self._wake()

    def _is_wanted(self) -> bool:
        return asyncio.get_running_loop().time() < self._wanted_until_s

    def _heard_interest(self, connection: Any, sender: int, _channel: str, _: object) -> None:
        if sender != connection.get_server_pid():
            self._wanted_until_s = asyncio.get_running_loop().time() + KEPT_S

    def _heard_changes(self, connection: Any, sender: int, _channel: str, payload: object) -> None:
        if sender != connection.get_server_pid():
            changes, lost = unpack_changes(str(payload))
            self.hub.publish(changes)
            if lost:
                self.hub.lost(lost)


def pack_changes(changes: Iterable[Change], lost: int = 0) -> list[str]:
    """Writes changes as payloads, a line for each, and how many were lost behind them."""
    payloads: list[str] = []
    lines = [_line(change) for change in changes]
    if lost:
        lines.append(f"{_LOST} {lost}")
    for line in lines:
        if payloads and len(payloads[-1]) + len(line) < PAYLOAD_CHARS_MAX:
            payloads[-1] += f"\n{line}"
        else:
            payloads.append(line)
    return payloads


def unpack_changes(payload: str) -> tuple[list[Change], int]:
    """Reads a payload; lines that are not ours are skipped, for anyone may send on a channel."""
    found, lost = list[Change](), 0
    for line in payload.splitlines():
        match line.split(" "):
            case [word, count] if word == _LOST and _is_number(count):
                lost += int(count)
            case [namespace, collection, kind, key, digest, sequence]:
                try:
                    change = Change(
                        ChangeCollection(collection),
                        ChangeKind(kind),
                        Namespace(namespace),
                        "" if key == _NONE else key,
                        "" if digest == _NONE else digest,
                        int(sequence) if _is_number(sequence) else None,
                    )
                except ValueError:  # of a newer version
                    continue
                found.append(change)
            case _:
                continue
    return found, lost


def _line(change: Change) -> str:
    sequence = _NONE if change.sequence is None else change.sequence
    return (
        f"{change.namespace} {change.collection} {change.kind} "
        f"{change.id or _NONE} {change.hash or _NONE} {sequence}"
    )


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit()
