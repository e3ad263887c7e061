"""The events of one listener: paged reading behind the chain's head, with reorganisations taken back.

Each listener reads on its own, so that one far behind, or one the node refuses, holds up no other. What was
told is remembered in the checkpoint alone; a reader that starts from it is as good as one that never stopped.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace

from photinus.connector.v1 import common_pb2 as common
from photinus.connector.v1 import event_pb2 as events
from photinus_sdk.connector import CheckpointLost, Events, Passed
from photinus_sdk.errors import Rejected, Unavailable

from photinus_ethereum import checkpoints
from photinus_ethereum.blocks import ChainUnreadableError, ChainView
from photinus_ethereum.checkpoints import (
    NO_HASH,
    Checkpoint,
    CheckpointError,
    Place,
    Rung,
    short_hash,
)
from photinus_ethereum.hexes import TxHash, number, parse_address, quantity
from photinus_ethereum.log_events import Filter, Found, Log, parse_log, place_of
from photinus_ethereum.rpc import Json, NodeUnavailableError, Rpc, RpcError

logger = logging.getLogger(__name__)

PAGES_BEFORE_GROWTH = 20
WAIT_S = 1.0
"""Longest wait for a notice of the chain view before a reader looks again by itself."""


@dataclass(frozen=True, slots=True)
class ReadSettings:
    """How logs are read."""

    confirmations: int = 0
    page_blocks: int = 500
    history_blocks: int = 64
    """How many blocks below the last event told a reorganisation can still be undone."""
    history_events_max: int = 2_000
    idle_report_s: float = 1.0
    """Least time between two reports of a position without events."""


class _Inconsistent(Exception):
    """The node's answer and the chain view disagree; one of them is about to change."""


class _PageRefused(Exception):
    """The node does not take so many blocks at once; the page is smaller now."""


