"""One namespace while it runs: its services, its start with retries, its leadership.

A namespace starts when its database row and, in multiparty mode, its contract can be read; until
then calls are answered with FF10441 and the error is visible. One that has run before serves what
only reads its database meanwhile: what is stored does not depend on who is away. It lives alone:
nothing it does can stop another one.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Final, TypeVar

from photinus_core.data.datatypes import DatatypeDefiner
from photinus_core.data.publishing import DataPublisher
from photinus_core.data.schemas import compile_schema
from photinus_core.data.service import DataService
from photinus_core.events.dead_letters import DeadLetterService
from photinus_core.events.delivery import DeliveryService
from photinus_core.events.explain import Explainer
from photinus_core.events.history import History
from photinus_core.events.subscriptions import SubscriptionService
from photinus_core.events.turns import SubscriptionTurns
from photinus_core.events.updates import correct_status
from photinus_core.events.waiting import OutcomeWaiter
from photinus_core.events.wakeups import WakeupKind
from photinus_core.events.webhook_requests import Reply
from photinus_core.events.webhooks import Show, WebhookParts, Webhooks
from photinus_core.identity.registration import (
    IdentityRegistration,
    NetworkAccess,
    OwnMember,
    Registering,
)
from photinus_core.identity.resolution import IdentityResolver
from photinus_core.messaging.groups import GroupResolver
from photinus_core.messaging.receipts import ReceiptService
from photinus_core.messaging.sender import MessageSender
from photinus_core.model import canonical
from photinus_core.model.errors import NotFound, NotReady, PhotinusError, Rejected, Unavailable
from photinus_core.model.ids import Nanoseconds, Uuid
from photinus_core.model.ledger import NamespaceRow, Operation, TransactionType
from photinus_core.model.messages import Batch, Message
from photinus_core.model.network import Identity, VerifierType
from photinus_core.namespaces.charts import Charts
from photinus_core.namespaces.connectors import NamespaceConnectors
from photinus_core.namespaces.contracts import ContractBook
from photinus_core.namespaces.governance import Governance
from photinus_core.namespaces.leading import REPEATABLE, LeaderParts, Leadership, plugins_of
from photinus_core.namespaces.replies import send_reply
from photinus_core.namespaces.settings import MultipartySettings, NamespaceSettings
from photinus_core.namespaces.status import Condition, ListenerState, NamespaceState
from photinus_core.namespaces.survey import survey
from photinus_core.operations.service import OperationService
from photinus_core.ports.connectors import (
    BlockchainConnector,
    ConnectorFailure,
    DataExchangeConnector,
    SharedStorage,
)
from photinus_core.ports.elector import Elector, Lease
from photinus_core.ports.joining import JoinedRead
from photinus_core.ports.scope import Scope
from photinus_core.ports.store import OperationChange, Reader, Wakeup
from photinus_core.ports.tasks import Background, Backoff

log: Final = logging.getLogger(__name__)

R = TypeVar("R")

LEAD_AGAIN_FIRST_S: Final = 0.2
LEAD_AGAIN_CAP_S: Final = 10.0
LOOK_AGAIN_CAP_S: Final = 2.0
"""Longest pause of a start that waits for a connector: looking for it costs nothing."""
CONFIRM_TIMEOUT_S: Final = 120.0
"""How long `confirm` waits when the caller set no deadline (`api.requestTimeout`)."""
ANSWER_S: Final = 0.1
"""What is kept of a deadline so that "not confirmed in time" can still be said."""


@dataclass(frozen=True, slots=True)
class MultipartyServices:
    """What only a multiparty namespace has."""

    settings: MultipartySettings
    blockchain: BlockchainConnector
    exchange: DataExchangeConnector
    storage: SharedStorage
    sender: MessageSender
    contracts: ContractBook
    governance: Governance
    datatypes: DatatypeDefiner
    publisher: DataPublisher


class NamespaceRuntime:
    """A namespace of this node."""

    def __init__(
        self,
        scope: Scope,
        settings: NamespaceSettings,
        elector: Elector,
        connectors: NamespaceConnectors,
        show: Show,
    ) -> None:
        self.settings = settings
        self.scope = scope
        self._elector = elector
        self._role = f"namespace/{settings.name}"
        multiparty = settings.multiparty
        self.identities = IdentityResolver(
            scope.store,
            scope.namespace,
            connectors.blockchain,
            org_name=multiparty.org_name if multiparty else "",
            org_key=multiparty.org_key if multiparty else "",
            default_key=settings.default_key,
        )
        self.data = DataService(scope.store, scope.namespace, scope.clock, connectors.data_exchange)
        self.operations = OperationService(
            scope.store, scope.namespace, scope.clock, REPEATABLE if multiparty else ()
        )
        self.receipts = ReceiptService(
            scope.store,
            scope.namespace,
            self.identities,
            multiparty.node_name if multiparty else "",
        )
        self.delivery = DeliveryService(
            scope.store,
            scope.namespace,
            scope.clock,
            SubscriptionTurns(scope.namespace, elector),
            settings.subscriptions,
        )
        self.waiting = OutcomeWaiter(scope.store, scope.namespace, scope.clock)
        self.subscriptions = SubscriptionService(
            scope.store,
            scope.namespace,
            scope.clock,
            settings.subscriptions,
            settings.webhooks,
        )
        self.history = History(scope.store, scope.namespace, settings.subscriptions)
        self.charts = Charts(scope.store, scope.namespace, settings.chart_rows_max)
        self.dead_letters = DeadLetterService(scope.store, scope.namespace, scope.clock)
        self._webhooks = Webhooks(
            WebhookParts(
                self.delivery, self.dead_letters, settings.webhooks, show, self._send_reply
            )
        )
        self._multiparty = self._multiparty_services(connectors)
        self.registration = self._registration()
        self._started = asyncio.Event()
        self.is_stopped = False
        """Set when its run is being ended: nothing is served any more."""
        self._known = False
        self._error = "" if self._multiparty or multiparty is None else _incomplete(settings)
        self._error_since = scope.clock.now()
        self._leadership: Leadership | None = None
        self._trouble: Condition | None = None
        self._state = JoinedRead(self._read_state)
        self._rests = asyncio.Event()
        self._rests.set()

    # Services

    @property
    def is_started(self) -> bool:
        """Whether calls are served."""
        return self._started.is_set() and not self.is_stopped

    @property
    def is_readable(self) -> bool:
        """Whether calls are served that only read the database."""
        return (self._known and not self.is_stopped) or self.is_started

    @property
    def error(self) -> str:
        """What keeps it from starting or leading; empty for nothing."""
        return self._error

    @property
    def multiparty(self) -> MultipartyServices:
        """The multiparty side.

        Raises:
            Rejected: FF10414, this is a gateway namespace.
            NotReady: FF10441, a connector it needs is not configured.
        """
        self.require_multiparty()
        if self._multiparty is None:
            raise NotReady("FF10441", self.settings.name)
        return self._multiparty

    @property
    def sender(self) -> MessageSender:
        """Sends messages; errors as `multiparty`."""
        return self.multiparty.sender

    @property
    def leadership(self) -> Leadership | None:
        """What this replica does as the namespace's leader; None while it is not."""
        return self._leadership

    async def leader_elsewhere(self) -> str:
        """Address of the replica that leads, if it is another one; else, or if none does, empty.

        Raises:
            Unavailable: FF19130, the ensemble cannot be reached.
        """
        if self._leadership is not None or self._elector.is_local:
            return ""
        cluster = await self._elector.members()
        leaders = {standing.role: standing.leader for standing in cluster.roles}
        name = leaders.get(self._role, "")
        return next((r.address for r in cluster.replicas if r.name == name and not r.is_self), "")

    def require_multiparty(self) -> None:
        """Refuses what a gateway namespace cannot do.

        Raises:
            Rejected: FF10414.
        """
        if self.settings.multiparty is None:
            raise Rejected("FF10414")

    def reader(self) -> AbstractAsyncContextManager[Reader]:
        """Opens a read session."""
        return self.scope.store.read(self.scope.namespace)

    def explainer(self) -> Explainer:
        """Says what messages and pins wait for; knows most on the leader."""
        leadership = self._leadership
        if leadership is None:
            return Explainer(self.scope.store, self.scope.namespace)
        return Explainer(
            self.scope.store,
            self.scope.namespace,
            leadership.aggregator,
            leadership.downloads,
            leadership.sending_error,
        )

    @staticmethod
    def patience(left_s: float | None) -> float:
        """How long to wait for an outcome: until the caller's deadline, if it set one."""
        return CONFIRM_TIMEOUT_S if left_s is None else max(0.0, left_s - ANSWER_S)

    async def confirmed(self, message: Uuid, timeout_s: float | None) -> Message:
        """Waits until a message is confirmed.

        Raises:
            Rejected: FF10269, it was rejected.
            TimedOut: FF10260.
        """
        return await self.waiting.wait_message(message, self.patience(timeout_s))

    async def replied(self, request: Uuid, timeout_s: float | None) -> Message:
        """Waits for the first confirmed reply to a message of ours, also one that came before.

        Raises:
            Rejected: FF10269, our message was rejected.
            TimedOut: FF10260.
        """
        return await self.waiting.wait_reply(request, self.patience(timeout_s))

    async def registered(self, started: Registering, timeout_s: float | None) -> Identity:
        """Waits until a registration has taken effect; errors as `confirmed`."""
        messages = [m.header.id for m in started.messages]
        did = started.identity.base.did
        return await self.waiting.wait_identity(did, messages, self.patience(timeout_s))

    async def cancel_batch(self, batch: Batch) -> None:
        """Gives up an own batch that cannot be sent; one that was given up before is no error.

        Raises:
            Rejected: FF10414 this is a gateway namespace, FF10466 it is of a type that FireFly does
                not cancel, and not being sent; those of `BatchManager.cancel`.
            Unavailable: FF19407, this replica does not lead the namespace.
        """
        self.require_multiparty()
        if batch.cancelled:
            return
        leadership = self._leadership
        is_own = batch.seal_order >= 0
        if (not is_own or batch.dispatched) and batch.tx.type is not (
            TransactionType.CONTRACT_INVOKE_PIN
        ):
            raise Rejected("FF10466", batch.tx.type)
        if leadership is None:
            raise Unavailable("FF19407", self.settings.name)
        await leadership.batches.cancel(batch.id)

    async def look_again(self) -> None:
        """Has the leader decide anew what is undecided (FireFly's rewind of pins).

        Agreement starts over from what is stored; it decides nothing twice.

        Raises:
            Rejected: FF10414, this is a gateway namespace.
        """
        self.require_multiparty()
        async with self.scope.store.write(self.scope.namespace) as tx:
            await tx.insert_wakeups([Wakeup(WakeupKind.REMOVED, "")])

    async def update_operation(self, change: OperationChange) -> Operation:
        """Notes how an operation stands, as somebody beside its connector says.

        As durable, and with the effects, of a connector's own word. Idempotent.

        Raises:
            NotFound: FF00164, there is no such operation.
        """
        async with self.scope.store.write(self.scope.namespace) as tx:
            found = await correct_status(tx, self.scope.namespace, change)
        if found is None:
            raise NotFound("FF00164")
        return found

    async def _send_reply(self, reply: Reply) -> None:
        await send_reply(self.sender, reply)

    async def live_status(self, operation: Operation) -> str:
        """What the ledger says of an operation now, as JSON text, or why it cannot; empty for others."""
        services = self._multiparty
        if services is None or not operation.type.startswith("blockchain_"):
            return ""
        try:
            return await services.blockchain.transaction_status(self.scope.namespace, operation.key)
        except (PhotinusError, ConnectorFailure) as failure:
            return f'{{"error":{canonical.quote(str(failure))}}}'

    # Life

    async def run(self) -> None:
        """Starts, with retries, and leads whenever it is elected, until cancelled."""
        # Others have seen what a namespace with a contract stores: it may be shown at once.
        self._known = bool((await self._with_retries(self._own_row)).contracts)
        async with Background(f"namespace {self.settings.name}") as work:
            work.start("outcomes", self.waiting.run())
            work.start("delivery", self.delivery.run())
            key_type = await self._with_retries(self._start)
            self._error = ""
            self._started.set()
            log.info("namespace %s started", self.settings.name)
            work.start("webhooks", self._webhooks.run())
            if self._multiparty is not None and key_type is not None:
                await self._lead_whenever_elected(self._multiparty, key_type)
            await asyncio.Event().wait()

    async def _with_retries(self, step: Callable[[], Awaitable[R]]) -> R:
        retry = self.settings.start_retry
        pauses = Backoff(retry.initial_s, retry.maximum_s)
        while True:
            try:
                return await step()
            except Exception as failure:  # noqa: BLE001 - a broken namespace shows and retries
                pause_s = pauses.next_s()
                if isinstance(failure, Unavailable):
                    pause_s = min(pause_s, LOOK_AGAIN_CAP_S)
                # Told once; what stays as it was is seen in the namespace's status.
                level = logging.DEBUG if str(failure) == self._error else logging.WARNING
                self._failed(failure)
                log.log(
                    level,
                    "namespace %s did not start, tried again from now on: %s",
                    self.settings.name,
                    failure,
                )
            await asyncio.sleep(pause_s)

    async def wait_rest(self) -> None:
        """Waits until this replica does not lead the namespace."""
        await self._rests.wait()

    async def aclose(self) -> None:
        """Waits for writes under way."""
        if self._multiparty is not None:
            await self._multiparty.sender.aclose()

    async def _start(self) -> VerifierType | None:
        row = await self._own_row()
        if self.settings.multiparty is None:
            return None
        if self._multiparty is None:
            raise NotReady("FF19307", self.settings.name, _incomplete(self.settings))
        await self._multiparty.contracts.open(row)
        return VerifierType((await self.identities.org_key()).verifier_type)

    async def _own_row(self) -> NamespaceRow:
        scope, settings = self.scope, self.settings
        async with scope.store.read(scope.namespace) as reader:
            row = await reader.namespace_row()
        if row is not None and row.network_name != settings.network_name:
            raise Rejected(
                "FF19305",
                "multiparty.networkNamespace",
                f"is {settings.network_name}, but this namespace was made as {row.network_name}",
            )
        if row is None:
            row = NamespaceRow(
                settings.name, settings.network_name, settings.description, scope.clock.now()
            )
            async with scope.store.write(scope.namespace) as tx:
                await tx.save_namespace_row(row)
        return row

    async def _lead_whenever_elected(
        self, services: MultipartyServices, key_type: VerifierType
    ) -> None:
        pauses = Backoff(LEAD_AGAIN_FIRST_S, LEAD_AGAIN_CAP_S)
        while True:
            try:
                lease = await self._elector.campaign(self._role)
            except (
                PhotinusError
            ) as failure:  # a database that is away, for an elector that needs it
                self._failed(failure)
                log.warning("no election for %s: %s", self.settings.name, failure)
                await asyncio.sleep(pauses.next_s())
                continue
            began = self.scope.clock.monotonic_s()
            self._error = ""
            log.info("leading namespace %s with epoch %d", self.settings.name, lease.epoch)
            try:
                await self._lead(services, lease, key_type)
            except* PhotinusError as failures:
                self._failed(failures.exceptions[0])
                log.warning(
                    "leadership of %s ended: %s", self.settings.name, failures.exceptions[0]
                )
            except* Exception as failures:
                self._failed(failures.exceptions[0])
                log.exception("leadership of %s ended", self.settings.name)
            finally:
                await self._elector.resign(lease)
            if self.scope.clock.monotonic_s() - began > LEAD_AGAIN_CAP_S:
                pauses.reset()
            await asyncio.sleep(pauses.next_s())

    async def _lead(
        self, services: MultipartyServices, lease: Lease, key_type: VerifierType
    ) -> None:
        parts = LeaderParts(
            scope=self.scope,
            settings=self.settings,
            multiparty=services.settings,
            blockchain=services.blockchain,
            exchange=services.exchange,
            storage=services.storage,
            identities=self.identities,
            operations=self.operations,
            contracts=services.contracts,
            governance=services.governance,
        )
        await services.contracts.refresh()
        leadership = Leadership(parts, lease, key_type)
        self._leadership = leadership
        self._rests.clear()
        try:
            await leadership.run()
        finally:
            self._leadership = None
            self._rests.set()

    def _failed(self, failure: Exception) -> None:
        error = str(failure) or type(failure).__name__
        if error != self._error:
            self._error, self._error_since = error, self.scope.clock.now()

    # Status

    async def state(self) -> NamespaceState:
        """How the namespace is."""
        return await self._state.get()

    async def _read_state(self) -> NamespaceState:
        multiparty = None
        async with self.reader() as reader:
            row = await reader.namespace_row()
            if self.settings.multiparty is not None:
                multiparty = await survey(
                    reader,
                    self.settings.multiparty,
                    row.contracts if row else (),
                    self._listener_state(),
                )
        return NamespaceState(
            created=row.created if row else Nanoseconds(0),
            error=self._error,
            multiparty=multiparty,
            conditions=tuple(self._conditions(row)),
        )

    def _listener_state(self) -> ListenerState:
        leadership = self._leadership
        if leadership is None:
            return ListenerState.UNKNOWN
        catching_up = leadership.chain_intake.is_catching_up()
        return ListenerState.SYNCING if catching_up else ListenerState.SYNCED

    def _conditions(self, row: NamespaceRow | None) -> list[Condition]:
        found: list[Condition] = []
        if self._error:
            found.append(Condition("error", self._error, self._error_since))
        if row is not None and row.halted:
            found.append(Condition("halted", row.halted, self._error_since))
        if trouble := self._election_trouble():
            found.append(trouble)
        if self._leadership is not None:
            found += [
                Condition("listener", f"{listener}: {reason}", self._error_since)
                for listener, reason in self._leadership.troubles().items()
            ]
        return found

    def _election_trouble(self) -> Condition | None:
        """Why no replica's leadership can begin here; since it was first asked."""
        waits = self._multiparty is not None and self._leadership is None
        text = self._elector.trouble if waits else ""
        if not text:
            self._trouble = None
        elif self._trouble is None or self._trouble.message != text:
            self._trouble = Condition("election", text, self.scope.clock.now())
        return self._trouble

    # Construction

    def _multiparty_services(self, connectors: NamespaceConnectors) -> MultipartyServices | None:
        settings, scope = self.settings.multiparty, self.scope
        blockchain, exchange = connectors.blockchain, connectors.data_exchange
        storage = connectors.shared_storage
        if settings is None or blockchain is None or exchange is None or storage is None:
            return None
        groups = GroupResolver(scope, self.identities, settings.node_name)
        sender = MessageSender(scope, self.identities, self.data, groups, self.settings.batch)
        contracts = ContractBook(scope.store, scope.namespace, blockchain, settings.contracts)
        plugins = plugins_of(self.settings)
        publisher = DataPublisher(scope, self.data, self.operations, plugins.shared_storage)
        return MultipartyServices(
            settings=settings,
            blockchain=blockchain,
            exchange=exchange,
            storage=storage,
            sender=sender,
            contracts=contracts,
            governance=Governance(
                scope, blockchain, plugins.blockchain, self.identities, contracts
            ),
            datatypes=DatatypeDefiner(scope, self.identities, sender, compile_schema),
            publisher=publisher,
        )

    def _registration(self) -> IdentityRegistration:
        settings, services = self.settings.multiparty, self._multiparty
        own = OwnMember(
            org_name=settings.org_name if settings else "",
            org_description=settings.org_description if settings else "",
            node_name=settings.node_name if settings else "",
            node_description=settings.node_description if settings else "",
            network_name=self.settings.network_name,
        )
        network = None if services is None else NetworkAccess(services.sender, services.exchange)
        return IdentityRegistration(
            self.scope.store,
            self.scope.namespace,
            self.scope.clock,
            self.identities,
            own,
            network,
        )


def _incomplete(settings: NamespaceSettings) -> str:
    plugins = (settings.blockchain, settings.data_exchange, settings.shared_storage)
    names = ", ".join(p.name for p in plugins if p is not None)
    return f"one of the plugins {names} has no connector"
