"""The multiparty contracts of a namespace: which one is active, and moving on to the next.

The row in the database is the truth; the configuration only says which contract comes next. The
active contract is read by the dispatcher for every pin, so it is held in memory, replaced when the
row changes, and read again by whoever begins to lead.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from photinus_core.model.errors import Rejected
from photinus_core.model.ids import Namespace
from photinus_core.model.ledger import NamespaceRow, NetworkContract
from photinus_core.namespaces.settings import ContractSettings
from photinus_core.ports.connectors import Blockchain
from photinus_core.ports.store import Store


class ContractBook:
    """Knows the contracts of one namespace."""

    def __init__(
        self,
        store: Store,
        namespace: Namespace,
        blockchain: Blockchain,
        entries: Sequence[ContractSettings],
    ) -> None:
        self._store = store
        self._namespace = namespace
        self._blockchain = blockchain
        self._entries = tuple(entries)
        self._resolved: tuple[NetworkContract, ...] = ()
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

    @property
    def configured(self) -> tuple[NetworkContract, ...]:
        """The contracts of the configuration, by index, in canonical form."""
        return self._resolved

    async def open(self, row: NamespaceRow) -> NamespaceRow:
        """Takes over what the database says; the first start adds the first configured contract.

        Returns:
            The row as it is now stored.

        Raises:
            Rejected: FF10396 no contract is configured; FF19305 the configuration names another
                contract than the one that was used at that place.
            Unavailable: the ledger is away.
        """
        self._resolved = tuple([await self._resolve(i, c) for i, c in enumerate(self._entries)])
        if not self._resolved:
            raise Rejected("FF10396", "multiparty.contract")
        for known in row.contracts[: len(self._resolved)]:
            location = self._resolved[known.index].location
            if location != known.location:
                raise Rejected(
                    "FF19305",
                    f"multiparty.contract[{known.index}].location",
                    f"is {location}, but this namespace has used {known.location}",
                )
        used = len(row.contracts)
        ended = not row.contracts or bool(row.contracts[-1].final_event)
        if ended and used < len(self._resolved):
            row = msgspec.structs.replace(row, contracts=(*row.contracts, self._resolved[used]))
            async with self._store.write(self._namespace) as tx:
                await tx.save_namespace_row(row)
        self._row = row
        return row

    def options(self, index: int) -> str:
        """What the configuration says of a contract for the ledger's connector; JSON, or empty."""
        return self._entries[index].options if index < len(self._entries) else ""

    async def refresh(self) -> None:
        """Takes over what the database says now: another replica may have led meanwhile."""
        async with self._store.read(self._namespace) as reader:
            row = await reader.namespace_row()
        if row is not None:
            self._row = row

    def changed(self, row: NamespaceRow) -> None:
        """The row was stored with other contracts: a terminate action was decided."""
        self._row = row

    async def _resolve(self, index: int, entry: ContractSettings) -> NetworkContract:
        """Brings an entry into canonical form and asks the contract for its version."""
        location = await self._blockchain.normalize_location(entry.location)
        version = await self._blockchain.network_version(location)
        return NetworkContract(index, location, entry.first_event, version)