class LogReader:
    """Reads the logs of one filter."""

    def __init__(
        self,
        rpc: Rpc,
        chain: ChainView,
        settings: ReadSettings,
        chain_filter: Filter,
        about: tuple[str, int],
    ) -> None:
        """`about` is the listener's id and the chain's id."""
        self._rpc = rpc
        self._chain = chain
        self._settings = settings
        self._filter = chain_filter
        self._listener_id, self._chain_id = about
        self._page, self._taken = settings.page_blocks, 0
        self._query: dict[str, Json] = {"topics": [list(chain_filter.topics)]}
        if chain_filter.addresses:
            self._query["address"] = list(chain_filter.addresses)

    async def read(
        self, first_event: str, resume: bytes, batch_size: int
    ) -> AsyncIterator[Events | Passed]:
        """Events in chain order from where `resume` or `first_event` says; never ends.

        Raises CheckpointLost when what was told can no longer be compared with the chain, and Rejected for a
        `first_event` that is none.
        """
        at = await self._begin(first_event, resume)
        loop = asyncio.get_running_loop()
        reported: tuple[bytes, int] | None = None
        due = 0.0
        while True:
            await self._wait_tip()
            if (rewound := await self._rewound(at)) is not None:
                at, gone = rewound
                if gone:
                    yield Events(gone, checkpoints.encode(at))
                continue
            try:
                page = await self._next_page(at)
            except _PageRefused:
                continue
            except (_Inconsistent, NodeUnavailableError, ChainUnreadableError) as error:
                logger.debug("listener %s reads again: %s", self._listener_id, error)
                self._chain.notify()
                await self._wait_change()
                continue
            if page is not None:
                at = page.behind
                for batch in self._batches(page, batch_size):
                    yield batch
            if loop.time() >= due:
                position = (checkpoints.encode(at), at.next_block - 1)
                if position != reported:
                    reported, due = position, loop.time() + self._settings.idle_report_s
                    yield Passed(
                        position[0],
                        final_block=position[1] if at.next_block else None,
                        catching_up=self._target() - at.next_block > self._settings.page_blocks,
                    )
            if at.next_block > self._target():
                await self._wait_change()

    async def _begin(self, first_event: str, resume: bytes) -> Checkpoint:
        if resume:
            try:
                return checkpoints.decode(resume)
            except CheckpointError as error:
                raise CheckpointLost(str(error)) from error
        if first_event == "newest":
            tip = await self._wait_tip()
            return Checkpoint(tip + 1, short_hash(self._hash_of(tip)), tip + 1)
        if first_event in {"", "oldest"}:
            return Checkpoint(0, NO_HASH, 0)
        if first_event.isascii() and first_event.isdecimal() and len(first_event) < 19:
            return Checkpoint(int(first_event), NO_HASH, int(first_event))
        raise Rejected(f"first event '{first_event[:40]}' is not oldest, newest or a block number")

    async def _wait_tip(self) -> int:
        while (tip := self._chain.tip) is None:
            await self._chain.wait_change()
        return tip.number

    async def _wait_change(self) -> None:
        try:
            async with asyncio.timeout(WAIT_S):
                await self._chain.wait_change()
        except TimeoutError:
            pass

    def _target(self) -> int:
        tip = self._chain.tip
        return -1 if tip is None else tip.number - self._settings.confirmations

    def _hash_of(self, block: int) -> str:
        header = self._chain.header(block)
        return "" if header is None else header.hash

    # Reorganisations.

    async def _rewound(self, at: Checkpoint) -> tuple[Checkpoint, list[events.Event]] | None:
        """Where to go on and what to take back, when blocks that were looked at are no longer there.

        Only blocks up to the node's head are judged: a node that is behind is not a reorganisation.
        """
        tip = await self._wait_tip()
        known = [(rung.block, rung.hash) for rung in at.rungs]
        if at.before != NO_HASH:
            known.append((at.next_block - 1, at.before))
        judged = [mark for mark in known if mark[0] <= tip]
        if not judged or await self._stands(*judged[-1]):
            return None
        kept = 0
        for rung in reversed(at.rungs):
            if rung.block <= tip and await self._stands(rung.block, rung.hash):
                kept = at.rungs.index(rung) + 1
                break
        if not kept and not at.complete:
            oldest = common.Position(block=at.rungs[0].block)
            reason = f"the chain was reorganised below block {at.rungs[0].block}, deeper than this listener can undo"
            raise CheckpointLost(reason, oldest)
        stands, gone = at.rungs[:kept], at.rungs[kept:]
        position = Checkpoint(
            stands[-1].block + 1 if stands else at.first,
            stands[-1].hash if stands else NO_HASH,
            at.first,
            at.complete,
            stands,
        )
        taken_back = [
            self._filter.taken_back(rung.block, place, self._listener_id)
            for rung in reversed(gone)
            for place in reversed(rung.places)
        ]
        logger.warning(
            "listener %s: %d events taken back, reading again from block %d",
            self._listener_id,
            len(taken_back),
            position.next_block,
        )
        return position, taken_back

    async def _stands(self, block: int, known: bytes) -> bool:
        header = self._chain.header(block)
        if header is None:
            while True:
                try:
                    (header,) = await self._chain.fetch([block])
                    break
                except (NodeUnavailableError, RpcError, ChainUnreadableError):
                    await self._wait_change()
        return short_hash(header.hash) == known

    # Reading.

    async def _next_page(self, at: Checkpoint) -> "_Page | None":
        target = self._target()
        if at.next_block > target:
            return None
        last = min(target, at.next_block + self._page - 1)
        logs, last_hash = await self._logs(at.next_block, last)
        stamps = await self._timestamps(logs)
        signers = await self._signers(logs) if self._filter.needs_signer else {}
        found: dict[int, list[events.Event]] = {}
        places: dict[int, list[Place]] = {}
        hashes: dict[int, bytes] = {}
        for log in logs:
            about = Found(
                stamps[log.block],
                self._chain_id,
                self._listener_id,
                signers.get(log.transaction, ""),
            )
            event = self._filter.read(log, about)
            if event is None:
                continue
            found.setdefault(log.block, []).append(event)
            places.setdefault(log.block, []).append(place_of(log, event))
            hashes[log.block] = short_hash(log.block_hash)
        rungs = tuple(Rung(block, hashes[block], tuple(places[block])) for block in found)
        return _Page(self._moved(at, rungs, last, last_hash), at, rungs, list(found.values()))

    def _moved(
        self, at: Checkpoint, rungs: Sequence[Rung], last: int, last_hash: bytes
    ) -> Checkpoint:
        moved = replace(at, next_block=last + 1, before=last_hash, rungs=(*at.rungs, *rungs))
        return checkpoints.trimmed(
            moved,
            keep_from=last + 1 - self._settings.history_blocks,
            events_max=self._settings.history_events_max,
        )

    def _batches(self, page: "_Page", batch_size: int) -> list[Events]:
        """The page in batches that end with a block; a block too large for one is marked as fragments."""
        batches: list[Events] = []
        pending: list[events.Event] = []
        for at, (rung, found) in enumerate(zip(page.rungs, page.found, strict=True)):
            pending += found
            while len(pending) > batch_size:
                batches.append(Events(pending[:batch_size], None, fragment=True))
                pending = pending[batch_size:]
            is_last = at + 1 == len(page.rungs)
            if is_last or len(pending) + len(page.found[at + 1]) > batch_size:
                behind = page.behind
                if not is_last:
                    behind = self._moved(page.before, page.rungs[: at + 1], rung.block, rung.hash)
                batches.append(Events(pending, checkpoints.encode(behind)))
                pending = []
        return batches

    async def _logs(self, first: int, last: int) -> tuple[list[Log], bytes]:
        """The logs of a range in order, and the hash of its last block."""
        query = {**self._query, "fromBlock": quantity(first), "toBlock": quantity(last)}
        calls: list[tuple[str, Sequence[Json]]] = [
            ("eth_getLogs", [query]),
            ("eth_blockNumber", []),
        ]
        if self._chain.header(last) is None:
            calls.append(("eth_getBlockByNumber", [quantity(last), False]))
        answers = await self._rpc.call_many(calls)
        for answer in answers:
            if isinstance(answer, NodeUnavailableError):
                raise answer
        found = answers[0]
        if isinstance(found, RpcError):
            self._shrink(found, last - first + 1)
            raise _PageRefused
        if not isinstance(found, list):
            raise _Inconsistent("the node answers no list of logs")
        # Behind a load balancer another node may answer, one that does not have these blocks yet.
        if not isinstance(answers[1], str) or number(answers[1]) < last:
            raise _Inconsistent("the node that answers is behind")
        last_hash = self._hash_of(last)
        if not last_hash:
            if not isinstance(answers[-1], dict):
                raise _Inconsistent("the page's last block is gone")
            last_hash = answers[-1]["hash"]
        logs = sorted(
            (self._checked(value, first, last) for value in found), key=lambda log: log.order
        )
        self._taken += 1
        if self._taken >= PAGES_BEFORE_GROWTH:
            self._taken, self._page = 0, min(self._page * 2, self._settings.page_blocks)
        return logs, short_hash(last_hash)

    def _checked(self, value: Json, first: int, last: int) -> Log:
        try:
            log = parse_log(value)
        except ValueError as error:
            raise _Inconsistent(str(error)) from error
        known = self._hash_of(log.block)
        if not first <= log.block <= last or (known and known != log.block_hash):
            raise _Inconsistent(f"a log of block {log.block} is from another branch")
        return log

    def _shrink(self, error: RpcError, asked: int) -> None:
        if asked <= 1:
            raise Unavailable(f"the node refuses eth_getLogs for one block: {error}")
        self._taken, self._page = 0, max(1, asked // 2)
        logger.info(
            "eth_getLogs over %d blocks refused (%s), asking for %d", asked, error, self._page
        )

    async def _timestamps(self, logs: Sequence[Log]) -> dict[int, int]:
        stamps: dict[int, int] = {}
        missing: set[int] = set()
        for log in logs:
            if log.timestamp is not None:
                stamps[log.block] = log.timestamp
            elif (header := self._chain.header(log.block)) is not None:
                stamps[log.block] = header.timestamp
            else:
                missing.add(log.block)
        if missing:
            for header in await self._chain.fetch(sorted(missing)):
                stamps[header.number] = header.timestamp
        return stamps

    async def _signers(self, logs: Sequence[Log]) -> dict[TxHash, str]:
        hashes = list(dict.fromkeys(log.transaction for log in logs))
        answers = await self._rpc.call_many([("eth_getTransactionByHash", [h]) for h in hashes])
        signers: dict[TxHash, str] = {}
        for tx_hash, answer in zip(hashes, answers, strict=True):
            if isinstance(answer, NodeUnavailableError):
                raise answer
            if isinstance(answer, dict) and isinstance(answer.get("from"), str):
                signers[tx_hash] = parse_address(answer["from"])
        return signers


@dataclass(frozen=True, slots=True)
class _Page:
    behind: Checkpoint
    before: Checkpoint
    rungs: tuple[Rung, ...]
    found: list[list[events.Event]]
