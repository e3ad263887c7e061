"""Network actions: what one member asks of all of them, on chain."""

from __future__ import annotations

import json

from photinus_core.identity.resolution import IdentityResolver
from photinus_core.model.errors import Rejected
from photinus_core.model.events import submitted
from photinus_core.model.ids import new_uuid
from photinus_core.model.ledger import (
    Operation,
    OperationStatus,
    OperationType,
    Transaction,
    TransactionType,
)
from photinus_core.namespaces.contracts import ContractBook
from photinus_core.ports.connectors import Blockchain, CallKey
from photinus_core.ports.scope import Scope
from photinus_core.ports.store import OperationChange


class Governance:
    """Submits network actions of one multiparty namespace."""

    def __init__(
        self,
        scope: Scope,
        blockchain: Blockchain,
        plugin: str,
        identities: IdentityResolver,
        contracts: ContractBook,
    ) -> None:
        self._scope = scope
        self._blockchain = blockchain
        self._plugin = plugin
        self._identities = identities
        self._contracts = contracts

    async def submit(self, action: str) -> None:
        """Records an action on chain. The operation is stored before it is sent.

        Should this replica end between the two, the leader sends it (`send`).

        Raises:
            Rejected: FF10396, nothing is configured to go on with after `terminate`.
        """
        await self._contracts.refresh()
        active = self._contracts.active
        if action == "terminate" and active.index + 1 >= len(self._contracts.configured):
            raise Rejected("FF10396", f"multiparty.contract[{active.index + 1}]")
        scope, key = self._scope, await self._identities.org_key()
        now = scope.clock.now()
        transaction = Transaction(new_uuid(), scope.namespace, TransactionType.NETWORK_ACTION, now)
        operation = Operation(
            id=new_uuid(),
            namespace=scope.namespace,
            tx=transaction.id,
            type=OperationType.BLOCKCHAIN_NETWORK_ACTION,
            status=OperationStatus.INITIALIZED,
            plugin=self._plugin,
            input=json.dumps(
                {"key": key.key, "type": action, "contract": active.index}, separators=(",", ":")
            ),
            created=now,
            updated=now,
        )
        async with scope.store.write(scope.namespace) as tx:
            await tx.insert_transactions([transaction])
            await tx.insert_operations([operation])
            tx.append_events([submitted(transaction)])
        change = await self.send(operation)
        async with scope.store.write(scope.namespace) as tx:
            await tx.change_operations([change])

    async def send(self, operation: Operation) -> OperationChange:
        """Hands a stored action to the ledger's connector, under the operation's key.

        Raises:
            Rejected: FF10396, the contract that it was for has ended meanwhile; sent now, the action
                would change the next one.
        """
        inputs, active = json.loads(operation.input), self._contracts.active
        if inputs["contract"] != active.index:
            raise Rejected("FF10396", f"multiparty.contract[{inputs['contract']}]")
        await self._blockchain.submit_network_action(
            CallKey(operation.key, self._scope.namespace),
            inputs["key"],
            inputs["type"],
            "",
            active.location,
        )
        return OperationChange(operation.id, OperationStatus.PENDING, self._scope.clock.now())
