"""Goal: batches are cut without timers, hold what they may, and their pins leave in seal order.

Method: directed cases, and a state machine that plays the driver with random outcomes and checks
after each step that limits and order hold and at the end that every message went out once.
"""

from __future__ import annotations

from dataclasses import replace

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from photinus_core.sequencing.batching import (
    BATCH_BYTES_MAX,
    BATCH_MESSAGES_MAX,
    COLLECT_MAX_NS,
    CONTRACT_INVOKE_PIN,
    IN_FLIGHT_MAX,
    RETRY_FIRST_NS,
    RETRY_LAST_NS,
    UNPINNED,
    Action,
    AwaitChain,
    Batching,
    Finish,
    Prepare,
    ProcessorKey,
    Ready,
    Seal,
    SendPin,
    Stage,
    estimated_bytes,
)

ALICE = ProcessorKey("broadcast", "alice")
BOB = ProcessorKey("broadcast", "bob")


def ready(
    sequence: int,
    processor: ProcessorKey = ALICE,
    *,
    txtype: str = "batch_pin",
    key: str = "k",
    size: int = 1024,
) -> Ready:
    return Ready(sequence, f"{processor.author}{sequence}", processor, txtype, key, size)


def seals(actions: list[Action]) -> list[tuple[str, ...]]:
    return [action.messages for action in actions if isinstance(action, Seal)]


def seal_all(batching: Batching, name: str) -> list[Action]:
    """Seals what is to be sealed; returns the actions that follow."""
    for action in batching.poll(0):
        assert isinstance(action, Seal)
        batching.sealed(action, name)
    return batching.poll(0)


def test_a_page_read_before_a_seal_does_not_bring_its_messages_back() -> None:
    """Found by the robustness tests: messages were sealed into a second batch."""
    batching = Batching()
    batching.reading()
    batching.ready([ready(1)])
    (seal,) = batching.poll(0)
    assert isinstance(seal, Seal)
    batching.reading()
    page = [ready(1), ready(2)]
    batching.sealed(seal, "b1")
    batching.ready(page)
    batching.prepared("b1")
    batching.poll(0)
    batching.journaled("b1", 0)
    batching.decided(["b1"], 0)
    assert seals(batching.poll(0)) == [("alice2",)]


def test_an_idle_pipe_cuts_at_once() -> None:
    batching = Batching()
    batching.ready([ready(1)])
    (seal,) = batching.poll(0)
    assert seal == Seal(ALICE, ("alice1",))
    assert batching.poll(0) == []
    assert isinstance(seal, Seal)
    batching.sealed(seal, "b1")
    assert batching.poll(0) == [Prepare("b1")]
    batching.prepared("b1")
    assert batching.poll(0) == [SendPin("b1")]
    batching.journaled("b1", 0)
    assert batching.poll(0) == [Finish("b1")]
    batching.finished("b1")
    assert batching.poll(0) == []
    assert batching.status() == {}
    assert batching.next_due() is None


def test_a_busy_pipe_collects() -> None:
    batching = Batching()
    batching.ready([ready(1)])
    assert seal_all(batching, "b1") == [Prepare("b1")]
    batching.ready([ready(3), ready(2)])
    assert batching.poll(0) == []
    batching.prepared("b1")
    assert seals(batching.poll(0)) == []
    batching.journaled("b1", 0)
    assert batching.poll(0) == [Finish("b1")]
    batching.finished("b1")
    batching.ready([ready(4)])
    assert batching.poll(0) == []
    assert batching.next_due() == COLLECT_MAX_NS
    batching.decided(["b0", "b1"], 0)
    assert seals(batching.poll(0)) == [("alice2", "alice3", "alice4")]
    assert batching.next_due() is None


def test_senders_who_come_back_together_go_together() -> None:
    """The first of fifty that came back went alone, and the others waited for it."""
    batching = Batching(collect_max_ns=1_000)
    batching.ready(ready(n) for n in range(4))
    seal_all(batching, "b1")
    batching.prepared("b1")
    batching.poll(0)
    batching.journaled("b1", 0)
    batching.poll(0)
    batching.finished("b1")
    batching.ready([ready(4)])
    batching.decided(["b1"], 500)
    batching.ready([ready(5)])
    assert batching.poll(600) == []
    assert batching.next_due() == 1_500
    batching.ready([ready(6)])
    assert seals(batching.poll(700)) == [("alice4", "alice5", "alice6")]


