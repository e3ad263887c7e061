"""Drives agreement as `photinus_core.events.aggregator` does, over the simulated database.

The same turns: feed a page of pins, actions and wake-ups; decide and commit; answer questions from
what is stored by then. Each read is a statement at a moment of its own. What the machine may be
told is decided by production's `Feed`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from functools import partial
from typing import TYPE_CHECKING

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
    Wanted,
    blob_need,
)
from photinus_core.sequencing.feeding import Feed
from photinus_core.sequencing.position import Position

from tests.simulation.content import Change, Definitions, SimMessage, facts_of_batch
from tests.simulation.database import PinRow, Rows, Wakeup
from tests.simulation.process import Step, TakenBackError, TroubleError, Wake
from tests.simulation.sending import renew_pins

if TYPE_CHECKING:
    from tests.simulation.leader import Leader


class Agreeing:
    """Agreement of one leader."""

    def __init__(self, leader: Leader) -> None:
        self.leader = leader
        self.clock = leader.clock
        self.wake = Wake()
        self.tuning = leader.member.tuning
        self.holes = leader.member.holes
        self.machine = Agreement()
        self.view = Definitions()
        self.feed = Feed(0)
        self._contract = leader.rows.contract
        """The active one, as far as this leader's other work was told."""

    @property
    def rows(self) -> Rows:
        return self.leader.rows

    def run(self) -> Step:
        while True:
            try:
                yield from self._work()
            except TroubleError:
                yield 1
            except TakenBackError:
                pass  # starts over

    def _work(self) -> Step:
        yield from self._build()
        while True:
            more = yield from self._turn()
            if not more:
                yield self.wake

    def _build(self) -> Step:
        tuning = self.tuning
        self.view = Definitions()
        for change in _stored_definitions(self.rows.definitions):
            self.view.apply(change)
        yield from self.leader.moment()
        newest = -1 if tuning.load_all_masked else self.rows.pin_sequence
        self.feed = self.holes.feed(newest)
        self.machine = self.holes.machine(
            final_events=self.rows.final_events,
            masked_complete=tuning.load_all_masked,
            masked_events_max=tuning.masked_events_max,
            private_contexts_max=tuning.private_contexts_max,
        )
        yield from self._contract_ended()
        if self.holes.wakeups_in_memory:
            # Internals §3.7: what was stored but not told is not found again.
            self._feed_pins()
            self.machine.wanted()
            self.feed.took(self.rows.wakeups)

    def _turn(self) -> Step:
        more = yield from self._feed()
        while True:
            decisions = self.machine.decide(self.view, self.tuning.decisions_max)
            if decisions:
                yield from self._commit(decisions)
            wanted = self.feed.answerable(self.machine.wanted())
            if wanted:
                yield from self._answer(wanted)
            elif not decisions:
                break
        self.feed.settle()
        if self.feed.wakeups_kept > self.tuning.wakeups_kept_max:
            through = self.feed.wakeups_settled
            yield from self.leader.write(lambda rows: rows.delete_wakeups(through))
            self.feed.forgot()
        return more

    # Inputs

    def _feed(self) -> Step:
        page = list(self.rows.wakeups.items())[: self.tuning.wakeups_page]
        wakeups = {number: wakeup for number, wakeup in page if self.feed.is_new(number)}
        yield from self.leader.moment()
        before = list(self.rows.actions.values())
        yield from self.leader.moment()
        events, full = self._feed_pins()
        yield from self.leader.moment()
        after = list(self.rows.actions.values())
        arrived = self.feed.chain(events, before, after, full=full)
        if arrived:
            self.machine.pins_arrived(arrived, self.clock.now)
        yield from self.leader.moment()
        yield from self._feed_arrivals(wakeups.values())
        self.feed.took(wakeups)
        if any(wakeup.kind == "removed" for wakeup in wakeups.values()):
            through = self.feed.wakeups_taken
            yield from self.leader.write(lambda rows: rows.delete_wakeups(through))
            raise TakenBackError
        return full or len(wakeups) >= self.tuning.wakeups_page // 2

    def _feed_pins(self) -> tuple[list[PinEvent], bool]:
        """Reads the next page of pins: whole events, since the machine counts contexts."""
        feed, limit = self.feed, self.tuning.pins_page
        all_after = self.holes.masked_fed_after or feed.pins_at_start
        page = self.rows.undispatched_pins(feed.pins_read, limit, all_after)
        full = len(page) >= limit
        feed.read_page(page[-1].sequence if page else None, full=full)
        return _events(page), full

    def _feed_arrivals(self, wakeups: Iterable[Wakeup]) -> Step:
        now, stored = self.clock.now, []
        for wakeup in wakeups:
            match wakeup.kind:
                case "batch":
                    stored.append(wakeup.key)
                case "blob":
                    self.machine.need_met(blob_need(wakeup.key, wakeup.key), now)
                case "group":
                    members = self.rows.groups[wakeup.key]
                    self.machine.group_available(wakeup.key, members, now)
                case _:
                    pass  # of pins, which are fed anyway
        if stored:
            yield from self.leader.moment()
            found = [s for key in stored for s in self.rows.pins_of.get(key, ()) if s.left]
            rows = [PinRow(s, i) for s in found for i in range(len(s.event.contexts))]
            events = _events(row for row in rows if self.feed.may_know(row.sequence))
            self.machine.pins_arrived([e for e in events if e.masked], now)
            yield from self._hand_over([event.batch for event in events])

    def _hand_over(self, keys: Collection[BatchKey]) -> Step:
        for key in dict.fromkeys(keys):
            rows = self.rows
            batch = rows.batches.get(key)
            if batch is None:
                continue
            facts = facts_of_batch(batch, rows.blobs, rows.decided, rows.groups)
            # What arrives from here on leaves a wake-up.
            yield from self.leader.moment()
            self.machine.batch_available([facts], self.clock.now)

    def _answer(self, wanted: Wanted) -> Step:
        yield from self.leader.moment()
        if wanted.pin_hashes:
            found = self.rows.pins_by_hash(wanted.pin_hashes)
            known = _events(row for row in found if self.feed.may_know(row.sequence))
            yield from self.leader.moment()
            self.machine.pins_found(wanted.pin_hashes, known)
        if wanted.contexts:
            states = [
                ContextState(c, dict(self.rows.next_pins.get((c.topic, c.group), {})))
                for c in wanted.contexts
            ]
            yield from self.leader.moment()
            self.machine.contexts_loaded(states)
        yield from self._hand_over(wanted.batches)

    # Outputs

    def _commit(self, decisions: list[Decision]) -> Step:
        changes, self.view.changes = self.view.changes, []
        through = self.feed.wakeups_settled
        store = partial(_store, decisions, changes, through)
        renew = not self.holes.renews_pins_apart

        def write(rows: Rows) -> bool:
            if not self.holes.decides_what_is_gone:
                _check_there(rows, decisions)
            ended = store(rows)
            if ended and renew:
                renew_pins(rows)
            return ended

        ended = yield from self.leader.write(write)
        decided = [d.batch.id for d in decisions if not isinstance(d, ActionDecision)]
        self.leader.sending.decided(decided)
        if ended:
            yield from self._contract_ended()

    def _contract_ended(self) -> Step:
        """Tells of a contract's end, also when the answer of its commit was lost."""
        active = self.rows.contract
        if active != self._contract:
            yield from self.leader.sending.contract_changed()
            self.leader.chain.wake.set()
            self._contract = active


