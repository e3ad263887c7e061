"""Goal: the view is always one real chain, and every reorganisation is noticed by parent hashes.

Method: an in-memory node whose chain is extended, forked, shortened and replaced between looks; what watchers
were told must add up to the node's chain.
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from photinus_ethereum.blocks import ChainUnreadableError, ChainView, Followed, FollowSettings

from tests.support.evm_node import EvmNode

SETTINGS = FollowSettings(history_blocks=40)


class Told:
    """The chain as a watcher puts it together."""

    def __init__(self, view: ChainView) -> None:
        self.hashes: dict[int, str] = {}
        self.forks: list[int] = []
        view.watch(self.followed)

    def followed(self, followed: Followed) -> None:
        if followed.forked_at is not None:
            self.forks.append(followed.forked_at)
            self.hashes = {n: h for n, h in self.hashes.items() if n <= followed.forked_at}
        if followed.skipped:
            self.hashes.clear()
        for block in followed.blocks:
            self.hashes[block.number] = block.hash

    def check(self, node: EvmNode) -> None:
        assert self.hashes
        assert max(self.hashes) == len(node.blocks) - 1
        for number, known in self.hashes.items():
            assert node.blocks[number].hash == known


async def test_new_blocks_are_told_once() -> None:
    node = EvmNode()
    view = ChainView(node, SETTINGS)
    told = Told(view)
    await view.look()
    node.mine(3)
    await view.look()
    await view.look()
    told.check(node)
    assert told.forks == []
    assert view.tip is not None
    assert view.tip.number == 3
    assert [view.header(n) is not None for n in range(5)] == [True] * 4 + [False]


@pytest.mark.parametrize(
    ("depth", "blocks", "common"), [(1, 1, 9), (3, 3, 7), (3, 8, 7), (3, 1, 7), (5, 5, 5)]
)
async def test_forks_of_equal_greater_and_smaller_height(
    depth: int, blocks: int, common: int
) -> None:
    node = EvmNode()
    view = ChainView(node, SETTINGS)
    told = Told(view)
    node.mine(10)
    await view.look()
    node.reorganise(depth, blocks)
    await view.look()
    told.check(node)
    assert told.forks == [common]


async def test_a_chain_that_got_shorter() -> None:
    node = EvmNode()
    view = ChainView(node, SETTINGS)
    told = Told(view)
    node.mine(10)
    await view.look()
    del node.blocks[-4:]
    await view.look()
    told.check(node)
    assert told.forks == [6]
    assert view.header(7) is None


async def test_far_behind_it_begins_again_and_says_so() -> None:
    node = EvmNode()
    view = ChainView(node, SETTINGS)
    seen: list[Followed] = []
    view.watch(seen.append)
    await view.look()
    node.mine(500)
    await view.look()
    assert seen[-1].skipped
    assert seen[-1].forked_at is None
    node.reorganise(3, 300)
    await view.look()
    assert seen[-1].skipped
    assert seen[-1].forked_at == 497


async def test_history_is_bounded() -> None:
    node = EvmNode()
    view = ChainView(node, SETTINGS)
    for _ in range(10):
        node.mine(20)
        await view.look()
    assert view.oldest == 200 - SETTINGS.history_blocks + 1


async def test_answers_that_make_no_chain_are_not_taken() -> None:
    node = EvmNode()
    view = ChainView(node, SETTINGS)
    node.mine(5)
    await view.look()
    before = view.tip
    node.mine(5)
    node.blocks[7].parent = "0x" + "99" * 32
    with pytest.raises(ChainUnreadableError):
        await view.look()
    assert view.tip == before


async def test_a_fork_is_told_although_the_first_attempt_to_read_it_failed() -> None:
    node = EvmNode()
    view = ChainView(node, SETTINGS)
    told = Told(view)
    node.mine(10)
    await view.look()
    node.reorganise(3, 8)
    parent, node.blocks[13].parent = node.blocks[13].parent, "0x" + "99" * 32
    with pytest.raises(ChainUnreadableError):
        await view.look()
    node.blocks[13].parent = parent
    await view.look()
    told.check(node)
    assert told.forks == [7]


async def test_being_far_behind_is_no_fork_although_the_first_attempt_to_catch_up_failed() -> None:
    node = EvmNode()
    view = ChainView(node, SETTINGS)
    seen: list[Followed] = []
    view.watch(seen.append)
    node.mine(10)
    await view.look()
    node.mine(500)
    parent, node.blocks[480].parent = node.blocks[480].parent, "0x" + "99" * 32
    with pytest.raises(ChainUnreadableError):
        await view.look()
    node.blocks[480].parent = parent
    await view.look()
    assert seen[-1].skipped
    assert seen[-1].forked_at is None


@given(
    st.lists(st.tuples(st.sampled_from(["mine", "fork", "cut"]), st.integers(1, 12)), max_size=12)
)
async def test_any_history_adds_up(steps: list[tuple[str, int]]) -> None:
    node = EvmNode()
    view = ChainView(node, SETTINGS)
    told = Told(view)
    node.mine(15)
    await view.look()
    for kind, size in steps:
        if kind == "mine":
            node.mine(size)
        elif kind == "fork":
            node.reorganise(min(size, len(node.blocks) - 2), (size * 7) % 5 + 1)
        elif len(node.blocks) > size + 2:
            del node.blocks[-size:]
        await view.look()
        told.check(node)