def test_fewer_who_come_back_wait_for_so_long_only() -> None:
    batching = Batching(collect_max_ns=1_000)
    batching.ready([ready(0), ready(1), ready(2)])
    seal_all(batching, "b1")
    batching.prepared("b1")
    batching.poll(0)
    batching.decided(["b1"], 400)
    batching.journaled("b1", 500)
    batching.ready([ready(3)])
    assert seals(batching.poll(1_499)) == []
    assert batching.next_due() == 1_500
    assert seals(batching.poll(1_500)) == [("alice3",)]


def test_a_slow_ledger_holds_messages_up_for_so_long_only() -> None:
    batching = Batching(collect_max_ns=1_000)
    batching.ready([ready(1)])
    seal_all(batching, "b1")
    batching.prepared("b1")
    batching.poll(0)
    batching.journaled("b1", 500)
    batching.ready([ready(2)])
    assert seals(batching.poll(1_499)) == []
    assert batching.next_due() == 1_500
    assert seals(batching.poll(1_500)) == [("alice2",)]


def test_a_decision_may_come_before_the_connector_answers() -> None:
    batching = Batching()
    batching.ready([ready(1)])
    seal_all(batching, "b1")
    batching.prepared("b1")
    assert batching.poll(0) == [SendPin("b1")]
    batching.decided(["b1"], 0)
    batching.ready([ready(2)])
    assert batching.poll(0) == []
    batching.journaled("b1", 0)
    assert seals(batching.poll(0)) == [("alice2",)]


def test_what_is_full_or_not_pinned_does_not_collect() -> None:
    batching = Batching(messages_max=2)
    batching.ready([ready(1)])
    seal_all(batching, "b1")
    batching.prepared("b1")
    batching.poll(0)
    batching.journaled("b1", 0)
    batching.ready([ready(2), ready(3), ready(4)])
    assert seals(batching.poll(0)) == [("alice2", "alice3")]
    unpinned = Batching()
    unpinned.ready([ready(1, txtype=UNPINNED)])
    seal_all(unpinned, "u1")
    unpinned.prepared("u1")
    assert unpinned.poll(0) == [SendPin("u1")]
    unpinned.journaled("u1", 0)
    unpinned.ready([ready(2, txtype=UNPINNED)])
    assert seals(unpinned.poll(0)) == [("alice2",)]


def test_a_moment_that_has_come_is_not_waited_for_again() -> None:
    batching = Batching()
    batching.ready([ready(1)])
    seal_all(batching, "b1")
    batching.prepared("b1")
    batching.poll(0)
    batching.journaled("b1", 0)
    batching.poll(0)
    batching.failed("b1", "recording failed", 0)
    batching.decided(["b1"], 0)
    batching.ready([ready(2)])
    (cut,) = batching.poll(0)
    assert isinstance(cut, Seal)
    batching.seal_failed(cut, "database", 0)
    finish, cut = batching.poll(RETRY_FIRST_NS)
    assert (finish, cut) == (Finish("b1"), Seal(ALICE, ("alice2",)))
    batching.failed("b1", "recording failed", RETRY_FIRST_NS)
    batching.ready([ready(3)])
    assert batching.poll(RETRY_FIRST_NS) == []
    assert batching.next_due() == 3 * RETRY_FIRST_NS


def test_messages_are_known_until_sealed() -> None:
    batching = Batching()
    batching.ready([ready(1)])
    (seal,) = batching.poll(0)
    batching.ready([ready(1)])
    assert isinstance(seal, Seal)
    batching.seal_failed(seal, "database", 0)
    batching.ready([ready(1)])
    assert batching.poll(RETRY_FIRST_NS - 1) == []
    assert batching.next_due() == RETRY_FIRST_NS
    assert seals(batching.poll(RETRY_FIRST_NS)) == [("alice1",)]


def test_a_seal_whose_outcome_is_unknown_is_tried_with_the_same_messages() -> None:
    """Found by the simulator: the first try had been committed, and a longer one sealed it again."""
    batching = Batching()
    batching.ready([ready(1)])
    (seal,) = batching.poll(0)
    assert isinstance(seal, Seal)
    batching.ready([ready(2)])
    assert batching.poll(0) == [], "one seal at a time"
    batching.seal_failed(seal, "connection lost", 0)
    assert batching.next_due() == RETRY_FIRST_NS
    assert batching.poll(RETRY_FIRST_NS) == [seal]
    batching.sealed(seal, "b1")
    batching.poll(RETRY_FIRST_NS)
    batching.prepared("b1")
    batching.poll(RETRY_FIRST_NS)
    batching.journaled("b1", RETRY_FIRST_NS)
    batching.decided(["b1"], 0)
    assert seals(batching.poll(RETRY_FIRST_NS)) == [("alice2",)]