def _events(rows: Iterable[PinRow]) -> list[PinEvent]:
    """The whole events of pins, in chain order."""
    stored = {row.stored.event.position: row.stored for row in rows}
    return [stored[position].read() for position in sorted(stored)]


def _stored_definitions(stored: Definitions) -> Iterator[Change]:
    for key, owner in stored.owners.items():
        yield Change("owner", key, owner)
    for did, claim in stored.claims.items():
        yield Change("claim", did, claim)
    for did, verifications in stored.verifications.items():
        for claim_hash, position in verifications.items():
            yield Change("verification", did, (claim_hash, position))
    for name, position in stored.datatypes.items():
        yield Change("datatype", name, position)


def _check_there(rows: Rows, decisions: list[Decision]) -> None:
    """Nothing of a commit may be about what was taken back meanwhile."""
    for decision in decisions:
        if isinstance(decision, ActionDecision):
            there = decision.action.position in rows.actions
        else:
            there = decision.position._replace(pin=0) in rows.pins
        if not there:
            raise TakenBackError


def _store(decisions: list[Decision], changes: list[Change], through: int, rows: Rows) -> bool:
    """Writes decisions and what follows from them; tells whether a contract ended."""
    ended = False
    for change in changes:
        rows.definitions.apply(change)
    for decision in decisions:
        match decision:
            case MessageDecision():
                _store_message(rows, decision)
            case BatchVoided():
                stored = rows.pins.get(decision.position)
                if stored is not None:
                    rows.mark_dispatched(stored, range(len(stored.event.contexts)))
            case ActionDecision():
                ended = _store_action(rows, decision.action, decision.applied) or ended
    rows.delete_wakeups(through)
    return ended


def _store_message(rows: Rows, decision: MessageDecision) -> None:
    stored = rows.pins.get(decision.position._replace(pin=0))
    if stored is not None:
        assert not stored.dispatched & set(decision.pins), "decided twice"
        rows.mark_dispatched(stored, decision.pins)
    for update in decision.next_pins:
        chains = rows.next_pins.setdefault((update.topic, update.group), {})
        chains[update.author] = ChainState(update.nonce, update.last_key)
    if decision.outcome is Outcome.VOID:
        return
    message = decision.message.payload
    assert isinstance(message, SimMessage)
    rows.decided[message.hash] = (message.id, decision.outcome)
    rows.log.append((message, decision.outcome))


def _store_action(rows: Rows, action: NetworkAction, applied: bool) -> bool:
    if rows.actions.pop(action.position, None) is None or not applied:
        return False
    final: Position = action.position
    rows.final_events[final.contract] = final
    rows.contract = final.contract + 1
    return True
