"""Goal: agreement is told of pins and actions in chain order, whatever comes upon them before.

Method: what the driver reads is given to a feed page by page; what it lets through is looked at.
The races themselves are the simulator's (tests/simulation).
"""

from __future__ import annotations

from photinus_core.sequencing.facts import BatchKey, NetworkAction, PinEvent, Wanted
from photinus_core.sequencing.feeding import Feed
from photinus_core.sequencing.position import Position


def event(block: int) -> PinEvent:
    return PinEvent(Position(0, block, 0, 0), "key", BatchKey(f"b{block}", "hash"), ("context",))


def action(block: int) -> NetworkAction:
    return NetworkAction(Position(0, block, 0, 0), "key", "terminate")


def test_a_pin_that_arrived_later_is_known_when_its_page_was_read() -> None:
    """3f4ac7e: a rival in between had been asked for before it was there."""
    feed = Feed(pins_at_start=5)
    feed.read_page(None, full=False)
    assert feed.may_know(5)
    assert not feed.may_know(6)
    feed.read_page(8, full=True)
    assert feed.may_know(8)
    assert not feed.may_know(9)


def test_while_a_backlog_is_read_nothing_beyond_its_page_is_known() -> None:
    """Found by the simulator: a private message was judged before a lower pin that defined its
    datatype was fed, since the backlog was longer than a page.
    """
    feed = Feed(pins_at_start=5)
    wanted = Wanted(batches=(BatchKey("b", "hash"),), pin_hashes=("h",))
    feed.read_page(2, full=True)
    assert feed.may_know(2)
    assert not feed.may_know(3)
    assert feed.answerable(wanted) == Wanted(batches=wanted.batches)
    assert not feed.answerable(Wanted(pin_hashes=("h",)))
    feed.read_page(4, full=False)
    assert feed.may_know(5), "the page was the last: what it left out is found by hash"
    assert feed.answerable(wanted) == wanted


def test_a_full_page_that_reaches_the_newest_pin_at_start_ends_the_backlog() -> None:
    feed = Feed(pins_at_start=5)
    feed.read_page(5, full=True)
    assert feed.answerable(Wanted(pin_hashes=("h",)))


def test_actions_come_between_the_pins_around_them() -> None:
    feed = Feed(0)
    actions = [action(2), action(9)]
    arrived = feed.chain([event(1), event(3)], actions, actions, full=True)
    assert arrived == [event(1), action(2), event(3)]
    assert feed.chain([event(10)], [], actions, full=True) == [action(9), event(10)]


def test_an_action_beyond_the_last_pin_counts_if_it_was_there_before_the_page() -> None:
    feed = Feed(0)
    late = action(9)
    assert feed.chain([event(1)], [], [late], full=False) == [event(1)], "a pin may be below it"
    assert feed.chain([], [late], [late], full=True) == []
    assert feed.chain([], [late], [late], full=False) == [late]
    assert feed.chain([], [late], [late], full=False) == [], "it was fed"


def test_wakeups_are_deleted_only_once_all_that_followed_is_committed() -> None:
    feed = Feed(0)
    feed.took([3, 4])
    assert not feed.is_new(4)
    assert feed.is_new(5)
    assert feed.wakeups_settled < 3
    feed.settle()
    assert (feed.wakeups_settled, feed.wakeups_kept) == (4, 2)
    feed.forgot()
    assert feed.wakeups_kept == 0