def test_a_full_batch_is_cut_while_the_pipe_is_busy() -> None:
    batching = Batching()
    batching.ready([ready(0)])
    seal_all(batching, "b0")
    batching.ready(ready(n) for n in range(1, BATCH_MESSAGES_MAX + 5))
    (cut,) = seals(batching.poll(0))
    assert len(cut) == BATCH_MESSAGES_MAX
    assert cut[0] == "alice1"


def test_only_so_many_batches_are_under_way() -> None:
    batching = Batching(messages_max=1)
    batching.ready(ready(n) for n in range(10))
    for n in range(IN_FLIGHT_MAX):
        (cut,) = [a for a in batching.poll(0) if isinstance(a, Seal)]
        batching.sealed(cut, f"b{n}")
    assert seals(batching.poll(0)) == []
    assert [s.id for s in batching.status()[ALICE]] == [f"b{n}" for n in range(IN_FLIGHT_MAX)]


def test_bytes_are_estimated_as_fireflys() -> None:
    assert estimated_bytes([]) == 1024
    assert estimated_bytes([10, 20]) == 1024 + 256 + 10 + 256 + 20
    batching = Batching()
    half = BATCH_BYTES_MAX // 2
    batching.ready([ready(1, size=half), ready(2, size=half - 512), ready(3, size=1)])
    assert seals(batching.poll(0)) == [("alice1", "alice2")]
    big = Batching()
    big.ready([ready(1, size=100), ready(2, size=BATCH_BYTES_MAX)])
    assert seals(big.poll(0)) == [("alice1",)]
    alone = Batching()
    alone.ready([ready(1, size=2 * BATCH_BYTES_MAX), ready(2)])
    assert seals(alone.poll(0)) == [("alice1",)]


def test_another_type_or_key_starts_the_next_batch() -> None:
    batching = Batching()
    batching.ready(
        [ready(1), ready(2, key="other"), ready(3, key="other"), ready(4, txtype="unpinned")]
    )
    assert seals(batching.poll(0)) == [("alice1",)]


def test_a_contract_invoke_goes_alone() -> None:
    batching = Batching()
    batching.ready([ready(1, txtype=CONTRACT_INVOKE_PIN), ready(2, txtype=CONTRACT_INVOKE_PIN)])
    (first,) = batching.poll(0)
    assert isinstance(first, Seal)
    assert first.messages == ("alice1",)
    batching.sealed(first, "b1")
    assert seals(batching.poll(0)) == [("alice2",)], "full by nature"


def test_processors_do_not_wait_for_each_other() -> None:
    batching = Batching()
    batching.ready([ready(1)])
    (action,) = seal_all(batching, "b1")
    batching.failed("b1", "no storage", 0)
    batching.ready([ready(2, BOB)])
    assert seals(batching.poll(0)) == [("bob2",)]
    assert isinstance(action, Prepare)


def test_pins_go_in_seal_order_though_uploads_overlap() -> None:
    batching = Batching(messages_max=1)
    batching.ready([ready(1), ready(2)])
    for name in ("b1", "b2"):
        (cut,) = [a for a in batching.poll(0) if isinstance(a, Seal)]
        batching.sealed(cut, name)
    assert batching.poll(0) == [Prepare("b2")]
    batching.prepared("b2")
    assert batching.poll(0) == []
    batching.prepared("b1")
    assert batching.poll(0) == [SendPin("b1")]
    batching.failed("b1", "insufficient funds", 0)
    assert batching.poll(0) == [], "later pins wait for one that was not sent"
    assert batching.poll(RETRY_FIRST_NS) == [SendPin("b1")]
    batching.journaled("b1", 0)
    assert batching.poll(RETRY_FIRST_NS) == [Finish("b1"), SendPin("b2")]


