"""Threads that own SQLite connections: jobs go in by a queue, results come back to the event loop."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from typing import Generic, TypeVar

C = TypeVar("C", bound=sqlite3.Connection)
T = TypeVar("T")


class _Order(Generic[C, T]):
    """A job and where its result goes."""

    __slots__ = ("future", "job", "loop")

    def __init__(self, job: Callable[[C], T], loop: asyncio.AbstractEventLoop) -> None:
        self.job = job
        self.loop = loop
        self.future: asyncio.Future[T] = loop.create_future()

    def run(self, connection: C) -> None:
        try:
            result = self.job(connection)
        except BaseException as failure:  # noqa: BLE001 - handed to the one who waits
            self._deliver(self._fail, failure)
        else:
            self._deliver(self._succeed, result)

    def _deliver(self, settle: Callable[[object], None], outcome: object) -> None:
        try:
            self.loop.call_soon_threadsafe(settle, outcome)
        except RuntimeError:
            # The loop is closed: nobody waits any more.
            return

    def _succeed(self, result: object) -> None:
        if not self.future.done():
            self.future.set_result(result)  # type: ignore[arg-type]  # what the job returned

    def _fail(self, failure: object) -> None:
        if not self.future.done():
            self.future.set_exception(failure)  # type: ignore[arg-type]  # what the job raised


class ConnectionThreads(Generic[C]):
    """One thread per connection, all serving one queue in the order of submission.

    With one connection jobs run one after the other, exactly in order. A job once submitted runs to
    its end, also when the one who waits for it is cancelled.
    """

    def __init__(self, connections: Sequence[C], name: str) -> None:
        self._orders: SimpleQueue[_Order[C, object] | None] = SimpleQueue()
        self._threads = [
            threading.Thread(
                target=self._work, args=(connection,), name=f"{name}-{number}", daemon=True
            )
            for number, connection in enumerate(connections)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, job: Callable[[C], T]) -> asyncio.Future[T]:
        """Queues a job; call from the event loop that is to get the result."""
        order = _Order(job, asyncio.get_running_loop())
        self._orders.put(order)  # type: ignore[arg-type]  # the queue takes jobs of all results
        return order.future

    async def aclose(self) -> None:
        """Lets queued jobs finish and closes the connections."""
        for _ in self._threads:
            self._orders.put(None)
        for thread in self._threads:
            await asyncio.to_thread(thread.join)

    def _work(self, connection: C) -> None:
        while (order := self._orders.get()) is not None:
            order.run(connection)
            del order  # its result must not live until the next job comes
        connection.close()
