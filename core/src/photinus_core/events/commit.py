"""Writes what agreement decided: states, events, next pins, definitions, contracts, in one go.

A fixed number of statements per commit, whatever the number of decisions (definitions apart, which
are few).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import msgspec

from photinus_core.definitions.content import Content
from photinus_core.definitions.effects import Effects
from photinus_core.events.chain import ACTION_NOTES, ActionNote
from photinus_core.events.entries import message_events
from photinus_core.events.facts import event_position, next_pin_row
from photinus_core.model.events import NewEvent
from photinus_core.model.ids import Hash32, Namespace, Nanoseconds, Uuid, seconds_between
from photinus_core.model.ledger import NamespaceRow, NetworkContract, ReceivedBatchKey
from photinus_core.model.messages import DECIDED_STATES, MessageState, NextPin, Pin
from photinus_core.ports.meter import Decided
from photinus_core.ports.store import Decision as StoredDecision
from photinus_core.ports.store import WriteTransaction
from photinus_core.sequencing.decisions import (
    ActionDecision,
    BatchVoided,
    Decision,
    MessageDecision,
    Outcome,
)
from photinus_core.sequencing.position import Position

STATEMENT_NOTES: Final = "identity_statement"
"""Notes of claims and verifications that wait for each other, by DID."""

ALIAS_NOTES: Final = "definition_alias"
"""Notes of ids that definitions named and that are another's here."""

_STATES: Final = {
    Outcome.CONFIRMED: MessageState.CONFIRMED,
    Outcome.REJECTED: MessageState.REJECTED,
}


@dataclass(frozen=True, slots=True)
class Commit:
    """What one transaction is to write.

    Attributes:
        namespace: Local name.
        at: Time of the decisions.
        decisions: What was decided, in order.
        effects: What the decided definitions do.
        contracts: The contracts as configured, by index.
        wakeups_through: Wake-ups that this takes, up to a sequence.
    """

    namespace: Namespace
    at: Nanoseconds
    decisions: Sequence[Decision]
    effects: Effects
    contracts: Sequence[NetworkContract]
    wakeups_through: int


@dataclass(slots=True)
class _Rows:
    """Rows gathered from the decisions."""

    states: list[StoredDecision] = field(default_factory=list)
    events: list[NewEvent] = field(default_factory=list)
    dispatched: list[int] = field(default_factory=list)
    next_pins: dict[tuple[Hash32, str], NextPin] = field(default_factory=dict)
    cancels: dict[Uuid, str] = field(default_factory=dict)
    """Ids of cancelled messages and who may cancel them."""
    decided_events: dict[Position, ReceivedBatchKey] = field(default_factory=dict)


PinTable = Mapping[Position, Mapping[int, Pin]]


class TakenBackError(Exception):
    """What was decided on is not stored any more: a reorganisation has removed it meanwhile."""


async def write(tx: WriteTransaction, commit: Commit) -> NamespaceRow | None:
    """Writes a commit.

    Returns:
        The namespace's row when a contract ended; else None.

    Raises:
        TakenBackError: a pin or an action is gone; nothing must be written.
    """
    if commit.decisions:
        await _write_messages(tx, commit)
    await _write_effects(tx, commit.effects)
    actions = [d for d in commit.decisions if isinstance(d, ActionDecision)]
    row = await _write_actions(tx, commit, actions) if actions else None
    if commit.wakeups_through >= 0:
        await tx.delete_wakeups(commit.wakeups_through)
    return row


async def _write_messages(tx: WriteTransaction, commit: Commit) -> None:
    pins = await _pins(tx, commit.decisions)
    rows = _Rows()
    for decision in commit.decisions:
        match decision:
            case MessageDecision():
                _add_message(rows, commit, decision, pins)
            case BatchVoided(position=position):
                left = pins.get(position, {}).values()
                rows.dispatched.extend(pin.sequence for pin in left if not pin.dispatched)
            case ActionDecision():
                pass
    if rows.cancels:
        rows.states.extend(await _cancelled(tx, rows.cancels, commit.at))
    dispatched = set(rows.dispatched)
    if await tx.mark_dispatched(sorted(dispatched)) < len(dispatched):
        raise TakenBackError
    if rows.states:
        await tx.decide(rows.states)
    if rows.next_pins:
        await tx.set_next_pins(list(rows.next_pins.values()))
    complete = _complete(rows, pins)
    if complete:
        await tx.confirm_batches(complete, commit.at)
    tx.append_events(rows.events)


async def _pins(tx: WriteTransaction, decisions: Iterable[Decision]) -> PinTable:
    batches = {Uuid(d.batch.id) for d in decisions if isinstance(d, MessageDecision | BatchVoided)}
    table: dict[Position, dict[int, Pin]] = {}
    for pin in await tx.pins_of_batches(sorted(batches)) if batches else ():
        table.setdefault(event_position(pin), {})[pin.index] = pin
    return table