def test_a_pin_by_another_key_waits_for_the_chain() -> None:
    """The chain keeps the order of one key's transactions only (hard case 8)."""
    batching = Batching(messages_max=2)
    batching.ready([ready(1), ready(2, key="other"), ready(3, key="other")])
    for name in ("b1", "b2"):
        (cut,) = [a for a in batching.poll(0) if isinstance(a, Seal)]
        batching.sealed(cut, name)
    assert batching.poll(0) == [Prepare("b2")]
    batching.prepared("b2")
    batching.prepared("b1")
    assert batching.poll(0) == [SendPin("b1")]
    batching.journaled("b1", 0)
    assert batching.poll(0) == [Finish("b1"), AwaitChain("b2")]
    batching.finished("b1")
    batching.failed("b2", "b1 is not on chain yet", 0)
    assert batching.poll(0) == []
    assert batching.poll(RETRY_FIRST_NS) == [AwaitChain("b2")]
    batching.on_chain("b2")
    assert batching.poll(RETRY_FIRST_NS) == [SendPin("b2")]
    batching.journaled("b2", 0)
    batching.poll(RETRY_FIRST_NS)
    batching.finished("b2")
    batching.decided(["b2"], 0)
    batching.ready([ready(4, key="other")])
    seal_all(batching, "b3")
    batching.prepared("b3")
    assert batching.poll(RETRY_FIRST_NS) == [SendPin("b3")]


def test_a_key_change_over_a_restart_waits_too() -> None:
    batching = Batching()
    batching.pinned_before(ALICE, "old")
    batching.resume(ALICE, "b1", "batch_pin", key="new", prepared=True)
    assert batching.poll(0) == [AwaitChain("b1")]
    same = Batching()
    same.pinned_before(ALICE, "k")
    same.resume(ALICE, "b1", "batch_pin", key="k", prepared=True)
    assert same.poll(0) == [SendPin("b1")]
    unpinned = Batching()
    unpinned.pinned_before(ALICE, "k")
    unpinned.resume(ALICE, "b1", UNPINNED, key="l", prepared=True)
    assert unpinned.poll(0) == [SendPin("b1")]


def test_delays_grow_to_a_limit_and_start_again_with_each_stage() -> None:
    batching = Batching()
    batching.ready([ready(1)])
    seal_all(batching, "b1")
    now, delays = 0, []
    for _ in range(40):
        batching.failed("b1", "away", now)
        due = batching.next_due()
        assert due is not None
        delays.append(due - now)
        assert batching.poll(due - 1) == []
        assert batching.poll(due) == [Prepare("b1")]
        now = due
    assert delays[:3] == [RETRY_FIRST_NS, 2 * RETRY_FIRST_NS, 4 * RETRY_FIRST_NS]
    assert delays[-1] == max(delays) == RETRY_LAST_NS
    (status,) = batching.status()[ALICE]
    assert (status.error, status.attempts, status.stage) == ("away", 40, Stage.SEALED)
    batching.prepared("b1")
    assert batching.poll(now) == [SendPin("b1")]
    assert batching.status()[ALICE][0].error == ""


def test_sealed_batches_are_resumed_in_order() -> None:
    batching = Batching()
    batching.resume(ALICE, "b1", "batch_pin")
    batching.resume(ALICE, "b2", "batch_pin", prepared=True)
    batching.ready([ready(5)])
    assert batching.poll(0) == [Prepare("b1")]
    batching.prepared("b1")
    assert batching.poll(0) == [SendPin("b1")]
    batching.journaled("b1", 0)
    assert batching.poll(0) == [Finish("b1"), SendPin("b2")]


def test_a_pin_that_went_out_in_vain_goes_before_those_that_wait_for_it() -> None:
    """Found by the simulator: a pin by another key waited for it to be on chain, and it for that."""
    batching = Batching(messages_max=1)
    batching.pinned_before(ALICE, "old")
    batching.ready([ready(1), ready(2)])
    seal_all(batching, "b1")
    batching.prepared("b1")
    assert batching.poll(0) == [AwaitChain("b1")]
    batching.failed("b1", "b0 is not on chain", 0)
    for name in ("a0", "b0"):
        batching.resume(ALICE, name, "batch_pin", key="old", prepared=True, again=True)
    assert [status.id for status in batching.status()[ALICE]] == ["a0", "b0", "b1"]
    assert batching.poll(0) == [SendPin("a0")]
    assert batching.poll(RETRY_FIRST_NS) == []
    assert batching.next_due() is None, "b1 waits for them now, not for time"
    batching.journaled("a0", 0)
    assert batching.poll(0) == [Finish("a0"), SendPin("b0")]


