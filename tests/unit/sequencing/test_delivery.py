"""Goal: each matching event is delivered in order and at least once, and the stored offset never
passes one not acked.

Method: directed cases (window, acks out of order, nacks, batches), and a state machine that
plays log, client and restarts.
"""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from photinus_core.sequencing.delivery import (
    BATCH_EVENTS,
    BATCH_EVENTS_MAX,
    BATCH_TIMEOUT_NS,
    NACK_FIRST_NS,
    NACK_LAST_NS,
    READ_EVENTS,
    READ_EVENTS_MAX,
    Delivery,
    Send,
)


def read(
    delivery: Delivery[str], *sequences: int, through: int | None = None, now: int = 0
) -> None:
    delivery.read([(s, f"e{s}") for s in sequences], through or sequences[-1], now)


def sent(sends: list[Send[str]]) -> list[int]:
    return [sequence for send in sends for sequence, _ in send.events]


def test_one_at_a_time_without_read_ahead() -> None:
    delivery: Delivery[str] = Delivery(0)
    read(delivery, 1, 2)
    assert delivery.next(0) == [Send(1, ((1, "e1"),))]
    assert delivery.next(0) == []
    assert delivery.ack(1)
    assert delivery.offset == 1
    assert sent(delivery.next(0)) == [2]


def test_acks_out_of_order_move_the_offset_to_the_lowest() -> None:
    delivery: Delivery[str] = Delivery(0, read_ahead=2)
    read(delivery, 1, 2, 3, 4)
    assert sent(delivery.next(0)) == [1, 2, 3]
    assert not delivery.ack(2)
    assert not delivery.ack(3)
    assert delivery.offset == 0
    assert sent(delivery.next(0)) == [4]
    assert delivery.in_flight == 2
    assert delivery.ack(1)
    assert delivery.offset == 3


def test_events_that_do_not_match_move_the_offset() -> None:
    delivery: Delivery[str] = Delivery(0)
    delivery.read([], 50, 0)
    assert (delivery.offset, delivery.read_position) == (50, 50)
    read(delivery, 60, through=70)
    assert delivery.offset == 59
    delivery.next(0)
    delivery.ack(60)
    assert delivery.offset == 70


def test_a_nack_sends_again_in_order_after_a_delay() -> None:
    delivery: Delivery[str] = Delivery(0, read_ahead=3)
    read(delivery, 1, 2, 3, 4, 5)
    delivery.next(0)
    delivery.ack(3)
    delivery.nack(2, 0)
    assert not delivery.ack(4), "taken back: will be sent again"
    assert delivery.next(0) == []
    assert delivery.next_due() == NACK_FIRST_NS
    assert delivery.in_flight == 1
    assert sent(delivery.next(NACK_FIRST_NS)) == [2, 4, 5]
    assert delivery.ack(1)
    assert delivery.offset == 1
    for number in (5, 4, 2):
        delivery.ack(number)
    assert delivery.offset == 5


def test_nacks_in_a_row_wait_longer_up_to_a_limit() -> None:
    delivery: Delivery[str] = Delivery(0)
    read(delivery, 1)
    now, delays = 0, []
    for _ in range(30):
        assert sent(delivery.next(now)) == [1]
        delivery.nack(1, now)
        due = delivery.next_due()
        assert due is not None
        delays.append(due - now)
        now = due
    assert delays[:2] == [NACK_FIRST_NS, 2 * NACK_FIRST_NS]
    assert delays[-1] == NACK_LAST_NS


def test_unknown_numbers_are_ignored() -> None:
    delivery: Delivery[str] = Delivery(5)
    assert not delivery.ack(3)
    delivery.nack(3, 0)
    assert delivery.offset == 5
    assert delivery.next_due() is None


def test_batches_fill_or_time_out() -> None:
    delivery: Delivery[str] = Delivery(0, read_ahead=3, batch=True)
    read(delivery, 1, 2, now=7)
    assert delivery.next(7) == []
    assert delivery.next_due() == 7 + BATCH_TIMEOUT_NS
    read(delivery, 3, 4)
    (batch,) = delivery.next(8)
    assert (batch.number, sent([batch])) == (1, [1, 2, 3])
    assert delivery.next(8 + BATCH_TIMEOUT_NS) == [], "one batch at a time"
    assert delivery.ack(1)
    assert delivery.offset == 3
    assert sent(delivery.next(8 + BATCH_TIMEOUT_NS)) == [4]


def test_a_nacked_batch_comes_again() -> None:
    delivery: Delivery[str] = Delivery(0, read_ahead=2, batch=True)
    read(delivery, 1, 2, 3)
    (batch,) = delivery.next(0)
    delivery.nack(batch.number, 0)
    assert sent(delivery.next(NACK_FIRST_NS)) == [1, 2]


