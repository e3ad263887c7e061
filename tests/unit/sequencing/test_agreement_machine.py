"""Goal: what one member decides does not depend on how its inputs interleave.

Method: a Hypothesis state machine writes a chain (broadcasts, private messages with nonces in
and out of order and used twice, definitions, a stranger's pins) while it hands pins, contents
and groups to one member at any time, in any order, with passes of any size and rebuilds from
what was committed. In the end that member must have decided what another one decides that gets
everything in order; on the way it must never have decided anything else.
"""

from __future__ import annotations

from collections import defaultdict

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from photinus_core.model.canonical import broadcast_context, private_pin
from photinus_core.sequencing.decisions import MessageDecision
from photinus_core.sequencing.facts import PinEvent

from tests.simulation.content import Body, SimBatch, SimMessage
from tests.unit.sequencing.kit import (
    ALICE,
    BOB,
    CAROL,
    GROUP,
    MEMBERS,
    Table,
    batch_of,
    datatype,
    key_of,
    message,
    root,
)

AUTHORS = st.sampled_from([ALICE, BOB, CAROL])
TOPICS = st.lists(st.sampled_from(["t", "u"]), min_size=1, max_size=2, unique=True)


def orders(table: Table) -> dict[str, list[str]]:
    """Confirmed messages by topic and group."""
    found: dict[str, list[str]] = defaultdict(list)
    for decision in table.decisions:
        if isinstance(decision, MessageDecision) and decision.outcome == "confirmed":
            for topic in decision.message.topics:
                found[f"{topic} {decision.message.group}"].append(decision.message.hash)
    return found


def outcomes(table: Table) -> dict[str, str]:
    return {
        d.message.hash: d.outcome
        for d in table.decisions
        if isinstance(d, MessageDecision) and d.outcome != "void"
    }


class OneMember(RuleBasedStateMachine):
    """A chain, and one member that sees it piecemeal."""

    def __init__(self) -> None:
        super().__init__()
        self.table = Table()
        self.block = self.table.block
        self.chain: list[PinEvent] = []
        self.seen = 0
        self.contents: list[SimBatch] = []
        self.hidden: list[SimBatch] = []
        self.number = 0
        self.nonces: dict[tuple[str, str], int] = {}

    def _append(self, signer: str, batch: SimBatch, contexts: tuple[str, ...]) -> None:
        self.block += 1
        position = self.table.position()._replace(block=self.block)
        self.chain.append(PinEvent(position, signer, batch.key, contexts))

    def _new(
        self, topics: tuple[str, ...], author: str, body: Body, group: str | None
    ) -> SimMessage:
        self.number += 1
        return message(f"m{self.number}", *topics, author=author, body=body, group=group)

    def _publish(self, batch: SimBatch) -> None:
        self.contents.append(batch)
        self.hidden.append(batch)

    # The chain grows

    @rule(topics=TOPICS, author=AUTHORS, uses=st.booleans(), good=st.booleans())
    def broadcast(self, topics: list[str], author: str, uses: bool, good: bool) -> None:
        body = Body(datatype="d" if uses else "", good=good)
        batch = batch_of(self._new(tuple(topics), author, body, None))
        self._publish(batch)
        self._append(key_of(author), batch, tuple(map(broadcast_context, topics)))

    @rule(topics=TOPICS, author=st.sampled_from(MEMBERS), skip=st.integers(-1, 2))
    def private(self, topics: list[str], author: str, skip: int) -> None:
        batch = batch_of(self._new(tuple(topics), author, Body(), GROUP))
        pins = []
        for topic in topics:
            nonce = max(0, self.nonces.get((topic, author), 0) + (skip if skip != 2 else 0))
            self.nonces[topic, author] = max(self.nonces.get((topic, author), 0), nonce + 1)
            pins.append(private_pin(topic, GROUP, author, nonce))
        self._publish(batch)
        self._append(key_of(author), batch, tuple(pins))

    @rule(author=AUTHORS)
    def define(self, author: str) -> None:
        self.number += 1
        batch = batch_of(datatype("d", author, f"m{self.number}"))
        self._publish(batch)
        self._append(key_of(author), batch, tuple(map(broadcast_context, batch.messages[0].topics)))

    @rule()
    def register_carol(self) -> None:
        self.number += 1
        batch = batch_of(root(CAROL, name=f"m{self.number}"))
        self._publish(batch)
        self._append(key_of(CAROL), batch, tuple(map(broadcast_context, batch.messages[0].topics)))

    @precondition(lambda self: self.chain)
    @rule(data=st.data(), signer=st.sampled_from([key_of(ALICE), key_of(BOB), "stranger"]))
    def pin_again(self, data: st.DataObject, signer: str) -> None:
        event = data.draw(st.sampled_from(self.chain))
        self.block += 1
        position = self.table.position()._replace(block=self.block)
        self.chain.append(PinEvent(position, signer, event.batch, event.contexts))

    # One member sees it

    @rule(count=st.integers(1, 5))
    def pins_arrive(self, count: int) -> None:
        arrived = self.chain[self.seen : self.seen + count]
        self.seen += len(arrived)
        self.table.pinned += arrived
        self.table.machine.pins_arrived(arrived)

    @precondition(lambda self: self.hidden)
    @rule(data=st.data())
    def content_arrives(self, data: st.DataObject) -> None:
        batch = self.hidden.pop(data.draw(st.integers(0, len(self.hidden) - 1)))
        self.table.give(batch)

    @rule()
    def group_arrives(self) -> None:
        self.table.know_group()

    @rule(limit=st.sampled_from([1, 2, 1000]))
    def decide(self, limit: int) -> None:
        self.table.play(limit)

    @rule()
    def restart(self) -> None:
        """Everything undecided is handed to a new machine."""
        self.table.play()
        old, self.table = self.table, Table(registered=())
        new = self.table
        new.view, new.stored, new.decided = old.view, old.stored, old.decided
        new.next_pins, new.pinned, new.decisions, new.log = (
            old.next_pins,
            old.pinned,
            old.decisions,
            old.log,
        )
        new.know_group()
        done: dict[tuple[int, ...], set[int]] = defaultdict(set)
        for decision in old.decisions:
            if isinstance(decision, MessageDecision):
                done[decision.position._replace(pin=0)].update(decision.pins)
        undecided = [e for e in new.pinned if e.position in old.machine._events]
        new.machine.pins_arrived(
            PinEvent(e.position, e.signer, e.batch, e.contexts, frozenset(done[e.position]))
            for e in undecided
        )

    def in_order(self) -> Table:
        """The same chain for a member that has everything at once."""
        other = Table()
        other.know_group()
        for event in self.chain:
            other.pinned.append(event)
            other.machine.pins_arrived([event])
            for batch in self.contents:
                if batch.key == event.batch:
                    other.give(batch)
            other.play()
        return other

    @invariant()
    def decided_so_far_is_a_beginning(self) -> None:
        if self.seen == len(self.chain) and self.chain:
            other = self.in_order()
            whole, right = orders(other), outcomes(other)
            for context, order in orders(self.table).items():
                assert order == whole[context][: len(order)]
            for message_hash, outcome in outcomes(self.table).items():
                assert right[message_hash] == outcome

    def teardown(self) -> None:
        self.group_arrives()
        self.pins_arrive(len(self.chain))
        self.table.give(*self.hidden)
        self.table.play()
        other = self.in_order()
        assert orders(self.table) == orders(other)
        assert outcomes(self.table) == outcomes(other)


TestOneMember = OneMember.TestCase
TestOneMember.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