class BatchingMachine(RuleBasedStateMachine):
    """The driver, with every outcome left to chance."""

    def __init__(self) -> None:
        super().__init__()
        self.batching = Batching(messages_max=3, bytes_max=10_000)
        self.now = 0
        self.sequence = 0
        self.given: dict[str, Ready] = {}
        self.out: list[Action] = []
        self.sealed: list[tuple[ProcessorKey, str, tuple[str, ...]]] = []
        self.journaled: list[str] = []
        self.finished: set[str] = set()
        self.cancelled: set[str] = set()

    @rule(
        processor=st.sampled_from([ALICE, BOB]),
        kind=st.sampled_from(["batch_pin", "batch_pin", CONTRACT_INVOKE_PIN]),
        key=st.sampled_from(["k", "k", "l"]),
        size=st.integers(1024, 6000),
    )
    def message_arrives(self, processor: ProcessorKey, kind: str, key: str, size: int) -> None:
        self.sequence += 1
        message = ready(self.sequence, processor, txtype=kind, key=key, size=size)
        self.given[message.id] = message
        self.batching.ready([message, replace(message)])

    @rule()
    def poll(self) -> None:
        self.out += self.batching.poll(self.now)

    @rule()
    def time_passes(self) -> None:
        due = self.batching.next_due()
        if due is not None:
            self.now = max(self.now, due)

    @precondition(lambda self: self.journaled)
    @rule(data=st.data())
    def agreement_decides(self, data: st.DataObject) -> None:
        self.batching.decided([data.draw(st.sampled_from(self.journaled))], self.now)

    @precondition(lambda self: self.out)
    @rule(data=st.data(), good=st.booleans())
    def outcome(self, data: st.DataObject, good: bool) -> None:
        action = self.out.pop(data.draw(st.integers(0, len(self.out) - 1)))
        match action:
            case Seal(processor, messages) if good:
                name = f"b{len(self.sealed)}"
                self.sealed.append((processor, name, messages))
                self.batching.sealed(action, name)
            case Seal():
                self.batching.seal_failed(action, "no", self.now)
            case _ if not good:
                self.batching.failed(action.batch, "no", self.now)
            case Prepare(batch):
                self.batching.prepared(batch)
            case AwaitChain(batch):
                self.batching.on_chain(batch)
            case SendPin(batch):
                self.journaled.append(batch)
                self.batching.journaled(batch, self.now)
            case Finish(batch):
                self.finished.add(batch)
                self.batching.finished(batch)

    @precondition(lambda self: self.sealed)
    @rule(data=st.data(), through=st.booleans())
    def cancel(self, data: st.DataObject, through: bool) -> None:
        _, name, _ = data.draw(st.sampled_from(self.sealed))
        if self.batching.hold(name):
            return
        if through and not self.batching.may_cancel(name):
            self.batching.cancelled(name)
            self.cancelled.add(name)
        else:
            self.batching.release(name)

    @invariant()
    def batches_keep_their_limits(self) -> None:
        for _, _, messages in self.sealed:
            content = [self.given[m] for m in messages]
            assert 1 <= len(content) <= 3
            assert len({(m.txtype, m.key, m.processor) for m in content}) == 1
            assert len(content) == 1 or 512 + sum(m.size for m in content) <= 10_000
            assert len(content) == 1 or content[0].txtype != CONTRACT_INVOKE_PIN
            assert [m.sequence for m in content] == sorted(m.sequence for m in content)

    @invariant()
    def pins_leave_in_seal_order(self) -> None:
        for processor in (ALICE, BOB):
            names = [n for p, n, _ in self.sealed if p == processor and n not in self.cancelled]
            sent = [name for name in self.journaled if name in names]
            assert sent == names[: len(sent)]

    @invariant()
    def the_pipe_is_bounded(self) -> None:
        for statuses in self.batching.status().values():
            assert len(statuses) <= IN_FLIGHT_MAX

    @invariant()
    def nothing_is_sealed_twice(self) -> None:
        messages = [m for _, _, content in self.sealed for m in content]
        assert len(set(messages)) == len(messages)

    def teardown(self) -> None:
        for _ in range(20 * len(self.given) + 20):
            self.poll()
            while self.out:
                action = self.out.pop()
                match action:
                    case Seal(processor, messages):
                        name = f"b{len(self.sealed)}"
                        self.sealed.append((processor, name, messages))
                        self.batching.sealed(action, name)
                    case Prepare(batch):
                        self.batching.prepared(batch)
                    case AwaitChain(batch):
                        self.batching.on_chain(batch)
                    case SendPin(batch):
                        self.journaled.append(batch)
                        self.batching.journaled(batch, self.now)
                    case Finish(batch):
                        self.finished.add(batch)
                        self.batching.finished(batch)
            self.time_passes()
        assert {m for _, _, content in self.sealed for m in content} == set(self.given)
        assert self.finished | self.cancelled == {name for _, name, _ in self.sealed}
        assert not self.cancelled.intersection(self.journaled)
        assert self.batching.status() == {}


TestBatchingMachine = BatchingMachine.TestCase
TestBatchingMachine.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
