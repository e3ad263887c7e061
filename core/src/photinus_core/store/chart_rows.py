"""Counts of rows over time: one statement for all buckets, which reads no more rows than it may count."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from photinus_core.model.ids import Nanoseconds
from photinus_core.ports.store import Bucket, Charted
from photinus_core.store.session import Session


@dataclass(frozen=True, slots=True)
class _Source:
    """Where the rows of a collection are; an index has them in the order of their time."""

    table: str
    time: str = "created"
    type: str = "type"


_SOURCES: Final[Mapping[Charted, _Source]] = MappingProxyType(
    {
        Charted.MESSAGES: _Source("messages"),
        Charted.TRANSACTIONS: _Source("transactions"),
        Charted.OPERATIONS: _Source("operations"),
        Charted.EVENTS: _Source("events"),
        Charted.BLOCKCHAIN_EVENTS: _Source("blockchain_events", "timestamp", "''"),
    }
)
"""Token transfers have no table yet: nothing makes any."""


def histogram_sql(source: _Source, buckets: int) -> str:
    """Writes the count of some buckets.

    `$2` is how many rows are counted of each, `$3` on are their bounds. One row more is read, to
    tell a full bucket from one that has more.
    """
    # They are numbered as they come, which is in their order: sorting them again costs more than all the rest.
    parts = [
        f"SELECT {number} AS bucket, type, row_number() OVER () AS place FROM ("
        f"SELECT {source.type} AS type FROM {source.table} "
        f"WHERE namespace = $1 AND {source.time} >= ${number + 3} AND {source.time} < ${number + 4} "
        f"ORDER BY {source.time} LIMIT $2 + 1) AS b{number}"
        for number in range(buckets)
    ]
    return (
        "SELECT bucket, type, sum(CASE WHEN place <= $2 THEN 1 ELSE 0 END), max(place) "
        f"FROM ({' UNION ALL '.join(parts)}) AS counted GROUP BY bucket, type"
    )


class ChartReading(Session):
    """Counts rows over time."""

    async def histogram(
        self, collection: Charted, bounds: Sequence[Nanoseconds], rows_max: int
    ) -> list[Bucket]:
        types: list[dict[str, int]] = [{} for _ in bounds[1:]]
        capped: set[int] = set()
        if (source := _SOURCES.get(collection)) is not None:
            for row in await self.fetch(histogram_sql(source, len(types)), rows_max, *bounds):
                bucket, kind, count, last = int(row[0]), row[1], int(row[2]), int(row[3])
                if count:
                    types[bucket][kind] = count
                if last > rows_max:
                    capped.add(bucket)
        return [
            Bucket(
                begin,
                sum(counted.values()),
                tuple(sorted((kind, count) for kind, count in counted.items() if kind)),
                is_capped=number in capped,
            )
            for number, (begin, counted) in enumerate(zip(bounds, types, strict=False))
        ]