def test_reading_is_bounded() -> None:
    delivery: Delivery[str] = Delivery(0)
    assert delivery.room() == READ_EVENTS
    read(delivery, *range(1, READ_EVENTS + 1))
    assert delivery.room() == 0
    assert Delivery[str](0, batch=True).room() >= 2 * BATCH_EVENTS
    assert Delivery[str](0, read_ahead=65_535).room() == READ_EVENTS_MAX
    assert Delivery[str](0, read_ahead=65_535, batch=True).room() == READ_EVENTS_MAX


def test_batches_are_bounded_whatever_a_subscription_asks_for() -> None:
    delivery: Delivery[str] = Delivery(0, read_ahead=65_535, batch=True, batch_timeout_ns=10)
    read(delivery, *range(1, BATCH_EVENTS_MAX + 3))
    (batch,) = delivery.next(10)
    assert len(batch.events) == BATCH_EVENTS_MAX


def test_a_batch_that_is_too_large_is_cut() -> None:
    delivery: Delivery[str] = Delivery(0, read_ahead=3, batch=True)
    read(delivery, 1, 2, 3, 4)
    (batch,) = delivery.next(0)
    assert sent([delivery.shorten(batch, 2)]) == [1, 2]
    assert delivery.next(0) == [], "one at a time"
    assert delivery.ack(1)
    assert delivery.offset == 2
    (batch,) = delivery.next(BATCH_TIMEOUT_NS)
    assert sent([batch]) == [3, 4]


class DeliveryMachine(RuleBasedStateMachine):
    """A log with holes, a client with moods, and connections that come and go."""

    def __init__(self) -> None:
        super().__init__()
        self.log: list[tuple[int, bool]] = []
        self.now = 0
        self.stored = 0
        self.seen: set[int] = set()
        self.acked: set[int] = set()
        self.out: dict[int, Send[str]] = {}
        self.last_sent = 0

    @initialize(
        read_ahead=st.integers(0, 4),
        batch=st.booleans(),
        matches=st.lists(st.booleans(), max_size=40),
    )
    def begin(self, read_ahead: int, batch: bool, matches: list[bool]) -> None:
        self.read_ahead, self.batch = read_ahead, batch
        self.log = list(enumerate(matches, start=1))
        self.connect()

    @rule()
    def connect(self) -> None:
        """The old connection is gone with what was out."""
        self.delivery: Delivery[str] = Delivery(
            self.stored, read_ahead=self.read_ahead, batch=self.batch
        )
        self.out = {}

    @rule(count=st.integers(1, 10))
    def read(self, count: int) -> None:
        begin = self.delivery.read_position
        page = self.log[begin : begin + count]
        if page and self.delivery.room():
            self.delivery.read([(s, f"e{s}") for s, good in page if good], page[-1][0], self.now)

    @rule()
    def send(self) -> None:
        for send in self.delivery.next(self.now):
            assert send.number not in self.out
            assert all(send.number > number for number in self.out), "in order"
            self.out[send.number] = send
            self.seen.update(sequence for sequence, _ in send.events)

    @rule()
    def time_passes(self) -> None:
        due = self.delivery.next_due()
        if due is not None:
            self.now = max(self.now, due)

    @precondition(lambda self: self.out)
    @rule(data=st.data())
    def ack(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(sorted(self.out)))
        self.acked.update(sequence for sequence, _ in self.out.pop(number).events)
        if self.delivery.ack(number):
            self.stored = self.delivery.offset

    @precondition(lambda self: self.out)
    @rule(data=st.data())
    def nack(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(sorted(self.out)))
        self.delivery.nack(number, self.now)
        self.out = {n: send for n, send in self.out.items() if n < number}

    @invariant()
    def the_offset_passes_nothing_unacked(self) -> None:
        for sequence, good in self.log:
            if good and sequence <= self.stored:
                assert sequence in self.acked

    @invariant()
    def the_window_holds(self) -> None:
        assert len(self.out) <= (1 if self.batch else 1 + self.read_ahead)

    def teardown(self) -> None:
        for _ in range(10 * len(self.log) + 10):
            self.read(10)
            self.send()
            for number in sorted(self.out):
                self.acked.update(sequence for sequence, _ in self.out.pop(number).events)
                self.delivery.ack(number)
            self.time_passes()
        assert self.acked == {sequence for sequence, good in self.log if good}
        assert self.delivery.offset == len(self.log)


TestDeliveryMachine = DeliveryMachine.TestCase
TestDeliveryMachine.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
