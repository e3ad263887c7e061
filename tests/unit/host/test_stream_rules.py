"""Goal: a connector that breaks a rule of the event stream is caught at the frame that breaks it.

Method: one case per rule, and a Hypothesis machine in which an honest connector is never accused.
"""

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule
from photinus.connector.v1 import event_pb2 as events
from photinus_core.host.stream_rules import BrokenRuleError, StreamRules
from photinus_sdk.window import SentBatch, Window


def made(*, is_open: bool = True) -> StreamRules:
    rules = StreamRules(window_batches=3, window_bytes=1000, batch_size=10, listeners={"a"})
    if is_open:
        rules.opened(3, 1000, 10)
    return rules


def test_opened_comes_first_and_once() -> None:
    with pytest.raises(BrokenRuleError, match="EVT-001: batch before Opened"):
        made(is_open=False).batch(1, 10, 1)
    with pytest.raises(BrokenRuleError, match="EVT-001: progress before Opened"):
        made(is_open=False).other("progress")
    with pytest.raises(BrokenRuleError, match="EVT-001: a second"):
        made().opened(3, 1000, 10)


@pytest.mark.parametrize("limits", [(4, 1000, 10), (3, 1001, 10), (3, 1000, 11), (0, 1000, 10)])
def test_opened_cannot_widen_what_was_asked(limits: tuple[int, int, int]) -> None:
    with pytest.raises(BrokenRuleError, match="EVT-005"):
        made(is_open=False).opened(*limits)


@pytest.mark.parametrize("seq", [0, 2, 5, 1 << 60])
def test_numbers_begin_with_one_and_have_no_gaps(seq: int) -> None:
    with pytest.raises(BrokenRuleError, match="EVT-002"):
        made().batch(seq, 10, 1)


def test_a_number_does_not_come_twice() -> None:
    rules = made()
    assert rules.batch(1, 10, 1)
    with pytest.raises(BrokenRuleError, match="EVT-002: batch 1 after batch 1"):
        rules.batch(1, 10, 1)


def test_the_window_holds_in_batches_and_in_bytes() -> None:
    rules = made()
    for seq in (1, 2, 3):
        rules.batch(seq, 10, 1)
    with pytest.raises(BrokenRuleError, match="EVT-005: 4 batches"):
        rules.batch(4, 10, 1)
    rules = made()
    rules.batch(1, 600, 1)
    with pytest.raises(BrokenRuleError, match="EVT-005: 2 batches with 1200 bytes"):
        rules.batch(2, 600, 1)
    rules = made()
    rules.batch(1, 600, 1)
    rules.acked(1)
    assert rules.batch(2, 600, 1)


def test_a_batch_is_no_larger_than_asked() -> None:
    with pytest.raises(BrokenRuleError, match="11 events"):
        made().batch(1, 10, 11)


def test_only_known_listeners_are_named() -> None:
    rules = made()
    rules.named("a")
    rules.named("")
    with pytest.raises(BrokenRuleError, match="no listener 'b'"):
        rules.named("b")
    with pytest.raises(BrokenRuleError, match="says nothing"):
        rules.other(None)


def test_after_a_nack_what_was_under_way_is_skipped_until_the_batch_comes_again() -> None:
    rules = made()
    rules.batch(1, 10, 1)
    rules.batch(2, 10, 1)
    rules.nacked(1)
    assert not rules.batch(3, 10, 1)
    assert [rules.batch(seq, 10, 1) for seq in (1, 2, 3)] == [True, True, True]
    with pytest.raises(BrokenRuleError, match="EVT-002"):
        rules.batch(2, 10, 1)


def test_a_nack_does_not_excuse_a_gap() -> None:
    rules = made()
    rules.batch(1, 10, 1)
    rules.nacked(1)
    with pytest.raises(BrokenRuleError, match="EVT-002"):
        rules.batch(3, 10, 1)


class HonestConnector(RuleBasedStateMachine):
    """The kit's window on one side, the rules on the other, with frames under way in between."""

    def __init__(self) -> None:
        super().__init__()
        self.checks = StreamRules(4, 1000, 10, {"a"})
        self.checks.opened(4, 1000, 10)
        self.window = Window(4, 1000)
        self.wire: list[events.Batch] = []
        self.stored = 0
        self.taken: list[int] = []

    @rule(size=st.integers(1, 400))
    def send(self, size: int) -> None:
        again = self.window.next_again()
        if again is not None:
            self.wire.append(again)
            return
        batch = events.Batch(seq=self.window.last_seq + 1, events=[events.Event(id="x" * size)])
        if self.window.has_room(batch.ByteSize()):
            self.window.add(SentBatch(batch, batch.ByteSize()))
            self.wire.append(batch)

    @precondition(lambda self: self.wire)
    @rule()
    def receive(self) -> None:
        batch = self.wire.pop(0)
        if self.checks.batch(batch.seq, batch.ByteSize(), len(batch.events)):
            self.taken.append(batch.seq)

    @precondition(lambda self: self.taken)
    @rule()
    def store(self) -> None:
        seq = self.taken.pop(0)
        assert seq == self.stored + 1
        self.stored = seq
        self.checks.acked(seq)
        self.window.ack(seq)

    @precondition(lambda self: self.taken)
    @rule()
    def fail_to_store(self) -> None:
        seq = self.taken[0]
        self.taken.clear()
        self.checks.nacked(seq)
        self.window.nack(seq)


TestHonestConnector = HonestConnector.TestCase
