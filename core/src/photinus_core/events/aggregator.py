"""Drives agreement: feeds it what arrived, answers what it wants, commits what it decides.

One per namespace, on its leader, one task. Everything the machine knows comes from the database,
and everything it decides goes there in the same transaction as its consequences: states of
messages, events, next pins, definitions, the wake-ups it took. When a commit fails, machine and
view are thrown away and built again from what is stored.

Facts are read outside the writing transaction. That is safe because only this task decides: what it
read changes under it only by things arriving, each of which leaves a wake-up; and a leader that was
deposed meanwhile fails at its fence.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import msgspec

from photinus_core.data.schemas import DatatypeSchemas, compile_schema
from photinus_core.definitions.effects import Effects
from photinus_core.definitions.view import NamespaceDefinitions, ViewContext
from photinus_core.events import commit, facts
from photinus_core.events.chain import ACTION_NOTES
from photinus_core.events.commit import ALIAS_NOTES, STATEMENT_NOTES, Commit, note_position
from photinus_core.events.downloads import RefusedBatch
from photinus_core.events.intake import IntakeContext
from photinus_core.events.wakeups import WakeupKind, split_pair
from photinus_core.model.errors import Deposed
from photinus_core.model.ids import Hash32, Uuid
from photinus_core.model.ledger import NamespaceRow, NetworkContract
from photinus_core.model.messages import Pin
from photinus_core.model.network import Identity, VerifierType
from photinus_core.ports import tracing
from photinus_core.ports.store import Notification, Reader, Wakeup, WriteTransaction
from photinus_core.ports.tasks import Backoff, Wake
from photinus_core.sequencing.agreement import Agreement
from photinus_core.sequencing.decisions import BatchVoided, Decision, Explanation, MessageDecision
from photinus_core.sequencing.facts import (
    BatchFacts,
    BatchKey,
    NetworkAction,
    PinEvent,
    Wanted,
)
from photinus_core.sequencing.feeding import Feed
from photinus_core.sequencing.position import Position

log: Final = logging.getLogger(__name__)

PINS_PAGE: Final = 2_000
"""Most new pins read in one turn."""
WAKEUPS_PAGE: Final = 1_000
"""Most wake-ups read in one turn."""
WAKEUPS_KEPT_MAX: Final = 200
"""Taken wake-ups that may wait for the next commit to be deleted."""
BATCHES_PAGE: Final = 25
"""Most batches whose content is read at once."""
DECISIONS_MAX: Final = 500
"""Most decisions in one transaction."""
POLL_S: Final = 5.0
"""How often the database is looked at without a notification."""
RESTART_FIRST_S: Final = 0.05
RESTART_CAP_S: Final = 10.0


class NodeRegistry(Protocol):
    """Hears of nodes, so that data exchange gets to know them."""

    def nodes_known(self, nodes: Sequence[Identity]) -> None:
        """These nodes exist, or have changed. Returns at once."""
        ...


def _none(_: Collection[Uuid]) -> Collection[Uuid]:
    return ()


@dataclass(frozen=True, slots=True)
class AgreementSettings:
    """What a namespace's agreement is made with.

    Attributes:
        key_type: Kind of the ledger's keys.
        contracts: The contracts as configured, by index.
        contract_ended: Called after a commit that ended a contract, with the namespace's new row.
        nodes: Hears of confirmed nodes.
        batches_decided: Called after each commit with the batches it decided messages of.
        contract_ending: Called in the transaction that ends a contract, after it is written.
        own_batches: Which of some batches are this member's own, for durations.
    """

    key_type: VerifierType
    contracts: Sequence[NetworkContract]
    contract_ended: Callable[[NamespaceRow], Awaitable[None]]
    nodes: NodeRegistry
    batches_decided: Callable[[Collection[Uuid]], None]
    contract_ending: Callable[[WriteTransaction], Awaitable[None]]
    own_batches: Callable[[Collection[Uuid]], Collection[Uuid]] = _none


class _StartOverError(Exception):
    """What the machine knows is no longer what is stored."""


@dataclass(slots=True)
class _State:
    """The machine, and how far it was fed."""

    machine: Agreement
    view: NamespaceDefinitions
    feed: Feed


class Aggregator:
    """Agreement of one namespace."""

    def __init__(self, context: IntakeContext, settings: AgreementSettings) -> None:
        self._context = context
        self._settings = settings
        self._schemas = DatatypeSchemas()
        self._wake = Wake()
        self._state: _State | None = None
        self._contracts: tuple[NetworkContract, ...] | None = None
        """As far as others were told."""

    async def run(self) -> None:
        """Decides until cancelled.

        Raises:
            Deposed: this replica leads no more.
        """
        pauses = Backoff(RESTART_FIRST_S, RESTART_CAP_S)
        unsubscribe = self._context.store.subscribe(self._on_commit)
        try:
            while True:
                try:
                    await self._work(pauses)
                except (Deposed, asyncio.CancelledError):
                    raise
                except _StartOverError as reason:
                    log.info("%s: agreement starts over: %s", self._context.namespace, reason)
                except Exception:
                    pause_s = pauses.next_s()
                    log.exception(
                        "%s: agreement failed; starts over in %.2f s",
                        self._context.namespace,
                        pause_s,
                    )
                    await asyncio.sleep(pause_s)
        finally:
            unsubscribe()
            self._state = None

    def explain(self, message_id: Uuid) -> list[Explanation]:
        """What undecided occurrences of a message wait for."""
        return [] if self._state is None else self._state.machine.explain(message_id)

    def explain_batch(self, batch_id: Uuid) -> list[Explanation]:
        """What undecided pins of a batch wait for."""
        return [] if self._state is None else self._state.machine.explain_batch(batch_id)

    def undecided(self) -> int:
        """Number of pin events that are not wholly decided; for status and metrics."""
        return 0 if self._state is None else self._state.machine.undecided()

    def _on_commit(self, notification: Notification) -> None:
        namespace, topic, _ = notification
        if namespace == self._context.namespace and topic == "wakeups":
            self._wake.set()

    async def _work(self, pauses: Backoff) -> None:
        state = self._state = await self._build()
        self._settings.nodes.nodes_known(state.view.nodes())
        while True:
            more = await self._turn(state)
            pauses.reset()
            if not more and not await self._wake.wait(POLL_S):
                await self._forget_wakeups(state)

    async def _build(self) -> _State:
        """Rebuilds machine and view from what is stored."""
        context = self._context
        async with context.store.read(context.namespace) as reader:
            identities = await reader.identities()
            verifiers = await reader.verifiers_of([identity.base.id for identity in identities])
            datatypes = await reader.datatypes()
            statements = await reader.notes(STATEMENT_NOTES)
            aliases = await reader.notes(ALIAS_NOTES)
            row = await reader.namespace_row()
            newest = await reader.last_pin_sequence()
        await self._follow_contracts(row)
        view = NamespaceDefinitions(
            ViewContext(
                namespace=context.namespace,
                network_name=context.network_name,
                key_type=self._settings.key_type,
                check_value=self._schemas.check,
                compile_schema=compile_schema,
            ),
            identities,
            [verifier for owned in verifiers.values() for verifier in owned],
            datatypes,
            statements,
            aliases,
        )
        finals = {
            contract.index: Position(contract.index, *contract.final_position)
            for contract in (row.contracts if row else ())
            if contract.final_position is not None
        }
        machine = Agreement(final_events=finals, masked_complete=False)
        return _State(machine, view, Feed(newest))

    async def _turn(self, state: _State) -> bool:
        """Takes what arrived and decides; True when more may have arrived already."""
        context = self._context
        async with context.store.read(context.namespace) as reader:
            more = await self._feed(reader, state)
        while True:
            state.view.begin(context.clock.now())
            decisions = state.machine.decide(state.view, limit=DECISIONS_MAX)
            if decisions:
                await self._commit(state, decisions)
            # Deciding raises questions: asked after the commit, since answers are read from there.
            wanted = state.feed.answerable(state.machine.wanted())
            if wanted:
                async with context.store.read(context.namespace) as reader:
                    await self._answer(reader, state, wanted)
            elif not decisions:
                break
        state.feed.settle()
        if state.feed.wakeups_kept > WAKEUPS_KEPT_MAX:
            await self._forget_wakeups(state)
        return more

    # Inputs

    async def _feed(self, reader: Reader, state: _State) -> bool:
        page = await reader.wakeups(WAKEUPS_PAGE)
        wakeups = [wakeup for wakeup in page if state.feed.is_new(wakeup.sequence)]
        more_pins = await self._feed_chain(reader, state)
        await self._feed_arrivals(reader, state, wakeups)
        state.feed.took(wakeup.sequence for wakeup in wakeups)
        if any(w.kind == WakeupKind.REMOVED for w in wakeups):
            await self._drop_wakeups(state, wakeups)
            raise _StartOverError("pins were taken back, or are to be looked at again")
        return more_pins or len(wakeups) >= WAKEUPS_PAGE // 2

    async def _feed_chain(self, reader: Reader, state: _State) -> bool:
        """Feeds pins and network actions in chain order; True when there may be more."""
        feed = state.feed
        before = await _actions(reader)
        pins = await reader.undispatched_pins(feed.pins_read, PINS_PAGE, feed.pins_at_start)
        full = len(pins) >= PINS_PAGE
        after = await _actions(reader) if pins else before
        feed.read_page(pins[-1].sequence if pins else None, full=full)
        events = await _events_of(reader, pins)
        arrived = feed.chain(events, before, after, full=full)
        if arrived:
            state.machine.pins_arrived(arrived, self._context.clock.now())
        return full

    async def _feed_arrivals(
        self, reader: Reader, state: _State, wakeups: Sequence[Wakeup]
    ) -> None:
        machine, now = state.machine, self._context.clock.now()
        stored: set[tuple[Uuid, Hash32]] = set()
        groups: list[Hash32] = []
        for wakeup in wakeups:
            match wakeup.kind:
                case WakeupKind.BATCH:
                    stored.add(split_pair(wakeup.key))
                case WakeupKind.BLOB:
                    machine.blob_available(*split_pair(wakeup.key), at=now)
                case WakeupKind.GROUP:
                    groups.append(Hash32(wakeup.key))
                case WakeupKind.REFUSED_BATCH:
                    refused = msgspec.json.decode(wakeup.key, type=RefusedBatch)
                    machine.batch_available([_refused_facts(refused)], now)
                case _:
                    pass
        for group in (await reader.groups(groups)).values() if groups else ():
            machine.group_available(group.hash, [m.identity for m in group.members], now)
        if stored:
            await self._feed_batches(reader, state, stored)

    async def _feed_batches(
        self, reader: Reader, state: _State, stored: set[tuple[Uuid, Hash32]]
    ) -> None:
        """Hands over the content of batches that arrived after their pins."""
        rows = await reader.pins_of_batches(sorted({batch for batch, _ in stored}))
        shown = {facts.event_position(pin) for pin in rows if state.feed.may_know(pin.sequence)}
        events = [
            event
            for event in facts.pin_events(p for p in rows if (p.batch, p.batch_hash) in stored)
            if len(event.dispatched) < len(event.contexts) and event.position in shown
        ]
        now = self._context.clock.now()
        state.machine.pins_arrived([event for event in events if event.masked], now)
        await self._hand_over(reader, state, list(dict.fromkeys(e.batch for e in events)))

    async def _hand_over(self, reader: Reader, state: _State, keys: Sequence[BatchKey]) -> None:
        for start in range(0, len(keys), BATCHES_PAGE):
            page = keys[start : start + BATCHES_PAGE]
            loaded = await facts.load_batches(reader, page, self._context.network_name)
            state.machine.batch_available(loaded, self._context.clock.now())

    async def _answer(self, reader: Reader, state: _State, wanted: Wanted) -> None:
        """Answers what the machine asks for."""
        if wanted.pin_hashes:
            hashes = [Hash32(each) for each in wanted.pin_hashes]
            found = await reader.pins_by_hash(hashes)
            known = [pin for pin in found if state.feed.may_know(pin.sequence)]
            events = await _events_of(reader, known)
            state.machine.pins_found(wanted.pin_hashes, events)
        if wanted.contexts:
            state.machine.contexts_loaded(await facts.load_contexts(reader, wanted.contexts))
        await self._hand_over(reader, state, wanted.batches)

    # Outputs

    async def _commit(self, state: _State, decisions: list[Decision]) -> None:
        context, effects = self._context, state.view.take_effects()
        wanted = Commit(
            namespace=context.namespace,
            at=context.clock.now(),
            decisions=decisions,
            effects=effects,
            contracts=self._settings.contracts,
            wakeups_through=state.feed.wakeups_settled,
        )
        batches = {
            Uuid(decision.batch.id)
            for decision in decisions
            if isinstance(decision, MessageDecision | BatchVoided)
        }
        told: tracing.Attributes = {"namespace": context.namespace, "decisions": len(decisions)}
        try:
            with tracing.tracer().span("decide", links=sorted(batches), attributes=told):
                async with context.store.write(context.namespace, context.fence) as tx:
                    row = await commit.write(tx, wanted)
                    if row is not None:
                        await self._settings.contract_ending(tx)
        except commit.TakenBackError:
            raise _StartOverError("what was decided on was taken back meanwhile") from None
        own = self._settings.own_batches(batches)
        context.meter.decided(commit.decided_messages(wanted, own))
        self._settings.batches_decided(batches)
        await self._follow_up(effects, row)

    async def _follow_up(self, effects: Effects, row: NamespaceRow | None) -> None:
        nodes = [effects.identities[node] for node in effects.peers]
        if nodes:
            self._settings.nodes.nodes_known(nodes)
        await self._follow_contracts(row)

    async def _follow_contracts(self, row: NamespaceRow | None) -> None:
        """Tells of another contract; at a start too, since an answer or a follow-up may be lost."""
        if row is None:
            return
        if self._contracts is not None and row.contracts != self._contracts:
            await self._settings.contract_ended(row)
        self._contracts = row.contracts

    async def _forget_wakeups(self, state: _State) -> None:
        """Deletes wake-ups of which all consequences are committed."""
        if not state.feed.wakeups_kept:
            return
        context = self._context
        async with context.store.write(context.namespace, context.fence) as tx:
            await tx.delete_wakeups(state.feed.wakeups_settled)
        state.feed.forgot()

    async def _drop_wakeups(self, state: _State, wakeups: Sequence[Wakeup]) -> None:
        """Deletes wake-ups before starting over, which reads everything again but refusals."""
        context = self._context
        refusals = [Wakeup(w.kind, w.key) for w in wakeups if w.kind == WakeupKind.REFUSED_BATCH]
        async with context.store.write(context.namespace, context.fence) as tx:
            await tx.delete_wakeups(state.feed.wakeups_taken)
            if refusals:
                await tx.insert_wakeups(refusals)


async def _actions(reader: Reader) -> list[NetworkAction]:
    notes = commit.read_action_notes(await reader.notes(ACTION_NOTES))
    return [NetworkAction(note_position(note), note.signer, note.action) for note in notes]


async def _events_of(reader: Reader, pins: Sequence[Pin]) -> list[PinEvent]:
    """Whole events: the machine counts contexts, decided ones included."""
    if not pins:
        return []
    shown = {facts.event_position(pin) for pin in pins}
    rows = await reader.pins_of_batches(list(dict.fromkeys(pin.batch for pin in pins)))
    return [event for event in facts.pin_events(rows) if event.position in shown]


def _refused_facts(refused: RefusedBatch) -> BatchFacts:
    key = BatchKey(refused.batch, refused.hash, refused.payload_ref)
    return BatchFacts(key=key, messages=(), defect=refused.reason)
