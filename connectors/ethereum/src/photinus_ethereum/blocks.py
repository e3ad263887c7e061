"""The recent canonical chain, followed block by block.

Each block's parent hash must be the hash of the block before it. Where it is not, the chain was reorganised:
nodes report removed logs unreliably or not at all, so this comparison is the only witness. What was forked
away is dropped down to the last common block, and those who look at the chain next find other hashes.

Knows nothing of logs or transactions beyond the list of hashes in a block.
"""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from photinus_ethereum.hexes import BlockHash, TxHash, number, quantity
from photinus_ethereum.rpc import Json, NodeUnavailableError, Rpc, RpcError

logger = logging.getLogger(__name__)

FETCH_BLOCKS_MAX = 50
START_BLOCKS = 64
RETRY_MIN_S = 0.1
RETRY_MAX_S = 3.0


@dataclass(frozen=True, slots=True)
class Header:
    """A block as far as anybody here needs it."""

    number: int
    hash: BlockHash
    parent: BlockHash
    timestamp: int
    transactions: tuple[TxHash, ...] = field(default=(), repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Followed:
    """What one look at the chain brought. `blocks` are new, ascending, and each the parent of the next.

    `forked_at` is the last block still canonical when there was a reorganisation. `skipped` says that blocks
    between the former tip and these were not read, because the connector was far behind.
    """

    blocks: tuple[Header, ...]
    forked_at: int | None = None
    skipped: bool = False


@dataclass(frozen=True, slots=True)
class FollowSettings:
    """How the chain is followed."""

    history_blocks: int = 512
    poll_s: float = 0.25
    subscribed_poll_s: float = 2.0
    pause_s: float = 0.02
    """Least time between two looks: notices that come faster are taken together."""


class ChainUnreadableError(Exception):
    """The node's answers do not make a chain; look again later."""


class ChainView:
    """The canonical chain as known now. One task runs `follow`; all others only read."""

    def __init__(self, rpc: Rpc, settings: FollowSettings) -> None:
        self._rpc = rpc
        self._settings = settings
        self._headers: OrderedDict[int, Header] = OrderedDict()
        self._watchers: list[Callable[[Followed], None]] = []
        self._changed = asyncio.Event()
        self._wake = asyncio.Event()
        self.tip: Header | None = None
        self.changed_at = 0.0
        self.available = False
        self.reason = "not yet connected"
        self.on_availability: Callable[[], None] = lambda: None

    def watch(self, watcher: Callable[[Followed], None]) -> None:
        """Calls `watcher` with everything that is followed from now on."""
        self._watchers.append(watcher)

    def notify(self) -> None:
        """Asks for a look at the chain now."""
        self._wake.set()

    def header(self, block: int) -> Header | None:
        """A recent canonical block; None when it is too old or not there yet."""
        return self._headers.get(block)

    @property
    def oldest(self) -> int:
        """The oldest block of which the hash is known."""
        return next(iter(self._headers), 0)

    async def wait_change(self) -> None:
        """Returns when the chain next changes."""
        await self._changed.wait()

    async def follow(self, is_subscribed: Callable[[], bool] = lambda: False) -> None:
        """Keeps the view current for ever. A node that is away is tried again; `available` tells."""
        delay = RETRY_MIN_S
        loop = asyncio.get_running_loop()
        while True:
            started = loop.time()
            self._wake.clear()
            try:
                await self.look()
                self._set_available(True, "")
                delay = RETRY_MIN_S
            except (NodeUnavailableError, RpcError, ChainUnreadableError) as error:
                self._set_available(False, str(error))
                await asyncio.sleep(delay)
                delay = min(delay * 2, RETRY_MAX_S)
                continue
            settings = self._settings
            await asyncio.sleep(max(0.0, started + settings.pause_s - loop.time()))
            poll_s = settings.subscribed_poll_s if is_subscribed() else settings.poll_s
            try:
                async with asyncio.timeout(poll_s):
                    await self._wake.wait()
            except TimeoutError:
                pass

    async def look(self) -> None:
        """Reads what is new, up to the node's head."""
        while True:
            head = self._parse(await self._rpc.call("eth_getBlockByNumber", "latest", False))
            if self.tip is not None and head.hash == self.tip.hash:
                return
            await self._advance(head)
            if self.tip is not None and self.tip.number >= head.number:
                return

    async def fetch(self, numbers: Sequence[int]) -> list[Header]:
        """Blocks by number, straight from the node. ChainUnreadableError when one is not there."""
        answers = await self._rpc.call_many(
            [("eth_getBlockByNumber", [quantity(block), False]) for block in numbers]
        )
        headers = []
        for answer in answers:
            if isinstance(answer, NodeUnavailableError | RpcError):
                raise answer
            headers.append(self._parse(answer))
        return headers

    async def _advance(self, head: Header) -> None:
        tip = self.tip
        if tip is None or head.number - tip.number > self._settings.history_blocks:
            # Too far behind to read every block: begin again with the recent ones.
            blocks = await self._range(max(0, head.number - START_BLOCKS), head)
            forked_at = None if tip is None else await self._still_canonical(tip)
            self._headers.clear()
            self._append(blocks, forked_at, skipped=True)
            return
        known = self._headers.get(head.number)
        if known is not None and known.hash == head.hash:
            # The chain got shorter: the node's head is a block we have.
            self._cut(head.number)
            self._publish(Followed((), forked_at=head.number))
            return
        branch = [head] if head.number <= tip.number else await self._range(tip.number + 1, head)
        if head.number > tip.number and branch[0].parent == tip.hash:
            self._append(branch, None)
        else:
            await self._append_fork(branch)

    async def _range(self, first: int, head: Header) -> list[Header]:
        """Blocks from `first` up to `head`, which is not asked for twice; each the parent of the next."""
        last = head.number
        blocks: list[Header] = []
        for start in range(first, last, FETCH_BLOCKS_MAX):
            blocks += await self.fetch(range(start, min(start + FETCH_BLOCKS_MAX, last)))
        blocks.append(head)
        if any(after.parent != before.hash for before, after in pairwise(blocks)):
            raise ChainUnreadableError("the chain changed while it was read")
        return blocks

    async def _append_fork(self, branch: list[Header]) -> None:
        """Reads back from the new branch to the last common block, and takes the branch."""
        while True:
            lowest = branch[0]
            known = self._headers.get(lowest.number - 1)
            if known is not None and known.hash == lowest.parent:
                break
            if lowest.number == 0 or lowest.number <= self.oldest:
                logger.error("the chain was replaced below block %d", self.oldest)
                self._headers.clear()
                self._append(branch, max(lowest.number - 1, 0), skipped=True)
                return
            (parent,) = await self.fetch([lowest.number - 1])
            if parent.hash != lowest.parent:
                raise ChainUnreadableError("the chain changed while it was read")
            branch.insert(0, parent)
        common = branch[0].number - 1
        logger.warning("the chain was reorganised behind block %d", common)
        self._cut(common)
        self._append(branch, common)

    def _append(
        self, blocks: list[Header], forked_at: int | None, *, skipped: bool = False
    ) -> None:
        # Nothing here waits or fails: what is dropped, taken and told changes together.
        for block in blocks:
            # The list of transactions is for the watchers; only the rest is kept.
            self._headers[block.number] = Header(
                block.number, block.hash, block.parent, block.timestamp
            )
        while len(self._headers) > self._settings.history_blocks:
            self._headers.popitem(last=False)
        self.tip = self._headers[blocks[-1].number]
        self._publish(Followed(tuple(blocks), forked_at, skipped))

    async def _still_canonical(self, tip: Header) -> int | None:
        """None when the former tip is still part of the chain; else the highest known block that is."""
        numbers = list(self._headers)
        for start in range(len(numbers), 0, -FETCH_BLOCKS_MAX):
            wanted = numbers[max(0, start - FETCH_BLOCKS_MAX) : start]
            for found in reversed(await self.fetch(wanted)):
                if self._headers[found.number].hash == found.hash:
                    return None if found.number == tip.number else found.number
        return max(0, self.oldest - 1)

    def _cut(self, last: int) -> None:
        while self._headers and next(reversed(self._headers)) > last:
            self._headers.popitem()
        self.tip = self._headers.get(last)

    def _publish(self, followed: Followed) -> None:
        self.changed_at = asyncio.get_running_loop().time()
        for watcher in self._watchers:
            watcher(followed)
        self._changed.set()
        self._changed = asyncio.Event()

    def _set_available(self, available: bool, reason: str) -> None:
        changed = available != self.available
        self.available, self.reason = available, reason
        if changed:
            if available:
                logger.info("the node answers")
            else:
                logger.warning("the node is away: %s", reason)
            self.on_availability()

    @staticmethod
    def _parse(answer: Json) -> Header:
        if not isinstance(answer, dict):
            raise ChainUnreadableError("the node does not have a block it should have")
        try:
            return Header(
                number(answer["number"]),
                BlockHash(answer["hash"]),
                BlockHash(answer["parentHash"]),
                number(answer["timestamp"]),
                tuple(answer["transactions"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ChainUnreadableError(f"the node gives an unreadable block: {error}") from error