def _add_message(rows: _Rows, commit: Commit, decision: MessageDecision, pins: PinTable) -> None:
    event = decision.position._replace(pin=0)
    here = pins.get(event, {})
    if not here.keys() >= set(decision.pins):
        raise TakenBackError
    rows.dispatched.extend(here[index].sequence for index in decision.pins)
    for update in decision.next_pins:
        row = next_pin_row(commit.namespace, update)
        rows.next_pins[row.context, row.identity] = row
    state = _STATES.get(decision.outcome)
    if state is None:
        return
    content = decision.message.payload
    assert isinstance(content, Content)
    message = content.message
    rows.states.append(
        StoredDecision(message.header.id, message.hash, state, commit.at, decision.reason)
    )
    rows.events.extend(message_events(message, state, commit.at, message.txid))
    if decision.cancels:
        rows.cancels[Uuid(decision.cancels)] = decision.message.author
    rows.decided_events[event] = ReceivedBatchKey(
        Uuid(decision.batch.id), Hash32(decision.batch.hash)
    )


async def _cancelled(
    tx: WriteTransaction, cancels: Mapping[Uuid, str], at: Nanoseconds
) -> list[StoredDecision]:
    """A gap fill cancels the message whose nonces it uses up, if that is its author's."""
    found = await tx.messages(list(cancels))
    return [
        StoredDecision(message.header.id, message.hash, MessageState.CANCELLED, at)
        for message in found.values()
        if message.header.author == cancels[message.header.id]
        and message.state not in DECIDED_STATES
    ]


def _complete(rows: _Rows, pins: PinTable) -> list[ReceivedBatchKey]:
    """Batches of which no pin is left."""
    dispatched = set(rows.dispatched)
    return [
        key
        for event, key in rows.decided_events.items()
        if all(p.dispatched or p.sequence in dispatched for p in pins.get(event, {}).values())
    ]


async def _write_effects(tx: WriteTransaction, effects: Effects) -> None:
    for identity in effects.identities.values():
        await tx.upsert_identity(identity)
    if effects.verifiers:
        await tx.insert_verifiers(effects.verifiers)
    for datatype in effects.datatypes:
        await tx.insert_datatype(datatype)
    kept = {did: text for did, text in effects.statements.items() if text is not None}
    if kept:
        await tx.set_notes(STATEMENT_NOTES, kept)
    if effects.aliases:
        await tx.set_notes(ALIAS_NOTES, effects.aliases)
    gone = [did for did, text in effects.statements.items() if text is None]
    if gone:
        await tx.delete_notes(STATEMENT_NOTES, gone)
    tx.append_events(effects.events)


async def _write_actions(
    tx: WriteTransaction, commit: Commit, actions: Sequence[ActionDecision]
) -> NamespaceRow | None:
    """Ends contracts whose `terminate` was applied; the next ones of the configuration begin."""
    notes = {note_position(note): note for note in read_action_notes(await tx.notes(ACTION_NOTES))}
    row, changed = await tx.namespace_row(), None
    for action in actions:
        note = notes.get(action.action.position)
        if note is None:
            raise TakenBackError
        if not action.applied or row is None:
            continue
        row = changed = _switch(row, note, commit.contracts)
    decided = {notes[a.action.position].protocol_id for a in actions}
    if await tx.delete_notes(ACTION_NOTES, sorted(decided)) < len(decided):
        raise TakenBackError
    if changed is not None:
        await tx.save_namespace_row(changed)
    return changed


def _switch(
    row: NamespaceRow, note: ActionNote, configured: Sequence[NetworkContract]
) -> NamespaceRow:
    ended = [
        msgspec.structs.replace(
            contract,
            final_event=note.protocol_id,
            final_position=(note.block, note.transaction_index, note.log_index),
        )
        if contract.index == note.contract
        else contract
        for contract in row.contracts
    ]
    following = [c for c in configured if c.index == note.contract + 1]
    known = {contract.index for contract in ended}
    fresh = [contract for contract in following if contract.index not in known]
    return msgspec.structs.replace(row, contracts=(*ended, *fresh))


def decided_messages(commit: Commit, own: Collection[Uuid]) -> list[Decided]:
    """What a commit decided of messages, to be counted; `own` are batches that this member sent."""
    found = []
    for decision in commit.decisions:
        if not isinstance(decision, MessageDecision) or decision.outcome not in _STATES:
            continue
        content = decision.message.payload
        assert isinstance(content, Content)
        header = content.message.header
        is_own = Uuid(decision.batch.id) in own
        found.append(
            Decided(
                header.type,
                decision.outcome is Outcome.CONFIRMED,
                seconds_between(header.created, commit.at) if is_own else None,
            )
        )
    return found


def read_action_notes(notes: Mapping[str, str]) -> list[ActionNote]:
    """Reads the notes of undecided network actions, in chain order."""
    read = [msgspec.json.decode(text, type=ActionNote) for text in notes.values()]
    return sorted(read, key=note_position)


def note_position(note: ActionNote) -> Position:
    """Position of a noted network action."""
    return Position(note.contract, note.block, note.transaction_index, note.log_index)
