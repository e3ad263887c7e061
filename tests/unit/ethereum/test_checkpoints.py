"""Goal: checkpoints come back as they went, and nothing else is taken for one.

Method: generated checkpoints there and back; cut and altered bytes.
"""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from photinus_ethereum import checkpoints
from photinus_ethereum.checkpoints import Checkpoint, CheckpointError, Place, Rung, trimmed

NUMBER = st.integers(0, 2**40)
HASH = st.binary(min_size=16, max_size=16)
PLACES = st.lists(
    st.builds(Place, st.integers(0, 2**20), st.integers(0, 2**20), st.booleans()), max_size=5
)
RUNGS = st.lists(st.builds(Rung, NUMBER, HASH, PLACES.map(tuple)), max_size=6).map(tuple)
CHECKPOINTS = st.builds(Checkpoint, NUMBER, HASH, NUMBER, st.booleans(), RUNGS)


@given(CHECKPOINTS)
def test_there_and_back(checkpoint: Checkpoint) -> None:
    assert checkpoints.decode(checkpoints.encode(checkpoint)) == checkpoint


def test_the_fullest_block_comes_back() -> None:
    """As many events as fit the gas of a block of ten times the usual size."""
    places = tuple(Place(at, at) for at in range(60_000))
    whole = Checkpoint(10, bytes(16), 0, rungs=(Rung(9, bytes(16), places),))
    kept = trimmed(whole, keep_from=0, events_max=2_000)
    assert checkpoints.decode(checkpoints.encode(kept)) == kept


@given(CHECKPOINTS, st.data())
def test_cut_bytes_are_refused(checkpoint: Checkpoint, data: st.DataObject) -> None:
    raw = checkpoints.encode(checkpoint)
    at = data.draw(st.integers(0, len(raw) - 1))
    with pytest.raises(CheckpointError):
        checkpoints.decode(raw[:at])
    with pytest.raises(CheckpointError):
        checkpoints.decode(raw + b"\0")


@given(st.binary(max_size=100))
def test_other_bytes_give_no_other_error(raw: bytes) -> None:
    with contextlib.suppress(CheckpointError):
        checkpoints.decode(raw)


def test_a_trimmed_checkpoint_keeps_one_rung_below_the_limit() -> None:
    rungs = tuple(Rung(block, bytes(16), (Place(0, 0), Place(0, 1))) for block in range(10))
    whole = Checkpoint(10, bytes(16), 0, rungs=rungs)
    assert trimmed(whole, keep_from=0, events_max=100) is whole
    recent = trimmed(whole, keep_from=7, events_max=100)
    assert [rung.block for rung in recent.rungs] == [6, 7, 8, 9]
    assert not recent.complete
    few = trimmed(whole, keep_from=0, events_max=4)
    assert [rung.block for rung in few.rungs] == [8, 9]
    assert len(checkpoints.encode(few)) < 100
