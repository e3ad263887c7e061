"""What all servicers share: finding the namespace of a call, listing, looking up by id."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, Protocol, TypeVar

from photinus.api.v1 import common_pb2

from photinus_core.model.errors import NotFound
from photinus_core.model.ids import Uuid, parse_uuid
from photinus_core.model.query import Filter, Page
from photinus_core.namespaces.node import Node
from photinus_core.namespaces.runtime import NamespaceRuntime
from photinus_core.ports.store import Reader, Table
from photinus_core.rpc.queries import and_also, read_query

R = TypeVar("R")

READS: Final = ("Download", "Explain", "Get", "List")
"""What the requests of calls that only read are named like."""


class NamespacedRequest(Protocol):
    """Any request that names a namespace."""

    @property
    def namespace(self) -> str:
        """Local name; empty for the default."""
        ...


class Servicer:
    """Base of the servicers: they hold the node and nothing else."""

    def __init__(self, node: Node) -> None:
        self.node = node

    def namespace(self, request: NamespacedRequest) -> NamespaceRuntime:
        """Finds the namespace of a call.

        Raises:
            NotFound: FF10436 unknown namespace.
            NotReady: FF10441 it is starting; for calls that read, when it has not run before.
        """
        if type(request).__name__.startswith(READS):
            return self.node.readable_namespace(request.namespace)
        return self.node.namespace(request.namespace)

    async def page(
        self,
        request: NamespacedRequest,
        query: common_pb2.Query,
        table: Table,
        *conditions: Filter,
    ) -> Page[Any]:
        """Lists a collection as a client asked, narrowed by further conditions."""
        namespace = self.namespace(request)
        asked = read_query(table, query, namespace.settings.queries)
        for condition in conditions:
            asked = and_also(asked, condition)
        async with namespace.reader() as reader:
            return await reader.query(table, asked)


def total_of(page: Page[Any]) -> dict[str, int]:
    """The total as a keyword argument, when it was asked for."""
    return {} if page.total is None else {"total": page.total}


async def one_by_id(
    namespace: NamespaceRuntime,
    text: str,
    look_up: Callable[[Reader, Sequence[Uuid]], Awaitable[dict[Uuid, R]]],
    missing: str,
) -> R:
    """Finds one record by the id a client wrote.

    Raises:
        Rejected: FF00138, it is no id.
        NotFound: with the code given, there is none.
    """
    key = parse_uuid(text)
    async with namespace.reader() as reader:
        found = (await look_up(reader, [key])).get(key)
    if found is None:
        raise NotFound(missing)
    return found
