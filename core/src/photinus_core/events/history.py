"""Replays the log through a subscription's filter: what it would have been sent, or was.

Nothing is delivered and no offset moves. One call looks at a bounded part of the log.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Final

from photinus_core.events.enrichment import EnrichedEvent, enrich
from photinus_core.events.filters import EventFilter, compile_filter
from photinus_core.events.subscriptions import SubscriptionSettings
from photinus_core.model.errors import NotFound, Rejected
from photinus_core.model.events import Event
from photinus_core.model.ids import Namespace, Uuid
from photinus_core.model.query import AllOf, AnyOf, Condition, Filter, Operator, Page, Query
from photinus_core.ports.store import Reader, Store, Table

PAGE: Final = 200
"""Most events whose objects are read at once."""

_SEQUENCE: Final = re.compile(r"\d{1,18}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Stretch:
    """Part of the log, both ends included; an end that is None is as far away as may be looked at."""

    start: int | None = None
    end: int | None = None


def parse_sequence(name: str, text: str) -> int | None:
    """Reads one end of a stretch; empty or -1 is none.

    Raises:
        Rejected: FF10464, it is no sequence.
    """
    if text in ("", "-1"):
        return None
    if not _SEQUENCE.fullmatch(text):
        raise Rejected("FF10464", name)
    return int(text)


class History:
    """The log of one namespace as its subscriptions see it."""

    def __init__(self, store: Store, namespace: Namespace, settings: SubscriptionSettings) -> None:
        self._store = store
        self._namespace = namespace
        self._scan_max = settings.scan_max

    async def replay(
        self, subscription: Uuid, asked: Query, stretch: Stretch
    ) -> Page[EnrichedEvent]:
        """Lists the events of a stretch that match both a subscription's filter and a query.

        The total is that of the stretch. Without ends it is the newest part of the log.

        Raises:
            NotFound: FF00164, there is no such subscription.
            Rejected: FF10463, the stretch is longer than `subscription.events.maxScanLength`.
        """
        async with self._store.read(self._namespace) as reader:
            found = await reader.subscription(subscription)
            if found is None:
                raise NotFound("FF00164")
            filters = compile_filter(found.filter)
            start, end = self._ends(stretch, await reader.last_event_sequence())
            scan = replace(
                asked,
                where=AllOf((asked.where, *_in_database(filters, start, end))),
                skip=0,
                limit=self._scan_max + 1,
                count=False,
            )
            events: list[Event] = (await reader.query(Table.EVENTS, scan)).items
            wanted = [
                event
                for first in range(0, len(events), PAGE)
                for event in await _wanted(reader, filters, events[first : first + PAGE])
            ]
            shown = wanted[asked.skip : asked.skip + asked.limit]
            return Page(await enrich(reader, shown), len(wanted))

    def _ends(self, stretch: Stretch, head: int) -> tuple[int, int]:
        start, end = stretch.start, stretch.end
        if start is not None and end is not None:
            if end - start > self._scan_max:
                raise Rejected("FF10463", start, end)
            return start, end
        if start is not None:
            return start, start + self._scan_max
        end = head if end is None else end
        return end - self._scan_max, end


def _in_database(filters: EventFilter, start: int, end: int) -> list[Filter]:
    found: list[Filter] = [
        Condition("sequence", Operator.GREATER_OR_EQUAL, start),
        Condition("sequence", Operator.LESS_OR_EQUAL, end),
    ]
    if filters.types is not None:
        found.append(
            AnyOf(tuple(Condition("type", Operator.EQUAL, t) for t in sorted(filters.types)))
        )
    return found


async def _wanted(reader: Reader, filters: EventFilter, page: list[Event]) -> list[Event]:
    wanted = [event for event in page if filters.wants_event(event)]
    if not filters.looks_at_references:
        return wanted
    return [e.event for e in await enrich(reader, wanted) if filters.wants_subject(e.subject)]
