"""Tells listeners inside this process what changed, after the commit that changed it."""

from __future__ import annotations

import asyncio
import logging
import weakref
from collections.abc import AsyncIterator, Callable, Collection, Iterable

from photinus_core.model.ids import Namespace
from photinus_core.ports.store import Notification

_log = logging.getLogger(__name__)


class Notifier:
    """Calls back in the event loop. Not thread-safe: publish from the loop."""

    def __init__(self) -> None:
        self._callbacks: dict[object, Callable[[Notification], None]] = {}

    def subscribe(self, callback: Callable[[Notification], None]) -> Callable[[], None]:
        """Adds a callback; the returned function removes it."""
        token = object()
        self._callbacks[token] = callback

        def unsubscribe() -> None:
            self._callbacks.pop(token, None)

        return unsubscribe

    def publish(self, notifications: Iterable[Notification]) -> None:
        """Calls everyone. A callback that raises is logged and disturbs nobody."""
        for notification in notifications:
            for callback in tuple(self._callbacks.values()):
                try:
                    callback(notification)
                except Exception:  # noqa: BLE001 - whatever a listener does, the others hear of it
                    _log.exception("a listener failed on %s", notification)

    def stream(self, namespace: Namespace, topics: Collection[str]) -> AsyncIterator[Notification]:
        """Gives notifications of a namespace from now on; of each topic the newest not yet taken."""
        return _Stream(self, namespace, topics)


class _Mailbox:
    """The newest number of each topic, in the order in which the topics changed."""

    def __init__(self, namespace: Namespace, topics: Collection[str]) -> None:
        self.namespace = namespace
        self.newest: dict[str, int] = {}
        self.arrived = asyncio.Event()
        self._topics = frozenset(topics)

    def put(self, notification: Notification) -> None:
        namespace, topic, number = notification
        if namespace == self.namespace and topic in self._topics:
            self.newest[topic] = number
            self.arrived.set()


class _Stream(AsyncIterator[Notification]):
    """Listens from its making to its end as an object, so that no change between is missed."""

    def __init__(self, notifier: Notifier, namespace: Namespace, topics: Collection[str]) -> None:
        self._mailbox = _Mailbox(namespace, topics)
        weakref.finalize(self, notifier.subscribe(self._mailbox.put))

    async def __anext__(self) -> Notification:
        mailbox = self._mailbox
        while not mailbox.newest:
            mailbox.arrived.clear()
            await mailbox.arrived.wait()
        topic = next(iter(mailbox.newest))
        return (mailbox.namespace, topic, mailbox.newest.pop(topic))
