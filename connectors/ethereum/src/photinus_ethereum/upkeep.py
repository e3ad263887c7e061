"""What keeps transactions moving when something went wrong: dropped ones, dear ones, gaps, foreign nonces.

A slow, regular look at the lowest open nonces of each signer. The usual path needs none of this.
"""

import asyncio
import logging
import time
from dataclasses import dataclass

from photinus_sdk.errors import ConnectorError

from photinus_ethereum.blocks import ChainView
from photinus_ethereum.fees import FeeOracle
from photinus_ethereum.hexes import TxHash, number
from photinus_ethereum.journal import INTERNAL_SCOPE, Journal, Submitted
from photinus_ethereum.pool import Lane, Pool, Transaction
from photinus_ethereum.rpc import NodeUnavailableError, Rpc, RpcError
from photinus_ethereum.sender import Sender
from photinus_ethereum.settlement import Settlement
from photinus_ethereum.transactions import empty_payload, sign

logger = logging.getLogger(__name__)

LOOKED_AT_MAX = 20
LOOK_FACTOR = 2.0
LOOKS_MAX = 16
GAP_MAX = 1_000
LOST_LOOKS_MIN = 3
IDLE_S = 0.25


@dataclass(frozen=True, slots=True)
class UpkeepSettings:
    """When to look and when to act. A lane that does not move is looked at after `look_s`, then ever more rarely."""

    interval_s: float = 0.2
    look_s: float = 0.3
    look_max_s: float = 10.0
    replace_s: float = 60.0
    confirmations: int = 0


