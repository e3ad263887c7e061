"""A table on which agreement can be played: one machine, its view, and a chain that grows by hand.

Content and rule book are the simulator's. `Table.play` answers what the machine wants from what
was stored, decides, and keeps the outcomes.
"""

from __future__ import annotations

from typing import Any

from photinus_core.model.canonical import broadcast_context, private_pin
from photinus_core.sequencing.agreement import Agreement
from photinus_core.sequencing.decisions import (
    ActionDecision,
    BatchVoided,
    Decision,
    MessageDecision,
    Outcome,
)
from photinus_core.sequencing.facts import (
    BatchKey,
    ChainState,
    ContextState,
    NetworkAction,
    PinEvent,
)
from photinus_core.sequencing.position import Position

from tests.simulation.content import (
    Body,
    Definitions,
    SimBatch,
    SimMessage,
    facts_of_batch,
    sim_group_hash,
    topic_of,
)

ALICE, BOB, CAROL = "did:firefly:org/alice", "did:firefly:org/bob", "did:firefly:org/carol"
MEMBERS = (ALICE, BOB)
GROUP = sim_group_hash(MEMBERS)


def key_of(did: str) -> str:
    return f"key-of-{did}"


def message(
    name: str,
    *topics: str,
    author: str = ALICE,
    key: str | None = None,
    group: str | None = None,
    cancels: str | None = None,
    body: Body | None = None,
) -> SimMessage:
    body = body or Body()
    chosen = topics or ((topic_of(body) or "t"),)
    return SimMessage(
        name, author, key_of(author) if key is None else key, chosen, group, body, cancels
    )


def root(did: str, key: str | None = None, name: str = "") -> SimMessage:
    return message(name or f"claim-{did}", author=did, key=key, body=Body("root", did=did))


def datatype(name: str, author: str = ALICE, message_id: str = "") -> SimMessage:
    body = Body("datatype", name=name, did=message_id)
    return message(message_id or f"datatype-{name}", author=author, body=body)


def batch_of(*messages: SimMessage, name: str = "") -> SimBatch:
    return SimBatch(name or f"batch-{messages[0].id}", messages, messages[0].group)


class Table:
    """One member, seen from its chair."""

    def __init__(self, *, registered: tuple[str, ...] = (ALICE, BOB), **arguments: Any) -> None:
        self.machine = Agreement(**arguments)
        self.view = Definitions()
        self.block = 0
        self.contract = 0
        self.stored: dict[BatchKey, SimBatch] = {}
        self.blobs: set[str] = set()
        self.next_pins: dict[tuple[str, str], dict[str, ChainState]] = {}
        self.decided: set[str] = set()
        self.decisions: list[Decision] = []
        self.pinned: list[PinEvent] = []
        self.wanted_hashes: list[str] = []
        self.log: list[tuple[str, str]] = []
        for did in registered:
            self.pin_and_give(batch_of(root(did)))
        self.play()
        self.log.clear()
        self.decisions.clear()

    def position(self) -> Position:
        self.block += 1
        return Position(self.contract, self.block, 0, 0)

    def pin(
        self,
        batch: SimBatch,
        *,
        signer: str | None = None,
        contexts: tuple[str, ...] | None = None,
        at: int = 0,
    ) -> PinEvent:
        if contexts is None:
            contexts = tuple(broadcast_context(t) for m in batch.messages for t in m.topics)
        return self.pin_event(signer or batch.messages[0].key, batch.key, contexts, at=at)

    def pin_event(
        self, signer: str, key: BatchKey, contexts: tuple[str, ...], *, at: int = 0
    ) -> PinEvent:
        event = PinEvent(self.position(), signer, key, contexts)
        self.pinned.append(event)
        self.machine.pins_arrived([event], at)
        return event

    def pin_private(
        self, batch: SimBatch, *nonces: int, signer: str | None = None, at: int = 0
    ) -> PinEvent:
        """Pins with one nonce per message and topic."""
        pairs = [(m, t) for m in batch.messages for t in m.topics]
        contexts = tuple(
            private_pin(t, m.group or "", m.author, nonce)
            for (m, t), nonce in zip(pairs, nonces, strict=True)
        )
        return self.pin(batch, signer=signer, contexts=contexts, at=at)

    def act(self, kind: str, signer: str) -> NetworkAction:
        action = NetworkAction(self.position(), signer, kind)
        self.machine.pins_arrived([action])
        return action

    def give(self, *batches: SimBatch, at: int = 0) -> None:
        for batch in batches:
            self.stored[batch.key] = batch
            facts = facts_of_batch(batch, self.blobs, self.decided)
            self.machine.batch_available([facts], at)

    def pin_and_give(self, batch: SimBatch) -> None:
        self.pin(batch)
        self.give(batch)

    def know_group(self) -> None:
        self.machine.group_available(GROUP, MEMBERS)

    def play(self, limit: int = 1000) -> list[tuple[str, str]]:
        """Decides all that can be decided.

        Returns:
            Outcomes since the last time: (message id, outcome), or for others (what, outcome).
        """
        before = len(self.log)
        while True:
            while decisions := self.machine.decide(self.view, limit):
                for decision in decisions:
                    self._keep(decision)
            wanted = self.machine.wanted()
            if not wanted:
                return self.log[before:]
            for key in wanted.batches:
                if key in self.stored:
                    self.give(self.stored[key])
            self.machine.contexts_loaded(
                ContextState(c, self.next_pins.get((c.topic, c.group), {})) for c in wanted.contexts
            )
            self.wanted_hashes += wanted.pin_hashes
            self.machine.pins_found(
                wanted.pin_hashes,
                [e for e in self.pinned if e.masked and set(e.contexts) & set(wanted.pin_hashes)],
            )

    def _keep(self, decision: Decision) -> None:
        self.decisions.append(decision)
        match decision:
            case MessageDecision():
                self.log.append((decision.message.id, decision.outcome))
                if decision.outcome is not Outcome.VOID:
                    self.decided.add(decision.message.hash)
                for update in decision.next_pins:
                    chains = self.next_pins.setdefault((update.topic, update.group), {})
                    chains[update.author] = ChainState(update.nonce, update.last_key)
            case BatchVoided():
                self.log.append((decision.batch.id, "voided"))
            case ActionDecision():
                self.log.append(
                    (decision.action.kind, "applied" if decision.applied else "ignored")
                )

    def reason(self, message_id: str) -> str:
        """The one thing a message waits for, as `explain` says it."""
        (explanation,) = self.machine.explain(message_id)
        return str(explanation.wait)
