"""Goal: the window never lets more out than agreed, numbers without gaps, and resends in order.

Method: a table of small cases, and a Hypothesis machine that plays a core which acks and nacks at will.
"""

from collections.abc import Callable

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from photinus.connector.v1 import event_pb2 as events
from photinus_sdk import Rejected
from photinus_sdk.window import SentBatch, Window


def sent(seq: int, updates_through: int = 0) -> SentBatch:
    made = batch(seq)
    return SentBatch(made, made.ByteSize(), updates_through)


def batch(seq: int, size: int = 100) -> events.Batch:
    return events.Batch(seq=seq, events=[events.Event(id="x" * size)])


def test_has_room_until_either_limit_is_reached() -> None:
    window = Window(batches_max=2, bytes_max=1000)
    window.add(sent(1))
    assert window.has_room(100)
    assert not window.has_room(1000)
    window.add(sent(2))
    assert not window.has_room(0)
    window.ack(1)
    assert window.has_room(100)


def test_ack_is_cumulative_and_repeats_change_nothing() -> None:
    window = Window(batches_max=5, bytes_max=10_000)
    for seq in (1, 2, 3):
        window.add(sent(seq, seq * 10))
    assert [each.updates_through for each in window.unacked(2)] == [10, 20]
    window.ack(2)
    window.ack(1)
    assert window.acked_seq == 2
    assert not window.empty
    window.ack(3)
    assert window.empty


@pytest.mark.parametrize("answer", [Window.ack, Window.nack, Window.check_sent])
def test_answers_to_what_was_never_sent_are_refused(
    answer: Callable[[Window, int], None],
) -> None:
    window = Window(batches_max=5, bytes_max=10_000)
    window.add(sent(1))
    with pytest.raises(Rejected, match="only 1 were sent"):
        answer(window, 2)


def test_nack_sends_again_from_there_before_anything_new() -> None:
    window = Window(batches_max=5, bytes_max=10_000)
    for seq in (1, 2, 3):
        window.add(sent(seq))
    window.nack(2)
    assert not window.has_room(0)
    assert window.next_again() == batch(2)
    window.ack(3)
    assert window.next_again() is None
    assert window.has_room(0)


class CoreAgainstWindow(RuleBasedStateMachine):
    """A core that holds what it was sent, and checks the rules from its side."""

    def __init__(self) -> None:
        super().__init__()
        self.window = Window(batches_max=4, bytes_max=1000)
        self.held: dict[int, events.Batch] = {}
        self.seen = 0

    @rule(size=st.integers(1, 600))
    def send_new(self, size: int) -> None:
        new = batch(self.window.last_seq + 1, size)
        if self.window.has_room(new.ByteSize()):
            self.window.add(SentBatch(new, new.ByteSize()))
            assert new.seq == self.seen + 1
            self.seen = new.seq
            self.held[new.seq] = new

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def ack(self, data: st.DataObject) -> None:
        through = data.draw(st.sampled_from(sorted(self.held)))
        self.window.ack(through)
        self.held = {seq: kept for seq, kept in self.held.items() if seq > through}

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def nack_and_receive_again(self, data: st.DataObject) -> None:
        first = data.draw(st.sampled_from(sorted(self.held)))
        self.window.nack(first)
        again = []
        while (resent := self.window.next_again()) is not None:
            again.append(resent)
        assert again == [self.held[seq] for seq in sorted(self.held) if seq >= first]

    @invariant()
    def never_more_than_agreed(self) -> None:
        assert len(self.held) <= 4
        assert sum(kept.ByteSize() for kept in self.held.values()) <= 1000
        assert self.window.empty == (not self.held)


TestCoreAgainstWindow = CoreAgainstWindow.TestCase
