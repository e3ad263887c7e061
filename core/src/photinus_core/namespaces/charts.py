"""Counts of what a namespace did over time, as charts show them."""

from __future__ import annotations

import re
from typing import Final

from photinus_core.model.canonical_json import InvalidTimeError, format_time, parse_time
from photinus_core.model.errors import Rejected
from photinus_core.model.ids import Namespace, Nanoseconds
from photinus_core.ports.store import Bucket, Charted, Store

BUCKETS_MAX: Final = 100
ROWS_MAX: Final = 100
"""How many rows of a bucket are counted unless configured (`histograms.maxChartRows`)."""

_LATEST: Final = Nanoseconds((1 << 63) - 1)
"""What databases can hold."""
_NUMBER: Final = re.compile(r"[+-]?\d{1,18}", re.ASCII)


class Charts:
    """Histograms of one namespace."""

    def __init__(self, store: Store, namespace: Namespace, rows_max: int = ROWS_MAX) -> None:
        self._store = store
        self._namespace = namespace
        self._rows_max = rows_max

    async def histogram(self, collection: str, start: str, end: str, buckets: str) -> list[Bucket]:
        """Counts the rows of a collection in equal parts of a span of time, oldest first.

        Of each part at most `histograms.maxChartRows` are counted.

        Args:
            collection: Its name, as in paths.
            start: A time, in any form that filters take.
            end: Likewise; not part of the span.
            buckets: Number of parts, in decimal.

        Raises:
            Rejected: FF10298 too few or too many parts, FF10299 no time or no number, FF10300 the end
                is not behind the start, FF10301 such rows are not counted, FF19010 a time before 1970
                or beyond 2262.
        """
        begin, stop = _time("startTime", start), _time("endTime", end)
        if _NUMBER.fullmatch(buckets) is None:
            raise Rejected("FF10299", "buckets")
        parts = int(buckets)
        if not 1 <= parts <= BUCKETS_MAX:
            raise Rejected("FF10298", 1, BUCKETS_MAX)
        if begin >= stop:
            raise Rejected("FF10300")
        if collection not in set(Charted):
            raise Rejected("FF10301", collection)
        async with self._store.read(self._namespace) as reader:
            return await reader.histogram(
                Charted(collection), bounds_of(begin, stop, parts), self._rows_max
            )


def bounds_of(begin: Nanoseconds, end: Nanoseconds, parts: int) -> list[Nanoseconds]:
    """Cuts a span into parts that differ by one nanosecond at most; gives all their bounds."""
    return [Nanoseconds(begin + (end - begin) * number // parts) for number in range(parts + 1)]


def _time(name: str, text: str) -> Nanoseconds:
    try:
        time = parse_time(text)
    except InvalidTimeError as failure:
        raise Rejected("FF10299", name) from failure
    if not 0 <= time <= _LATEST:
        raise Rejected("FF19010", name, format_time(Nanoseconds(0)), format_time(_LATEST), text)
    return time
