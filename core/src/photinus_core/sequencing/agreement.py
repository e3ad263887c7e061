"""Agreement: from pins in chain order to the same decisions on every member.

The rule (architecture §4, hard cases), and where it is:

- Pins of a broadcast context are decided in chain order; a message when no lower pin of any of
  its topics holds it back (`ContextQueue`). Pins by signers unknown before them hold back
  identity messages only, and their own signer's.
- Private messages are ordered by keys made of positions (`_private_order`).
- What a message refers to is resolved as of its position: a definition in effect below it
  counts; else it waits for undecided lower pins of the definition's topic; else there is none
  (`_resolve`).
- Who signed is settled per batch, as of its position: an owner in effect before it; else it
  waits for lower batches that may hold a claim by that key; else nobody
  (`BroadcastOrder.owner_before`).
- A batch whose contexts differ from its event's is void, and so are a pin by another key than
  the message's own, a repeat of a decided message, and everything beyond a contract's final
  event. Void says nothing of the message.

Work is proportional to what changed: whatever cannot be decided waits for exactly one thing and
is tried again when that thing is notified. The machine neither stores nor undoes: a driver whose
commit failed throws it away and rebuilds it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final, assert_never

from photinus_core.sequencing._agenda import Agenda
from photinus_core.sequencing._broadcast_order import BroadcastOrder
from photinus_core.sequencing._checks import mismatch_of, refusal_of
from photinus_core.sequencing._private_order import PrivateOrder
from photinus_core.sequencing._state import (
    ActionState,
    Blocker,
    ByPosition,
    EventState,
    Occurrence,
    PinState,
)
from photinus_core.sequencing.decisions import (
    ActionDecision,
    BatchVoided,
    Decision,
    Explanation,
    MessageDecision,
    NextPinUpdate,
    Outcome,
    Wait,
    WaitReason,
)
from photinus_core.sequencing.facts import (
    BatchFacts,
    BatchKey,
    ChainEvent,
    ContextState,
    KeyReference,
    Need,
    NeedKind,
    PinEvent,
    Reference,
    Wanted,
    blob_need,
)
from photinus_core.sequencing.position import Position
from photinus_core.sequencing.view import Await, Candidate, Confirm, DefinitionView, Reject

MASKED_EVENTS_MAX: Final = 100_000
"""Masked events without content kept in memory; beyond, they are asked for by hash."""

PRIVATE_CONTEXTS_MAX: Final = 50_000
"""Private contexts kept in memory."""

DECISIONS_MAX: Final = 1_000
"""Decisions of one pass unless the caller says otherwise."""

TERMINATE: Final = "terminate"
"""The network action that ends its contract."""

_REASON_OF_NEED: Final = {
    NeedKind.DATA: WaitReason.DATA_MISSING,
    NeedKind.BLOB: WaitReason.BLOB_MISSING,
    NeedKind.TRANSFER: WaitReason.TRANSFER_MISSING,
    NeedKind.POOL: WaitReason.POOL_ACTIVATING,
}


class Agreement:
    """The pins of one namespace. How to drive it is told in the package's docstring.

    Args:
        final_events: Positions of applied `terminate` actions by contract index.
        masked_complete: Whether `pins_arrived` will get all undispatched masked pins at
        take-over. If not, `wanted` asks
            for them by hash.
    """

    def __init__(
        self,
        *,
        final_events: Mapping[int, Position] | None = None,
        masked_complete: bool = True,
        masked_events_max: int = MASKED_EVENTS_MAX,
        private_contexts_max: int = PRIVATE_CONTEXTS_MAX,
    ) -> None:
        self._final_events = dict(final_events or {})
        self._agenda = Agenda()
        self._broadcasts = BroadcastOrder(self._agenda)
        self._private = PrivateOrder(
            self._agenda,
            self._forget,
            complete=masked_complete,
            events_max=masked_events_max,
            contexts_max=private_contexts_max,
        )
        self._events: dict[Position, EventState] = {}
        self._events_of: dict[BatchKey, list[EventState]] = {}
        self._last_open: Position | None = None
        """Position of the last unmasked event or action that arrived."""
        self._terminating: dict[int, ByPosition[ActionState]] = {}
        """Undecided terminate actions by contract index."""
        self._occurrences: dict[str, list[Occurrence]] = {}
        """Undecided occurrences by message hash."""
        self._lacking: dict[Need, list[Occurrence]] = {}
        self._wanted_batches: dict[BatchKey, None] = {}

    # Inputs

    def pins_arrived(self, events: Iterable[ChainEvent], at: int = 0) -> None:
        """Takes pin events and network actions in chain order. Known ones are ignored.

        Masked events may also come late, when the database found them. Unmasked events not above
        the last one were decided before and are ignored.

        Args:
            events: New ones, or at take-over the undecided ones.
            at: Time in nanoseconds, for `explain`.
        """
        self._agenda.now = max(self._agenda.now, at)
        # Not those whose content was not asked for yet: they stay until it could be handed over.
        self._private.evict(self._wanted_batches)
        for event in events:
            if isinstance(event, PinEvent):
                self._add_pins(event)
            elif self._is_new(event.position):
                action = ActionState(event)
                if event.kind == TERMINATE:
                    self._terminating.setdefault(event.position.contract, ByPosition()).add(action)
                self._agenda.queue(action)

    def batch_available(self, facts: Iterable[BatchFacts], at: int = 0) -> None:
        """Takes the content of batches. Batches that no undecided pin in memory names are ignored.

        Masked pins may have left memory: for a private batch that the machine does not know
        (`knows`), hand its stored undispatched pins to `pins_arrived` right before.
        """
        self._agenda.now = max(self._agenda.now, at)
        for batch in facts:
            self._wanted_batches.pop(batch.key, None)
            for group, members in batch.groups.items():
                self._private.add_group(group, members)
            for event in list(self._events_of.get(batch.key, ())):
                if event.facts is None and not event.void_reason:
                    self._add_content(event, batch)

    def knows(self, batch: BatchKey) -> bool:
        """Whether all undecided pins of this private batch are certainly in memory."""
        return self._private.complete and batch in self._events_of

    def group_available(self, group: str, members: Sequence[str], at: int = 0) -> None:
        """Learns the members (DIDs) of a group. Idempotent."""
        self._agenda.now = max(self._agenda.now, at)
        self._private.add_group(group, members)

    def need_met(self, need: Need, at: int = 0) -> None:
        """An input of messages is here. Idempotent; unknown needs are ignored."""
        self._agenda.now = max(self._agenda.now, at)
        for occurrence in self._lacking.pop(need, ()):
            occurrence.needs.discard(need)
        self._agenda.notify(need)

    def need_failed(self, need: Need, reason: str, at: int = 0) -> None:
        """An input of messages can never come; they are rejected.

        Only the chain may say so: all members must learn it.
        """
        self._agenda.now = max(self._agenda.now, at)
        for occurrence in self._lacking.pop(need, ()):
            occurrence.failed = reason
        self._agenda.notify(need)

    def blob_available(self, data_id: str, blob_hash: str, at: int = 0) -> None:
        """`need_met` for a blob."""
        self.need_met(blob_need(data_id, blob_hash), at)

    def wanted(self) -> Wanted:
        """What must be read from the database to go on.

        Ask after `decide`, and after its decisions were committed.
        """
        batches = tuple(self._wanted_batches)
        self._wanted_batches.clear()
        return Wanted(
            batches, tuple(self._private.wanted_contexts), tuple(self._private.wanted_pins)
        )

    def contexts_loaded(self, contexts: Iterable[ContextState]) -> None:
        """Takes the stored next pins of wanted contexts; ones without rows too."""
        for context in contexts:
            self._private.add_context(context)

    def pins_found(self, hashes: Iterable[str], events: Iterable[PinEvent]) -> None:
        """Takes the undispatched masked events that carry wanted hashes: there are no others."""
        for event in sorted(events, key=lambda e: e.position):
            self._add_pins(event)
        self._private.add_found(hashes)

    # Decisions

    def decide(self, view: DefinitionView, limit: int = DECISIONS_MAX) -> list[Decision]:
        """Decides what can be decided, in the order in which it must take effect.

        An empty list means that nothing is left to do until the next input. The limit may be
        passed by the few decisions that one step makes together.
        """
        decisions: list[Decision] = []
        while self._agenda and len(decisions) < limit:
            item = self._agenda.pop()
            if item.done:
                continue
            match item:
                case EventState():
                    blocker = self._try_event(item, view, decisions)
                case Occurrence():
                    blocker = self._try_occurrence(item, view, decisions)
                case ActionState():
                    blocker = self._try_action(item, view, decisions)
                case _:
                    raise AssertionError(item)
            if blocker is not None:
                self._agenda.wait(item, blocker)
        return decisions

    # Questions

    def explain(self, message_id: str) -> list[Explanation]:
        """Why a message's occurrences on chain are undecided; empty when none is known here."""
        return [
            Explanation(o.position, o.event.chain.batch, o.wait, o.message)
            for occurrences in self._occurrences.values()
            for o in occurrences
            if o.message.id == message_id and o.wait
        ]

    def explain_batch(self, batch_id: str) -> list[Explanation]:
        """Why a batch's pins are undecided, per message where its content is here."""
        return [e for e in self.waiting() if e.batch.id == batch_id]

    def waiting(self) -> Iterator[Explanation]:
        """Everything on chain that is undecided, in the order of arrival."""
        for event in self._events.values():
            batch = event.chain.batch
            if event.facts is None:
                wait = Wait(WaitReason.BATCH_MISSING, event.since)
                yield Explanation(event.position, batch, wait)
            for occurrence in event.occurrences:
                if not occurrence.done and occurrence.wait:
                    yield Explanation(
                        occurrence.position, batch, occurrence.wait, occurrence.message
                    )

    def undecided(self) -> int:
        """Number of events with undecided pins in memory."""
        return len(self._events)

    # Arrival

    def _is_new(self, position: Position) -> bool:
        if self._last_open is not None and position <= self._last_open:
            return False
        self._last_open = position
        return True

    def _add_pins(self, chain: PinEvent) -> None:
        if chain.position in self._events or not (chain.masked or self._is_new(chain.position)):
            return
        event = EventState(chain, self._agenda.now)
        if not event.left and event.pins:
            return
        self._events[chain.position] = event
        self._events_of.setdefault(chain.batch, []).append(event)
        self._wanted_batches[chain.batch] = None
        final = self._final_events.get(chain.position.contract)
        if final is not None and chain.position > final:
            event.void_reason = "beyond the contract's final event"
        elif not event.pins:
            event.void_reason = "no contexts"
        if not chain.masked:
            self._broadcasts.add_event(event)
        self._agenda.queue(event)
        if chain.masked:
            self._private.add_event(event)

    def _add_content(self, event: EventState, facts: BatchFacts) -> None:
        event.facts = facts
        if event.chain.masked:
            self._private.claim_event(event)
        event.void_reason = facts.defect or mismatch_of(event.chain, facts)
        if event.void_reason:
            self._agenda.queue(event)
            return
        base = 0
        for message in facts.messages:
            pins = event.pins[base : base + len(message.topics)]
            base += len(message.topics)
            if pins[0].dispatched:
                continue
            occurrence = Occurrence(event, message, pins)
            for pin in pins:
                pin.occurrence = occurrence
            event.occurrences.append(occurrence)
            self._occurrences.setdefault(message.hash, []).append(occurrence)
            for need in message.needs:
                self._lacking.setdefault(need, []).append(occurrence)
            if event.chain.masked:
                self._private.enter(occurrence)
            elif message.key and message.key != event.chain.signer:
                occurrence.void_reason = "not signed by the message's key"
            self._agenda.queue(occurrence)
        if not event.chain.masked:
            self._broadcasts.add_content(event)
        self._agenda.notify(event.batch_arrived)

    # Events: who signed, and whether they count at all

    def _try_event(
        self, event: EventState, view: DefinitionView, decisions: list[Decision]
    ) -> Blocker | None:
        if event.void_reason:
            self._void_event(event, decisions)
            return None
        if event.settled:
            return None
        if blocker := self._behind_action(event.position):
            return blocker
        owner = self._broadcasts.owner_before(event.chain.signer, event.position, view)
        if isinstance(owner, Blocker):
            return owner
        event.owner, event.settled, event.wait = owner, True, None
        if owner is None and not event.chain.masked:
            self._broadcasts.make_stray(event)
        self._agenda.notify(event.signer_settled)
        return None

    def _behind_action(self, position: Position) -> Blocker | None:
        """An undecided terminate below may put everything beyond it out of account."""
        actions = self._terminating.get(position.contract)
        action = actions.below(position) if actions else None
        if action is None:
            return None
        return Blocker((action,), WaitReason.BEHIND_ACTION, action.position)

    def _void_event(self, event: EventState, decisions: list[Decision]) -> None:
        left = [o for o in event.occurrences if not o.done]
        messages = tuple(o.message for o in left) or (event.facts.messages if event.facts else ())
        decisions.append(
            BatchVoided(event.position, event.chain.batch, event.void_reason, messages)
        )
        for occurrence in left:
            self._retire(occurrence)
        if event.chain.masked:
            self._private.remove_event(event)
        for pin in event.pins:
            self._dispatch(pin)
        self._drop(event)

    # Network actions

    def _try_action(
        self, state: ActionState, view: DefinitionView, decisions: list[Decision]
    ) -> Blocker | None:
        action, contract = state.action, state.position.contract
        if blocker := self._behind_action(state.position):
            return blocker
        reason = ""
        final = self._final_events.get(contract)
        if final is not None and state.position > final:
            reason = "beyond the contract's final event"
        elif action.kind != TERMINATE:
            reason = f"unknown network action {action.kind!r}"
        else:
            owner = self._broadcasts.owner_before(action.signer, state.position, view)
            if isinstance(owner, Blocker):
                return owner
            registration = view.registration(action.signer)
            if owner is None or registration is None or not registration.root:
                reason = "not signed by a root organisation"
        if action.kind == TERMINATE:
            self._terminating[contract].discard(state)
        decisions.append(ActionDecision(action, applied=not reason, reason=reason))
        if not reason:
            self._final_events[contract] = state.position
            for event in list(self._events.values()):
                if event.position.contract == contract and event.position > state.position:
                    event.void_reason = "beyond the contract's final event"
                    self._agenda.queue(event)
        self._agenda.finish(state)
        return None

    # Messages

    def _try_occurrence(
        self, occurrence: Occurrence, view: DefinitionView, decisions: list[Decision]
    ) -> Blocker | None:
        event = occurrence.event
        if occurrence.void_reason:
            self._decide(occurrence, Outcome.VOID, occurrence.void_reason, decisions)
            return None
        if not event.settled:
            settles = event.wait or Wait(WaitReason.DEFINITION_UNDECIDED, self._agenda.now)
            return Blocker((event.signer_settled,), settles.reason, settles.behind)
        updates: list[NextPinUpdate] = []
        if event.chain.masked:
            turn = self._private.turn(occurrence)
            if isinstance(turn, Blocker):
                return turn
            if isinstance(turn, str):
                self._decide(occurrence, Outcome.VOID, turn, decisions)
                return None
            verdict = self._judge(occurrence, view)
            if isinstance(verdict, Blocker):
                return verdict
            updates, void = self._private.advance(occurrence, turn)
            for other in void:
                other.void_reason = "a lower pin used its nonce"
                self._agenda.queue(other)
        else:
            if blocker := self._broadcasts.ahead(occurrence):
                return blocker
            verdict = self._judge(occurrence, view)
            if isinstance(verdict, Blocker):
                return verdict
        outcome, reason = verdict
        self._decide(occurrence, outcome, reason, decisions, tuple(updates))
        return None

    def _judge(self, occurrence: Occurrence, view: DefinitionView) -> tuple[Outcome, str] | Blocker:
        """Decides a message whose turn it is.

        The checks come in a fixed order, so that the reason is everybody's.
        """
        message, event = occurrence.message, occurrence.event
        if self._is_repeat(occurrence):
            return Outcome.VOID, "the message was decided before"
        if refusal := refusal_of(message, event):
            return Outcome.REJECTED, refusal
        resolved: dict[Reference, Position | None] = {}
        references: list[Reference] = [
            *message.references,
            *view.further_references(message, occurrence.position),
        ]
        if message.is_claim:
            # One key, one owner: lower claims of the key, in whatever topic, come first.
            references.append(KeyReference(message.key))
        for reference in references:
            found = self._broadcasts.resolve(reference, occurrence.position, view)
            if isinstance(found, Blocker):
                return found
            resolved[reference] = found
        if occurrence.failed:
            return Outcome.REJECTED, occurrence.failed
        if occurrence.needs:
            return _lacks(min(occurrence.needs))
        verdict = view.judge(
            Candidate(message, occurrence.position, event.chain.signer, event.owner, resolved)
        )
        match verdict:
            case Confirm():
                if message.definition_topic is not None:
                    self._broadcasts.took_effect(occurrence, references)
                return Outcome.CONFIRMED, ""
            case Reject(reason):
                return Outcome.REJECTED, reason
            case Await(need):
                occurrence.needs.add(need)
                self._lacking.setdefault(need, []).append(occurrence)
                return _lacks(need)
        assert_never(verdict)

    def _is_repeat(self, occurrence: Occurrence) -> bool:
        return occurrence.message.decided or occurrence.repeated

    def _decide(
        self,
        occurrence: Occurrence,
        outcome: Outcome,
        reason: str,
        decisions: list[Decision],
        next_pins: tuple[NextPinUpdate, ...] = (),
    ) -> None:
        message, event = occurrence.message, occurrence.event
        first = occurrence.pins[0].index
        decisions.append(
            MessageDecision(
                message=message,
                outcome=outcome,
                position=occurrence.position,
                batch=event.chain.batch,
                pins=range(first, first + len(occurrence.pins)),
                reason=reason,
                next_pins=next_pins,
            )
        )
        self._retire(occurrence)
        if outcome is not Outcome.VOID:
            for other in self._occurrences.get(message.hash, ()):
                other.repeated = True
        for pin in occurrence.pins:
            self._dispatch(pin)
        if not event.left:
            self._drop(event)

    # Bookkeeping

    def _retire(self, occurrence: Occurrence) -> None:
        same = self._occurrences[occurrence.message.hash]
        same.remove(occurrence)
        if not same:
            del self._occurrences[occurrence.message.hash]
        for need in occurrence.needs:
            lacking = self._lacking.get(need)
            if lacking is not None and occurrence in lacking:
                lacking.remove(occurrence)
                if not lacking:
                    del self._lacking[need]
        if occurrence.event.chain.masked:
            self._private.leave(occurrence)
        else:
            self._broadcasts.remove(occurrence)
        self._agenda.finish(occurrence)

    def _dispatch(self, pin: PinState) -> None:
        if pin.dispatched:
            return
        pin.dispatched = True
        pin.event.left -= 1
        if not pin.event.chain.masked:
            self._broadcasts.remove_pin(pin)

    def _drop(self, event: EventState) -> None:
        self._broadcasts.remove(event)
        self._forget(event)

    def _forget(self, event: EventState) -> None:
        self._agenda.finish(event)
        del self._events[event.position]
        events = self._events_of[event.chain.batch]
        events.remove(event)
        if not events:
            del self._events_of[event.chain.batch]
        self._agenda.notify(event.batch_arrived)
        self._agenda.notify(event.signer_settled)


def _lacks(need: Need) -> Blocker:
    return Blocker((need,), _REASON_OF_NEED[need.kind], need=need)