class Upkeep:
    """Repairs lanes. One task runs `run`."""

    def __init__(
        self,
        rpc: Rpc,
        chain: ChainView,
        fees: FeeOracle,
        parts: tuple[Journal, Pool, Sender, Settlement],
        settings: UpkeepSettings,
    ) -> None:
        self._rpc = rpc
        self._chain = chain
        self._fees = fees
        self._journal, self._pool, self._sender, self._settlement = parts
        self._settings = settings
        self._is_anvil: bool | None = None
        self._check_gaps = True
        self._suspect = asyncio.Event()
        self._sender.on_suspect = self.suspect

    def suspect(self) -> None:
        """Something looks wrong: look soon, at gaps too."""
        self._check_gaps = True
        self._suspect.set()

    async def run(self) -> None:
        """Looks for ever."""
        while True:
            try:
                async with asyncio.timeout(self._settings.interval_s):
                    await self._suspect.wait()
                # Answers to a burst come together; one look serves them.
                await asyncio.sleep(self._settings.interval_s / 10)
            except TimeoutError:
                pass
            self._suspect.clear()
            gaps, self._check_gaps = self._check_gaps, False
            for lane in list(self._pool.lanes.values()):
                try:
                    await self._look(lane, gaps=gaps)
                except (NodeUnavailableError, RpcError, ConnectorError) as error:
                    self._check_gaps = self._check_gaps or gaps
                    logger.debug("upkeep of %s: %s", lane.address, error)
                except Exception:
                    # One signer's trouble must not end the upkeep of all.
                    self._check_gaps = self._check_gaps or gaps
                    logger.exception("upkeep of %s failed", lane.address)

    async def _look(self, lane: Lane, *, gaps: bool) -> None:
        now = asyncio.get_running_loop().time()
        stale = self._stale(lane, now)
        if not stale and not gaps:
            return
        counts = await self._rpc.call_many(
            [("eth_getTransactionCount", [lane.address, tag]) for tag in ("latest", "pending")]
        )
        for count in counts:
            if isinstance(count, NodeUnavailableError | RpcError):
                raise count
        used, held = number(counts[0]), number(counts[1])
        if stale:
            await self._settlement.look_up_now([h for each in stale for h in each.hashes])
            await self._act(lane, [each for each in stale if each.mined is None], used, held)
        await self._fill_gap(lane, held)

    def _stale(self, lane: Lane, now: float) -> list[Transaction]:
        """What to look at: suspects at once, others when the lane has not moved for a while."""
        lowest = lane.unmined(LOOKED_AT_MAX)
        if lowest and lowest[0].nonce != lane.watched:
            lane.watched, lane.looks, lane.look_due = (
                lowest[0].nonce,
                0,
                now + self._settings.look_s,
            )
        is_due = bool(lowest) and now >= lane.look_due
        if is_due:
            lane.looks = min(lane.looks + 1, LOOKS_MAX)
            wait_s = self._settings.look_s * LOOK_FACTOR**lane.looks
            lane.look_due = now + min(wait_s, self._settings.look_max_s)
        return [
            each
            for each in lowest
            if not each.queued
            and not each.held
            and (each.suspect or (is_due and self._is_old(each, now)))
        ]

    def _is_old(self, transaction: Transaction, now: float) -> bool:
        return now - transaction.last_sent >= self._settings.look_s

    async def _act(self, lane: Lane, stale: list[Transaction], used: int, held: int) -> None:
        """`used` nonces are on the chain, `held` of them there or next in line at the node."""
        now = asyncio.get_running_loop().time()
        known = await self._known_to_node(stale)
        for transaction in stale:
            if transaction.nonce < used:
                await self._lost(lane, transaction)
                continue
            transaction.suspect = False
            if transaction.submitted.hash not in known:
                self._sender.queue(lane, transaction)
            elif self._is_dear(transaction, now):
                self._fees.invalidate()
                await self._sender.bump(lane, transaction)
            elif transaction.nonce == used and now - self._chain.changed_at > IDLE_S:
                await self._nudge(lane, transaction, held)

    def _is_dear(self, transaction: Transaction, now: float) -> bool:
        """Time for a higher offer."""
        since = transaction.first_sent
        return since is not None and now - since > self._settings.replace_s

    async def _nudge(self, lane: Lane, transaction: Transaction, held: int) -> None:
        """Helps a development chain out of two holes that its automining falls into when a burst ends.

        Anvil can leave executable transactions lying until the next one comes, or put the very next one among
        those that wait for an earlier one; only a replacement gets that out. Other nodes are left alone.
        """
        if self._is_anvil is None:
            version = await self._rpc.call("web3_clientVersion")
            self._is_anvil = str(version).lower().startswith("anvil")
        if not self._is_anvil or await self._rpc.call("anvil_getAutomine") is not True:
            return
        if transaction.nonce == held:
            await self._sender.bump(lane, transaction)
        else:
            await self._rpc.call("evm_mine")
        lane.looks = 0
        lane.look_due = asyncio.get_running_loop().time() + self._settings.look_s

    async def _known_to_node(self, transactions: list[Transaction]) -> set[TxHash]:
        hashes = [each.submitted.hash for each in transactions]
        answers = await self._rpc.call_many([("eth_getTransactionByHash", [h]) for h in hashes])
        for answer in answers:
            if isinstance(answer, NodeUnavailableError | RpcError):
                raise answer
        return {h for h, answer in zip(hashes, answers, strict=True) if answer is not None}

    async def _lost(self, lane: Lane, transaction: Transaction) -> None:
        """The chain has used the nonce and no attempt of ours has a receipt: look again, then move on.

        Only when the foreign transaction is as final as anything here, because from then on our own old bytes
        must never count again.
        """
        tip = self._chain.tip
        if tip is None:
            return
        if transaction.lost_since is None:
            transaction.lost_since = tip.number
        transaction.lost_looks += 1
        if (
            transaction.lost_looks >= LOST_LOOKS_MIN
            and tip.number >= transaction.lost_since + self._settings.confirmations
        ):
            await self._sender.renumber(lane, transaction)

    async def _fill_gap(self, lane: Lane, held: int) -> None:
        """From the first nonce the node misses up to ours, each must be open, or nothing is ever mined again."""
        highest = max(lane.open, default=-1)
        if lane.next_nonce is not None and not lane.waiting:
            highest = max(highest, lane.next_nonce - 1)
        missing = [nonce for nonce in range(held, highest + 1) if nonce not in lane.open]
        if len(missing) > GAP_MAX:
            logger.error("%s misses %d nonces: is this the same chain?", lane.address, len(missing))
            return
        tip = self._chain.tip
        for nonce in missing:
            if tip is None or self._journal.is_inserting(lane.address, nonce):
                continue
            entry = self._journal.with_nonce(lane.address, nonce)
            if entry is not None and self._settlement.is_canonical(entry, tip.number):
                # Settled while the counts were on their way.
                self._check_gaps = True
            elif entry is not None:
                await self._settlement.reopen([entry])
            elif lane.signer is not None:
                await self._fill(lane, nonce)

    async def _fill(self, lane: Lane, nonce: int) -> None:
        assert lane.signer is not None
        logger.warning(
            "nonce %d of %s is missing; an empty transaction takes it", nonce, lane.address
        )
        chain_id = self._sender.chain_id
        signed = sign(
            empty_payload(lane.address), nonce, await self._fees.quote(), chain_id, lane.signer
        )
        key = f"gap/{lane.address}/{nonce}/{time.time_ns()}"
        await self._sender.journal(
            Submitted(
                INTERNAL_SCOPE,
                key,
                "FillGap",
                b"",
                lane.address,
                nonce,
                signed.hash,
                signed.raw,
                noop=True,
            )
        )
