"""Goal: a listener tells every event of the canonical chain once, in order, and takes back what is gone.

Method: a reader over an in-memory node; its reports are put together as the core would (removed events deleted,
checkpoints kept) and compared with the node's logs. Stopping means starting again from the last checkpoint.
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from eth_abi.abi import encode
from hypothesis import given
from hypothesis import strategies as st
from photinus_ethereum import pins
from photinus_ethereum.blocks import ChainView, FollowSettings
from photinus_ethereum.hexes import Address
from photinus_ethereum.log_events import MultipartyLogs
from photinus_ethereum.log_reader import LogReader, ReadSettings
from photinus_ethereum.rpc import RpcError
from photinus_sdk.connector import CheckpointLost, Events, Passed
from photinus_sdk.errors import Rejected

from tests.support.evm_node import EvmNode

CONTRACT = Address("0x" + "5f" * 20)
WAIT_S = 5.0


def pin_log(node: EvmNode, number: int) -> None:
    data = encode(
        ["address", "uint256", "string", "bytes32", "bytes32", "string", "bytes32[]"],
        [
            "0x" + "11" * 20,
            1,
            "firefly:batch_pin",
            b"\1" * 32,
            number.to_bytes(32),
            "",
            [b"\2" * 32],
        ],
    )
    node.add_log(CONTRACT, [pins.EVENT_TOPIC], data)


class Core:
    """Keeps what a core would keep."""

    def __init__(self, node: EvmNode, settings: ReadSettings | None = None) -> None:
        self.node = node
        self.settings = settings or ReadSettings(history_blocks=30)
        self.view = ChainView(node, FollowSettings(history_blocks=60))
        self.events: dict[str, str] = {}
        self.removed = 0
        self.checkpoint = b""
        self.batches: list[Events] = []
        self._source: AsyncIterator[Events | Passed] | None = None

    def start(self, first_event: str = "oldest", batch_size: int = 3) -> None:
        """A new reader, from the last checkpoint, as after a restart of the process."""
        self.view = ChainView(self.node, FollowSettings(history_blocks=60))
        reader = LogReader(
            self.node, self.view, self.settings, MultipartyLogs(CONTRACT, 2), ("pins", 1)
        )
        self._source = reader.read(first_event, self.checkpoint, batch_size)

    async def catch_up(self) -> None:
        """Looks at the chain and takes everything until the position is behind the final blocks."""
        await self.view.look()
        assert self._source is not None
        target = self.view.tip.number - self.settings.confirmations if self.view.tip else 0
        async with asyncio.timeout(WAIT_S):
            while True:
                item = await anext(self._source)
                self.take(item)
                if isinstance(item, Passed) and item.final_block == max(target, -1):
                    return
                if isinstance(item, Events) and self.known_to(target):
                    return

    def known_to(self, target: int) -> bool:
        return self.expected(target) == list(self.events)

    def take(self, item: Events | Passed) -> None:
        if isinstance(item, Events):
            self.batches.append(item)
            for event in item.events:
                if event.removed:
                    self.removed += 1
                    del self.events[event.id]
                else:
                    assert event.id not in self.events, "told twice"
                    self.events[event.id] = event.batch_pin.batch_hash
        if item.checkpoint is not None:
            self.checkpoint = item.checkpoint

    def expected(self, target: int | None = None) -> list[str]:
        last = len(self.node.blocks) - 1 if target is None else target
        return [
            f"{block.number:012d}/{int(log['transactionIndex'], 16):06d}/{int(log['logIndex'], 16):06d}/pins"
            for block in self.node.blocks[: last + 1]
            for log in block.logs
        ]


def settings(**changes: Any) -> ReadSettings:
    return replace(ReadSettings(history_blocks=30, idle_report_s=0.0), **changes)


async def test_events_come_in_order_in_batches_with_checkpoints() -> None:
    node = EvmNode()
    for number in range(8):
        pin_log(node, number)
    core = Core(node, settings())
    core.start()
    await core.catch_up()
    assert list(core.events) == core.expected()
    assert all(len(batch.events) <= 3 for batch in core.batches)
    assert all(batch.checkpoint for batch in core.batches)


async def test_a_block_larger_than_a_batch_has_its_checkpoint_at_the_end() -> None:
    node = EvmNode()
    pin_log(node, 0)
    node.blocks[-1].logs = [
        node.blocks[-1].logs[0] | {"logIndex": hex(n), "transactionIndex": hex(n)} for n in range(8)
    ]
    core = Core(node, settings())
    core.start()
    await core.catch_up()
    assert [(len(b.events), b.fragment, b.checkpoint is not None) for b in core.batches] == [
        (3, True, False),
        (3, True, False),
        (2, False, True),
    ]


async def test_confirmations_hold_events_back() -> None:
    node = EvmNode()
    pin_log(node, 0)
    core = Core(node, settings(confirmations=3))
    core.start()
    node.mine(2)
    await core.catch_up()
    assert core.events == {}
    node.mine()
    await core.catch_up()
    assert list(core.events) == core.expected()


@pytest.mark.parametrize(
    ("first", "expected"), [("oldest", 6), ("", 6), ("newest", 0), ("4", 3), ("99", 0)]
)
async def test_where_a_listener_begins(first: str, expected: int) -> None:
    node = EvmNode()
    for number in range(6):
        pin_log(node, number)
    core = Core(node, settings())
    core.start(first)
    if first == "99":
        await core.view.look()
    else:
        await core.catch_up()
    assert len(core.events) == expected
    if first == "newest":
        pin_log(node, 7)
        await core.catch_up()
        assert list(core.events) == core.expected()[-1:]


@pytest.mark.parametrize("first", ["latest", "-1", "0x1", "9" * 30, "1.5"])
async def test_a_beginning_that_is_none_is_refused(first: str) -> None:
    core = Core(EvmNode(), settings())
    core.start(first)
    with pytest.raises(Rejected):
        await core.catch_up()


@pytest.mark.parametrize("restart", [False, True])
async def test_a_reorganisation_takes_back_what_is_gone_newest_first(restart: bool) -> None:
    node = EvmNode()
    for number in range(6):
        pin_log(node, number)
    core = Core(node, settings())
    core.start()
    await core.catch_up()
    kept = list(core.events)[:4]
    node.reorganise(2, 0)
    pin_log(node, 100)
    node.mine(4)
    if restart:
        core.start()
    await core.catch_up()
    assert list(core.events) == core.expected()
    assert list(core.events)[:4] == kept
    assert core.removed == 2
    removed = [event.id for batch in core.batches for event in batch.events if event.removed]
    assert removed == sorted(removed, reverse=True)


async def test_a_node_that_is_behind_is_no_reorganisation() -> None:
    node = EvmNode()
    for number in range(6):
        pin_log(node, number)
    core = Core(node, settings())
    core.start()
    await core.catch_up()
    later = node.blocks[4:]
    del node.blocks[4:]
    core.start()
    await core.view.look()
    assert core._source is not None
    waiting = asyncio.ensure_future(anext(core._source))
    for _ in range(20):
        await asyncio.sleep(0)
    node.blocks += later
    pin_log(node, 9)
    await core.view.look()
    core.take(await asyncio.wait_for(waiting, WAIT_S))
    await core.catch_up()
    assert list(core.events) == core.expected()
    assert core.removed == 0


async def test_a_reorganisation_below_what_is_remembered_is_told_and_not_guessed() -> None:
    node = EvmNode()
    for number in range(20):
        pin_log(node, number)
    core = Core(node, settings(history_blocks=5))
    core.start()
    await core.catch_up()
    node.reorganise(15, 16)
    core.start()
    with pytest.raises(CheckpointLost, match="below block"):
        await core.catch_up()


async def test_foreign_bytes_are_no_checkpoint() -> None:
    core = Core(EvmNode(), settings())
    core.checkpoint = b"\x01\x02"
    core.start()
    with pytest.raises(CheckpointLost):
        await core.catch_up()


async def test_pages_shrink_until_the_node_takes_them() -> None:
    node = EvmNode()
    for number in range(40):
        pin_log(node, number)
    asked: list[int] = []

    def refuse(method: str, params: Any) -> RpcError | None:
        if method != "eth_getLogs":
            return None
        size = int(params[0]["toBlock"], 16) - int(params[0]["fromBlock"], 16) + 1
        asked.append(size)
        return RpcError(-32005, "query returned more than 10 results") if size > 10 else None

    node.refuse = refuse
    core = Core(node, settings())
    core.start(batch_size=100)
    core.settings = settings()
    looking = asyncio.create_task(core.view.follow())
    try:
        await core.catch_up()
    finally:
        looking.cancel()
        await asyncio.wait([looking])
    assert list(core.events) == core.expected()
    assert asked[0] > 10
    assert min(asked) <= 10


async def test_logs_of_another_branch_are_not_told() -> None:
    node = EvmNode()
    for number in range(3):
        pin_log(node, number)
    core = Core(node, settings())
    core.start()
    await core.view.look()
    # The node switches after the view was taken and before the logs are read.
    node.reorganise(1, 0)
    pin_log(node, 50)
    looking = asyncio.create_task(core.view.follow())
    try:
        await core.catch_up()
    finally:
        looking.cancel()
        await asyncio.wait([looking])
    assert list(core.events) == core.expected()
    assert core.removed == 0


async def read_some(core: Core) -> None:
    """Takes what is new, if anything is."""
    await core.view.look()
    last = len(core.node.blocks) - 1 - core.settings.confirmations
    if not core.known_to(last):
        await core.catch_up()


STEPS = st.lists(
    st.tuples(st.sampled_from(["pin", "mine", "fork", "read", "restart"]), st.integers(1, 5)),
    max_size=25,
)


@given(STEPS, st.integers(0, 3))
async def test_any_history_adds_up(steps: list[tuple[str, int]], confirmations: int) -> None:
    node = EvmNode()
    node.mine(2)
    core = Core(node, settings(confirmations=confirmations, history_blocks=1000))
    core.start()
    for kind, size in steps:
        match kind:
            case "pin":
                for number in range(size):
                    pin_log(node, number)
            case "mine":
                node.mine(size)
            case "fork":
                node.reorganise(min(size, len(node.blocks) - 2), size)
            case "read":
                await read_some(core)
            case _:
                await read_some(core)
                core.start()
        await core.view.look()
    core.start()
    node.mine(8)
    await core.catch_up()
    assert list(core.events) == core.expected(len(node.blocks) - 1 - confirmations)
