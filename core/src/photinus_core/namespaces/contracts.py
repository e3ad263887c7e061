"""The multiparty contracts of a namespace: which one is active, and moving on to the next.

The row in the database is the truth; the configuration only says which contract comes next. The
active contract is read by the dispatcher for every pin, so it is held in memory and replaced when
the row changes.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from photinus_core.model.errors import Rejected
from photinus_core.model.ids import Namespace
from photinus_core.model.ledger import NamespaceRow, NetworkContract
from photinus_core.namespaces.settings import ContractSettings
from photinus_core.ports.clock import Clock
from photinus_core.ports.connectors import Blockchain
from photinus_core.ports.store import Store


class ContractBook:
    """Knows the contracts of one namespace."""

    def __init__(
        self,
        store: Store,
        namespace: Namespace,
        clock: Clock,
        blockchain: Blockchain,
        configured: Sequence[ContractSettings],
    ) -> None:
        self._store = store
        self._namespace = namespace
        self._clock = clock
        self._blockchain = blockchain
        self._configured = tuple(configured)
        self._row: NamespaceRow | None = None

    @property
    def active(self) -> NetworkContract:
        """The contract that new pins go to.

        Raises:
            Rejected: FF10396, the last one was terminated and no other is configured.
        """
        if self._row is None or not self._row.contracts or self._row.contracts[-1].final_event:
            raise Rejected("FF10396", "multiparty.contract")
        return self._row.contracts[-1]

    @property
    def all(self) -> tuple[NetworkContract, ...]:
        """Contracts used so far, the active one last."""
        return () if self._row is None else self._row.contracts

    async def resolve(self, index: int) -> NetworkContract:
        """Brings a configured contract into canonical form and asks it for its version.

        Raises:
            Rejected: FF10396, the configuration has no such entry.
            Unavailable: the ledger is away.
        """
        if index >= len(self._configured):
            raise Rejected("FF10396", "multiparty.contract")
        entry = self._configured[index]
        location = await self._blockchain.normalize_location(entry.location)
        version = await self._blockchain.network_version(location)
        return NetworkContract(index, location, entry.first_event, version)

    async def open(self, row: NamespaceRow) -> None:
        """Takes over what the database says; the first start adds the first configured contract.

        Raises:
            Rejected: FF10396 no contract is configured; FF19305 the configuration names another
                contract than the one
                in use at that place.
        """
        self._row = row
        if not row.contracts:
            await self._save(msgspec.structs.replace(row, contracts=(await self.resolve(0),)))
            return
        for known in row.contracts[: len(self._configured)]:
            entry = self._configured[known.index]
            location = await self._blockchain.normalize_location(entry.location)
            if location != known.location:
                raise Rejected(
                    "FF19305",
                    f"multiparty.contract[{known.index}].location",
                    f"is {location}, but this namespace has used {known.location}",
                )
        await self.follow()

    async def follow(self) -> bool:
        """Reads the row again; appends the next configured contract where the last one ended.

        Returns:
            Whether the active contract changed.
        """
        before = self.all[-1:] if self._row else ()
        async with self._store.read(self._namespace) as reader:
            row = await reader.namespace_row()
        if row is None:
            return False
        self._row = row
        last = row.contracts[-1] if row.contracts else None
        if last is not None and last.final_event and last.index + 1 < len(self._configured):
            following = await self.resolve(last.index + 1)
            await self._save(msgspec.structs.replace(row, contracts=(*row.contracts, following)))
        return self.all[-1:] != before

    async def _save(self, row: NamespaceRow) -> None:
        async with self._store.write(self._namespace) as tx:
            await tx.save_namespace_row(row)
        self._row = row
