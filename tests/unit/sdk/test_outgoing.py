"""Goal: batches hold what sources yielded, in order, with checkpoints that never lie.

Method: put events in, cut batches, read them as the core would.
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from photinus.connector.v1 import event_pb2 as events
from photinus_sdk import Events, Exhausted, Passed
from photinus_sdk.outgoing import EVENT_BYTES_MAX, Outgoing

MIB = 1 << 20


def event(name: str, size: int = 0) -> events.Event:
    return events.Event(id=name, network_action=events.NetworkActionEvent(payload="x" * size))


def cut(out: Outgoing, seq: int) -> events.Batch:
    batch = events.Batch()
    out.cut(seq, batch)
    return batch


def test_yields_of_several_listeners_share_a_batch_in_order() -> None:
    out = Outgoing(batch_size=10, window_bytes=MIB)
    out.put("a", Events([event("a1")], b"1"))
    out.put("b", Events([event("b1")], b"7"))
    out.put("a", Events([event("a2")], b"2"))
    batch = cut(out, 1)
    assert [(e.listener_id, e.id) for e in batch.events] == [("a", "a1"), ("b", "b1"), ("a", "a2")]
    assert dict(batch.checkpoints) == {"a": b"2", "b": b"7"}
    assert not batch.fragment
    assert len(out) == 0


def test_a_set_larger_than_a_batch_is_cut_and_only_its_end_has_the_checkpoint() -> None:
    out = Outgoing(batch_size=2, window_bytes=MIB)
    out.put("a", Events([event("a1"), event("a2"), event("a3")], b"3"))
    first, second = cut(out, 1), cut(out, 2)
    assert first.fragment
    assert not first.checkpoints
    assert not second.fragment
    assert dict(second.checkpoints) == {"a": b"3"}


def test_a_batch_fits_the_window_in_bytes() -> None:
    window_bytes = 100_000
    out = Outgoing(batch_size=1000, window_bytes=window_bytes)
    out.put("a", Events([event(f"{n:05d}", 700) for n in range(500)], b"c" * 50))
    seq = 0
    seen: list[str] = []
    while len(out):
        seq += 1
        batch = cut(out, seq)
        assert batch.ByteSize() <= window_bytes
        seen += [e.id for e in batch.events]
    assert seen == [f"{n:05d}" for n in range(500)]
    assert seq > 3


@pytest.mark.parametrize(
    ("window_bytes", "size"), [(100_000, 100_000), (64 * MIB, EVENT_BYTES_MAX)]
)
def test_an_event_no_window_holds_is_refused_whole(window_bytes: int, size: int) -> None:
    out = Outgoing(batch_size=10, window_bytes=window_bytes)
    with pytest.raises(Exhausted, match="the core takes"):
        out.put("a", Events([event("small"), event("large", size)], b"2"))
    assert len(out) == 0


def test_progress_waits_for_events_before_it() -> None:
    out = Outgoing(batch_size=10, window_bytes=MIB)
    out.put("a", Events([event("a1")], b"1"))
    out.put("a", Passed(b"5", final_block=5))
    assert not out.progress(0).checkpoints
    cut(out, 1)
    assert not out.progress(0).checkpoints
    reported = out.progress(1)
    assert dict(reported.checkpoints) == {"a": b"5"}
    assert dict(reported.final_blocks) == {"a": 5}


def test_progress_never_goes_back_behind_a_later_batch() -> None:
    out = Outgoing(batch_size=10, window_bytes=MIB)
    out.put("a", Passed(b"5", final_block=5))
    out.put("a", Events([event("a9")], b"9"))
    cut(out, 1)
    reported = out.progress(1)
    assert not reported.checkpoints
    assert dict(reported.final_blocks) == {"a": 5}


def test_a_checkpoint_is_reported_once() -> None:
    out = Outgoing(batch_size=10, window_bytes=MIB)
    out.put("a", Passed(b"5"))
    assert dict(out.progress(0).checkpoints) == {"a": b"5"}
    assert not out.progress(0).checkpoints


def test_changes_of_being_behind_are_due_at_once() -> None:
    out = Outgoing(batch_size=10, window_bytes=MIB)
    seen = []
    for behind in (True, False, False):
        out.put("a", Passed(catching_up=behind, gap_possible=behind))
        due, reported = out.changed, out.progress(0)
        seen.append((due, reported.catching_up, reported.gap_possible))
    assert seen == [(True, True, True), (True, False, False), (False, False, False)]


def test_own_events_carry_the_row_of_the_journal() -> None:
    out = Outgoing(batch_size=10, window_bytes=MIB)
    out.put_own(event("u1"), 3)
    out.put_own(event("u2"), 4)
    batch = events.Batch()
    assert out.cut(1, batch) == 4
    assert not batch.checkpoints


def test_a_removed_listener_leaves_only_others() -> None:
    out = Outgoing(batch_size=10, window_bytes=MIB)
    out.put("a", Events([event("a1")], b"1"))
    out.put("b", Events([event("b1")], b"1"))
    out.drop_listener("a")
    assert [e.id for e in cut(out, 1).events] == ["b1"]


def test_full_after_two_batches() -> None:
    out = Outgoing(batch_size=2, window_bytes=MIB)
    out.put("a", Events([event("a1"), event("a2"), event("a3")], b"3"))
    assert not out.full
    assert out.has_batch
    out.put("a", Events([event("a4")], b"4"))
    assert out.full


@given(
    yields=st.lists(
        st.tuples(st.sampled_from("ab"), st.lists(st.integers(0, 400), max_size=7), st.booleans()),
        max_size=12,
    ),
    batch_size=st.integers(1, 6),
    window_bytes=st.integers(1_000, 4_000),
)
def test_whatever_sources_yield_leaves_in_order_with_its_checkpoints(
    yields: list[tuple[str, list[int], bool]], batch_size: int, window_bytes: int
) -> None:
    out = Outgoing(batch_size, window_bytes)
    wanted: list[tuple[str, str]] = []
    ends: dict[str, tuple[str, bytes]] = {}
    """Id of the last event of a yield -> its source and checkpoint."""
    for number, (source, sizes, fragment) in enumerate(yields):
        found = [event(f"{number}/{index}", size) for index, size in enumerate(sizes)]
        wanted += [(source, e.id) for e in found]
        if found:
            ends[found[-1].id] = (source, str(number).encode())
        out.put(source, Events(found, str(number).encode(), fragment))
    seen: list[tuple[str, str]] = []
    seq = 0
    while len(out):
        seq += 1
        batch = cut(out, seq)
        assert 0 < len(batch.events) <= batch_size
        assert batch.ByteSize() <= window_bytes
        seen += [(e.listener_id, e.id) for e in batch.events]
        assert dict(batch.checkpoints) == dict(ends[e.id] for e in batch.events if e.id in ends)
        last = batch.events[-1].id
        number, index = map(int, last.split("/"))
        assert batch.fragment == (yields[number][2] or index + 1 < len(yields[number][1]))
    assert seen == wanted
    assert len(out) == 0
